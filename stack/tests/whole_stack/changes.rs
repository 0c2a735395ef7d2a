//! What changes between deployments, as `pmc diff` explains it and `pmc connect --pin-first` holds to it.

use crate::support::{Forwarder, PROGRAM, Running, fail, pmc, start_with, text};
use sim::security_context::DEFAULT_POLICY;
use sim::world::GroupConfig;
use stack::{Group, RoleName};
use tempfile::TempDir;

/// A stack, and beside its group one with another enforcement policy.
struct Two {
    running: Running,
    other: Group,
    folder: TempDir,
}

impl Two {
    async fn start() -> Self {
        let running = start_with(|world| {
            let policy = format!("{DEFAULT_POLICY}\n# a container more\n");
            world.groups.push(GroupConfig { policy, ..GroupConfig::new("other") });
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let places = running.stack.places_of("other", folder.path()).unwrap();
        let other = Group::start(PROGRAM.into(), places, |_| {}).await;
        let other = other.unwrap_or_else(|error| fail(&error));
        Self { running, other, folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn anchors(&self) -> [String; 2] {
        ["--danger-anchors".to_owned(), self.running.path("anchors.pem")]
    }

    /// Exit status and everything that was printed.
    async fn diff(&self, words: &[&str]) -> (Option<i32>, String) {
        let mut all = vec!["diff".to_owned()];
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all.extend(self.anchors());
        let output = pmc(&all).await;
        (output.status.code(), text(&output))
    }

    async fn stop(self) {
        self.other.stop().await;
        self.running.stop().await;
    }
}

#[tokio::test]
async fn a_restart_is_the_same_deployment_and_another_policy_is_another_one() {
    let mut two = Box::pin(Two::start()).await;
    let url = two.running.stack.group.url().await.unwrap();
    let saved = two.path("proof.json");
    let mut verify = vec!["verify".to_owned(), url.clone(), "--save".to_owned(), saved.clone()];
    verify.extend(two.running.trusting());
    let verified = pmc(&verify).await;
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));

    two.running.stack.group.crash(RoleName::Proxy).await.unwrap();
    two.running.stack.group.until_ready(RoleName::Proxy).await.unwrap();
    let url = two.running.stack.group.url().await.unwrap();
    let (status, restarted) = two.diff(&[&saved, &url]).await;
    assert_eq!(status, Some(0), "{restarted}");
    for words in ["SAME", "boot: the proxy was started again", "certificate: a new TLS key"] {
        assert!(restarted.contains(words), "{words:?} is not in {restarted}");
    }

    let other = two.other.url().await.unwrap();
    let (status, deployed) = two.diff(&[&saved, &other]).await;
    assert_eq!(status, Some(1), "{deployed}");
    for words in ["DIFFERENT", "enforcement policy (HOST_DATA)", "+ # a container more"] {
        assert!(deployed.contains(words), "{words:?} is not in {deployed}");
    }
    assert!(!deployed.contains("launch measurement"), "the utility VM is the same: {deployed}");

    let (status, document) = two.diff(&[&saved, &other, "--json"]).await;
    assert_eq!(status, Some(1));
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["equal"], false);
    assert_eq!(document["anchors"], "NOT PRODUCTION");
    let changes = document["changes"].as_array().unwrap();
    assert!(changes.iter().any(|change| change["matters"] == "identity"), "{document}");

    // What is not genuine is not compared: another's roots, or a manifest that the report does not cover.
    let strange = pmc(&["diff", &saved, &saved]).await;
    assert_eq!(strange.status.code(), Some(2), "{}", text(&strange));
    let mut forged: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&saved).unwrap()).unwrap();
    forged["answer"]["manifest"] = attestation::encoding::to_b64u(b"{}").into();
    let path = two.path("forged.json");
    std::fs::write(&path, forged.to_string()).unwrap();
    let (status, why) = two.diff(&[&saved, &path]).await;
    assert_eq!(status, Some(2), "{why}");
    two.stop().await;
}

#[tokio::test]
async fn what_was_pinned_first_is_held_to() {
    let two = Box::pin(Two::start()).await;
    let url = two.running.stack.group.url().await.unwrap();
    let pinned = two.path("pinned.toml");
    let pin = [two.anchors().to_vec(), vec!["--pin-first".to_owned(), pinned.clone()]].concat();
    for _ in 0..2 {
        let forwarder = Forwarder::start(&url, &pin).await;
        let body = stack::check::chat_request("hello", false).to_string();
        let key = &two.running.stack.api_key;
        let (status, answer) = forwarder.post("/v1/chat/completions", key, &body).await;
        assert_eq!(status, 200, "{answer}");
    }
    let policy = std::fs::read_to_string(&pinned).unwrap();
    for words in ["host_data = ", "measurement = ", "owner_key", "NOT PRODUCTION"] {
        assert!(policy.contains(words), "{words} is not in {policy}");
    }
    let other = two.other.url().await.unwrap();
    let mut again =
        vec!["connect".to_owned(), other, "--listen".to_owned(), "127.0.0.1:0".to_owned()];
    again.extend(pin);
    let refused = pmc(&again).await;
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("P9"), "{}", text(&refused));
    two.stop().await;
}
