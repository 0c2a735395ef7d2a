//! The owner's signature: what tells the owner's group from the same containers, under the same policy, on genuine
//! hardware, in somebody else's hands.

use std::collections::{BTreeMap, BTreeSet};

use attestation::Expect;
use attestation::connection::{ConnectionError, ProvenConnection, judge};
use attestation::policy::OwnerKey;
use client::Connector;
use serde_json::json;
use sim::vault::{KeySpec, Permission, Service};
use sim::world::{GroupConfig, VaultServerConfig, WorldConfig, aci_release_policy};
use stack::{Group, Places, RoleName};

use crate::support::{PROGRAM, Running, fail, http_post, pmc, start, start_with, text};

async fn verify(running: &Running, url: &str) -> (Option<i32>, String) {
    let mut words = vec!["verify".to_owned(), url.to_owned()];
    words.extend(running.trusting());
    let output = pmc(&words).await;
    (output.status.code(), text(&output))
}

#[tokio::test]
async fn a_client_that_pins_the_owner_accepts_the_owners_group() {
    let running = start().await;
    let url = running.stack.group.url().await.unwrap();
    let policy = std::fs::read_to_string(running.path("policy.toml")).unwrap();
    assert!(policy.contains(&running.stack.owner.to_text()), "the owner is pinned: {policy}");
    let (code, said) = verify(&running, &url).await;
    assert_eq!(code, Some(0), "{said}");
    let line = said.lines().find(|line| line.contains("B4")).unwrap();
    assert!(line.trim_start().starts_with("pass"), "B4 was looked at: {line}");

    // The manifest names the key, and another owner's would not have done.
    let proof = running.stack.connector().await.unwrap().record().await.unwrap();
    let (anchors, mut policy) = (running.stack.anchors().unwrap(), running.stack.policy());
    let proven = judge(&proof.answer, &proof.observed(), &anchors, &policy, proof.time).unwrap();
    assert_eq!(proven.manifest.owner_key, Some(running.stack.owner.to_text()));
    policy.owner_key = Expect::Value(somebody_else());
    let refused = judge(&proof.answer, &proof.observed(), &anchors, &policy, proof.time);
    assert_eq!(failed(refused), ["B4"]);

    // A signature for another manifest is none for this one.
    let mut forged = proof.answer.clone();
    let manifest = String::from_utf8(forged.manifest.clone()).unwrap();
    forged.manifest = manifest.replace("\"version\"", "\"version\" ").into_bytes();
    let refused = judge(&forged, &proof.observed(), &anchors, &running.stack.policy(), proof.time);
    assert!(failed(refused).contains(&"B4"));
    running.stop().await;
}

/// Ids of the checks that failed.
fn failed(outcome: Result<ProvenConnection, ConnectionError>) -> Vec<&'static str> {
    match outcome.err() {
        Some(ConnectionError::Rejected(rejected)) => {
            rejected.failures().map(|finding| finding.check.id).collect()
        }
        Some(error) => panic!("{error}"),
        None => Vec::new(),
    }
}

fn somebody_else() -> OwnerKey {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    OwnerKey::from_spki(&rcgen::PublicKeyData::subject_public_key_info(&key)).unwrap()
}

/// Neither route of `skr-sidecar` that hands out keys gives the owner's, however it is spelt.
#[tokio::test]
async fn the_owners_key_is_handed_to_nobody() {
    use proto::skr::ReleaseKeyRequest;
    use proto::skr::skr_client::SkrClient;
    let running = start().await;
    let group = &running.stack.group;
    let address = group.skr_url().await.unwrap().trim_start_matches("http://").to_owned();
    let host = |url: &str| url.trim_start_matches("https://").to_owned();
    let socket = format!("unix:{}", group.places().socket(RoleName::SkrSidecar).display());
    let mut skr = SkrClient::new(service::grpc::channel(&socket.parse().unwrap()));
    let access = running.stack.world.access_token("group", Service::KeyVault).unwrap();
    for kid in ["owner", "OWNER", "owner/0123456789abcdef"] {
        for access_token in ["", access.as_str()] {
            let body = json!({
                "maa_endpoint": host(&group.places().maa),
                "akv_endpoint": host(&group.places().vault),
                "kid": kid,
                "access_token": access_token,
            });
            let (status, answer) = http_post(&address, "/key/release", "", &body.to_string()).await;
            assert_eq!(status, 403, "{answer}");
            assert!(answer.contains("reserved"), "{answer}");
        }
        let request = ReleaseKeyRequest { kid: kid.to_owned(), ..Default::default() };
        let refused = skr.release_key(request).await.err().unwrap();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{kid}");
    }
    running.stop().await;
}

