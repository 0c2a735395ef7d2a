//! Microsoft Entra: assertions of a cluster for tokens.

use reqwest::StatusCode;
use serde_json::{Value, json};
use sim::entra::Cluster;
use sim::identity::VAULT_RESOURCE;
use sim::jose::Jws;
use sim::world::HttpsConfig;

use crate::support::{Stage, stage};

/// What a sound request holds besides the assertion.
const SOUND: [(&str, &str); 4] = [
    ("grant_type", "client_credentials"),
    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
    ("client_info", "1"),
    ("scope", "https://vault.azure.net/.default openid offline_access profile"),
];

async fn authority() -> Stage {
    stage(|config| {
        config.maa = None;
        config.entra = Some(HttpsConfig::default());
    })
    .await
}

fn cluster(stage: &Stage) -> &Cluster {
    &stage.world.entra().unwrap().cluster
}

/// Asks the endpoint that the configuration names.
async fn ask(stage: &Stage, assertion: &str, changed: (&str, &str)) -> (StatusCode, Value) {
    let url = &stage.world.entra().unwrap().running.url;
    let tenant = stage.world.foundation().provider().tenant();
    let configuration = format!("{url}/{tenant}/v2.0/.well-known/openid-configuration");
    let configuration = stage.get(&configuration).await.json();
    let endpoint = configuration["token_endpoint"].as_str().unwrap();
    assert!(endpoint.starts_with(url));

    let client_id = stage.group().identities()[0].client_id.as_str();
    let own = [("client_id", client_id), ("client_assertion", assertion)];
    let fields = SOUND.into_iter().chain(own).filter(|(name, _)| *name != changed.0);
    let fields = fields.chain([changed]).map(|(name, value)| {
        format!(
            "{name}={}",
            value.replace(':', "%3A").replace('/', "%2F").replace(' ', "+").replace('\n', "%0A")
        )
    });
    let form = fields.collect::<Vec<_>>().join("&");
    let answer = stage.post_form(endpoint, form).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn an_assertion_of_the_pod_is_worth_a_token() {
    let stage = authority().await;
    let name = &stage.group().identities()[0].name;
    let assertion = cluster(&stage).assertion(name, sim::clock::now()).unwrap();
    let (status, answer) = ask(&stage, &assertion, ("client_info", "1")).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let claims = Jws::parse(answer["access_token"].as_str().unwrap()).unwrap().payload;
    assert_eq!(claims["aud"], VAULT_RESOURCE);
    assert_eq!(claims["oid"], json!(stage.group().identities()[0].object_id));
    assert!(answer["expires_in"].is_u64(), "a number, unlike the metadata service's");
    assert_eq!(stage.world.entra().unwrap().calls.get(), 1);
}

#[tokio::test]
async fn nothing_else_is() {
    let stage = authority().await;
    let (name, now) = (stage.group().identities()[0].name.clone(), sim::clock::now());
    let cluster = cluster(&stage);
    let good = cluster.assertion(&name, now).unwrap();
    let kept = ("client_info", "1");
    for (assertion, changed, status, code) in [
        (cluster.assertion_for("sts", &name, now).unwrap(), kept, 401, "AADSTS700212"),
        (cluster.assertion("another", now).unwrap(), kept, 401, "AADSTS700213"),
        (cluster.assertion(&name, now - 7200).unwrap(), kept, 401, "AADSTS700024"),
        (format!("{good}\n"), kept, 401, "AADSTS50027"),
        ("a.b.c".to_owned(), kept, 401, "AADSTS50027"),
        (good.clone(), ("scope", "https://graph.microsoft.com/.default"), 400, "AADSTS70011"),
        (good.clone(), ("grant_type", "password"), 400, "AADSTS70003"),
        (good.clone(), ("client_assertion_type", "saml"), 400, "AADSTS90023"),
        (good.clone(), ("client_id", "nobody"), 400, "AADSTS700016"),
    ] {
        let (found, answer) = ask(&stage, &assertion, changed).await;
        assert_eq!(found.as_u16(), status, "{changed:?}: {answer}");
        let text = answer["error_description"].as_str().unwrap();
        assert!(text.starts_with(code), "{code}: {text}");
    }
}
