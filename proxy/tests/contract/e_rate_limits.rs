//! E: rate limits.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Answer, Bench, K1, K2, Setup, get, hash, now};

fn limit(answer: &Answer) -> (Option<&str>, Option<&str>) {
    (answer.header("x-ratelimit-limit"), answer.header("x-ratelimit-remaining"))
}

fn is_limited(answer: &Answer, message: &str, limit: &str) {
    assert_eq!((answer.status, answer.message().as_str()), (429, message));
    assert_eq!(answer.header("x-ratelimit-limit"), Some(limit));
    assert_eq!(answer.header("x-ratelimit-remaining"), Some("0"));
    let reset: u64 = answer.header("x-ratelimit-reset").unwrap().parse().unwrap();
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(reset.abs_diff(now() + wait) <= 1, "{reset} {wait}");
    let error = &answer.json()["error"];
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("requests"), &json!("rate_limit_exceeded"))
    );
}

const GLOBAL: &str = "Global rate limit exceeded";
const PER_KEY: &str = "Per-key rate limit exceeded";

#[test]
fn case_034_037_within_the_limit_of_all() {
    let bench = Bench::with(&[("RATE_LIMIT_REQUESTS", "10")]);
    let answer = bench.chat(K1);
    assert_eq!(answer.status, 200);
    assert_eq!(limit(&answer), (Some("10"), Some("9")));
    assert_eq!(limit(&bench.chat(K1)), (Some("10"), Some("8")));
}

#[test]
fn case_035_at_the_limit_of_all() {
    let bench = Bench::with(&[("RATE_LIMIT_REQUESTS", "3")]);
    for _ in 0..3 {
        assert_eq!(bench.chat(K1).status, 200);
    }
    is_limited(&bench.chat(K1), GLOBAL, "3");
    is_limited(&bench.send(get("/auth/key-info", &format!("X-API-Key: {K1}\r\n"))), GLOBAL, "3");
    assert_eq!(bench.upstream.requests().len(), 3);
}

/// What is refused does not extend the window: asked all the time, it lets through again when it should.
#[test]
fn case_036_the_window_slides() {
    let bench = Bench::with(&[("RATE_LIMIT_REQUESTS", "2"), ("RATE_LIMIT_WINDOW", "2")]);
    let begin = Instant::now();
    assert_eq!((bench.chat(K1).status, bench.chat(K1).status), (200, 200));
    let first = begin.elapsed();
    let mut refused = 0;
    while bench.chat(K1).status == 429 {
        refused += 1;
        assert!(begin.elapsed() < Duration::from_secs(20), "it never lets through again");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(refused > 0);
    assert!(begin.elapsed() + first >= Duration::from_secs(2), "not before its time");
}

#[test]
fn case_038_039_040_a_key_with_a_limit_of_its_own() {
    let bench = Bench::new();
    for left in ["4", "3", "2", "1", "0"] {
        assert_eq!(limit(&bench.chat(K2)), (Some("5"), Some(left)));
    }
    is_limited(&bench.chat(K2), PER_KEY, "5");
    assert_eq!(bench.chat(K1).status, 200);
    assert_eq!(bench.upstream.requests().len(), 6);
}

#[test]
fn case_041_048_an_address() {
    let bench = Bench::with(&[("IP_RATE_LIMIT_REQUESTS", "3")]);
    assert_eq!(bench.chat("bad").status, 401);
    assert_eq!(bench.send(get("/v1/models", "")).status, 401);
    assert_eq!(bench.chat(K1).status, 200);
    let refused = bench.chat(K1);
    is_limited(&refused, "IP rate limit exceeded", "3");
    is_limited(&bench.chat("bad"), "IP rate limit exceeded", "3");
}

/// The key's window is that of all.
#[test]
fn case_043_the_window_of_a_key() {
    let bench = Bench::with(&[("RATE_LIMIT_WINDOW", "1")]);
    let begin = Instant::now();
    let mut passed = 0;
    while passed < 6 {
        passed += u64::from(bench.chat(K2).status == 200);
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(begin.elapsed() >= Duration::from_secs(1));
}

#[test]
fn case_043_a_limit_of_none_blocks_always() {
    let bench = Bench::new();
    for none in [json!(0), json!(-3)] {
        let entry = json!({"key_id": "n", "key_hash": hash("pm_none"), "rate_limit": none});
        bench.write("api_keys.json", &json!({"keys": [entry]}).to_string());
        assert_eq!(bench.chat("pm_none").status, 429);
    }
    assert!(bench.upstream.requests().is_empty());
}

#[test]
fn case_044_the_settings_file_goes_first() {
    let bench = Bench::new();
    assert_eq!(limit(&bench.chat(K1)).0, Some("100"));
    bench.write("settings.json", r#"{"rate_limit_requests":2}"#);
    assert_eq!(limit(&bench.chat(K1)), (Some("2"), Some("0")));
    is_limited(&bench.chat(K1), GLOBAL, "2");
    bench.write("settings.json", "{");
    assert_eq!(limit(&bench.chat(K1)).0, Some("100"));
    bench.write("settings.json", r#"{"ip_rate_limit_requests":1}"#);
    is_limited(&bench.chat(K1), "IP rate limit exceeded", "1");
    std::fs::remove_file(bench.path("settings.json")).unwrap();
    assert_eq!(bench.chat(K1).status, 200);
}

#[test]
fn case_045_settings_of_another_type() {
    let bench = Bench::new();
    for text in [r#"{"rate_limit_requests":"5"}"#, "[1]", r#"{"rate_limit_window":0}"#, "null"] {
        bench.write("settings.json", text);
        let answer = bench.chat(K1);
        assert_eq!((answer.status, limit(&answer).0), (200, Some("100")), "{text}");
    }
}

#[test]
fn case_046_a_key_at_its_limit_takes_nothing_from_the_others() {
    let bench = Bench::with(&[("RATE_LIMIT_REQUESTS", "10")]);
    for n in 0..15 {
        assert_eq!(bench.chat(K2).status, if n < 5 { 200 } else { 429 });
    }
    assert_eq!(limit(&bench.chat(K1)), (Some("10"), Some("4")));
}

#[test]
fn case_047_when_the_oldest_leaves() {
    let bench = Bench::with(&[("RATE_LIMIT_WINDOW", "30")]);
    let reset =
        |answer: &Answer| -> u64 { answer.header("x-ratelimit-reset").unwrap().parse().unwrap() };
    let begin = now();
    let first = reset(&bench.chat(K1));
    assert!((begin + 30..=now() + 31).contains(&first), "{first} {begin}");
    // It is of the first request, however many come after it.
    std::thread::sleep(Duration::from_millis(2100));
    assert!(reset(&bench.chat(K1)) <= first + 1);
}

/// OpenAI's names of it, on what was answered and on what was refused.
#[test]
fn openais_headers_say_the_same() {
    let bench = Bench::new();
    for status in [200, 200, 200, 200, 200, 429] {
        let answer = bench.chat(K2);
        assert_eq!(answer.status, status);
        for (theirs, ours) in [
            ("x-ratelimit-limit-requests", "x-ratelimit-limit"),
            ("x-ratelimit-remaining-requests", "x-ratelimit-remaining"),
        ] {
            assert_eq!(answer.header(theirs), answer.header(ours));
        }
        assert!(answer.header("x-ratelimit-reset-requests").unwrap().ends_with('s'));
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), None);
    }
}

/// Case 55's part of it, and part 1.4: failures of the upstream say it, too.
#[test]
fn case_055_ours_stand_in_the_place_of_the_upstreams() {
    let bench = Bench::new();
    let theirs = "X-RateLimit-Limit: 7\r\nX-RateLimit-Remaining: 7\r\nX-RateLimit-Reset: 7\r\n\
                  x-ratelimit-remaining-tokens: 7\r\nRetry-After: 9\r\n";
    let body = r#"{"error":{"message":"slow down"}}"#;
    let head = format!("HTTP/1.1 429 X\r\nContent-Length: {}\r\n{theirs}\r\n", body.len());
    bench.upstream.answers(format!("{head}{body}"));
    let answer = bench.chat(K2);
    assert_eq!((answer.status, answer.text().as_str()), (429, body));
    assert_eq!(limit(&answer), (Some("5"), Some("4")));
    assert_eq!(answer.all("x-ratelimit-limit").len(), 1);
    assert_ne!(answer.header("x-ratelimit-reset"), Some("7"));
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), None);
    assert_eq!(answer.header("retry-after"), Some("9"));
    bench.upstream.answers("");
    bench.upstream.does(|_, _| false);
    let answer = bench.chat(K2);
    assert_eq!((answer.status, limit(&answer)), (502, (Some("5"), Some("3"))));
}

