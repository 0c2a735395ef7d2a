//! For clients that want Azure's word: a token of Azure Attestation about the nonce and the connection.

use attestation::crypto::sha256;
use attestation::encoding::{from_b64u, to_b64u};
use attestation::maa::{
    AciExpectations, GuestExpectations, Issuer, Jwks, UvmExpectations, appraise_aci, verify_token,
};
use attestation::policy::Hex;
use attestation::{Expect, Trust, runtime_data};
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use serde_json::Value;
use service::outbound::{Call, Limits, Outbound};
use service::roots::Roots;
use stack::straight::{Straight, Version};

use crate::support::{Running, start};

async fn issuer(running: &Running) -> Issuer {
    let url = running.stack.world.maa().unwrap().url.trim_end_matches('/').to_owned();
    let roots = Roots::from_file(&running.stack.world.folder().join("tls-ca.pem")).unwrap();
    let certs = Call::get(format!("{url}/certs").parse().unwrap());
    let keys = Outbound::new("MAA", &roots, Limits::default()).once(&certs).await.unwrap();
    Issuer { url, keys: Jwks::parse(&keys.body).unwrap(), trust: Trust::NotProduction }
}

#[tokio::test]
async fn azures_token_carries_the_nonce_and_is_about_this_connection() {
    let running = start().await;
    let url = running.stack.group.url().await.unwrap();
    let server = url.trim_start_matches("https://").parse().unwrap();
    let mut connection = Straight::tls(server, Version::Http2).await.unwrap();
    let nonce = [0x5a; 32];
    let body = format!("{{\"nonce\":\"{}\",\"token\":true}}", to_b64u(&nonce));
    let request = Request::post("/attestation/verify").header(CONTENT_TYPE, "application/json");
    let answer = connection.send(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let answer: Value = serde_json::from_slice(answer.body()).unwrap();
    let token = answer["token"].as_str().expect("a token was asked for").to_owned();
    let manifest = sha256(&from_b64u(answer["manifest"].as_str().unwrap()).unwrap());
    let exporter = sha256(&connection.seen.as_ref().unwrap().exporter);

    let issuers = [issuer(&running).await];
    let world = &running.stack.world;
    let judged = |nonce: [u8; 32], exporter: [u8; 32]| {
        let expected = AciExpectations {
            guest: GuestExpectations {
                host_data: Expect::Value(vec![Hex(*world.groups()[0].host_data())]),
                measurement: Expect::unchecked("the endorsement stands for it"),
                minimum_tcb: Expect::unchecked("a simulated machine"),
                runtime_data: Expect::Value(runtime_data::channel(&nonce, &exporter, &manifest)),
                policy_hashes: Expect::unchecked("a simulated instance"),
            },
            nonce: Expect::unchecked("freshness is in the runtime data"),
            endorsement: Expect::Value(UvmExpectations {
                issuers: vec![world.foundation().uvm.did().to_owned()],
                ..UvmExpectations::default()
            }),
        };
        let verified = verify_token(&token, &issuers, service::clock::unix_now()).unwrap();
        let outcome = appraise_aci(verified, &expected).err();
        let failed = outcome.iter().flat_map(|rejected| rejected.failures());
        failed.map(|finding| finding.check.id).collect::<Vec<_>>()
    };
    assert_eq!(judged(nonce, exporter), [""; 0]);
    assert_eq!(judged([1; 32], exporter), ["J9", "J12"], "another nonce");
    assert_eq!(judged(nonce, [1; 32]), ["J9", "J12"], "another connection");
    running.stop().await;
}
