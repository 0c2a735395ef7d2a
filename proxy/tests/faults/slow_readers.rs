//! Clients that ask for a stream and do not read it, while the upstream sends as fast as it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::memory::{resident, settled};
use crate::support::{Bench, Connection, K1, post};
use crate::{serves_others, serves_others_with_tls, setup, tls};

const READERS: u64 = 150;

/// What the proxy may hold for one of them, in KiB: what is read from the upstream and not yet written, and what TLS has
/// encrypted.
const EACH: u64 = 1024;

/// An upstream whose answers never end, and how many bytes of them it got rid of.
fn endless(bench: &Bench) -> Arc<AtomicU64> {
    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    bench.upstream.does(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let event = format!("data: {}\n\n", "x".repeat(8000));
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        let mut going = crate::write(stream, head);
        while going {
            going = crate::write(stream, &chunk);
            counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        false
    });
    sent
}

fn request() -> Vec<u8> {
    let body = r#"{"model":"gpt-oss-120b","stream":true,"messages":[]}"#;
    post("/v1/chat/completions", &format!("Authorization: Bearer {K1}\r\n"), body)
}

fn bounded(bench: &Bench, others: fn(&Bench), open: impl Fn() -> Box<dyn std::any::Any>) {
    let sent = endless(bench);
    // The first one warms up what is made once.
    let first = open();
    settled(|| sent.load(Ordering::Relaxed));
    let before = resident(bench.process.id());
    let readers: Vec<_> = (1..READERS).map(|_| open()).collect();
    settled(|| sent.load(Ordering::Relaxed));
    let after = resident(bench.process.id());
    let each = after.saturating_sub(before) / (READERS - 1);
    assert!(each <= EACH, "{each} KiB each");
    others(bench);
    drop((first, readers));
    assert!(
        bench.upstream.is_left_alone_within(Duration::from_secs(20)),
        "streams without readers"
    );
    others(bench);
}

#[test]
fn streams_that_nobody_reads_hold_little() {
    let bench = setup().start();
    let port = bench.process.port;
    bounded(&bench, serves_others, || {
        let mut connection = Connection::open(port);
        connection.write(request());
        Box::new(connection)
    });
}

#[test]
fn streams_that_nobody_reads_hold_little_with_tls() {
    let certificate = tls::Certificate::make();
    let bench = certificate.serve(setup());
    let port = bench.process.port;
    bounded(&bench, serves_others_with_tls, || {
        let mut connection = tls::Connection::open(port, b"http/1.1");
        connection.write(&request());
        Box::new(connection)
    });
}
