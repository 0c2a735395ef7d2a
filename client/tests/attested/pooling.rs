//! How the client uses its connections while nobody attacks it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::{AttestedClient, CallError};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::Semaphore;

use crate::group::{Group, Manner, Prove, Serve, Server, piecewise};

fn get() -> Request<String> {
    Request::get("/v1/models").body(String::new()).unwrap()
}

/// Answers whose bodies do not end until they are dropped.
fn endless() -> Serve {
    Arc::new(|_| {
        Box::pin(async {
            let never = futures_util::stream::pending();
            Response::new(BodyExt::boxed(StreamBody::new(never)))
        })
    })
}

/// Proves a connection as soon as somebody lets it.
fn gated(group: &Arc<Group>, gate: &Arc<Semaphore>) -> Prove {
    let (honest, gate) = (group.honest(), gate.clone());
    Arc::new(move |asked| {
        let (honest, gate) = (honest.clone(), gate.clone());
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            honest(asked).await
        })
    })
}

#[tokio::test]
async fn a_connection_that_is_full_gets_a_second_one_each_proved_and_four_at_most() {
    let group = Group::new();
    let mut manner = Manner::new(group.honest());
    // Two for requests; the third is left for the next proof.
    (manner.streams, manner.serve) = (3, endless());
    let server = Server::start(manner).await;
    let client = AttestedClient::connect(group.connector(&server)).await.unwrap();
    let mut open = Vec::new();
    for number in 0..8 {
        open.push(client.send(get()).await.unwrap());
        let expected = number / 2 + 1;
        assert_eq!(server.handshakes().len(), expected, "connections after {number}");
        assert_eq!(server.counts().0, expected, "proofs after {number}");
    }
    let (ninth, ()) = tokio::join!(client.send(get()), async { drop(open.pop()) });
    assert!(ninth.is_ok(), "it waited for a stream");
    assert_eq!(server.handshakes().len(), 4);
}

#[tokio::test]
async fn a_hundred_requests_at_once_need_one_connection() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let client = AttestedClient::connect(group.connector(&server)).await.unwrap();
    let requests = (0..100).map(|_| client.send(get()));
    for answer in futures_util::future::join_all(requests).await {
        assert_eq!(answer.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(server.counts(), (1, 100));
}

/// A second connection is wanted and its proof does not come; who has room on the first does not wait for it.
#[tokio::test]
async fn a_slow_proof_blocks_nobody_who_has_a_connection() {
    let group = Group::new();
    let gate = Arc::new(Semaphore::new(1));
    let mut manner = Manner::new(gated(&group, &gate));
    (manner.streams, manner.serve) = (1, endless());
    let server = Server::start(manner).await;
    let client = AttestedClient::connect(group.connector(&server)).await.unwrap();
    let first = client.send(get()).await.unwrap();
    // This one waits for a connection that is not proved; then the first has room again.
    let (second, ()) = tokio::join!(client.send(get()), async { drop(first) });
    drop(second.unwrap());
    assert!(client.send(get()).await.is_ok());
    gate.add_permits(1);
}

#[tokio::test]
async fn who_waits_shares_one_attempt_and_its_refusal() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let connector = group.connector(&server).with_max_age(Duration::ZERO);
    let client = AttestedClient::connect(connector).await.unwrap();
    let refusing: Prove =
        Arc::new(|_| Box::pin(async { (StatusCode::SERVICE_UNAVAILABLE, Vec::new()) }));
    server.manner.write().unwrap().prove = refusing;
    let requests = (0..20).map(|_| client.send(get()));
    for answer in futures_util::future::join_all(requests).await {
        assert!(matches!(answer, Err(CallError::NotRenewed(_))));
    }
    assert_eq!(server.counts(), (2, 0));
}

#[tokio::test]
async fn every_request_can_have_a_proof_of_its_own() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let connector = group.connector(&server).with_max_age(Duration::ZERO);
    let client = AttestedClient::connect(connector).await.unwrap();
    for sent in 1..4 {
        assert!(client.send(get()).await.is_ok());
        assert_eq!(server.counts(), (1 + sent, sent));
        assert_eq!(server.handshakes().len(), 1, "on the same connection");
    }
}

