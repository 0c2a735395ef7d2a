//! Sealed secrets, over sockets: a vault that releases the key, an envelope that others carry, and whoever asks.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test ends when its world fails")]

mod world;

use std::path::PathBuf;
use std::time::Duration;

use proto::skr::{GetSecretsReply, GetSecretsRequest, ReleaseKeyRequest};
use serde_json::json;
use tonic::{Code, Status};

use world::World;
use world::client::post;
use world::envelope::{Operator, payload};
use world::vault::{Key, Misdeed};

/// A group with a place for envelopes that the test owns, as the host does.
struct Desk {
    world: World,
    folder: tempfile::TempDir,
}

impl Desk {
    /// With the operator's key in the vault and his literals in the policy.
    async fn new(operator: &Operator) -> Self {
        let desk = Self::without_key(operator).await;
        desk.hold(operator);
        desk
    }

    async fn without_key(operator: &Operator) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("envelope").display().to_string();
        let signer = operator.signer.to_text();
        let world = World::start_with(move |vault| {
            [
                ("KEY_VAULT_URL", format!("https://{vault}")),
                ("SECRETS_KID", "sealing".to_owned()),
                ("STATE_KID", "state".to_owned()),
                ("SECRETS_SIGNER", signer),
                ("SECRETS_GROUP", "here".to_owned()),
                ("SECRETS_MIN_VERSION", "5".to_owned()),
                ("SECRETS_FILE", file),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
        });
        Self { world: world.await, folder }
    }

    fn hold(&self, operator: &Operator) {
        let (published, secret) = operator.vault_key();
        self.world.vault.hold(Key { published, secret, policy: None });
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("envelope")
    }

