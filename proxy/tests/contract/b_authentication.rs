//! B: whose request it is.

use crate::support::{Answer, Bench, DISABLED, EXPIRED, K1, UPSTREAM_KEY, chat, get};

const MISSING: &str = "Missing API key. Use Authorization: Bearer <key> or X-API-Key header";
const INVALID: &str = "Invalid or expired API key";

fn is_refused(answer: &Answer, message: &str) {
    assert_eq!((answer.status, answer.message().as_str()), (401, message));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "case 17");
    let error = &answer.json()["error"];
    assert!(error["type"].is_string() && error["code"].is_string(), "{error}");
    assert!(error["param"].is_null());
}

#[test]
fn case_005_no_key() {
    let bench = Bench::new();
    is_refused(&bench.send(chat("")), MISSING);
    assert!(bench.upstream.requests().is_empty());
}

#[test]
fn case_006_011_012_keys_that_are_not_good() {
    let bench = Bench::new();
    for key in ["pm_invalid_key", EXPIRED, DISABLED] {
        is_refused(&bench.chat(key), INVALID);
    }
    assert!(bench.upstream.requests().is_empty());
}

#[test]
fn case_007_008_both_headers_do() {
    let bench = Bench::new();
    assert_eq!(bench.chat(K1).status, 200);
    assert_eq!(bench.send(chat(&format!("X-API-Key: {K1}\r\n"))).status, 200);
    for request in bench.upstream.requests() {
        let credential = format!("Bearer {UPSTREAM_KEY}");
        assert_eq!(request.header("authorization"), Some(credential.as_str()));
        assert_eq!(request.header("x-api-key"), None);
    }
}

#[test]
fn case_009_other_schemes_are_no_key() {
    let bench = Bench::new();
    let basic = "Authorization: Basic dXNlcjpwYXNz\r\n";
    is_refused(&bench.send(chat(basic)), MISSING);
    assert_eq!(bench.send(chat(&format!("{basic}X-API-Key: {K1}\r\n"))).status, 200);
}

#[test]
fn case_010_a_bearer_token_that_is_empty_decides() {
    // What ends a line is no part of a value (RFC 9110, 5.5): `Bearer ` arrives as `Bearer`.
    let bench = Bench::new();
    is_refused(&bench.send(chat("Authorization: Bearer \r\n")), MISSING);
    is_refused(
        &bench.send(chat(&format!("Authorization: Bearer \r\nX-API-Key: {K1}\r\n"))),
        MISSING,
    );
}

#[test]
fn case_013_which_one_counts() {
    let bench = Bench::new();
    let bad = "Authorization: Bearer bad\r\n";
    let good = format!("Authorization: Bearer {K1}\r\n");
    is_refused(&bench.send(chat(&format!("{bad}X-API-Key: {K1}\r\n"))), INVALID);
    is_refused(&bench.send(chat(&format!("{bad}{good}"))), INVALID);
    is_refused(&bench.send(chat(&format!("Authorization: Bearer  {K1}\r\n"))), INVALID);
    is_refused(&bench.send(get(&format!("/v1/models?api_key={K1}&key={K1}"), "")), MISSING);
    assert!(bench.upstream.requests().is_empty());
}

/// RFC 9110, 11.1: the scheme's name is compared without regard to case. The reference refused it.
#[test]
fn case_014_the_scheme_in_lower_case() {
    let bench = Bench::new();
    assert_eq!(bench.send(chat(&format!("authorization: bearer {K1}\r\n"))).status, 200);
}

#[test]
fn case_015_bytes_that_are_no_text() {
    let bench = Bench::new();
    let mut request = b"GET /v1/models HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ".to_vec();
    request.extend(b"\xff\xfe\r\n\r\n");
    is_refused(&bench.send(request), INVALID);
}

#[test]
fn case_016_no_other_origin_is_let_in() {
    let bench = Bench::new();
    let preflight = "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: h\r\nOrigin: https://evil.example\r\n\
                     Access-Control-Request-Method: POST\r\n\r\n";
    let refused = bench.send(preflight);
    is_refused(&refused, MISSING);
    let answered =
        bench.send(chat(&format!("Authorization: Bearer {K1}\r\nOrigin: https://a.b\r\n")));
    for answer in [refused, answered] {
        assert!(!answer.headers.iter().any(|(name, _)| name.starts_with("access-control-")));
    }
}

/// Part 4, 7: who is refused uses up nothing of anybody's.
#[test]
fn who_has_no_good_key_consumes_no_quota_of_one() {
    let bench = Bench::with(&[("RATE_LIMIT_REQUESTS", "2")]);
    for key in ["bad", EXPIRED, DISABLED, "bad", "bad"] {
        assert_eq!(bench.chat(key).status, 401);
    }
    assert_eq!(bench.chat(K1).header("x-ratelimit-remaining"), Some("1"));
}
