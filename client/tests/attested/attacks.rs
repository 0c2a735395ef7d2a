//! What an attacker who owns the network, and sometimes the server's TLS key, tries with a client. Each name says the
//! attack; in each the client sends nothing but a request for a proof to whoever is not the guest.

use std::sync::{Arc, Mutex};

use attestation::bundle::Bundle;
use attestation::connection::{ConnectionError, judge};
use attestation::encoding::to_b64u;
use attestation::wire::VerifyAnswer;
use attestation::{Expect, Policy, binding};
use client::{AttestedClient, CallError, ConnectError, Connector};
use http::header::{AUTHORIZATION, LOCATION};
use http::{Request, StatusCode};

use crate::group::{Asked, Group, Identity, Manner, Prove, Server, manifest, text};

/// A request as people send it, with what must not come into wrong hands.
fn secret() -> Request<String> {
    let request = Request::post("/v1/chat/completions").header(AUTHORIZATION, "Bearer SECRET");
    request.body("SECRET".to_owned()).unwrap()
}

/// Gives this answer, whatever was asked.
fn always(answer: &VerifyAnswer) -> Prove {
    raw(StatusCode::OK, serde_json::to_vec(answer).unwrap())
}

fn raw(status: StatusCode, answer: Vec<u8>) -> Prove {
    Arc::new(move |_| {
        let answer = answer.clone();
        Box::pin(async move { (status, answer) })
    })
}

/// No connection comes about, by this check, and the server saw nothing of worth.
async fn refused_by(connector: Connector, server: &Server, check: &str) {
    let error = connector.connect().await.err().expect("the proof is refused");
    assert_eq!(error.failed_check(), Some(check), "{error:?}");
    let error = AttestedClient::connect(connector).await.err().expect("the proof is refused");
    assert_eq!(error.failed_check(), Some(check), "{error:?}");
    server.saw_nothing_but_requests_for_proofs();
}

/// What the check says in that refusal.
fn ids(error: &ConnectError) -> Vec<&'static str> {
    let ConnectError::Refused(_, why) = error else { panic!("{error:?}") };
    let ConnectionError::Rejected(rejected) = why.as_ref() else { panic!("{why:?}") };
    rejected.failures().map(|finding| finding.check.id).collect()
}

/// Whoever owns the key terminates TLS and hands the client's own nonce on to the guest, which answers for its own end
/// of another connection.
#[tokio::test]
async fn a_stolen_tls_key_with_the_genuine_server_in_the_loop() {
    let group = Group::new();
    let genuine = Server::start(Manner::new(group.honest())).await;
    let identity = genuine.manner.read().unwrap().identity.clone();
    let (guest, target) = (group.clone(), genuine.url());
    let relay: Prove = Arc::new(move |asked: Asked| {
        let connector = Connector::new(target.parse().unwrap(), guest.anchors(), guest.policy());
        let guest = guest.clone();
        Box::pin(async move {
            // The attacker's own connection to the guest, whose exporter only the two of them know.
            let theirs = connector.record().await.unwrap();
            assert_eq!(theirs.certificate, asked.certificate, "the key is the genuine one");
            let asked = Asked { exporter: theirs.exporter, ..asked };
            (StatusCode::OK, serde_json::to_vec(&guest.prove(&asked)).unwrap())
        })
    });
    let thief = Server::start(Manner { identity, ..Manner::new(relay) }).await;
    assert!(group.connector(&genuine).connect().await.is_ok());
    refused_by(group.connector(&thief), &thief, "B1").await;
    let error = group.connector(&thief).connect().await.err().unwrap();
    assert_eq!(ids(&error), ["B1", "B2", "B3"], "one digest covers all of them");
}

/// The same without the guest: what it once answered to the attacker.
#[tokio::test]
async fn a_stolen_tls_key_with_recorded_evidence() {
    let group = Group::new();
    let genuine = Server::start(Manner::new(group.honest())).await;
    let recorded = group.connector(&genuine).record().await.unwrap();
    let identity = genuine.manner.read().unwrap().identity.clone();
    drop(genuine);
    let thief = Server::start(Manner { identity, ..Manner::new(always(&recorded.answer)) }).await;
    refused_by(group.connector(&thief), &thief, "B1").await;
}

