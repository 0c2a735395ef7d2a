//! The strongest attacker that a client can meet, against the group as it ships: it owns the network *and* the server's
//! TLS key. `TLS_MODE=files` is how the test comes to know the key; a side channel or a disclosed memory is how others do.
//! `client/tests/attested` has the rest of the attacks, against a server that does more than ours can be told to.

use std::sync::Arc;

use crate::support::impostor::{Answer, Identity, Impostor};
use crate::support::{PROGRAM, Running, fail, pmc, start_with, text};
use client::{AttestedClient, Connector};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use sim::world::GroupConfig;
use stack::{Group, RoleName};
use tempfile::TempDir;

/// A group whose TLS key lies in a file, and the key.
struct Robbed {
    running: Running,
    group: Group,
    identity: Identity,
    connector: Connector,
    _folder: TempDir,
}

impl Robbed {
    async fn start() -> Self {
        let running = start_with(|world| world.groups.push(GroupConfig::new("files"))).await;
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::new();
        let mut places = running.stack.places_of("files", folder.path()).unwrap();
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        places.variables = vec![
            (RoleName::Proxy, "TLS_MODE", "files".to_owned()),
            (RoleName::Proxy, "TLS_CERT_FILE", file("tls.crt", identity.certificate.pem())),
            (RoleName::Proxy, "TLS_KEY_FILE", file("tls.key", identity.key.serialize_pem())),
        ];
        let group = Group::start(PROGRAM.into(), places, |_| {}).await;
        let group = group.unwrap_or_else(|error| fail(&error));
        let target = group.url().await.unwrap().parse().unwrap();
        let anchors = running.stack.anchors().unwrap();
        let connector = Connector::new(target, anchors, running.stack.policy());
        Self { running, group, identity, connector, _folder: folder }
    }

    /// Both ways into the product refuse it, by B1, and it got nothing but requests for a proof.
    async fn refuses(&self, thief: &Impostor) {
        let url = format!("https://{}", thief.address);
        let stack = &self.running.stack;
        let connector =
            Connector::new(url.parse().unwrap(), stack.anchors().unwrap(), stack.policy());
        let error = AttestedClient::connect(connector).await.err().expect("refused");
        assert_eq!(error.failed_check(), Some("B1"), "{error:?}");

        let mut forward = ["connect", &url, "--listen", "127.0.0.1:0"].map(str::to_owned).to_vec();
        forward.extend(self.running.trusting());
        let output = pmc(&forward).await;
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("B1"), "{}", text(&output));
        assert!(!thief.paths().is_empty());
        for path in thief.paths() {
            assert!(path.starts_with("/attestation/verify\n"), "{path}");
        }
    }

    async fn stop(self) {
        self.group.stop().await;
        self.running.stop().await;
    }
}

/// The thief asks the genuine group on a connection of its own, with the client's nonce.
#[tokio::test]
async fn the_tls_key_is_stolen_and_the_genuine_group_is_asked() {
    let robbed = Box::pin(Robbed::start()).await;
    let genuine = AttestedClient::connect(robbed.connector.clone()).await.unwrap();
    let shown = robbed.connector.record().await.unwrap().certificate;
    assert_eq!(shown, robbed.identity.certificate.der().to_vec(), "the key is the genuine one");
    let relay: Answer = Arc::new(move |question| {
        let genuine = genuine.clone();
        Box::pin(async move {
            let question = Request::post("/attestation/verify").body(Full::new(question)).unwrap();
            let answer = genuine.send(question).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "the group proves the thief's connection");
            #[expect(clippy::disallowed_methods, reason = "an answer of a server of ours")]
            let body = answer.into_body().collect().await.unwrap();
            (StatusCode::OK, body.to_bytes().to_vec())
        })
    });
    let thief = Impostor::start_as(&robbed.identity, "127.0.0.1:0", &[b"h2"], relay).await;
    robbed.refuses(&thief).await;
    robbed.stop().await;
}

/// The thief replays what an earlier boot of the group answered.
#[tokio::test]
async fn the_tls_key_is_stolen_and_the_evidence_of_another_boot_is_replayed() {
    let mut robbed = Box::pin(Robbed::start()).await;
    let recorded = robbed.connector.record().await.unwrap().answer;
    let recorded = serde_json::to_vec(&recorded).unwrap();
    robbed.group.crash(RoleName::Proxy).await.unwrap();
    let replay: Answer = Arc::new(move |_| {
        let recorded = recorded.clone();
        Box::pin(async move { (StatusCode::OK, recorded) })
    });
    let thief = Impostor::start_as(&robbed.identity, "127.0.0.1:0", &[b"h2"], replay).await;
    robbed.refuses(&thief).await;
    robbed.stop().await;
}
