//! Sealed secrets from the operator's file to a client's request: `pmc` seals them, the simulated vault releases the key
//! to the attested group only, `skr-sidecar` opens them, and the proxy lives by them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use client::Connector;
use serde_json::{Map, Value, json};
use sim::vault::KeySpec;
use sim::world::WorldConfig;
use stack::check::{Endpoint, chat_request, end_to_end};
use stack::{RoleName, Stack, StartError};

use crate::canary::{Tap, search, search_outside};
use crate::support::{Forwarder, fail, options, pmc, start_set, text};

/// The credential that the model demands.
const UPSTREAM: &str = "CANARY-upstream-0b6f2d19";
/// An API key.
const CLIENT: &str = "pm_CANARY-client-7ad0c3e5";
/// The one after it.
const NEXT: &str = "pm_CANARY-client-51f8e4b2";
/// Nobody takes it yet.
const PASSWORD: &str = "CANARY-password-93c1d7aa";

/// The private key in the simulated vault. Everybody may know it: no other vault has it.
fn vault_key() -> Map<String, Value> {
    serde_json::from_str(include_str!("secrets_key.json")).unwrap()
}

fn with_secrets(world: &mut WorldConfig) {
    let vault = world.vault.as_mut().unwrap();
    let policy = vault.keys.iter().find_map(|key| key.release_policy.clone()).unwrap();
    let spec =
        json!({"name": "secrets", "kty": "RSA-HSM", "jwk": vault_key(), "release_policy": policy});
    vault.keys.push(serde_json::from_value::<KeySpec>(spec).unwrap());
    world.model.as_mut().unwrap().model.key = Some(UPSTREAM.to_owned());
}

/// The operator's desk. What is on it, the group's folder never holds.
struct Desk {
    folder: tempfile::TempDir,
    signer: String,
}

impl Desk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let public: Map<String, Value> = vault_key()
            .into_iter()
            .filter(|(name, _)| ["kty", "n", "e"].contains(&name.as_str()))
            .collect();
        let shown = json!({"attributes": {"exportable": true}, "key": public});
        std::fs::write(folder.path().join("public.json"), shown.to_string()).unwrap();
        let mut desk = Self { folder, signer: String::new() };
        let said = desk.pmc("new-signer --out @signer.pem").await;
        said.trim().strip_prefix("SECRETS_SIGNER=").unwrap().clone_into(&mut desk.signer);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `pmc secrets`; words that name a file of the desk begin with `@`.
    async fn pmc(&self, words: &str) -> String {
        let words = words.split(' ').map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name).display().to_string(),
            None => word.to_owned(),
        });
        let words: Vec<String> = ["secrets".to_owned()].into_iter().chain(words).collect();
        let output = pmc(&words).await;
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    }

    fn write_values(&self, key: &str) {
        let path = self.path("values.toml");
        let text = format!(
            "group = \"production\"\nversion = 1\n[values]\nPRIVATEMODE_API_KEY = \"{UPSTREAM}\"\n\
             API_KEYS = \"{key}\"\nADMIN_PASSWORD = \"{PASSWORD}\"\n"
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// What the group is configured with, for an envelope at that place.
    fn variables(&self, envelope: &str) -> Vec<(RoleName, &'static str, String)> {
        let skr = [
            ("SECRETS_KID", "secrets"),
            ("SECRETS_SIGNER", &self.signer),
            ("SECRETS_GROUP", "production"),
            ("SECRETS_MIN_VERSION", "1"),
            ("SECRETS_FILE", envelope),
        ];
        let proxy = [("PROXY_SECRETS", "sealed"), ("PRIVATEMODE_API_KEY", "")];
        let of = |role| move |(name, value): (&'static str, &str)| (role, name, value.to_owned());
        let skr = skr.map(of(RoleName::SkrSidecar)).into_iter();
        skr.chain(proxy.map(of(RoleName::Proxy))).collect()
    }
}

#[tokio::test]
async fn sealed_secrets_reach_the_proxy_and_are_seen_nowhere_else() {
    let desk = Desk::new().await;
    desk.write_values(CLIENT);
    let keys = "--public-key @public.json --signer @signer.pem --out";
    desk.pmc(&format!("seal @values.toml {keys} @envelope-1")).await;
    let host = tempfile::tempdir().unwrap();
    let place = host.path().join("envelope");
    std::fs::copy(desk.path("envelope-1"), &place).unwrap();

    let variables = desk.variables(&place.display().to_string());
    let running = start_set(with_secrets, variables).await;
    let url = running.stack.group.url().await.unwrap();
    let tap = Tap::start(url.trim_start_matches("https://").to_owned()).await;

    // The API key is good, and the model accepts the credential.
    let target = format!("https://{}", tap.address).parse().unwrap();
    let (anchors, policy) = (running.stack.anchors().unwrap(), running.stack.policy());
    let connector = Connector::new(target, anchors, policy);
    let endpoint = Endpoint { connector, api_key: CLIENT.to_owned() };
    end_to_end(&endpoint).await.unwrap_or_else(|error| fail(&error));
    let manifest = endpoint.connector.connect().await.unwrap().proof().manifest.clone();
    assert_eq!(manifest.unsealed, [""; 0], "no secret came from the environment");

    // The next version takes over in a running group, and what it leaves out is good no longer.
    desk.write_values(NEXT);
    desk.pmc(&format!("rotate @values.toml --new-values @values-2.toml {keys} @envelope-2")).await;
    std::fs::copy(desk.path("envelope-2"), host.path().join("next")).unwrap();
    std::fs::rename(host.path().join("next"), &place).unwrap();
    let forwarder = Forwarder::start(&url, &running.trusting()).await;
    let ask = async |key: &str| {
        let body = chat_request("hello", false).to_string();
        forwarder.post("/v1/chat/completions", key, &body).await.0
    };
    let taken = tokio::time::timeout(Duration::from_secs(60), async {
        while ask(NEXT).await != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    taken.await.unwrap();
    assert_eq!(ask(CLIENT).await, 401, "it was left out");

    // Whoever carries the envelopes and sets the variables learns nothing.
    let secrets = [UPSTREAM, CLIENT, NEXT, PASSWORD].map(str::to_owned);
    for name in ["envelope-1", "envelope-2"] {
        search(name, &std::fs::read(desk.path(name)).unwrap(), &secrets);
    }
    for role in RoleName::ALL {
        for (name, value) in running.stack.group.places().environment(role) {
            search(&format!("{role} {name}"), value.as_bytes(), &secrets);
        }
    }
    drop(forwarder);
    search_outside(running, &tap, &secrets).await;
}

/// Who leaves the sealed secrets out, or puts one beside them, has no group that serves without them.
#[tokio::test]
async fn a_proxy_whose_secrets_are_sealed_serves_nobody_without_them() {
    for (name, value) in [("PROXY_SECRETS", "sealed"), ("API_KEYS", "pm_of-the-host")] {
        let folder = tempfile::tempdir().unwrap();
        let variables = [("PROXY_SECRETS", "sealed"), ("PRIVATEMODE_API_KEY", ""), (name, value)];
        let variables = variables.map(|(name, value)| (RoleName::Proxy, name, value.to_owned()));
        let options = stack::Options { variables: variables.into(), ..options(folder.path()) };
        let refused = Box::pin(Stack::start(options, |_| {})).await.err().unwrap();
        assert!(matches!(refused, StartError::Role { role: RoleName::Proxy, .. }), "{refused}");
    }
}
