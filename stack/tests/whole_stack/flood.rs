//! Many who want a proof at once, and one who wants too many.

use std::time::Duration;

use attestation::encoding::to_b64u;
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use stack::proofs;
use stack::straight::{self, Straight, Version};

use crate::support::{Running, fail, start, start_with};

async fn server(running: &Running) -> std::net::SocketAddr {
    let url = running.stack.group.url().await.unwrap();
    url.trim_start_matches("https://").parse().unwrap()
}

fn proof(nonce: u8) -> Request<Full<Bytes>> {
    let body = format!("{{\"nonce\":\"{}\"}}", to_b64u(&[nonce; 32]));
    Request::post("/attestation/verify").body(Full::new(body.into())).unwrap()
}

/// One after the other they would take a minute.
#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_connections_are_proved_by_a_few_reports() {
    let running = start_with(|world| {
        world.groups.first_mut().unwrap().time_per_report = Duration::from_millis(200);
    })
    .await;
    let group = running.stack.world.groups().first().unwrap();
    let before = group.processor().reports();
    let (anchors, policy) = (running.stack.anchors().unwrap(), running.stack.policy());
    let server = server(&running).await;
    let waits = proofs::at_once(server, 300, &anchors, &policy).await;
    let waits = waits.unwrap_or_else(|error| fail(&error));
    assert_eq!(waits.waits.len(), 300);
    assert!(waits.largest_batch >= 10, "{waits:?}");
    let reports = group.processor().reports() - before;
    assert!(reports <= 30, "{reports} reports");
    running.stop().await;
}

/// A client may open its window by not a byte, and still hold its connection. What it does not read is kept for it, so
/// there is never more than one proof of it.
#[tokio::test]
async fn a_proof_that_nobody_reads_holds_up_the_next_of_its_connection_only() {
    let running = start().await;
    let server = server(&running).await;
    let tls = straight::handshake(server, Version::Http2, None).await;
    let (stream, _) = tls.unwrap_or_else(|error| fail(&error));
    let shut = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = shut.unwrap();
    tokio::spawn(connection);
    let mut ask = |nonce: u8| {
        let mut request = proof(nonce);
        *request.uri_mut() = format!("https://{server}/attestation/verify").parse().unwrap();
        sender.send_request(request)
    };
    // Which of the two is taken up first is the server's to say.
    let asked = futures_util::future::select(Box::pin(ask(1)), Box::pin(ask(2))).await;
    let (unread, mut second) = asked.factor_first();
    let unread = unread.unwrap();
    assert_eq!(unread.status(), StatusCode::OK);

    let mut other = Straight::tls(server, Version::Http2).await.unwrap();
    for nonce in 3..8 {
        assert_eq!(other.send(proof(nonce)).await.unwrap().status(), StatusCode::OK);
        assert!(futures_util::poll!(&mut second).is_pending(), "the first is still unread");
    }
    drop(unread);
    assert_eq!(second.await.unwrap().status(), StatusCode::OK);
    running.stop().await;
}

#[tokio::test]
async fn a_connection_that_asks_too_often_is_told_when_to_ask_again() {
    let running = start().await;
    let server = server(&running).await;
    let greedy = Straight::tls(server, Version::Http2).await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for n in 1..=100 {
        let mut beside = greedy.beside().unwrap();
        asking.spawn(async move { beside.send(proof(n)).await.unwrap() });
    }
    let answers = asking.join_all().await;
    let (good, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status() == StatusCode::OK);
    assert!(good.len() >= 16, "a few are nobody's harm: {}", good.len());
    assert!(!refused.is_empty(), "all hundred were answered");
    for answer in refused {
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        let wait: u64 = answer.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((1..=10).contains(&wait), "{wait}");
        let error: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(error["error"]["code"], "proved_too_often");
    }
    let mut other = Straight::tls(server, Version::Http2).await.unwrap();
    assert_eq!(other.send(proof(1)).await.unwrap().status(), StatusCode::OK);
    running.stop().await;
}
