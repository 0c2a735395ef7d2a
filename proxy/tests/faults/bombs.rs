//! More than anybody needs: heads, headers, chunk sizes, chunk extensions, trailers and bodies, of clients and of upstreams.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::memory::resident;
use crate::support::{Bench, K1, chat};
use crate::{serves_others, setup};

/// What one of these may leave behind, in KiB.
const MORE: u64 = 24 * 1024;

const CHUNKED: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n";

fn key() -> String {
    format!("Authorization: Bearer {K1}\r\n")
}

/// Sends these parts until the other end has had enough, and returns what it said.
fn send(bench: &Bench, parts: impl Iterator<Item = Vec<u8>>) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", bench.process.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut sent = 0;
    for part in parts {
        if stream.write_all(&part).is_err() {
            break;
        }
        sent += part.len();
        assert!(sent < 200 << 20, "it takes everything");
    }
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut said = Vec::new();
    // A reset may take the answer along: what counts is that it ended.
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

/// Nothing whole reached the upstream, memory has its bound, and others are served.
fn refused(bench: &Bench, what: &str, before: u64, said: &str) {
    let status = said.get(9..12).unwrap_or("nothing");
    assert!(matches!(status, "nothing" | "400" | "413" | "414" | "431"), "{what}: {said}");
    assert!(bench.upstream.requests().is_empty(), "{what}: {:?}", bench.upstream.last());
    let after = resident(bench.process.id());
    assert!(after < before + MORE, "{what}: {before} KiB, then {after} KiB");
    serves_others(bench);
}

fn pieces(first: String, piece: Vec<u8>, times: usize) -> impl Iterator<Item = Vec<u8>> {
    std::iter::once(first.into_bytes()).chain(std::iter::repeat_n(piece, times))
}

#[test]
fn heads_without_end_are_refused() {
    let bench = setup().start();
    serves_others(&bench);
    let before = resident(bench.process.id());
    let kilobyte = |byte: u8| vec![byte; 1024];
    for key in [key(), String::new()] {
        let start = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n{key}");
        for (what, first, piece) in [
            ("a value", format!("{start}A: "), kilobyte(b'a')),
            ("a name", start.clone(), kilobyte(b'a')),
            ("a target", "GET /".to_owned(), kilobyte(b'a')),
            ("a method", String::new(), kilobyte(b'A')),
            ("headers", start.clone(), b"A: b\r\n".repeat(100)),
            ("empty lines", String::new(), b"\r\n".repeat(512)),
        ] {
            let said = send(&bench, pieces(first, piece, 64 * 1024));
            refused(&bench, what, before, &said);
        }
        let many = format!("{start}{}\r\n", "A: b\r\n".repeat(10_000));
        refused(&bench, "10,000 headers", before, &send(&bench, pieces(many, Vec::new(), 0)));
        let few = format!("{start}{}\r\n", "A: b\r\n".repeat(200));
        refused(&bench, "200 headers", before, &send(&bench, pieces(few, Vec::new(), 0)));
    }
}

#[test]
fn chunks_that_are_none_are_refused() {
    let bench = setup().start();
    serves_others(&bench);
    let before = resident(bench.process.id());
    let start = format!("{CHUNKED}{}\r\n", key());
    for size in [
        "FFFFFFFFFFFFFFFF1\r\n",
        "10000000000000000\r\n",
        "-1\r\n",
        "0x5\r\n",
        "+5\r\n",
        " 5\r\n",
        "5 5\r\n",
        "g\r\n",
        "\r\n",
        "5\n",
        "5;a\nb\r\n",
        "5\rx",
    ] {
        let said = send(&bench, pieces(format!("{start}{size}hello\r\n0\r\n\r\n"), Vec::new(), 0));
        refused(&bench, size, before, &said);
    }
    let said = send(&bench, pieces(format!("{start}5\r\nhelloX\r\n0\r\n\r\n"), Vec::new(), 0));
    refused(&bench, "more than the size says", before, &said);
    let said = send(&bench, pieces(format!("{start}5;a="), vec![b'x'; 1024], 64 * 1024));
    refused(&bench, "an extension without end", before, &said);
    let extended = b"1;extension=of-this-chunk\r\n \r\n".repeat(64);
    let said = send(&bench, pieces(start.clone(), extended, 4 * 1024));
    refused(&bench, "extensions without end", before, &said);
    let said = send(&bench, pieces(start.clone(), b"00000000".repeat(128), 64 * 1024));
    refused(&bench, "a size of zeros without end", before, &said);
    for piece in [b"A: b\r\n".repeat(100), vec![b'a'; 1024]] {
        let said = send(&bench, pieces(format!("{start}2\r\n{{}}\r\n0\r\n"), piece, 64 * 1024));
        refused(&bench, "trailers without end", before, &said);
    }
}