    fn put(&self, envelope: &str) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, format!("{envelope}\n")).unwrap();
        std::fs::rename(next, self.file()).unwrap();
    }

    async fn ask(&self, names: &[&str]) -> Result<GetSecretsReply, Status> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let reply = self.world.role.keys().get_secrets(GetSecretsRequest { names }).await;
        reply.map(tonic::Response::into_inner)
    }

    /// Asks until the answer is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Result<GetSecretsReply, Status>) -> bool) {
        let asked = tokio::time::timeout(Duration::from_secs(60), async {
            while !wanted(&self.ask(&["API_KEYS"]).await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        asked.await.unwrap_or_else(|_| panic!("no such answer: {what}"));
    }

    async fn until_refused(&self, code: Code, words: &str) {
        let refused = |status: &Status| status.code() == code && status.message().contains(words);
        self.until(words, |answer| answer.as_ref().is_err_and(refused)).await;
    }

    async fn until_open(&self, version: u64) {
        self.until("open", |answer| answer.as_ref().is_ok_and(|open| open.version == version))
            .await;
    }
}

fn sealed(operator: &Operator, version: u64) -> String {
    let values = json!({"API_KEYS": format!("key-{version}"), "ADMIN_PASSWORD": "s3cret"});
    operator.seal(&payload(version, &values))
}

#[tokio::test]
async fn values_are_given_by_name_once_the_envelope_is_there() {
    let operator = Operator::new();
    let desk = Desk::new(&operator).await;
    desk.until_refused(Code::Unavailable, "there is no envelope yet").await;
    desk.put(&sealed(&operator, 5));
    desk.until_open(5).await;
    let open = desk.ask(&["API_KEYS", "STATE_KEY", "api_keys"]).await.unwrap();
    assert!(open.configured);
    let values = [("API_KEYS".to_owned(), "key-5".to_owned())];
    assert_eq!(open.values, values.into(), "what was asked for and is there");
    assert!(desk.ask(&[]).await.unwrap().values.is_empty());
    let many = vec!["API_KEYS"; 10_000];
    assert!(desk.ask(&many).await.is_err(), "requests have a bound");

    // A newer one takes over without a restart.
    desk.put(&sealed(&operator, 6));
    desk.until_open(6).await;
    assert_eq!(desk.ask(&["API_KEYS"]).await.unwrap().values["API_KEYS"], "key-6");
}

#[tokio::test]
async fn every_refusal_is_named_and_the_good_one_is_opened_after_it() {
    let (operator, other) = (Operator::new(), Operator::new());
    let desk = Desk::new(&operator).await;
    let good = payload(5, &json!({"API_KEYS": "s3cret"}));
    let whole = operator.seal(&good);
    let (_, rest) = whole.split_once('.').unwrap();
    let changed = format!("{}A", &whole[..whole.len() - 1]);
    let changed =
        if changed == whole { format!("{}Q", &whole[..whole.len() - 1]) } else { changed };
    let pretended = json!({"alg": "ES256", "kid": operator.signer.kid()});
    for (envelope, words) in [
        ("x".repeat(1024 * 1024 + 1), "too long"),
        ("s3cret.s3cret".to_owned(), "not an envelope"),
        (format!("e30.{rest}"), "its header must name"),
        (changed, "changed on its way"),
        (operator.encrypt(&good), "not signed"),
        (operator.encrypt(&other.sign(&good)), "foreign"),
        (operator.encrypt(&other.sign_under(&pretended, &good)), "forged"),
        (operator.seal(&good.replace("\"v\":1", "\"v\":2")), "another format"),
        (operator.seal("{}"), "not the JSON of sealed secrets"),
        (operator.seal(&good.replace("here", "there")), "another group"),
        (operator.seal(&good.replace("\"version\":5", "\"version\":4")), "too old: version 4"),
        (operator.seal(&good.replace("s3cret", "")), "API_KEYS must have"),
        (other.seal(&good), "another key"),
    ] {
        desk.put(&envelope);
        desk.until_refused(Code::FailedPrecondition, words).await;
        let status = desk.ask(&["API_KEYS"]).await.err().unwrap();
        assert!(!status.message().contains("s3cret"), "{}", status.message());
    }
    desk.put(&whole);
    desk.until_open(5).await;
}

/// The key is rotated in the vault; an envelope for its new version has it released.
#[tokio::test]
async fn an_envelope_for_a_newer_version_of_the_key_is_opened() {
    let operator = Operator::new();
    let desk = Desk::new(&operator).await;
    desk.put(&sealed(&operator, 5));
    desk.until_open(5).await;
    let rotated = operator.with_new_vault_key();
    desk.hold(&rotated);
    desk.put(&sealed(&rotated, 6));
    desk.until_open(6).await;
}

#[tokio::test]
async fn a_vault_that_is_late_is_told_from_one_that_refuses() {
    let operator = Operator::new();
    let desk = Desk::without_key(&operator).await;
    desk.put(&sealed(&operator, 5));
    desk.until_refused(Code::FailedPrecondition, "refuses to release SECRETS_KID").await;
    desk.hold(&operator);
    desk.until_open(5).await;

    let desk = Desk::new(&operator).await;
    // Three times each, since a release asks again by itself; and the state's key is released beside this one.
    desk.world.vault.misbehave((0..9).map(|_| Misdeed::Refuse(503, "{}", Vec::new())));
    desk.put(&sealed(&operator, 5));
    desk.until_refused(Code::Unavailable, "not released SECRETS_KID yet").await;
    desk.until_open(5).await;
}

#[tokio::test]
async fn neither_the_secrets_key_nor_the_states_is_handed_out() {
    let operator = Operator::new();
    let desk = Desk::new(&operator).await;
    for kid in ["sealing", "SEALING/1", "state", "State/0a"] {
        let request = ReleaseKeyRequest { kid: kid.to_owned(), ..Default::default() };
        let refused = desk.world.role.keys().release_key(request).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied, "{kid}");
        let body =
            json!({"maa_endpoint": "m.test", "akv_endpoint": desk.world.vault.host(), "kid": kid});
        let answer = post(desk.world.role.http(), "/key/release", &body).await;
        assert!(answer.status == 403 && answer.error().contains("reserved"), "{}", answer.body);
    }
    let request = ReleaseKeyRequest { kid: "another".to_owned(), ..Default::default() };
    assert!(desk.world.role.keys().release_key(request).await.is_ok());
}

#[tokio::test]
async fn without_sealed_secrets_there_is_nothing_to_give() {
    let world = World::start().await;
    let request = GetSecretsRequest { names: vec!["API_KEYS".to_owned()] };
    let reply = world.role.keys().get_secrets(request).await.unwrap().into_inner();
    assert!(!reply.configured && reply.values.is_empty() && reply.version == 0);
}