/// The nonce is the one of the attacker's question, on the very connection that the client uses.
#[tokio::test]
async fn evidence_for_another_nonce() {
    let group = Group::new();
    let guest = group.clone();
    let other: Prove = Arc::new(move |asked| {
        let asked = Asked { nonce: [7; 32], ..asked };
        let answer = serde_json::to_vec(&guest.prove(&asked)).unwrap();
        Box::pin(async move { (StatusCode::OK, answer) })
    });
    let server = Server::start(Manner::new(other)).await;
    refused_by(group.connector(&server), &server, "B1").await;
}

/// The manifest of another boot beside the evidence of this one.
#[tokio::test]
async fn the_manifest_of_another_boot() {
    let group = Group::new();
    let guest = group.clone();
    let other: Prove = Arc::new(move |asked| {
        let mut answer = guest.prove(&asked);
        answer.manifest = manifest("another").to_string().into_bytes();
        Box::pin(async move { (StatusCode::OK, serde_json::to_vec(&answer).unwrap()) })
    });
    let server = Server::start(Manner::new(other)).await;
    refused_by(group.connector(&server), &server, "B1").await;
}

/// The first connection is the guest's; the next shows another certificate, and evidence for the first.
#[tokio::test]
async fn a_certificate_swapped_after_verification() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let client = AttestedClient::connect(group.connector(&server)).await.unwrap();
    assert!(client.send(secret()).await.is_ok());
    let before = server.counts();
    {
        let mut manner = server.manner.write().unwrap();
        let genuine = std::mem::replace(&mut manner.identity, Identity::new());
        let guest = group.clone();
        manner.prove = Arc::new(move |asked| {
            let certificate = genuine.certificate.to_vec();
            let answer = guest.prove(&Asked { certificate, ..asked });
            Box::pin(async move { (StatusCode::OK, serde_json::to_vec(&answer).unwrap()) })
        });
    }
    server.cut();
    for _ in 0..3 {
        let error = client.send(secret()).await.err().expect("refused");
        // The first request may meet the connection while it is being cut.
        if let CallError::Unproven(_) = error {
            assert_eq!(error.failed_check(), Some("B1"));
        }
        assert!(error.nothing_was_sent() || matches!(error, CallError::BrokenOff(_)));
    }
    assert_eq!(server.counts().1, before.1, "no request came on the new connections");
}

#[tokio::test]
async fn a_redirect_to_another_server() {
    let group = Group::new();
    let elsewhere = Server::start(Manner::new(group.honest())).await;
    let location = format!("{}/v1/chat/completions", elsewhere.url());
    let mut manner = Manner::new(group.honest());
    manner.serve = Arc::new(move |_| {
        let mut response = text("");
        *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        response.headers_mut().insert(LOCATION, location.parse().unwrap());
        Box::pin(async move { response })
    });
    let server = Server::start(manner).await;
    let client = AttestedClient::connect(group.connector(&server)).await.unwrap();
    let answer = client.send(secret()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT, "the caller decides");
    assert_eq!(elsewhere.counts(), (0, 0));
}

/// A URL of another server, however it is written, is not sent to this one, and not to that one either.
#[tokio::test]
async fn a_request_for_another_server() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let client = AttestedClient::connect(group.connector(&server)).await.unwrap();
    let port = server.address.port();
    for url in [
        "https://evil.example/v1".to_owned(),
        format!("http://127.0.0.1:{port}/v1"),
        format!("https://127.0.0.1:{port}@evil.example/v1"),
        "https://127.0.0.1/v1".to_owned(),
    ] {
        let request = Request::get(&url).body(String::new()).unwrap();
        let error = client.send(request).await.err().expect("refused");
        assert!(matches!(error, CallError::OtherServer(_)), "{url}: {error:?}");
    }
    assert_eq!(server.counts().1, 0);
    let own = Request::get(format!("{}/v1/models", server.url())).body(String::new()).unwrap();
    assert!(client.send(own).await.is_ok());
}

