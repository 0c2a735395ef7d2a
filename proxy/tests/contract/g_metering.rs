//! G: what metering does to requests and answers, as both ends see it. What is recorded is seen where usage is shown.

use crate::support::{Bench, K1, json, post, write};

fn bearer() -> String {
    format!("Authorization: Bearer {K1}\r\n")
}

const CHAT: &str = "/v1/chat/completions";
const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const DELTA: &str = "data: {\"model\":\"gpt-oss-120b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}],\"usage\":null}\n\n";
const USAGE: &str = "data: {\"model\":\"gpt-oss-120b\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":20,\"total_tokens\":30}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn chunked(pieces: &[&str]) -> String {
    let pieces = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len()));
    format!("{HEAD}{}0\r\n\r\n", pieces.collect::<String>())
}

/// What a client makes of a stream: its events, without comments.
fn events(text: &str) -> Vec<String> {
    let events = text.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':'));
    events.map(|event| format!("{event}\n\n")).collect()
}

#[test]
fn case_076_answers_without_usage_pass() {
    let bench = Bench::new();
    for body in ["{}", r#"{"choices":[]}"#, "", "<html>", "{\"usage\":"] {
        bench.upstream.answers(json(200, "", body));
        let answer = bench.chat(K1);
        assert_eq!((answer.status, answer.text().as_str()), (200, body));
    }
}

#[test]
fn case_082_usage_is_asked_for_and_taken_out_again() {
    let bench = Bench::new();
    bench.upstream.answers(chunked(&[DELTA, DELTA, USAGE, DONE]));
    let answer = bench.send(post(CHAT, &bearer(), r#"{"model":"m","stream":true,"messages":[]}"#));
    let got = bench.upstream.last();
    let asked =
        r#"{"model":"m","stream":true,"messages":[],"stream_options":{"include_usage":true}}"#;
    assert_eq!(String::from_utf8(got.body.clone()).unwrap(), asked);
    assert_eq!(got.header("content-length"), Some(asked.len().to_string().as_str()));
    assert_eq!(events(&answer.text()), [DELTA, DELTA, DONE]);

    let body = r#"{"stream_options": {"include_usage": true}, "stream": true}"#;
    let answer = bench.send(post(CHAT, &bearer(), body));
    assert_eq!(bench.upstream.last().body, body.as_bytes());
    assert_eq!(events(&answer.text()), [DELTA, DELTA, USAGE, DONE]);
}

#[test]
fn case_082_only_chat_and_completions_are_asked() {
    let bench = Bench::new();
    let body = r#"{"model":"m","stream":true}"#;
    for (path, asked) in [
        ("/v1/completions", true),
        ("/v1/responses", false),
        ("/v1/messages", false),
        ("/v1/other", false),
    ] {
        bench.send(post(path, &bearer(), body));
        let got = bench.upstream.last().body;
        assert_eq!(got != body.as_bytes(), asked, "{path}");
    }
}

#[test]
fn a_member_that_decides_is_sent_once() {
    let bench = Bench::new();
    for (body, name) in [
        (r#"{"model":"a","model":"b"}"#, "model"),
        (r#"{"model":"a","mod\u0065l":"b"}"#, "model"),
        (r#"{"stream":true,"stream":false}"#, "stream"),
    ] {
        let answer = bench.send(post(CHAT, &bearer(), body));
        assert_eq!(answer.status, 400);
        assert!(answer.message().contains(&format!("\"{name}\" more than once")));
        assert_eq!(answer.json()["error"]["param"], name);
    }
    assert!(bench.upstream.requests().is_empty());
}

/// Lengths of tokens do not show: each piece has one of a few lengths, whatever is in it.
#[test]
fn streamed_answers_are_padded() {
    let bench = Bench::new();
    let tokens =
        ["a", "four", "incomprehensibilities", "long "].map(|token| token.repeat(40 + token.len()));
    bench.upstream.does(move |_, stream| {
        write(stream, HEAD);
        tokens.iter().all(|token| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let event = DELTA.replace("\"x\"", &format!("\"{token}\""));
            write(stream, format!("{:x}\r\n{event}\r\n", event.len()))
        }) && write(stream, "0\r\n\r\n")
    });
    let mut client = bench.connect();
    client.write(post(CHAT, &bearer(), r#"{"stream":true}"#));
    assert_eq!(client.head().status, 200);
    let mut text = Vec::new();
    while let Some(piece) = client.chunk() {
        assert_eq!(piece.len() % 512, 0);
        text.extend(piece);
    }
    let text = String::from_utf8(text).unwrap();
    assert_eq!(events(&text).len(), 4);

    let bench = Bench::with(&[("PROXY_STREAM_PADDING", "off")]);
    bench.upstream.answers(chunked(&[DELTA, DONE]));
    let answer = bench.send(post(CHAT, &bearer(), r#"{"stream":true}"#));
    assert_eq!(answer.text(), [DELTA, DONE].concat());
}

#[test]
fn bounds_that_make_no_sense_are_refused_at_the_start() {
    for (name, value) in [
        ("PROXY_STREAM_PADDING", "1"),
        ("PROXY_MAX_BODY", "0"),
        ("UPSTREAM_FIRST_BYTE_TIMEOUT", "0"),
        ("UPSTREAM_IDLE_TIMEOUT", "99999"),
    ] {
        let (code, written) = crate::support::Setup::new().set(name, value).refused();
        assert_eq!(code, 64);
        assert!(written.contains(&format!("{name}: must be ")), "{written}");
    }
}