/// Without a verdict nothing more is sent, but what was sent while it was proved may end; a refusal ends it all.
#[tokio::test]
async fn an_answer_survives_a_proof_that_does_not_come_and_not_one_that_is_refused() {
    let group = Group::new();
    for is_refused in [false, true] {
        let (serve, mut senders) = piecewise();
        let server = Server::start(Manner { serve, ..Manner::new(group.honest()) }).await;
        let connector = group.connector(&server).with_max_age(Duration::ZERO);
        let client = AttestedClient::connect(connector).await.unwrap();
        let mut answer = client.send(get()).await.unwrap();
        let pieces = senders.recv().await.unwrap();
        let recorded = group.connector(&server).record().await.unwrap();
        let proof = serde_json::to_vec(&recorded.answer).unwrap();
        let status = if is_refused { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        server.manner.write().unwrap().prove = Arc::new(move |_| {
            let proof = proof.clone();
            Box::pin(async move { (status, proof) })
        });
        let error = client.send(get()).await.err().unwrap();
        assert!(matches!(error, CallError::NotRenewed(_)), "{error:?}");
        assert_eq!(error.failed_check(), is_refused.then_some("B1"));
        if is_refused {
            let frame = tokio::time::timeout(Duration::from_secs(20), answer.frame()).await;
            assert!(frame.expect("it is cut").unwrap().is_err());
        } else {
            pieces.send(Bytes::from_static(b"the rest")).await.unwrap();
            drop(pieces);
            assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "the rest");
            while let Some(end) = answer.frame().await {
                assert!(end.unwrap().into_data().unwrap().is_empty(), "it ended in order");
            }
        }
        assert_eq!(server.counts().1, 1);
    }
}

/// While requests go on, the connection is proved again before its proof is too old.
#[tokio::test]
async fn a_proof_is_renewed_before_it_is_too_old() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let connector = group.connector(&server).with_max_age(Duration::from_secs(1));
    let client = AttestedClient::connect(connector).await.unwrap();
    let first = client.proof();
    let renewed = async {
        while Arc::ptr_eq(&first, &client.proof()) {
            assert!(client.send(get()).await.is_ok());
        }
    };
    tokio::time::timeout(Duration::from_secs(60), renewed).await.unwrap();
    assert_eq!(server.handshakes().len(), 1, "on the same connection");
}

/// A connection breaks off while it is proved again: nobody who waits need hear of it, for another one is made.
#[tokio::test]
async fn who_waits_for_a_connection_that_breaks_off_gets_another_one() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let connector = group.connector(&server).with_max_age(Duration::ZERO);
    let client = AttestedClient::connect(connector).await.unwrap();
    let (asked, mut asks) = tokio::sync::mpsc::unbounded_channel();
    let honest = group.honest();
    server.manner.write().unwrap().prove = Arc::new(move |_| {
        asked.send(()).unwrap();
        Box::pin(std::future::pending())
    });
    let breaks = async {
        asks.recv().await.unwrap();
        server.manner.write().unwrap().prove = honest;
        server.cut();
    };
    let (answer, ()) = tokio::join!(client.send(get()), breaks);
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    assert_eq!((server.handshakes().len(), server.counts()), (2, (3, 1)));
}

#[tokio::test]
async fn a_server_that_was_restarted_is_proved_again() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let client = AttestedClient::connect(group.connector(&server)).await.unwrap();
    assert!(client.send(get()).await.is_ok());
    server.replace(Manner::new(group.honest()));
    let mut answer = client.send(get()).await;
    // The first may have been sent into the end of the old connection; it is never sent twice.
    if matches!(answer, Err(CallError::BrokenOff(_))) {
        answer = client.send(get()).await;
    }
    assert!(answer.is_ok());
    assert_eq!(server.counts(), (1, 1));
}

#[tokio::test]
async fn an_answer_brings_the_proof_of_its_connection() {
    use attestation::connection::ProvenConnection;
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let client = AttestedClient::connect(group.connector(&server)).await.unwrap();
    let answer = client.send(get()).await.unwrap();
    let proof = answer.extensions().get::<Arc<ProvenConnection>>().unwrap();
    assert!(Arc::ptr_eq(proof, &client.proof()));
}

/// Whoever drops an answer cancels the request: the server's body is dropped.
#[tokio::test]
async fn an_answer_that_is_dropped_is_cancelled_at_the_server() {
    let group = Group::new();
    let (serve, mut senders) = piecewise();
    let manner = Manner { serve, ..Manner::new(group.honest()) };
    let server = Server::start(manner).await;
    let client = AttestedClient::connect(group.connector(&server)).await.unwrap();
    let mut answer = client.send(get()).await.unwrap();
    let pieces = senders.recv().await.unwrap();
    pieces.send(Bytes::from_static(b"one")).await.unwrap();
    let frame = answer.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "one", "a piece comes as it is sent");
    drop(answer);
    pieces.closed().await;
}

/// A tower service is the same client.
#[tokio::test]
async fn it_is_a_tower_service() {
    use tower_service::Service as _;
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let mut client = AttestedClient::connect(group.connector(&server)).await.unwrap();
    assert_eq!(client.call(get()).await.unwrap().status(), StatusCode::OK);
}