/// The server takes a request and breaks off. Whoever is there next does not get it again.
#[tokio::test]
async fn a_break_that_makes_a_client_send_its_prompt_again() {
    let group = Group::new();
    let cut: Arc<Mutex<Option<tokio::sync::oneshot::Sender<()>>>> = Arc::default();
    let mut manner = Manner::new(group.honest());
    let told = cut.clone();
    manner.serve = Arc::new(move |_| {
        let _ = told.lock().unwrap().take().map(|tell| tell.send(()));
        Box::pin(std::future::pending())
    });
    let server = Server::start(manner).await;
    let client = AttestedClient::connect(group.connector(&server)).await.unwrap();
    let (tell, came) = tokio::sync::oneshot::channel();
    *cut.lock().unwrap() = Some(tell);
    let (answer, ()) = tokio::join!(client.send(secret()), async {
        came.await.unwrap();
        server.cut();
    });
    let error = answer.err().expect("it broke off");
    assert!(matches!(error, CallError::BrokenOff(_)), "{error:?}");
    assert!(!error.nothing_was_sent());
    assert_eq!(server.counts(), (1, 1), "sent once, and on the proved connection");
}

/// Who closes a connection and takes its place gets a request for a proof, and no request that waited.
#[tokio::test]
async fn an_impostor_in_the_place_of_a_closed_connection() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let client = AttestedClient::connect(group.connector(&server)).await.unwrap();
    server.replace(Manner::new(raw(StatusCode::NOT_FOUND, b"not found".to_vec())));
    for _ in 0..3 {
        let error = client.send(secret()).await.err().expect("refused");
        assert!(matches!(error, CallError::Unproven(_) | CallError::BrokenOff(_)), "{error:?}");
        assert_eq!(error.failed_check(), None);
    }
    server.saw_nothing_but_requests_for_proofs();
}

/// A pooled connection whose proof is too old and that is not proved again is never used again.
#[tokio::test]
async fn a_pooled_connection_that_no_longer_proves_itself() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let connector = group.connector(&server).with_max_age(std::time::Duration::ZERO);
    let client = AttestedClient::connect(connector).await.unwrap();
    assert!(client.send(secret()).await.is_ok());
    let recorded = group.connector(&server).record().await.unwrap();
    server.manner.write().unwrap().prove = always(&recorded.answer);
    let error = client.send(secret()).await.err().expect("refused");
    assert!(matches!(error, CallError::NotRenewed(_)), "{error:?}");
    assert_eq!(error.failed_check(), Some("B1"));
    for _ in 0..3 {
        let error = client.send(secret()).await.err().expect("refused");
        assert!(matches!(error, CallError::Unproven(_)), "{error:?}");
    }
    assert_eq!(server.counts().1, 1, "only what was sent while it was proved");
    server.manner.write().unwrap().prove = group.honest();
    assert!(client.send(secret()).await.is_ok(), "and it recovers by itself");
}

/// A resumed session skips the certificate; every connection is a whole handshake, though the server has tickets.
#[tokio::test]
async fn a_resumed_session() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let connector = group.connector(&server);
    for _ in 0..3 {
        let client = AttestedClient::connect(connector.clone()).await.unwrap();
        assert!(client.send(secret()).await.is_ok());
    }
    let kinds = server.handshakes();
    assert_eq!(kinds.len(), 3);
    assert!(!kinds.contains(&rustls::HandshakeKind::Resumed), "{kinds:?}");
}

#[tokio::test]
async fn a_downgrade_to_tls_1_2() {
    let group = Group::new();
    let mut manner = Manner::new(group.honest());
    manner.versions = vec![&rustls::version::TLS12];
    let server = Server::start(manner).await;
    let error = group.connector(&server).connect().await.err().expect("refused");
    assert!(matches!(error, ConnectError::Tls(..)), "{error:?}");
    assert_eq!(server.counts(), (0, 0));
}

/// The certificate's own evidence is genuine, and says nothing about who is at the other end.
#[tokio::test]
async fn a_downgrade_to_the_proof_of_the_certificate() {
    let group = Group::new();
    // The endpoint that proves a connection is gone.
    let server = Server::start(Manner::new(raw(StatusCode::METHOD_NOT_ALLOWED, Vec::new()))).await;
    let error = group.connector(&server).connect().await.err().expect("refused");
    assert!(matches!(error, ConnectError::NoProof { .. }), "{error:?}");
    server.saw_nothing_but_requests_for_proofs();

    // Or it gives the evidence that is in the certificate.
    let guest = group.clone();
    let of_certificate: Prove = Arc::new(move |asked| {
        let certificate =
            attestation::certificate::Certificate::from_der(&asked.certificate).unwrap();
        let spki = attestation::crypto::sha256(&certificate.spki().unwrap());
        let bound = binding::tls_certificate(&spki, certificate.validity().1);
        let answer =
            VerifyAnswer { evidence: guest.evidence(bound).to_json(), ..guest.prove(&asked) };
        Box::pin(async move { (StatusCode::OK, serde_json::to_vec(&answer).unwrap()) })
    });
    let server = Server::start(Manner::new(of_certificate)).await;
    refused_by(group.connector(&server), &server, "B1").await;
}

