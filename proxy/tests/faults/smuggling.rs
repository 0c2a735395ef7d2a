//! Messages that one parser ends here and another there (RFC 9112, 11.2). Each hides a request in what may be a body; the
//! upstream must never see it as one.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Bench, K1, Recorded};
use crate::{serves_others, setup};

const HIDDEN: &str =
    "GET /smuggled HTTP/1.1\r\nHost: h\r\nX-Hidden: yes\r\nConnection: close\r\n\r\n";

/// Sends it on a connection of its own, and returns the statuses of what came back until it was closed, or nothing more
/// came for a while: some of these leave the proxy waiting for the rest of a body.
fn send(bench: &Bench, request: &[u8]) -> Vec<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", bench.process.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let _ = stream.write_all(request);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said).into_owned();
    // The text of a refusal may name the protocol as well.
    let statuses = said.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3));
    statuses.filter(|status| status.parse::<u16>().is_ok()).map(str::to_owned).collect()
}

/// Every request that reached the upstream is one that was meant to, with one framing and the upstream's own credential.
fn nothing_hidden(bench: &Bench, what: &str) {
    for Recorded { line, headers, .. } in bench.upstream.requests() {
        assert_eq!(line, "POST /v1/chat/completions HTTP/1.1", "{what}");
        let framings = headers.iter().filter(|(name, _)| {
            name.trim() == "content-length" || name.trim() == "transfer-encoding"
        });
        assert!(framings.count() <= 1, "{what}: {headers:?}");
        assert!(!headers.iter().any(|(name, _)| name == "x-hidden"), "{what}: {headers:?}");
        let authorizations: Vec<_> =
            headers.iter().filter(|(name, _)| name == "authorization").collect();
        assert_eq!(authorizations.len(), 1, "{what}: {headers:?}");
        assert!(!authorizations[0].1.contains(K1), "{what}");
    }
}

fn request(framing: &str, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {K1}\r\nContent-Type: application/json\r\n{framing}\r\n{body}"
    )
}

/// Framings that are wrong, or that some take for right: none of them may be guessed about.
#[test]
fn framings_that_are_none_are_refused() {
    let bench = setup().start();
    let length = HIDDEN.len();
    let chunked = format!("0\r\n\r\n{HIDDEN}");
    let framings = [
        "Content-Length: 5\r\nContent-Length: 6\r\n".to_owned(),
        "Content-Length: 0\r\nContent-Length: 5\r\n".to_owned(),
        format!("Content-Length: 0, {length}\r\n"),
        format!("Content-Length: +{length}\r\n"),
        format!("Content-Length: -{length}\r\n"),
        "Content-Length: 0x20\r\n".to_owned(),
        "Content-Length: 5 5\r\n".to_owned(),
        "Content-Length: \u{b}5\r\n".to_owned(),
        "Content-Length:\r\n".to_owned(),
        "Content-Length: five\r\n".to_owned(),
        format!("Content-Length : {length}\r\n"),
        format!("Content-Length\u{0}: {length}\r\n"),
        format!(" Content-Length: {length}\r\n"),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Transfer-Encoding: identity\r\n".to_owned(),
        "Transfer-Encoding: gzip\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n".to_owned(),
        "Transfer-Encoding: \u{b}chunked\r\n".to_owned(),
        "Transfer-Encoding:\r\n chunked\r\n".to_owned(),
        "Transfer-Encoding: \"chunked\"\r\n".to_owned(),
        "X: y\rTransfer-Encoding: chunked\r\n".to_owned(),
        "X: y\r\n Transfer-Encoding: chunked\r\n".to_owned(),
    ];
    for framing in framings {
        for body in [HIDDEN, &chunked] {
            let statuses = send(&bench, request(&framing, body).as_bytes());
            nothing_hidden(&bench, &framing);
            let fine = statuses.iter().all(|status| status.starts_with('4'));
            assert!(fine, "{framing:?}: {statuses:?}");
            assert!(bench.upstream.requests().is_empty(), "{framing:?}");
        }
    }
    serves_others(&bench);
}

