//! H: headers that every answer carries, and what requests are called.

use crate::support::{Answer, Bench, K1, K2, UPSTREAM_KEY, chat, get, post};

fn is_secure(answer: &Answer) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("x-xss-protection", "1; mode=block"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("permissions-policy", "geolocation=(), microphone=(), camera=()"),
    ] {
        assert_eq!(answer.all(name), [value], "{name} of a {}", answer.status);
    }
    assert_eq!(answer.header("server"), None, "nobody needs to know");
    assert!(answer.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
}

#[test]
fn case_086_089_on_every_answer() {
    let bench = Bench::with(&[("RATE_LIMIT_REQUESTS", "3")]);
    let key = format!("X-API-Key: {K1}\r\n");
    let is_answered = |request: Vec<u8>, status: u16| {
        let answer = bench.send(request);
        assert_eq!(answer.status, status);
        is_secure(&answer);
        assert_eq!(answer.header("strict-transport-security"), None);
    };
    is_answered(get("/health", ""), 200);
    is_answered(chat(&key), 200);
    is_answered(chat(""), 401);
    is_answered(get("/adminx", ""), 404);
    is_answered(get("/attestation/nope", ""), 404);
    is_answered(post("/health", "", ""), 405);
    is_answered(b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n".to_vec(), 404);
    is_answered(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), 404);
    bench.upstream.does(|_, _| false);
    is_answered(chat(&key), 502);
    bench.upstream.answers(
        "HTTP/1.1 302 X\r\nLocation: /x\r\nContent-Length: 0\r\nX-Frame-Options: ALLOWALL\r\n\r\n",
    );
    is_answered(chat(&key), 302);
    is_answered(chat(&key), 429);
    let too_long =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n";
    let bench = Bench::new();
    let answer = bench.send(format!("{too_long}{key}\r\n"));
    assert_eq!(answer.status, 413);
    is_secure(&answer);
}

/// Requests have names, by which people ask about them; they are ours, whatever a client or the upstream calls them.
#[test]
fn every_answer_says_what_its_request_is_called() {
    let bench = Bench::new();
    let body = crate::support::json(200, "X-Request-Id: of-the-upstream\r\n", "{}");
    bench.upstream.answers(body);
    let mut seen = std::collections::BTreeSet::new();
    for request in [
        get("/health", ""),
        chat(""),
        chat(&format!("X-API-Key: {K1}\r\nX-Request-Id: mine\r\nX-Client-Request-Id: SECRET\r\n")),
        chat(&format!("X-API-Key: {K2}\r\n")),
    ] {
        let answer = bench.send(request);
        let ids = answer.all("x-request-id");
        let [id] = ids[..] else { panic!("{ids:?}") };
        assert!(id.starts_with("req_") && id.len() == 36, "{id}");
        assert!(seen.insert(id.to_owned()));
        let milliseconds = answer.header("openai-processing-ms").unwrap();
        assert!(milliseconds.parse::<u64>().is_ok(), "{milliseconds}");
    }
    assert!(!bench.process.written().contains("SECRET"));
    assert!(!bench.process.written().contains(UPSTREAM_KEY));
}

/// Cases 69 and 70, as far as the bytes of a request that cannot be understood are concerned: they are neither said
/// again nor logged.
#[test]
fn case_069_070_a_request_that_is_none_is_refused_without_a_word_of_it() {
    let bench = Bench::with(&[("LOG_LEVEL", "debug")]);
    let secret = format!("Authorization: Bearer {K1}\r\nX-Prompt: SECRETPROMPT\r\n");
    let long = "a".repeat(70_000);
    for request in [
        format!(
            "POST /v1/x HTTP/1.1\r\nHost: h\r\n{secret}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!(
            "POST /v1/x HTTP/1.1\r\nHost: h\r\n{secret}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
        ),
        format!("POST /v1/x HTTP/1.1\r\nHost: h\r\n{secret}Content-Length: +5\r\n\r\nhello"),
        format!(
            "POST /v1/x HTTP/1.1\r\nHost: h\r\n{secret}Transfer-Encoding: xchunked\r\n\r\nhello"
        ),
        format!("GET /v1/SECRETPROMPT\u{e4} HTTP/1.1\r\nHost: h\r\n{secret}\r\n"),
        format!("GET /v1/SECRETPROMPT HTTP/9.9\r\nHost: h\r\n{secret}\r\n"),
        format!("GARBAGE SECRETPROMPT\r\n{secret}\r\n"),
        format!("GET /v1/x HTTP/1.1\r\nHost: h\r\n{secret}no colon SECRETPROMPT\r\n\r\n"),
        format!("GET /v1/x HTTP/1.1\nHost: h\n{}\n", secret.replace('\r', "")),
        format!("GET /v1/{} HTTP/1.1\r\nHost: h\r\n{secret}\r\n", "a".repeat(9000)),
        format!("GET /v1/x HTTP/1.1\r\nHost: h\r\n{secret}X-Long: {}\r\n\r\n", "a".repeat(9000)),
        format!("GET /v1/{long} HTTP/1.1\r\nHost: h\r\n{secret}\r\n"),
        format!("GET /v1/x HTTP/1.1\r\nHost: h\r\n{secret}X-Long: {long}\r\n\r\n"),
    ] {
        let begin = request.chars().take(60).collect::<String>();
        let answer = bench.send(&request);
        assert_eq!(answer.status, 400, "{begin}");
        assert_eq!(answer.json()["error"]["code"], "malformed_request");
        assert_eq!(answer.header("connection"), Some("close"));
        let said = format!("{:?} {}", answer.headers, answer.text());
        assert!(!said.contains("SECRET") && !said.contains(K1), "{said}");
        is_secure(&answer);
    }
    assert!(bench.upstream.requests().is_empty());
    let written = bench.process.written();
    assert!(!written.contains("SECRET") && !written.contains(K1), "{written}");
}
