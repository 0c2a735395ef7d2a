//! A: health.

use crate::support::{Bench, post};

#[test]
fn case_001_002_health_is_healthy_for_everybody() {
    let bench = Bench::new();
    let answer = bench.send("GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["status"], "healthy");
    assert!(bench.upstream.requests().is_empty());
}

#[test]
fn case_003_head_of_health() {
    let bench = Bench::new();
    let answer = bench.send("HEAD /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[test]
fn case_003_health_counts_nowhere() {
    let bench = Bench::with(&[("IP_RATE_LIMIT_REQUESTS", "1"), ("RATE_LIMIT_REQUESTS", "1")]);
    for _ in 0..5 {
        assert_eq!(bench.send("GET /health HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
    }
    assert_eq!(bench.chat("bad").status, 401);
    assert_eq!(bench.chat("bad").status, 429);
    assert_eq!(bench.send("GET /health HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
}

#[test]
fn case_004_health_takes_no_other_method_and_goes_nowhere() {
    let bench = Bench::new();
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let request = format!("{method} /health HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
        let answer = bench.send(request);
        assert!([401, 405].contains(&answer.status), "{method}: {}", answer.status);
    }
    assert!(bench.send(post("/health/../v1/models", "", "{}")).status >= 400);
    assert!(bench.upstream.requests().is_empty());
}
