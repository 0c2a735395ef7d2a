//! A key of the vault comes to this group and to nobody else.

use attestation::encoding::{from_b64u, to_b64u};
use bytes::Bytes;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use proto::attest::attest_client::AttestClient;
use proto::attest::token_request::Runtime;
use proto::attest::{ReleaseKeyRuntime, TokenRequest};
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{Oaep, RsaPrivateKey};
use serde_json::{Value, json};
use service::outbound::{Answer, Call, Limits, Outbound, OutboundError};
use service::roots::Roots;
use sim::faults::{MaaFault, VaultFault};
use sim::vault::Service;
use sim::world::GroupConfig;
use stack::{Group, RoleName};

use crate::support::{PROGRAM, Running, fail, http_post, start, start_with};

/// Asks a group's skr-sidecar for a key, as today's users do.
async fn release(group: &Group, running: &Running, kid: &str) -> (u16, Value) {
    let host = |url: &str| url.trim_start_matches("https://").to_owned();
    let places = running.stack.group.places();
    let body = json!({
        "maa_endpoint": host(&places.maa),
        "akv_endpoint": host(&places.vault),
        "kid": kid,
    });
    let address = group.skr_url().await.unwrap().trim_start_matches("http://").to_owned();
    let (status, answer) = http_post(&address, "/key/release", "", &body.to_string()).await;
    (status, serde_json::from_str(&answer).unwrap())
}

async fn second_group(running: &Running) -> (Group, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let places = running.stack.places_of("other", folder.path()).unwrap();
    let group = Group::start(PROGRAM.into(), places, |_| {}).await;
    (group.unwrap_or_else(|error| fail(&error)), folder)
}

#[tokio::test]
async fn keys_of_each_kind_are_released_to_this_group() {
    let running = start().await;
    let (status, answer) = release(&running.stack.group, &running, "example-rsa").await;
    assert_eq!(status, 200, "{answer}");
    let key: Value = serde_json::from_str(answer["key"].as_str().unwrap()).unwrap();
    assert_eq!(key["kty"], "RSA");
    for member in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        assert!(key[member].is_string(), "{member}");
    }
    let (status, answer) = release(&running.stack.group, &running, "example-ec").await;
    assert_eq!(status, 200, "{answer}");
    let key: Value = serde_json::from_str(answer["key"].as_str().unwrap()).unwrap();
    assert_eq!((&key["kty"], &key["crv"]), (&json!("EC"), &json!("P-256")));
    assert!(key["d"].is_string());
    running.stop().await;
}

#[tokio::test]
async fn a_group_with_another_policy_gets_nothing() {
    let running = start_with(|world| {
        world.groups.push(GroupConfig {
            policy: "package policy\n\ndefault allow := true\n".to_owned(),
            ..GroupConfig::new("other")
        });
    })
    .await;
    let (other, _folder) = second_group(&running).await;
    let (status, answer) = release(&other, &running, "example-rsa").await;
    assert_eq!(status, 403, "{answer}");
    let text = answer["error"].as_str().unwrap();
    assert!(text.starts_with("secure key release failed"), "{text}");
    assert!(text.contains("http response status equal to 403 Forbidden"), "{text}");
    let (status, _) = release(&running.stack.group, &running, "example-rsa").await;
    assert_eq!(status, 200, "the right group still gets it");
    other.stop().await;
    running.stop().await;
}

#[tokio::test]
async fn a_debug_guest_gets_nothing() {
    let running = start_with(|world| {
        world.groups.push(GroupConfig { debug: true, ..GroupConfig::new("other") });
    })
    .await;
    let host_data = |name| *running.stack.world.group(name).unwrap().host_data();
    assert_eq!(host_data("other"), host_data("group"), "only the debugging differs");
    let (other, _folder) = second_group(&running).await;
    let (status, answer) = release(&other, &running, "example-rsa").await;
    assert_eq!(status, 403, "{answer}");
    other.stop().await;
    running.stop().await;
}

#[tokio::test]
async fn a_token_of_somebody_else_gets_nothing() {
    let running = start().await;
    let faults = &running.stack.world.maa().unwrap().faults;
    for fault in [MaaFault::ForeignKey, MaaFault::WrongIssuer, MaaFault::Expired, MaaFault::AlgNone]
    {
        faults.clear();
        faults.until_cleared(fault.clone());
        let (status, answer) = release(&running.stack.group, &running, "example-rsa").await;
        assert_eq!(status, 403, "{fault:?}: {answer}");
    }
    faults.clear();
    let (status, _) = release(&running.stack.group, &running, "example-rsa").await;
    assert_eq!(status, 200, "the next good call is fine");
    running.stop().await;
}