/// Both framings in one request: refused, or the one that RFC 9112 says (6.3), but never two requests.
#[test]
fn a_length_beside_chunks_hides_nothing() {
    let bench = setup().start();
    let chunked = format!("0\r\n\r\n{HIDDEN}");
    for framing in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", chunked.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", chunked.len()),
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\nConnection: content-length\r\n"
            .to_owned(),
        "Transfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n".to_owned(),
        "Content-Length: 2\r\nConnection: content-length\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked, chunked\r\n".to_owned(),
    ] {
        for body in [chunked.as_str(), "5c\r\n{}\r\n0\r\n\r\n"] {
            let statuses = send(&bench, request(&framing, body).as_bytes());
            nothing_hidden(&bench, &framing);
            // What follows the first has no key of its own.
            let second = statuses.get(1).is_none_or(|status| status.starts_with('4'));
            assert!(statuses.len() <= 2 && second, "{framing:?}: {statuses:?}");
        }
    }
    serves_others(&bench);
}

/// One after the other on a connection is fine; each needs its own key.
#[test]
fn a_second_request_on_a_connection_needs_its_own_key() {
    let bench = setup().start();
    let body = "{\"model\":\"gpt-oss-120b\"}";
    let first = request(&format!("Content-Length: {}\r\n", body.len()), body);
    assert_eq!(send(&bench, format!("{first}{HIDDEN}").as_bytes()), ["200", "401"]);
    nothing_hidden(&bench, "a second request");
    assert_eq!(bench.upstream.requests().len(), 1);
}

/// Lines that end otherwise, requests that begin otherwise.
#[test]
fn lines_that_are_none_are_refused() {
    let bench = setup().start();
    let key = format!("Authorization: Bearer {K1}\r\n");
    let chat = "POST /v1/chat/completions";
    for (what, text) in [
        ("no version", format!("{chat}\r\nHost: h\r\n{key}\r\n")),
        ("another version", format!("{chat} HTTP/1.2\r\nHost: h\r\n{key}\r\n")),
        ("HTTP/2 on an HTTP/1 port", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("a space in the target", format!("{chat} /x HTTP/1.1\r\nHost: h\r\n{key}\r\n")),
        ("a tab", format!("POST\t/v1/chat/completions HTTP/1.1\r\nHost: h\r\n{key}\r\n")),
        ("a carriage return alone", format!("{chat} HTTP/1.1\r\nHost: h\rX: y\r\n{key}\r\n")),
        ("a zero", format!("{chat} HTTP/1.1\r\nHost: h\r\nX: a\u{0}b\r\n{key}\r\n")),
        ("a folded line", format!("{chat} HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n{key}\r\n")),
        ("no colon", format!("{chat} HTTP/1.1\r\nHost: h\r\nX\r\n{key}\r\n")),
        ("no name", format!("{chat} HTTP/1.1\r\nHost: h\r\n: x\r\n{key}\r\n")),
        ("a space before the colon", format!("{chat} HTTP/1.1\r\nHost : h\r\n{key}\r\n")),
    ] {
        let statuses = send(&bench, text.as_bytes());
        let fine = statuses.iter().all(|status| status.starts_with('4'));
        assert!(fine && statuses.len() <= 1, "{what}: {statuses:?}");
        assert!(bench.upstream.requests().is_empty(), "{what}");
    }
    serves_others(&bench);
}

/// An answer with a hidden one behind it poisons no connection for the next request.
#[test]
fn an_upstream_cannot_answer_the_next_request_beforehand() {
    let bench = setup().start();
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for first in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{{}}{poison}"),
        format!("HTTP/1.1 204 No Content\r\n\r\n{poison}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{poison}"),
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{poison}"
        ),
    ] {
        let answer = first.clone();
        bench.upstream.does(move |_, stream| crate::write(stream, &answer));
        let seen = bench.chat(K1);
        assert!(!seen.text().contains("poison"), "{first}: {}", seen.text());
        bench.upstream.answers(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
            crate::ANSWER.len(),
            crate::ANSWER
        ));
        for _ in 0..3 {
            let seen = bench.chat(K1);
            assert!(!seen.text().contains("poison"), "{first}: {}", seen.text());
        }
    }
}
