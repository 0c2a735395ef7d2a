//! Clients that hardly send: connections without a word, heads and handshakes a byte at a time, bodies that never end.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Bench, K1, get};
use crate::{serves_others, setup, tls};

/// The proxy waits 30 s for a head and 10 s for a handshake; what is beyond this is no bound.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends these bytes, then `drip` every half second, until the other end closes. Returns how long that took.
fn until_closed(port: u16, first: &[u8], drip: &[u8]) -> Duration {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let begin = Instant::now();
    let mut open = stream.write_all(first).is_ok();
    let mut buffer = [0; 4096];
    while open {
        assert!(begin.elapsed() < PATIENCE, "{:?} is not closed", String::from_utf8_lossy(first));
        open = match stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(_) => true,
            Err(error) => {
                error.kind() == std::io::ErrorKind::WouldBlock && stream.write_all(drip).is_ok()
            }
        };
    }
    begin.elapsed()
}

fn all_are_closed(bench: &Bench, cases: &[(&'static [u8], &'static [u8])]) {
    let port = bench.process.port;
    let closing: Vec<_> = cases
        .iter()
        .flat_map(|case| std::iter::repeat_n(*case, 20))
        .map(|(first, drip)| std::thread::spawn(move || until_closed(port, first, drip)))
        .collect();
    serves_others(bench);
    for one in closing {
        one.join().unwrap();
    }
    serves_others(bench);
    assert!(bench.upstream.requests().is_empty(), "nobody had a key");
}

#[test]
fn who_sends_no_head_is_sent_away() {
    let bench = setup().start();
    all_are_closed(
        &bench,
        &[
            (b"", b""),
            (b"G", b""),
            (b"GET /health HTTP/1.1\r\n", b"a"),
            (b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nA: ", b"b"),
            (b"POST /v1/chat/completions HTTP/1.1\r\n", b"A: b\r\n"),
            // One that was answered and then says nothing more.
            (b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n", b""),
        ],
    );
}

#[test]
fn who_makes_no_handshake_is_sent_away() {
    let certificate = tls::Certificate::make();
    let bench = certificate.serve(setup());
    let port = bench.process.port;
    let cases: [(&'static [u8], &'static [u8]); 3] =
        [(b"", b""), (b"\x16\x03\x01\x02\x00\x01", b"\x00"), (b"GET / HTTP/1.1\r\n", b"A: b\r\n")];
    let closing =
        cases.map(|(first, drip)| std::thread::spawn(move || until_closed(port, first, drip)));
    for one in closing {
        let took = one.join().unwrap();
        assert!(took < Duration::from_secs(30), "{took:?}");
    }
}

/// A body may take its time, as recorded audio does. It takes the place of no other request.
#[test]
fn slow_bodies_keep_nobody_waiting() {
    let bench = setup().start();
    let port = bench.process.port;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {K1}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
    );
    let slow: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        let answer = bench.chat(K1);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    drop(slow);
    assert!(
        bench.upstream.is_left_alone_within(Duration::from_secs(40)) || {
            // Connections of the pool stay open for a while; none of them may carry a request that its client gave up.
            bench.upstream.requests().iter().all(|request| request.body.len() != 1000)
        }
    );
}

/// The key is looked at before the body: who has none gets an answer without sending one, and the upstream hears nothing.
#[test]
fn a_body_is_not_waited_for_where_there_is_no_key() {
    let bench = setup().start();
    let mut connection = bench.connect();
    connection
        .write("POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n{");
    assert_eq!(connection.answer(false).status, 401);
    assert!(bench.upstream.requests().is_empty());
    assert_eq!(bench.send(get("/health", "")).status, 200);
}
