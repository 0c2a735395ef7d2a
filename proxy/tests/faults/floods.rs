//! HTTP/2 connections that send more frames than requests (RFC 9113, 10.5).

use crate::memory::resident;
use crate::support::Bench;
use crate::{serves_others_with_tls, setup, tls};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Floods that cost work or memory end their connection; the others cost as much as their bytes, and are borne.
const ENDED: [&str; 4] = ["rapid reset", "continuations", "empty continuations", "empty data"];

/// What all floods together may leave behind, in KiB.
const MORE: u64 = 32 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header by name and value, as HPACK has it without any table (RFC 7541, 6.2.2).
fn header(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        assert!(text.len() < 127);
        block.extend(text.as_bytes());
    }
    block
}

/// `POST /v1/chat/completions` without a key.
fn post() -> Vec<u8> {
    let headers = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/v1/chat/completions"),
        (":authority", "localhost"),
    ];
    headers.iter().flat_map(|(name, value)| header(name, value)).collect()
}

/// Sends the opening and then these frames until the other end has had enough. Whether it had.
fn flood(bench: &Bench, first: &[u8], next: impl Fn(u32) -> Vec<u8>) -> bool {
    let mut connection = tls::Connection::open(bench.process.port, b"h2");
    assert!(connection.write(PREFACE) && connection.write(&frame(SETTINGS, 0, 0, &[])));
    let mut going = connection.write(first);
    for round in 0..300 {
        // A hundred frames a write.
        let frames: Vec<u8> = (0..100).flat_map(|n| next(round * 100 + n)).collect();
        going = going && connection.write(&frames);
        if !going {
            break;
        }
    }
    // It is asked whether it still answers.
    let question = frame(PING, 0, 0, b"question");
    let mut said = Vec::new();
    let mut asked = connection.write(&question);
    while asked {
        let more = connection.read_some();
        said.extend(&more);
        let answered = said.windows(8).any(|window| window == b"question");
        let ended = more.is_empty() || frames_in(&said).contains(&GOAWAY);
        if answered && !ended {
            return false;
        }
        asked = !ended;
    }
    true
}

/// The kinds of the frames in what was read.
fn frames_in(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, rest @ ..] = bytes {
        kinds.push(*kind);
        let length = u32::from_be_bytes([0, *a, *b, *c]);
        bytes = rest.get(5 + usize::try_from(length).unwrap()..).unwrap_or_default();
    }
    kinds
}

/// What is sent, once the connection stands and then again and again, by the number of the time.
type Case<'a> = (&'a str, &'a [u8], Box<dyn Fn(u32) -> Vec<u8>>);

#[test]
fn floods_of_frames_end_their_own_connection_at_most() {
    let certificate = tls::Certificate::make();
    let bench = certificate.serve(setup());
    serves_others_with_tls(&bench);
    let before = resident(bench.process.id());
    let odd = |n: u32| 2 * n + 1;
    let opened = frame(HEADERS, END_HEADERS, 1, &post());
    let endless = frame(HEADERS, 0, 1, &post());
    let tiny: Vec<u8> = header("a", "b").repeat(20);
    let cases: [Case<'_>; 8] = [
        (
            "rapid reset",
            &[],
            Box::new(move |n| {
                let open = frame(HEADERS, END_HEADERS | END_STREAM, odd(n), &post());
                [open, frame(RST_STREAM, 0, odd(n), &8_u32.to_be_bytes())].concat()
            }),
        ),
        ("pings", &[], Box::new(|_| frame(PING, 0, 0, &[7; 8]))),
        ("settings", &[], Box::new(|_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]))),
        ("continuations", &endless, Box::new(move |_| frame(CONTINUATION, 0, 1, &tiny))),
        ("empty continuations", &endless, Box::new(|_| frame(CONTINUATION, 0, 1, &[]))),
        ("empty data", &opened, Box::new(|_| frame(DATA, 0, 1, &[]))),
        ("window updates", &[], Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()))),
        ("priorities", &[], Box::new(move |n| frame(PRIORITY, 0, odd(n), &[0, 0, 0, 0, 16]))),
    ];
    for (what, first, next) in cases {
        let ended = flood(&bench, first, next);
        assert_eq!(ended, ENDED.contains(&what), "{what}");
        let after = resident(bench.process.id());
        assert!(after < before + MORE, "{what}: {before} KiB, then {after} KiB");
        serves_others_with_tls(&bench);
    }
    assert!(bench.upstream.requests().is_empty(), "nobody had a key");
}
