//! K: start and stop.

use std::io::Write as _;
use std::time::Duration;

use crate::support::{Bench, K1, Setup, chat, get};

#[test]
fn case_116_a_salt_that_is_too_short_is_refused() {
    let (code, written) = Setup::new().set("PBKDF2_SALT", "short").refused();
    assert_eq!(code, 64);
    assert!(written.contains("PBKDF2_SALT") && written.contains("16 bytes"), "{written}");
    assert!(!written.contains("short"), "{written}");
}

#[test]
fn case_116_without_a_salt_it_starts() {
    let bench = Setup::new().unset("PBKDF2_SALT").start();
    assert_eq!(bench.chat(K1).status, 200);
}

#[test]
fn every_mistake_is_named_at_once() {
    let (code, written) = Setup::new()
        .set("RATE_LIMIT_REQUESTS", "0")
        .set("IP_RATE_LIMIT_WINDOW", "a minute")
        .set("PROXY_TRUSTED_HOPS", "everybody")
        .set("FORCE_HTTPS", "maybe")
        .set("RATE_LIMIT_REQEUSTS", "5")
        .refused();
    assert_eq!(code, 64);
    for name in [
        "RATE_LIMIT_REQUESTS",
        "IP_RATE_LIMIT_WINDOW",
        "PROXY_TRUSTED_HOPS",
        "FORCE_HTTPS",
        "RATE_LIMIT_REQEUSTS",
    ] {
        assert!(written.contains(name), "{name} in {written}");
    }
}

#[test]
fn case_117_it_stops_in_order() {
    let mut bench = Bench::new();
    assert_eq!(bench.chat(K1).status, 200);
    assert_eq!(bench.process.stop(), 0);
}

/// An answer that flows when it is time to stop flows to its end.
#[test]
fn case_117_open_answers_end_first() {
    let mut bench = Bench::new();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    bench.upstream.does(move |_, stream| {
        let head = "HTTP/1.1 200 X\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nhello";
        let _ = stream.write_all(head.as_bytes());
        let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(20));
        stream.write_all(b"world").is_ok()
    });
    let mut open = bench.connect();
    open.write(get("/v1/slow", &format!("X-API-Key: {K1}\r\n")));
    let head = open.head();
    assert_eq!(head.status, 200);
    let port = bench.process.port;
    let stopped = std::thread::spawn(move || bench.process.stop());
    // It takes nobody on any more; what runs may end.
    let begin = std::time::Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    go.send(()).unwrap();
    assert_eq!(open.body(10), b"helloworld");
    assert_eq!(stopped.join().unwrap(), 0);
}

#[test]
fn a_request_in_the_way_of_a_stop_is_not_half_done() {
    let mut bench = Bench::new();
    let mut idle = bench.connect();
    assert_eq!(idle.send(chat(&format!("X-API-Key: {K1}\r\n"))).status, 200);
    assert_eq!(bench.process.stop(), 0);
    assert!(idle.is_closed());
}
