//! H: plain HTTP where it is not wanted, and TLS in the process.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Answer, Bench, K1, Setup, chat, get};

const REQUIRED: &str = "HTTPS required. Please use a secure connection.";
const YEAR: &str = "max-age=31536000; includeSubDomains";

fn is_refused(answer: &Answer) {
    assert_eq!((answer.status, answer.message().as_str()), (403, REQUIRED));
    assert_eq!(answer.header("strict-transport-security"), Some(YEAR), "case 88");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "case 89");
}

fn by(proto: &str) -> Vec<u8> {
    chat(&format!("X-API-Key: {K1}\r\n{proto}"))
}

#[test]
fn case_090_plain_http_is_refused_but_for_health() {
    let bench = Bench::with(&[("FORCE_HTTPS", "true")]);
    is_refused(&bench.send(by("")));
    is_refused(&bench.send(by("X-Forwarded-Proto: https\r\n")));
    is_refused(&bench.send(get("/admin/login", "")));
    is_refused(&bench.send(get("/auth/key-info", &format!("X-API-Key: {K1}\r\n"))));
    is_refused(&bench.send(get("/nope", "")));
    let health = bench.send(get("/health", ""));
    assert_eq!((health.status, health.header("strict-transport-security")), (200, Some(YEAR)));
    assert!(bench.upstream.requests().is_empty());
}

#[test]
fn case_090_a_trusted_proxy_may_say_that_it_was_https() {
    let bench = Bench::with(&[("FORCE_HTTPS", "1"), ("TRUST_PROXY", "true")]);
    for said in ["https", "HTTPS", "http, https"] {
        assert_eq!(bench.send(by(&format!("X-Forwarded-Proto: {said}\r\n"))).status, 200, "{said}");
    }
    is_refused(&bench.send(by("")));
    is_refused(&bench.send(by("X-Forwarded-Proto: http\r\n")));
    is_refused(&bench.send(by("X-Forwarded-Proto: https, http\r\n")));
}

/// A certificate for 127.0.0.1, and its key, in PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A request by a TLS client that is not ours, told to speak this version.
fn by_tls(bench: &Bench, version: &str, request: &str) -> Option<String> {
    let address = format!("127.0.0.1:{}", bench.process.port);
    let client = Command::new("openssl")
        .args(["s_client", "-connect", &address, "-quiet", "-no_ign_eof", version])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut client = client.ok()?;
    let mut input = client.stdin.take().unwrap();
    let _ = input.write_all(request.as_bytes());
    let mut text = String::new();
    client.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    drop(input);
    client.wait().unwrap();
    Some(text)
}

#[test]
fn case_088_091_tls_in_the_process() {
    let (certificate, key) = certificate();
    let setup = Setup::new().file("cert.pem", &certificate).file("key.pem", &key);
    let (certificate, key) = (setup.path("cert.pem"), setup.path("key.pem"));
    let bench = setup
        .unset("TLS_MODE")
        .unset("FORCE_HTTPS")
        .set("TLS_CERT_FILE", &certificate)
        .set("TLS_KEY_FILE", &key)
        .start();
    let request = format!(
        "GET /v1/models HTTP/1.1\r\nHost: h\r\nX-API-Key: {K1}\r\nConnection: close\r\n\r\n"
    );
    for version in ["-tls1_2", "-tls1_3"] {
        let Some(answer) = by_tls(&bench, version, &request) else {
            eprintln!("skipped: there is no openssl on this machine");
            return;
        };
        assert!(answer.starts_with("HTTP/1.1 200"), "{version}: {answer}");
        assert!(answer.contains(YEAR), "{answer}");
    }
    for version in ["-tls1", "-tls1_1"] {
        assert_eq!(by_tls(&bench, version, &request).as_deref().unwrap_or_default(), "");
    }
    // Plain HTTP to that port is closed without an answer.
    let mut plain = TcpStream::connect(("127.0.0.1", bench.process.port)).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = plain.write_all(request.as_bytes());
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("HTTP/1"));
}
