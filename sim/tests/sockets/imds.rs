//! The instance metadata service.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sim::faults::{IdentityFault, ThimFault};
use sim::identity::{MANAGED_HSM_RESOURCE, VAULT_RESOURCE};
use sim::jose::Jws;

use crate::support::{Answer, Stage, context_file, stage};

const METADATA: [(&str, &str); 1] = [("Metadata", "true")];

async fn thim(stage: &Stage) -> Answer {
    ask(stage, "/metadata/THIM/amd/certification", &METADATA).await.unwrap()
}

async fn token(stage: &Stage, query: &str) -> Answer {
    ask(stage, &format!("/metadata/identity/oauth2/token?{query}"), &METADATA).await.unwrap()
}

async fn ask(stage: &Stage, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
    let url = format!("{}{path}", stage.group().imds_url());
    stage.send(Method::GET, &url, headers, None).await
}

fn query(resource: &str) -> String {
    format!("api-version=2018-02-01&resource={resource}")
}

fn claims(answer: &Answer) -> Value {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let token = answer.json()["access_token"].as_str().unwrap().to_owned();
    Value::Object(Jws::parse(&token).unwrap().payload)
}

#[tokio::test]
async fn certificates_are_those_of_the_security_context_and_need_the_header() {
    let stage = stage(|config| config.maa = None).await;
    let answer = thim(&stage).await;
    assert_eq!(answer.status, StatusCode::OK);
    let context = context_file(stage.group(), "host-amd-cert-base64");
    assert_eq!(answer.json(), serde_json::from_slice::<Value>(&context).unwrap());

    let path = "/metadata/THIM/amd/certification";
    for headers in [
        vec![],
        vec![("Metadata", "yes")],
        vec![("Metadata", "true"), ("X-Forwarded-For", "10.0.0.1")],
    ] {
        let answer = ask(&stage, path, &headers).await.unwrap();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json()["error"], "invalid_request");
    }
}

#[tokio::test]
async fn tokens_are_for_the_asked_resource_and_the_asked_identity() {
    let stage = stage(|config| {
        config.groups[0].identities = vec!["first".to_owned(), "second".to_owned()];
    })
    .await;
    let identities = stage.group().identities();
    let answer = token(&stage, &query("https%3A%2F%2Fvault.azure.net")).await;
    let found = claims(&answer);
    assert_eq!(found["aud"], VAULT_RESOURCE);
    assert_eq!(found["oid"], json!(identities[0].object_id));
    assert_eq!(found["appid"], json!(identities[0].client_id));
    assert!(found["xms_az_rid"].as_str().unwrap().starts_with("/subscriptions/"));
    let body = answer.json();
    assert_eq!(body["token_type"], "Bearer");
    for member in ["expires_in", "expires_on", "ext_expires_in", "not_before"] {
        assert!(body[member].as_str().unwrap().parse::<u64>().is_ok(), "{member}");
    }

    let second = format!("{}&client_id={}", query(MANAGED_HSM_RESOURCE), identities[1].client_id);
    let found = claims(&token(&stage, &second).await);
    assert_eq!(
        (&found["aud"], &found["oid"]),
        (&json!(MANAGED_HSM_RESOURCE), &json!(identities[1].object_id),)
    );
}

#[tokio::test]
async fn what_imds_does_not_know_is_a_bad_request() {
    let stage = stage(|config| config.maa = None).await;
    for query in [
        "resource=https://vault.azure.net".to_owned(),
        "api-version=2018-02-01".to_owned(),
        query("https://management.azure.com/"),
        format!("{}&client_id=00000000-0000-4000-8000-000000000000", query(VAULT_RESOURCE)),
    ] {
        assert_eq!(token(&stage, &query).await.status, StatusCode::BAD_REQUEST, "{query}");
    }
}