#[test]
fn a_body_that_is_no_chunks_is_the_clients_fault() {
    let bench = setup().start();
    let start = format!("{CHUNKED}{}\r\n", key());
    let said = send(&bench, pieces(format!("{start}x\r\n"), Vec::new(), 0));
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
}

#[test]
fn bodies_beyond_the_limit_are_refused() {
    let bench = setup().start();
    serves_others(&bench);
    let before = resident(bench.process.id());
    let start =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n";
    for length in
        ["1000000000", "9223372036854775807", "18446744073709551615", "18446744073709551616"]
    {
        let head = format!("{start}{}Content-Length: {length}\r\n\r\n{{", key());
        let said = send(&bench, pieces(head, Vec::new(), 0));
        refused(&bench, length, before, &said);
        assert!(said.starts_with("HTTP/1.1 4"), "{length}: {said}");
    }
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20)).into_bytes();
    let said = send(&bench, pieces(format!("{CHUNKED}{}\r\n", key()), chunk, 150));
    refused(&bench, "a body in chunks", before, &said);
}

/// What an upstream may say, and what its client then gets.
fn upstream_says(bench: &Bench, first: &str, piece: &[u8], times: usize) -> Option<(u16, bool)> {
    let (first, piece) = (first.to_owned(), piece.to_vec());
    bench.upstream.does(move |_, stream| {
        let mut going = crate::write(stream, &first);
        for _ in 0..times {
            going = going && crate::write(stream, &piece);
        }
        false
    });
    let mut connection = bench.connect();
    connection.write(chat(&key()));
    // A body that breaks before its head was sent takes the head along.
    if connection.is_closed() {
        return None;
    }
    let answer = connection.answer(false);
    Some((answer.status, answer.whole))
}

#[test]
fn upstreams_that_say_too_much_are_cut_off() {
    let bench = setup().start();
    assert_eq!(bench.chat(K1).status, 200);
    let before = resident(bench.process.id());
    let chunked =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let kilobyte = vec![b'a'; 1024];
    let long = format!("{chunked}5;a=");
    let trailers = format!("{chunked}2\r\n{{}}\r\n0\r\n");
    for (what, first, piece) in [
        ("a header", "HTTP/1.1 200 OK\r\nA: ", kilobyte.clone()),
        ("headers", "HTTP/1.1 200 OK\r\n", b"A: b\r\n".repeat(100)),
        ("a reason", "HTTP/1.1 200 ", kilobyte.clone()),
        ("informational answers", "", b"HTTP/1.1 102 Processing\r\n\r\n".repeat(20)),
        ("an extension", &long, kilobyte.clone()),
        ("a trailer", &trailers, kilobyte),
        ("trailers", &trailers, b"A: b\r\n".repeat(100)),
    ] {
        let seen = upstream_says(&bench, first, &piece, 64 * 1024);
        let is_error = matches!(seen, None | Some((502 | 504, true)) | Some((200, false)));
        assert!(is_error, "{what}: {seen:?}");
        let after = resident(bench.process.id());
        assert!(after < before + MORE, "{what}: {before} KiB, then {after} KiB");
        serves_others(&bench);
    }
}
