//! H: plain HTTP where it is not wanted, and TLS in the process.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Answer, Bench, K1, PASSWORD, Setup, chat, get};

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

/// The proxy with TLS of its own, as users of the proxy before it set it up.
fn with_tls() -> Bench {
    let (certificate, key) = certificate();
    let setup = Setup::new().file("cert.pem", &certificate).file("key.pem", &key);
    let (certificate, key) = (setup.path("cert.pem"), setup.path("key.pem"));
    let setup = setup.unset("TLS_MODE").unset("FORCE_HTTPS");
    setup.set("TLS_CERT_FILE", &certificate).set("TLS_KEY_FILE", &key).start()
}

/// The first message of a client that speaks TLS up to a version, and nothing newer (RFC 5246, 7.4.1.2): no library of today
/// can be made to say that for the oldest ones. It offers what any server of those versions would take.
fn hello(version: [u8; 2]) -> Vec<u8> {
    let vector = |content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&length[..], content].concat()
    };
    let extension = |kind: u8, content: &[u8]| [&[0, kind][..], &vector(content)].concat();
    // ECDHE with ECDSA and RSA, RSA alone: AES-GCM of TLS 1.2, AES-CBC of those before.
    let suites = vector(&[0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f]);
    let extensions = vector(
        &[
            extension(10, &vector(&[0x00, 0x1d, 0x00, 0x17])),
            extension(11, &[1, 0]),
            extension(13, &vector(&[0x04, 0x03, 0x08, 0x04, 0x04, 0x01, 0x02, 0x03, 0x02, 0x01])),
        ]
        .concat(),
    );
    let body = [&version[..], &[7; 32], &[0], &suites, &[1, 0], &extensions].concat();
    let message = [&[1, 0][..], &vector(&body)].concat();
    [&[22, 3, 1][..], &vector(&message)].concat()
}

/// What a server says to those bytes: the type of its first record, and what is in it.
fn first_record(port: u16, bytes: &[u8]) -> (u8, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut head = [0; 5];
    stream.read_exact(&mut head).unwrap();
    let mut content = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut content).unwrap();
    (head[0], content)
}

const SSL_3_0: [u8; 2] = [3, 0];
const TLS_1_0: [u8; 2] = [3, 1];
const TLS_1_1: [u8; 2] = [3, 2];
const TLS_1_2: [u8; 2] = [3, 3];

#[test]
fn case_091_older_versions_of_tls_are_refused_by_name() {
    const HANDSHAKE: u8 = 22;
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    const PROTOCOL_VERSION: u8 = 70;
    let bench = with_tls();
    let port = bench.process.port;
    for version in [SSL_3_0, TLS_1_0, TLS_1_1] {
        let said = first_record(port, &hello(version));
        assert_eq!(said, (ALERT, vec![FATAL, PROTOCOL_VERSION]), "{version:?}");
    }
    // The same message in the name of TLS 1.2 is answered: it is the version that was refused.
    let (kind, message) = first_record(port, &hello(TLS_1_2));
    assert_eq!((kind, message[0]), (HANDSHAKE, 2), "a ServerHello");
    assert_eq!(message[4..6], TLS_1_2);
}

#[test]
fn case_088_091_tls_in_the_process() {
    let bench = with_tls();
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
    // Plain HTTP to that port is closed without an answer.
    let mut plain = TcpStream::connect(("127.0.0.1", bench.process.port)).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = plain.write_all(request.as_bytes());
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("HTTP/1"));
}

/// `LOG_LIVE` promises a proved connection, also where other admin pages are open to any.
#[test]
fn the_live_log_is_not_shown_over_tls_that_nobody_proved() {
    let bench = with_tls();
    let body = serde_json::json!({"password": PASSWORD}).to_string();
    let ask = |request: &str| by_tls(&bench, "-tls1_3", request);
    let login = format!(
        "POST /admin/login HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let Some(answer) = ask(&login) else {
        eprintln!("skipped: there is no openssl on this machine");
        return;
    };
    let (_, rest) = answer.split_once("\"session\":\"").unwrap();
    let (session, _) = rest.split_once('"').unwrap();
    let get = |path: &str| {
        let lines = "Host: 127.0.0.1\r\nConnection: close\r\nAuthorization: Bearer";
        ask(&format!("GET {path} HTTP/1.1\r\n{lines} {session}\r\n\r\n")).unwrap()
    };
    let keys = get("/admin/api/keys");
    assert!(keys.starts_with("HTTP/1.1 200"), "{keys}");
    let logs = get("/admin/api/logs");
    assert!(logs.starts_with("HTTP/1.1 403") && logs.contains("connection_not_proved"), "{logs}");
}