/// Part 4, 7: tokens that calls in flight may need are set aside, and given back when the client goes.
#[test]
fn calls_in_flight_hold_a_token_limit() {
    let setup = Setup::new();
    let bench = setup.start();
    let entry = json!({"key_id": "t", "key_hash": hash("pm_tokens"), "tokens_per_minute": 1500});
    bench.write("api_keys.json", &json!({"keys": [entry]}).to_string());
    // Answers begin and do not end.
    bench.upstream.does(|_, stream| {
        use std::io::Write as _;
        let head = "HTTP/1.1 200 X\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n";
        let _ = stream.write_all(head.as_bytes());
        let mut rest = [0; 64];
        // Until the other end goes.
        while std::io::Read::read(stream, &mut rest).is_ok_and(|length| length > 0) {}
        false
    });
    let mut first = bench.connect();
    first.write(crate::support::chat("Authorization: Bearer pm_tokens\r\n"));
    let head = first.head();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("x-ratelimit-limit-tokens"), Some("1500"));
    let refused = bench.chat("pm_tokens");
    assert_eq!(refused.status, 429);
    assert!(refused.message().contains("token"), "{}", refused.message());
    let error = &refused.json()["error"];
    assert_eq!((&error["type"], &error["code"]), (&json!("tokens"), &json!("rate_limit_exceeded")));
    assert_eq!(refused.header("x-ratelimit-limit-tokens"), Some("1500"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(bench.upstream.requests().len(), 1);
    drop(first);
    assert!(bench.upstream.is_left_alone_within(Duration::from_secs(20)));
    let begin = Instant::now();
    loop {
        let mut again = bench.connect();
        again.write(crate::support::chat("Authorization: Bearer pm_tokens\r\n"));
        if again.head().status == 200 {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "it was not given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_budget_of_nothing_holds_on_every_route() {
    let bench = Bench::new();
    let entry = json!({"key_id": "b", "key_hash": hash("pm_budget"), "monthly_budget_eur": 0.0});
    bench.write("api_keys.json", &json!({"keys": [entry]}).to_string());
    let key = "X-API-Key: pm_budget\r\n";
    for request in [
        crate::support::chat(key),
        get("/v1/models", key),
        get("/anything/else", key),
        crate::support::post("/v1/files", key, "{}"),
    ] {
        let answer = bench.send(request);
        assert_eq!(answer.status, 429);
        let error = &answer.json()["error"];
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("insufficient_quota"), &json!("insufficient_quota"))
        );
        assert!(answer.header("retry-after").is_some());
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    assert!(bench.upstream.requests().is_empty());
    let info = bench.send(get("/auth/key-info", key));
    assert_eq!(info.json()["limits"]["monthly_budget"]["remaining_eur"], 0.0);
}
