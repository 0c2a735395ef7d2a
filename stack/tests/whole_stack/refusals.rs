//! `pmc connect` refuses, with a reason and before a byte of a request is sent, whatever is not the group.

use std::sync::Arc;

use crate::support::impostor::{Answer, Impostor, plain};
use crate::support::{Forwarder, PROGRAM, Running, fail, pmc, start, start_with, text};
use attestation::policy::Hex;
use attestation::{Expect, Policy};
use client::Connector;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use sim::seed::Seed;
use sim::world::GroupConfig;
use stack::Group;

const SECRET: &str = "SECRET-witness-of-a-prompt";

/// `pmc connect` ends with status 1 and these words.
async fn refused(url: &str, arguments: &[String], words: &[&str]) {
    let mut command = vec!["connect".to_owned(), url.to_owned()];
    command.extend(arguments.iter().cloned());
    command.extend(["--listen".to_owned(), "127.0.0.1:0".to_owned()]);
    let output = pmc(&command).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    for word in words {
        assert!(text(&output).contains(word), "{word:?} is not in {}", text(&output));
    }
}

#[tokio::test]
async fn another_policy_than_the_one_that_is_meant() {
    let running = start().await;
    let url = running.stack.group.url().await.unwrap();
    let arguments = ["--danger-anchors".to_owned(), running.path("anchors.pem")];
    let other = ["--host-data".to_owned(), "ab".repeat(32)];
    refused(&url, &[arguments, other].concat(), &["P9"]).await;
    assert!(running.stack.world.records().all().is_empty(), "nothing reached the model");
    running.stop().await;
}

/// A group on a machine whose keys another "AMD" made. The names on its certificates are the right ones.
#[tokio::test]
async fn a_forged_chain() {
    let running = start_with(|world| {
        world.groups.push(GroupConfig {
            machine_seed: Some(Seed::new("somebody else's AMD")),
            ..GroupConfig::new("forged")
        });
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let places = running.stack.places_of("forged", folder.path()).unwrap();
    let forged = Group::start(PROGRAM.into(), places, |_| {}).await;
    let forged = forged.unwrap_or_else(|error| fail(&error));
    refused(&forged.url().await.unwrap(), &running.trusting(), &["C1"]).await;
    forged.stop().await;
    running.stop().await;
}

/// The impostor passes the client's own request for a proof on to the genuine group, and its answer back.
#[tokio::test]
async fn evidence_of_another_connection() {
    let running = start().await;
    let connector = running.stack.connector().await.unwrap();
    let genuine = Arc::new(connector.connect().await.unwrap());
    let relay: Answer = Arc::new(move |request| {
        let (genuine, target) = (genuine.clone(), connector.target().clone());
        Box::pin(async move {
            let body = Full::new(request).map_err(|never| match never {}).boxed_unsync();
            let request = Request::post("/attestation/verify").body(body).unwrap();
            let answer = genuine.send(&target, request).await.unwrap();
            let (status, answer) = (answer.status(), read(answer.into_body()).await);
            (status, answer)
        })
    });
    let impostor = Impostor::start("127.0.0.1:0", &[b"h2"], relay).await;
    let url = format!("https://{}", impostor.address);
    refused(&url, &running.trusting(), &["B1"]).await;
    only_proofs_were_asked_for(&impostor);
    running.stop().await;
}

#[tokio::test]
async fn a_plain_tls_server() {
    let running = start().await;
    for alpn in [vec![b"h2".as_slice()], vec![b"http/1.1".as_slice()], vec![]] {
        let impostor = Impostor::start("127.0.0.1:0", &alpn, plain()).await;
        let url = format!("https://{}", impostor.address);
        refused(&url, &running.trusting(), &[]).await;
        only_proofs_were_asked_for(&impostor);
    }
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_proving_itself_after_a_reconnect() {
    let running = start().await;
    let url = running.stack.group.url().await.unwrap();
    let forwarder = Forwarder::start(&url, &running.trusting()).await;
    let key = running.stack.api_key.clone();
    let body = stack::check::chat_request(SECRET, false).to_string();
    let (status, answer) = forwarder.post("/v1/chat/completions", &key, &body).await;
    assert_eq!(status, 200, "{answer}");

    let trusted = url.trim_start_matches("https://").to_owned();
    let Running { stack, folder, .. } = running;
    assert!(stack.stop().await.is_empty());
    let impostor = Impostor::start(&trusted, &[b"h2"], plain()).await;
    for _ in 0..3 {
        let (status, answer) = forwarder.post("/v1/chat/completions", &key, &body).await;
        assert_eq!(status, 502, "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["error"]["type"], "attestation_failed");
        assert_eq!(answer["error"]["code"], "unproven");
        assert!(answer["error"]["message"].as_str().unwrap().contains("does not prove itself"));
    }
    only_proofs_were_asked_for(&impostor);
    drop(folder);
}

/// The library refuses as its command line does: there is no way around the proof.
#[tokio::test]
async fn the_library_refuses_an_empty_list() {
    let running = start().await;
    let target = running.stack.connector().await.unwrap().target().clone();
    let nobody = Policy::for_host_data(Expect::Value(Vec::<Hex<32>>::new()));
    let connector = Connector::new(target, running.stack.anchors().unwrap(), nobody);
    let error = connector.connect().await.err().unwrap();
    assert_eq!(error.failed_check(), Some("P9"));
    running.stop().await;
}

#[expect(clippy::disallowed_methods, reason = "an answer of a server of ours")]
async fn read(body: hyper::body::Incoming) -> Vec<u8> {
    body.collect().await.unwrap().to_bytes().to_vec()
}

fn only_proofs_were_asked_for(impostor: &Impostor) {
    for path in impostor.paths() {
        assert!(path.starts_with("/attestation/verify\n"), "{path}");
    }
    let all = impostor.bytes();
    for secret in [SECRET, "Bearer", "authorization"] {
        let found = all.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} was sent to an impostor");
    }
}