#[tokio::test]
async fn truncated_evidence() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let whole = {
        let guest = group.clone();
        move |asked: &Asked| serde_json::to_vec(&guest.prove(asked)).unwrap()
    };
    for (part, of) in [(0, 1), (1, 2), (99, 100)] {
        let whole = whole.clone();
        server.manner.write().unwrap().prove = Arc::new(move |asked| {
            let mut answer = whole(&asked);
            answer.truncate(answer.len() * part / of);
            Box::pin(async move { (StatusCode::OK, answer) })
        });
        let error = group.connector(&server).connect().await.err().expect("refused");
        assert!(matches!(error, ConnectError::NoProof { .. }), "{part}/{of}: {error:?}");
    }
    // Whole JSON around a report that is not.
    let guest = group.clone();
    server.manner.write().unwrap().prove = Arc::new(move |asked| {
        let mut answer = guest.prove(&asked);
        answer.evidence["report"][1] = to_b64u(&[0; 100]).into();
        Box::pin(async move { (StatusCode::OK, serde_json::to_vec(&answer).unwrap()) })
    });
    let error = group.connector(&server).connect().await.err().expect("refused");
    assert!(error.failed_check().is_some(), "{error:?}");
    server.saw_nothing_but_requests_for_proofs();
}

/// More than 4 MiB, all of it meaningless and allowed by JSON: it is not read to its end.
#[tokio::test]
async fn oversized_evidence() {
    let group = Group::new();
    let guest = group.clone();
    let padded: Prove = Arc::new(move |asked| {
        let mut answer = vec![b' '; 4 * 1024 * 1024];
        answer.extend(serde_json::to_vec(&guest.prove(&asked)).unwrap());
        Box::pin(async move { (StatusCode::OK, answer) })
    });
    let server = Server::start(Manner::new(padded)).await;
    let error = group.connector(&server).connect().await.err().expect("refused");
    let ConnectError::NoProof { what, .. } = &error else { panic!("{error:?}") };
    assert!(what.contains("too long"), "{what}");
    server.saw_nothing_but_requests_for_proofs();
}

/// A clock in the past or in the future refuses what is good, and never accepts what is old: freshness is the nonce's.
#[tokio::test]
async fn a_verifier_whose_clock_is_wrong() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let proof = group.connector(&server).record().await.unwrap();
    let (anchors, policy) = (group.anchors(), group.policy());
    let at = |time: u64| {
        let Bundle { answer, .. } = &proof;
        judge(answer, &proof.observed(), &anchors, &policy, time)
    };
    assert!(at(proof.time).is_ok());
    let leaf = attestation::Evidence::from_json(&proof.answer.evidence).unwrap().vek;
    let (begin, end) = attestation::certificate::Certificate::from_der(&leaf).unwrap().validity();
    for wrong in [0, begin - 1, end + 1, u64::MAX] {
        let Err(ConnectionError::Rejected(rejected)) = at(wrong) else { panic!("at {wrong}") };
        let failed: Vec<_> = rejected.failures().map(|finding| finding.check.id).collect();
        assert!(failed.iter().all(|id| id.starts_with('C')), "at {wrong}: {failed:?}");
    }

    // An old proof, and a clock that was set back to its day.
    let replay = Server::start(Manner::new(always(&proof.answer))).await;
    let later = group.connector(&replay).record().await.unwrap();
    let judged = judge(&later.answer, &later.observed(), &anchors, &policy, proof.time);
    let Err(ConnectionError::Rejected(rejected)) = judged else { panic!("replayed") };
    assert_eq!(rejected.failures().next().unwrap().check.id, "B1");
}

/// The same containers under somebody else's policy: genuine, and not the ones that are meant.
#[tokio::test]
async fn a_genuine_guest_that_nobody_means() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let nobody = Policy::for_host_data(Expect::Value(Vec::new()));
    let target = server.url().parse().unwrap();
    refused_by(Connector::new(target, group.anchors(), nobody), &server, "P9").await;
}
