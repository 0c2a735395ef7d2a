//! The HTTP contract (`skr.md` part 1.1), over a socket: routes, encodings, statuses and texts.

mod world;

use proto::attest::TokenFailure;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Status;

use world::World;
use world::attest::{Mood, report};
use world::client::{get, post, send, send_raw};

#[tokio::test]
async fn status_is_ok() {
    let world = World::start().await;
    let answer = get(world.role.http(), "/status").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(answer.body, r#"{"message":"Status OK"}"#);
}

#[tokio::test]
async fn anything_else_is_not_found() {
    let world = World::start().await;
    for (method, path) in [
        ("GET", "/"),
        ("HEAD", "/status"),
        ("POST", "/status"),
        ("OPTIONS", "/status"),
        ("PUT", "/attest/raw"),
        ("GET", "/attest/combined"),
        ("GET", "/key/release"),
        ("GET", "/Status"),
        ("GET", "//status"),
        ("GET", "/status//"),
        ("POST", "/status/"),
        ("DELETE", "/key/release/"),
        ("GET", "/attest"),
    ] {
        let answer = send(world.role.http(), method, path, "").await;
        assert_eq!(answer.status, 404, "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("text/plain"), "{method} {path}");
        let body = if method == "HEAD" { "" } else { "404 page not found" };
        assert_eq!(answer.body, body, "{method} {path}");
    }
}

#[tokio::test]
async fn a_slash_too_many_leads_to_the_route() {
    let world = World::start().await;
    for (method, path, status, location) in [
        ("GET", "/status/", 301, "/status"),
        ("GET", "/status/?a=b", 301, "/status?a=b"),
        ("POST", "/attest/raw/", 307, "/attest/raw"),
        ("POST", "/attest/combined/", 307, "/attest/combined"),
        ("POST", "/attest/maa/", 307, "/attest/maa"),
        ("POST", "/key/release/", 307, "/key/release"),
    ] {
        let answer = send(world.role.http(), method, path, "").await;
        assert_eq!((answer.status, answer.header("location")), (status, Some(location)), "{path}");
    }
}

#[tokio::test]
async fn raw_reports_are_hexadecimal() {
    let world = World::start().await;
    let answer = post(world.role.http(), "/attest/raw", &json!({"runtime_data": "aGVsbG8="})).await;
    assert_eq!(answer.status, 200);
    let report = hex::encode(report());
    assert_eq!(answer.body, format!(r#"{{"report":"{report}"}}"#));

    let answer = get(world.role.http(), "/attest/raw").await;
    assert_eq!(answer.body, format!(r#"{{"report":"{report}"}}"#));
    assert_eq!(world.attest.reports(), [b"hello".as_slice(), b"{}"]);
}

#[tokio::test]
async fn combined_reports_bring_what_belongs_to_them() {
    let world = World::start().await;
    let body = json!({"runtime_data": "aGVsbG8="});
    let answer = post(world.role.http(), "/attest/combined", &body).await;
    assert_eq!(answer.status, 200);
    use base64::Engine as _;
    let standard = base64::engine::general_purpose::STANDARD;
    assert_eq!(
        answer.body,
        format!(
            r#"{{"endorsed_tcb":"7308000000000003","endorsements":"{}","evidence":"{}","uvm_endorsements":"0oRZ+/=="}}"#,
            standard.encode("VCEK\nASK\nARK\n"),
            standard.encode(report()),
        )
    );
    assert_eq!(world.attest.reports(), [b"hello"]);
}

#[tokio::test]
async fn tokens_are_handed_on() {
    let variables = |_: &str| vec![("MAA_ENDPOINT".to_owned(), "https://maa.test/".to_owned())];
    let world = World::start_with(variables).await;
    let body = json!({"maa_endpoint": "other.test:8443", "runtime_data": "e30="});
    let answer = post(world.role.http(), "/attest/maa", &body).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"token":"e30.e30.AA"}"#));
    let answer = get(world.role.http(), "/attest/maa").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"token":"e30.e30.AA"}"#));

    use proto::attest::token_request::Runtime;
    let asked = world.attest.tokens();
    assert_eq!(asked[0].maa_endpoint, "https://other.test:8443");
    assert_eq!(asked[1].maa_endpoint, "https://maa.test");
    for asked in asked {
        assert!(asked.runtime == Some(Runtime::Compatible(b"{}".to_vec())));
    }
}

#[tokio::test]
async fn without_a_configured_instance_attest_sidecar_takes_its_own() {
    let world = World::start().await;
    assert_eq!(get(world.role.http(), "/attest/maa").await.status, 200);
    assert_eq!(world.attest.tokens()[0].maa_endpoint, "");
}

#[tokio::test]
async fn requests_may_be_written_as_before() {
    let world = World::start().await;
    for body in [
        r#"{"Runtime_Data":"aGk=","unknown":{"a":[1]}}"#,
        r#"{"runtime_data":"eHg=","runtime_data":"aGk="}"#,
        r#"{"runtime_data":"aG\nk="} and more"#,
    ] {
        let answer = send(world.role.http(), "POST", "/attest/raw", body).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    }
    assert_eq!(world.attest.reports(), [b"hi"; 3]);
}

#[tokio::test]
async fn the_content_type_of_a_request_is_ignored() {
    let world = World::start().await;
    let body = r#"{"runtime_data":"aGk="}"#;
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/xml\r\n"] {
        let length = body.len();
        let request = format!(
            "POST /attest/raw HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
        );
        let answer = send_raw(world.role.http(), request.as_bytes()).await;
        assert_eq!(answer.status, 200, "{kind}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_member_that_is_null_or_empty_is_missing() {
    let world = World::start().await;
    let required = "Error:Field validation for 'RuntimeData' failed on the 'required' tag";
    for body in [r#"{"runtime_data":null}"#, r#"{"runtime_data":""}"#] {
        for path in ["/attest/raw", "/attest/combined"] {
            let answer = send(world.role.http(), "POST", path, body).await;
            assert_eq!(answer.status, 400, "{path} {body}");
            assert!(answer.error().ends_with(required), "{}", answer.body);
        }
    }
    assert!(world.attest.reports().is_empty());
}

#[tokio::test]
async fn unreadable_requests_are_refused_with_the_known_texts() {
    let world = World::start().await;
    let required = |of: &str, field: &str| {
        format!(
            "Key: '{of}.{field}' Error:Field validation for '{field}' failed on the 'required' tag"
        )
    };
    for (path, of, fields) in [
        ("/attest/raw", "RawAttestData", ["RuntimeData"].as_slice()),
        ("/attest/combined", "RawAttestData", &["RuntimeData"]),
        ("/attest/maa", "MAAAttestData", &["MAAEndpoint", "RuntimeData"]),
        ("/key/release", "KeyReleaseData", &["MAAEndpoint", "AKVEndpoint", "KID"]),
    ] {
        let all: Vec<_> = fields.iter().map(|field| required(of, field)).collect();
        for (body, cause) in [
            ("", "EOF".to_owned()),
            ("x", "invalid character 'x' looking for beginning of value".to_owned()),
            ("{}", all.join("\n")),
        ] {
            let answer = send(world.role.http(), "POST", path, body).await;
            let error = answer.error();
            assert_eq!(answer.status, 400, "{path} {body:?}");
            assert!(error.starts_with("invalid request format\n"), "{path} {body:?}: {error}");
            assert!(error.ends_with(&format!(": {cause}")), "{path} {body:?}: {error}");
        }
    }
    let answer = send(world.role.http(), "POST", "/attest/raw", r#"{"runtime_data":7}"#).await;
    let cause = "json: cannot unmarshal number into Go struct field RawAttestData.runtime_data of type string";
    assert!(answer.error().ends_with(cause), "{}", answer.body);
}

#[tokio::test]
async fn runtime_data_must_be_standard_base64() {
    let world = World::start().await;
    for path in ["/attest/raw", "/attest/combined", "/attest/maa"] {
        for text in ["-_-_", "YQ", "a b"] {
            let body = json!({"maa_endpoint": "m.test", "runtime_data": text});
            let answer = post(world.role.http(), path, &body).await;
            let error = answer.error();
            assert_eq!(answer.status, 400, "{path} {text}");
            let prefix = "decoding base64-encoded runtime data of request failed\n";
            assert!(error.starts_with(prefix), "{path} {text}: {error}");
            assert!(error.contains(": illegal base64 data at input byte "), "{error}");
        }
    }
    assert!(world.attest.reports().is_empty());
}

#[tokio::test]
async fn without_evidence_each_route_says_so_once() {
    let world = World::start().await;
    let none = Status::failed_precondition("SEV guest driver is missing: <&>");
    world.attest.be(Mood::Fails(none));
    let body = json!({"maa_endpoint": "m.test", "runtime_data": "e30="});
    for (method, path, status, prefix) in [
        ("POST", "/attest/raw", 403, "failure to fetch attestation report hex\n"),
        ("GET", "/attest/raw", 403, "failure to fetch attestation report hex\n"),
        ("POST", "/attest/combined", 500, "failure to fetch attestation report bytes\n"),
        ("POST", "/attest/maa", 403, "attestation failed\n"),
        ("GET", "/attest/maa", 403, "attestation failed\n"),
    ] {
        let answer = send(world.role.http(), method, path, &body.to_string()).await;
        assert_eq!(answer.status, status, "{method} {path}");
        let error = answer.error();
        assert!(error.starts_with(prefix), "{method} {path}: {error}");
        let cause = ": attest-sidecar gave no evidence: SEV guest driver is missing: <&>";
        assert!(error.ends_with(cause), "{error}");
        assert!(answer.body.contains(r"\u003c\u0026\u003e"), "{}", answer.body);
    }
}

#[tokio::test]
async fn maa_s_own_words_are_repeated() {
    let world = World::start().await;
    let failure = r#"{"error":{}}: http response status equal to 400 Bad Request"#;
    world.attest.be(Mood::NoToken(TokenFailure::Refused, 400, failure));
    let body = json!({"maa_endpoint": "m.test", "runtime_data": "e30="});
    let answer = post(world.role.http(), "/attest/maa", &body).await;
    assert_eq!(answer.status, 403);
    let cause = format!(
        "Retrieving MAA token from MAA endpoint failed: pulling maa post response failed: {failure}"
    );
    assert!(answer.error().ends_with(&cause), "{}", answer.body);
}

#[tokio::test]
async fn an_instance_is_a_bare_host() {
    let world = World::start().await;
    for maa in ["https://m.test", "m.test/attest?x=", "user@m.test", "m.test#"] {
        let body = json!({"maa_endpoint": maa, "runtime_data": "e30="});
        let answer = post(world.role.http(), "/attest/maa", &body).await;
        assert_eq!(answer.status, 403, "{maa}");
        assert!(answer.error().starts_with("attestation failed\n"), "{}", answer.body);
    }
    assert!(world.attest.tokens().is_empty());
}

#[tokio::test]
async fn a_body_has_a_bound() {
    let world = World::start().await;
    let declared = "POST /attest/raw HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n";
    let answer = send_raw(world.role.http(), declared.as_bytes()).await;
    assert_eq!(answer.status, 413);
    let error = answer.error();
    assert!(error.starts_with("invalid request format\n"), "{error}");
    assert!(error.ends_with("the body is longer than 1048576 bytes"), "{error}");
    assert_eq!(get(world.role.http(), "/status").await.status, 200);
}

#[tokio::test]
async fn a_connection_carries_one_request_after_the_other() {
    let world = World::start().await;
    let mut stream = TcpStream::connect(world.role.http()).await.unwrap();
    let request = "GET /status HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{request}{last}").as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches(r#"{"message":"Status OK"}"#).count(), 2);
}

#[tokio::test]
async fn a_caller_that_goes_away_takes_its_work_with_it() {
    let world = World::start().await;
    world.attest.be(Mood::Stalls);
    let mut stream = TcpStream::connect(world.role.http()).await.unwrap();
    stream.write_all(b"GET /attest/raw HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    world.attest.stalls(1).await;
    drop(stream);
    world.attest.stalls(0).await;
}