#[tokio::test]
async fn certificate_faults_show_and_pass() {
    let stage = stage(|config| config.maa = None).await;
    let faults = &stage.group().imds_faults().thim;
    let good = thim(&stage).await.json();

    faults.once(ThimFault::NotFound);
    assert_eq!(thim(&stage).await.status, StatusCode::NOT_FOUND);
    faults.once(ThimFault::TooManyRequests { retry_after: 3 });
    let answer = thim(&stage).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.header("retry-after"), "3");
    faults.once(ThimFault::ServerError);
    assert_eq!(thim(&stage).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    faults.once(ThimFault::Truncated);
    assert!(ask(&stage, "/metadata/THIM/amd/certification", &METADATA).await.is_err());

    faults.once(ThimFault::StaleCertificate);
    let stale = thim(&stage).await.json();
    assert_eq!(stale["tcbm"], "DA18000000000004");
    assert_ne!(stale["vcekCert"], good["vcekCert"]);
    assert_eq!(stale["certificateChain"], good["certificateChain"]);

    faults.once(ThimFault::ForeignChain);
    let foreign = thim(&stage).await.json();
    assert_eq!(foreign["tcbm"], good["tcbm"]);
    assert_ne!(foreign["certificateChain"], good["certificateChain"]);
    assert_eq!(thim(&stage).await.json(), good);
}

#[tokio::test]
async fn identity_faults_show_and_pass() {
    let stage = stage(|config| config.maa = None).await;
    let faults = &stage.group().imds_faults().identity;
    let query = query(VAULT_RESOURCE);

    faults.next_calls(IdentityFault::NotReady, 2.try_into().unwrap());
    assert_eq!(token(&stage, &query).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(token(&stage, &query).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(token(&stage, &query).await.status, StatusCode::OK);
    faults.once(IdentityFault::NotFound);
    assert_eq!(token(&stage, &query).await.status, StatusCode::NOT_FOUND);
    faults.once(IdentityFault::ServerError);
    assert_eq!(token(&stage, &query).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    faults.once(IdentityFault::TooManyRequests { retry_after: 1 });
    assert_eq!(token(&stage, &query).await.header("retry-after"), "1");
    faults.once(IdentityFault::WrongAudience);
    assert_eq!(claims(&token(&stage, &query).await)["aud"], "https://management.azure.com/");

    faults.once(IdentityFault::Stall);
    let stalled = token(&stage, &query);
    tokio::pin!(stalled);
    assert!(tokio::time::timeout(Duration::from_millis(100), stalled.as_mut()).await.is_err());
    faults.clear();
    assert_eq!(stalled.await.status, StatusCode::OK);
}

#[tokio::test]
async fn faults_are_scheduled_over_http_all_or_none() {
    let stage = stage(|config| config.maa = None).await;
    let url = format!("{}/_sim/faults", stage.group().imds_url());
    let put = async |body: Value| stage.send(Method::PUT, &url, &[], Some(&body)).await.unwrap();
    let good = json!({
        "thim": [{"fault": {"kind": "not-found"}, "times": 1}, {"fault": {"kind": "server-error"}}],
        "identity": [{"fault": {"kind": "too-many-requests", "retry_after": 9}, "times": 2}],
    });
    assert_eq!(put(good.clone()).await.status, StatusCode::NO_CONTENT);
    let shown = stage.get(&url).await.json();
    assert_eq!(shown["identity"], good["identity"]);
    assert_eq!(shown["kds"], json!([]));

    for bad in [
        json!({"thim": [], "nobody": []}),
        json!({"thim": [], "identity": [{"fault": {"kind": "unheard-of"}}]}),
        json!({"thim": [{"fault": {"kind": "stall"}, "times": 0}]}),
        json!({"thim": [{"fault": {"kind": "stall", "surprise": 1}}]}),
    ] {
        assert_eq!(put(bad.clone()).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(thim(&stage).await.status, StatusCode::NOT_FOUND);
    assert_eq!(thim(&stage).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(thim(&stage).await.status, StatusCode::INTERNAL_SERVER_ERROR);
    let cleared = stage.send(Method::DELETE, &url, &[], None).await.unwrap();
    assert_eq!(cleared.status, StatusCode::NO_CONTENT);
    assert_eq!(thim(&stage).await.status, StatusCode::OK);
}