/// What a vault that lies can do is be refused.
#[tokio::test]
async fn an_answer_of_another_release_gets_nothing() {
    let running = start().await;
    let faults = &running.stack.world.vault().unwrap().faults;
    assert_eq!(release(&running.stack.group, &running, "example-rsa").await.0, 200);
    for fault in [VaultFault::ReplayPrevious, VaultFault::KeySwapped, VaultFault::ForeignX5c] {
        faults.clear();
        faults.once(fault.clone());
        let (status, answer) = release(&running.stack.group, &running, "example-rsa").await;
        assert_eq!(status, 403, "{fault:?}: {answer}");
    }
    assert_eq!(release(&running.stack.group, &running, "example-rsa").await.0, 200);
    running.stop().await;
}

/// A token that is replayed makes the vault wrap the key for whoever the token was made for: the group.
#[tokio::test]
async fn a_replayed_token_yields_only_what_its_owner_can_open() {
    let running = start().await;
    let mut random = rand::thread_rng();
    let groups_own = RsaPrivateKey::new(&mut random, 2048).unwrap();
    let replayers = RsaPrivateKey::new(&mut random, 2048).unwrap();

    let places = running.stack.group.places();
    let address = format!("unix:{}", places.socket(RoleName::AttestSidecar).display());
    let channel = service::grpc::channel(&address.parse().unwrap());
    let token = AttestClient::new(channel)
        .get_token(TokenRequest {
            runtime: Some(Runtime::ReleaseKey(ReleaseKeyRuntime {
                modulus: groups_own.n().to_bytes_be(),
                exponent: groups_own.e().to_bytes_be(),
            })),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .token;

    // The replayer has stolen the token, and may even ask the vault with the group's identity.
    let access = running.stack.world.access_token("group", Service::KeyVault).unwrap();
    let answer = release_with(&running, &token, &access).await.unwrap();
    let ciphertext = ciphertext(&answer.body);
    assert!(unwrap(&ciphertext, &replayers).is_none(), "the replayer must not open it");
    let opened = unwrap(&ciphertext, &groups_own).expect("the one whose token it is opens it");
    assert!(RsaPrivateKey::from_pkcs8_der(&opened).is_ok());

    // Nor can the token be changed to name another key.
    let (head, rest) = token.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    let mut claims: Value = serde_json::from_slice(&from_b64u(payload).unwrap()).unwrap();
    claims["x-ms-runtime"]["keys"][0]["n"] = to_b64u(&replayers.n().to_bytes_be()).into();
    let forged = format!("{head}.{}.{signature}", to_b64u(claims.to_string().as_bytes()));
    assert!(release_with(&running, &forged, &access).await.is_err());
    running.stop().await;
}

async fn release_with(
    running: &Running,
    token: &str,
    access: &str,
) -> Result<Answer, OutboundError> {
    let places = running.stack.group.places();
    let roots = Roots::from_file(&places.tls_roots).unwrap();
    let url = format!("{}/keys/example-rsa/release?api-version=7.4", places.vault);
    let body = json!({"target": token, "enc": "RSA_AES_KEY_WRAP_256"}).to_string();
    let bearer = HeaderValue::from_str(&format!("Bearer {access}")).unwrap();
    let call = Call::post_json(url.parse().unwrap(), Bytes::from(body));
    let call = call.header(AUTHORIZATION, bearer);
    Outbound::new("the vault", &roots, Limits::default()).once(&call).await
}

/// The wrapped key of a release's JWS.
fn ciphertext(answer: &[u8]) -> Vec<u8> {
    let answer: Value = serde_json::from_slice(answer).unwrap();
    let payload = answer["value"].as_str().unwrap().split('.').nth(1).unwrap();
    let payload: Value = serde_json::from_slice(&from_b64u(payload).unwrap()).unwrap();
    let wrapped = payload.pointer("/response/key/key/key_hsm").unwrap().as_str().unwrap();
    let wrapped: Value = serde_json::from_slice(&from_b64u(wrapped).unwrap()).unwrap();
    from_b64u(wrapped["ciphertext"].as_str().unwrap()).unwrap()
}

/// RSA-OAEP-SHA256, then AES-KWP, with another implementation than the product's.
fn unwrap(ciphertext: &[u8], key: &RsaPrivateKey) -> Option<Vec<u8>> {
    let (wrapped_key, wrapped) = ciphertext.split_at(key.size());
    let aes = key.decrypt(Oaep::new::<sha2::Sha256>(), wrapped_key).ok()?;
    let kek = aes_kw::KekAes256::from(<[u8; 32]>::try_from(aes).ok()?);
    kek.unwrap_with_padding_vec(wrapped).ok()
}
