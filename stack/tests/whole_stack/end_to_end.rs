//! A client gets what it came for, and the group does not survive on luck: any one role may die and come back.

use crate::support::{Running, fail, pmc, start, text};
use stack::RoleName;
use stack::check::{Endpoint, end_to_end};

async fn holds(running: &Running) {
    let connector = running.stack.connector().await.unwrap();
    let endpoint = Endpoint { connector, api_key: running.stack.api_key.clone() };
    end_to_end(&endpoint).await.unwrap_or_else(|error| fail(&error));
}

#[tokio::test]
async fn a_client_gets_chat_stream_and_embeddings() {
    let running = start().await;
    holds(&running).await;
    running.stop().await;
}

/// The boot ids of all roles but one.
async fn others(running: &Running, but: RoleName) -> Vec<String> {
    let mut boots = Vec::new();
    for role in RoleName::ALL.into_iter().filter(|role| *role != but) {
        boots.push(running.stack.group.info(role).await.unwrap().boot_id);
    }
    boots
}

#[tokio::test]
async fn killing_any_role_heals_without_restarting_the_others() {
    let mut running = start().await;
    for role in RoleName::ALL {
        let before = others(&running, role).await;
        let own_before = running.stack.group.info(role).await.unwrap().boot_id;
        running.stack.group.crash(role).await.unwrap();
        let ready = running.stack.group.until_ready(role).await;
        ready.unwrap_or_else(|error| fail(&error));
        holds(&running).await;
        assert_eq!(
            others(&running, role).await,
            before,
            "the others went on while {role} restarted"
        );
        assert_ne!(running.stack.group.info(role).await.unwrap().boot_id, own_before);
    }
    running.stop().await;
}

#[tokio::test]
async fn pmc_says_whose_anchors_it_holds() {
    let running = start().await;
    let url = running.stack.group.url().await.unwrap();
    let policy = running.path("policy.toml");

    let production = pmc(&["verify", &url, "--policy", &policy]).await;
    assert_eq!(production.status.code(), Some(1), "{}", text(&production));
    assert!(text(&production).contains("anchors: production"), "{}", text(&production));
    assert!(text(&production).contains("FAIL       C1"), "{}", text(&production));

    let saved = running.path("proof.json");
    let mut simulated = vec!["verify".to_owned(), url.clone(), "--save".to_owned(), saved.clone()];
    simulated.extend(running.trusting());
    let simulated = pmc(&simulated).await;
    assert_eq!(simulated.status.code(), Some(0), "{}", text(&simulated));
    assert!(text(&simulated).contains("anchors: NOT PRODUCTION"), "{}", text(&simulated));

    let nobody = ["verify", &url, "--danger-anchors", &running.path("anchors.pem")];
    let nobody = pmc(&nobody).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody).contains("nothing is allowed"), "{}", text(&nobody));
    running.stop().await;
}

#[tokio::test]
async fn a_saved_proof_is_judged_again_without_the_server() {
    let running = start().await;
    let url = running.stack.group.url().await.unwrap();
    let saved = running.path("proof.json");
    let mut verify = vec!["verify".to_owned(), url, "--save".to_owned(), saved.clone()];
    verify.extend(running.trusting());
    assert!(pmc(&verify).await.status.success());
    let trusting = running.trusting();
    let Running { stack, folder, .. } = running;
    assert!(stack.stop().await.is_empty());

    let again = |file: &str, at: &str| {
        let mut words = vec![
            "verify".to_owned(),
            "--evidence".to_owned(),
            file.to_owned(),
            "--json".to_owned(),
        ];
        words.extend(trusting.clone());
        if !at.is_empty() {
            words.extend(["--at".to_owned(), at.to_owned()]);
        }
        async move { pmc(&words).await }
    };
    let judged = again(&saved, "").await;
    assert_eq!(judged.status.code(), Some(0), "{}", text(&judged));
    let document: serde_json::Value = serde_json::from_slice(&judged.stdout).unwrap();
    assert_eq!(document["verdict"], "accepted");
    assert_eq!(document["anchors"], "NOT PRODUCTION");
    assert_eq!(document["manifest"]["service"], "privatemode-confidential");

    let before_the_certificates = again(&saved, "2020-01-01T00:00:00Z").await;
    assert_eq!(before_the_certificates.status.code(), Some(1));

    // Any change to what the client itself observed makes it another connection's.
    let text_of = std::fs::read_to_string(&saved).unwrap();
    let mut proof: serde_json::Value = serde_json::from_str(&text_of).unwrap();
    for member in ["nonce", "exporter"] {
        let mut forged = proof.clone();
        forged[member] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into();
        let path = folder.path().join("forged.json");
        std::fs::write(&path, forged.to_string()).unwrap();
        let judged = again(&path.display().to_string(), "").await;
        assert_eq!(judged.status.code(), Some(1), "{member}: {}", text(&judged));
        let document: serde_json::Value = serde_json::from_slice(&judged.stdout).unwrap();
        let failed: Vec<_> = document["checks"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|check| check["outcome"] == "failed")
            .map(|check| check["id"].as_str().unwrap())
            .collect();
        assert_eq!(failed, ["B1", "B2", "B3"], "{member}");
    }
    proof["v"] = 2.into();
    let path = folder.path().join("version.json");
    std::fs::write(&path, proof.to_string()).unwrap();
    assert_eq!(again(&path.display().to_string(), "").await.status.code(), Some(2));
}

/// What `pmc policy init` writes from a deployment accepts that deployment, names what it rests on, and is not
/// overwritten.
#[tokio::test]
async fn a_policy_is_drawn_up_from_the_deployment() {
    let running = start().await;
    let url = running.stack.group.url().await.unwrap();
    let anchors = running.path("anchors.pem");
    let drawn = running.path("drawn.toml");
    let init = ["policy", "init", &url, "--danger-anchors", &anchors, "--out", &drawn];
    let written = pmc(&init).await;
    assert_eq!(written.status.code(), Some(0), "{}", text(&written));
    let policy = std::fs::read_to_string(&drawn).unwrap();
    for words in
        ["host_data = ", "[minimum_tcb.milan]", "minimum_svn = 104", "did:x509:", "NOT PRODUCTION"]
    {
        assert!(policy.contains(words), "{words} is not in {policy}");
    }
    let mut chosen = policy.lines().filter(|line| !line.starts_with('#'));
    assert!(!chosen.any(|line| line.contains("unchecked")), "nothing is loosened: {policy}");

    let verify = ["verify", &url, "--danger-anchors", &anchors, "--policy", &drawn];
    let accepted = pmc(&verify).await;
    assert_eq!(accepted.status.code(), Some(0), "{}", text(&accepted));
    assert_eq!(pmc(&init).await.status.code(), Some(2), "a policy is not overwritten");
    let production = pmc(&["policy", "init", &url]).await;
    assert_eq!(production.status.code(), Some(1), "{}", text(&production));
    running.stop().await;
}
