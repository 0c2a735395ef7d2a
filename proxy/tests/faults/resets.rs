//! An upstream that breaks off, at every byte of its answer, by a close and by a reset.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::memory::resident;
use crate::support::{Bench, K1, chat, post};
use crate::{serves_others, setup};

/// A recorded stream: six events, usage, the end.
fn stream() -> Vec<u8> {
    let event = |choices: &str, more: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-oss-120b\",\"choices\":[{choices}]{more}}}\n\n"
        )
    };
    let delta = |text: &str| {
        event(
            &format!("{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}"),
            "",
        )
    };
    let usage =
        event("", ",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}");
    let events = [delta("It"), delta(" is"), delta(" \\u00e4"), delta(" test"), usage];
    let chunks = events.into_iter().chain(["data: [DONE]\n\n".to_owned()]);
    let chunks: String = chunks.map(|data| format!("{:x}\r\n{data}\r\n", data.len())).collect();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    )
    .into_bytes()
}

fn json() -> Vec<u8> {
    let body = crate::ANSWER;
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Reset,
}

/// What a client got.
struct Seen {
    /// `None`: no head.
    status: Option<u16>,
    /// Whether the body ended as its framing says.
    whole: bool,
    text: String,
}

/// What a client sees of an answer that ends after so many bytes.
fn cut(bench: &Bench, answer: &[u8], at: usize, end: End, request: &[u8]) -> Seen {
    let part = answer[..at].to_vec();
    bench.upstream.does(move |_, stream| {
        crate::write(stream, &part);
        if end == End::Reset {
            // The bytes are to arrive before the reset: it discards what the other end has not read.
            std::thread::sleep(Duration::from_millis(2));
            reset(stream);
        }
        false
    });
    let mut stream = TcpStream::connect(("127.0.0.1", bench.process.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    seen(&all)
}

/// Everything that came on a connection.
fn seen(all: &[u8]) -> Seen {
    let text = String::from_utf8_lossy(all).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        assert!(all.is_empty(), "half a head: {text}");
        return Seen { status: None, whole: false, text };
    };
    let status = head.get(9..12).and_then(|digits| digits.parse().ok());
    let head = head.to_ascii_lowercase();
    let whole = match head.split("content-length: ").nth(1) {
        Some(rest) => rest.lines().next().unwrap().parse() == Ok(body.len()),
        None if head.contains("transfer-encoding: chunked") => ends(body),
        None => true,
    };
    Seen { status, whole, text }
}

/// Whether a body in chunks has its last one.
fn ends(mut body: &str) -> bool {
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return rest == "\r\n";
        }
        let Some(rest) = rest.get(size..).and_then(|rest| rest.strip_prefix("\r\n")) else { break };
        body = rest;
    }
    false
}

/// Makes the close that follows a reset.
fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

fn head_of(answer: &[u8]) -> usize {
    answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4
}

/// Every position: where the head is not whole there is an error of the proxy's own, and where it is, the client's framing
/// breaks off as the upstream's did.
fn at_every_byte(answer: &[u8], request: &[u8], end: End) {
    let bench = setup().start();
    let head = head_of(answer);
    let mut early = 0;
    for at in 0..answer.len() {
        let Seen { status, whole, text } = cut(&bench, answer, at, end, request);
        if at < head {
            assert_eq!((status, whole), (Some(502), true), "{end:?} at {at}: {text}");
        } else if status == Some(502) {
            // A reset can take the head along that came just before it.
            assert_eq!(end, End::Reset, "at {at}: {text}");
        } else {
            // Before anything of the body is there, the close may be all that the client sees.
            assert!(matches!(status, Some(200) | None), "{end:?} at {at}: {text}");
            assert!(!whole, "{end:?} at {at}: {text}");
        }
        if at == 200.min(answer.len() / 4) {
            early = resident(bench.process.id());
        }
    }
    let late = resident(bench.process.id());
    assert!(late < early + 16 * 1024, "memory grows: {early} KiB, then {late} KiB");
    let whole = cut(&bench, answer, answer.len(), End::Close, request);
    assert_eq!((whole.status, whole.whole), (Some(200), true));
    serves_others(&bench);
}

fn streaming() -> Vec<u8> {
    let body = r#"{"model":"gpt-oss-120b","stream":true,"messages":[]}"#;
    post(
        "/v1/chat/completions",
        &format!("Authorization: Bearer {K1}\r\nConnection: close\r\n"),
        body,
    )
}

fn asking() -> Vec<u8> {
    chat(&format!("Authorization: Bearer {K1}\r\nConnection: close\r\n"))
}

#[test]
fn a_stream_that_is_closed_at_any_byte_is_never_whole() {
    at_every_byte(&stream(), &streaming(), End::Close);
}

#[test]
fn a_stream_that_is_reset_at_any_byte_is_never_whole() {
    at_every_byte(&stream(), &streaming(), End::Reset);
}

#[test]
fn an_answer_of_known_length_that_is_closed_at_any_byte_is_never_whole() {
    at_every_byte(&json(), &asking(), End::Close);
}

/// Without length and without chunks the close is the end, so it may be taken for one; a reset may not.
#[test]
fn an_answer_without_length_that_is_reset_is_not_whole() {
    let bench = setup().start();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhalf an answer";
    let whole = cut(&bench, answer, answer.len(), End::Close, &asking());
    assert_eq!((whole.status, whole.whole), (Some(200), true));
    assert!(whole.text.contains("half an answer"), "{}", whole.text);
    let seen = cut(&bench, answer, answer.len(), End::Reset, &asking());
    assert!(seen.status == Some(502) || !seen.whole, "{}", seen.text);
}