/// Two groups that nothing but their owner tells from the first: same policy, genuine machines, same software.
fn with_twins(world: &mut WorldConfig) {
    world.groups.extend(["twin", "stray"].map(GroupConfig::new));
    // The owner's vault knows the owner's identity only; the twin's owner has a vault of their own.
    let vault = world.vault.as_mut().unwrap();
    let rights = BTreeSet::from([Permission::Get, Permission::Release]);
    vault.access = Some(BTreeMap::from([("group".to_owned(), rights.clone())]));
    let mut twins = VaultServerConfig::new(Service::KeyVault);
    twins.access = Some(BTreeMap::from([("twin".to_owned(), rights)]));
    twins.keys = vec![twins_key()];
    world.managed_hsm = Some(twins);
}

/// The key of the twin's owner: of the same name and with the same release policy as the owner's.
fn twins_key() -> KeySpec {
    let jwk = json!({
        "kty": "EC", "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        "d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE",
    });
    let policy = aci_release_policy("${MAA}", "${HOST_DATA}");
    let spec = json!({"name": "owner", "kty": "EC-HSM", "jwk": jwk, "release_policy": policy});
    serde_json::from_value(spec).unwrap()
}

async fn group_at(places: Places) -> Group {
    let group = Group::start(PROGRAM.into(), places, |_| {}).await;
    group.unwrap_or_else(|error| fail(&error))
}

/// Everything about the twin is genuine, and every check but one passes.
#[tokio::test]
async fn an_evil_twin_is_refused() {
    let running = start_with(with_twins).await;
    let world = &running.stack.world;
    let host_data = |name| *world.group(name).unwrap().host_data();
    assert_eq!(host_data("twin"), host_data("group"), "the same policy");

    // Its owner has a vault, and a key of the same name in it.
    let folder = tempfile::tempdir().unwrap();
    let mut places = running.stack.places_of("twin", folder.path()).unwrap();
    places.vault = world.managed_hsm().unwrap().url.trim_end_matches('/').to_owned();
    let twin = group_at(places).await;
    let target = twin.url().await.unwrap();
    let (code, said) = verify(&running, &target).await;
    assert_eq!(code, Some(1), "{said}");
    let failed: Vec<&str> = said.lines().filter(|line| line.contains("FAIL")).collect();
    assert!(matches!(failed.as_slice(), [one] if one.contains("B4")), "{said}");
    let connector =
        |policy| Connector::new(target.parse().unwrap(), running.stack.anchors().unwrap(), policy);
    let error = connector(running.stack.policy()).connect().await.err().unwrap();
    assert_eq!(error.failed_check(), Some("B4"));
    // Who pins nobody cannot tell.
    let mut anybody = running.stack.policy();
    anybody.owner_key = Expect::unchecked("to show what the check is for");
    let proven = connector(anybody).connect().await.ok().unwrap();
    let named = proven.proof().manifest.owner_key.clone();
    assert!(named.is_some_and(|named| named != running.stack.owner.to_text()));
    assert!(twin.stop().await.is_empty());

    // Without a vault of its own it gets no signature: the owner's vault does not know its identity.
    let folder = tempfile::tempdir().unwrap();
    let stray = group_at(running.stack.places_of("stray", folder.path()).unwrap()).await;
    let (code, said) = verify(&running, &stray.url().await.unwrap()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no signature"), "{said}");
    assert!(stray.stop().await.is_empty());
    running.stop().await;
}
