//! Streams of events: usage, the event that is taken out, padding.

use bytes::Bytes;

use super::cuts;
use crate::openai::events::Events;
use crate::openai::meter::{Heard, StreamMeter};
use crate::openai::padding::Padding;
use crate::usage::Usage;

const SIZE: usize = 64;

/// Chat chunks as OpenAI sends them when usage was asked for: each says that it has none, the last one has nothing else.
const CHAT: &str = concat!(
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-oss-120b\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"c\",\"model\":\"gpt-oss-120b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\\"usage\\\" [] }\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"c\",\"model\":\"gpt-oss-120b\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
);
const USAGE: &str = "data: {\"id\":\"c\",\"model\":\"gpt-oss-120b\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":20,\"total_tokens\":30,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// What comes out in all, what was heard, and that each piece is a multiple of the size.
fn pass(pieces: &[Bytes], strips: bool, padding: Padding) -> (String, Heard) {
    let mut events = Events::new(padding, StreamMeter::new(strips));
    let mut out = Vec::new();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        let piece = events.push(piece.clone());
        assert!(padding == Padding::Off || piece.len().is_multiple_of(SIZE));
        out.extend_from_slice(&piece);
    }
    let last = events.end();
    assert!(padding == Padding::Off || last.len().is_multiple_of(SIZE));
    out.extend_from_slice(&last);
    (String::from_utf8(out).unwrap(), events.reader().heard())
}

fn size() -> Padding {
    SIZE.to_string().parse().unwrap()
}

/// Takes comments of nothing but spaces out, each with the empty line that ends it.
fn without_padding(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let after = rest.strip_prefix(':').map(|comment| comment.trim_start_matches(' '));
        if let Some(after) = after.and_then(|after| after.strip_prefix("\n\n")) {
            rest = after;
            continue;
        }
        let next = rest.find(['\n', '\r']).map_or(rest.len(), |at| at + 1);
        kept.push_str(&rest[..next]);
        rest = &rest[next..];
    }
    kept
}

/// What a client reads: the data of each event that has some (WHATWG HTML, 9.2.6).
fn dispatched(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let mut data: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else { break };
        if line.is_empty() {
            if !data.is_empty() {
                events.push(data.join("\n"));
            }
            data.clear();
        } else if let Some(value) = line.strip_prefix("data:") {
            data.push(value.strip_prefix(' ').unwrap_or(value).to_owned());
        }
    }
    events
}

fn check(stream: &str, strips: bool, kept: &str, expected: &Heard) {
    for pieces in cuts(stream.as_bytes()) {
        let (text, heard) = pass(&pieces, strips, size());
        assert_eq!(without_padding(&text), kept);
        assert_eq!(dispatched(&text), dispatched(kept));
        assert_eq!(&heard, expected);
        let (text, heard) = pass(&pieces, strips, Padding::Off);
        assert_eq!(text, kept);
        assert_eq!(&heard, expected);
    }
}

fn heard(stream: &str) -> Heard {
    pass(&[Bytes::copy_from_slice(stream.as_bytes())], false, Padding::Off).1
}

#[test]
fn case_82_the_event_that_was_asked_for_is_taken_out_and_nothing_else() {
    let stream = [CHAT, USAGE, DONE].concat();
    let heard = heard(&stream);
    assert!(heard.is_final);
    assert_eq!(heard.model.as_deref(), Some("gpt-oss-120b"));
    let usage = Usage { prompt: 10, completion: 20, cached: 4, total: 30, ..Usage::default() };
    assert_eq!(heard.reported.usage(), usage);
    check(&stream, true, &[CHAT, DONE].concat(), &heard);
    check(&stream, false, &stream, &heard);
}

#[test]
fn events_that_only_resemble_it_stay() {
    for event in [
        "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"choices\":[],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[\"usage\"]}\n\n",
        "data: {\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}\n\n",
        "event: error\ndata: {\"error\":{\"message\":\"usage\"}}\n\n",
    ] {
        assert_eq!(pass(&[Bytes::from(event)], true, Padding::Off).0, event);
    }
    let spaced = "data: {\"choices\": [ ], \"usage\": {\"total_tokens\": 1}}\n\n";
    assert_eq!(pass(&[Bytes::from(spaced)], true, Padding::Off).0, "");
}

#[test]
fn lines_end_as_they_like() {
    let stream =
        [CHAT, "id: 7\n: a comment\nevent: x\ndata: {\"a\":\ndata: 1}\n\n", USAGE, DONE].concat();
    let expected = heard(&stream);
    assert!(expected.is_final);
    for end in ["\r", "\r\n"] {
        let (stream, usage) = (stream.replace('\n', end), USAGE.replace('\n', end));
        let kept = stream.replace(&usage, "");
        for pieces in cuts(stream.as_bytes()) {
            let (text, heard) = pass(&pieces, true, size());
            assert_eq!(dispatched(&text), dispatched(&kept));
            assert_eq!(heard, expected);
        }
    }
    let marked = ["\u{feff}", USAGE, DONE].concat();
    assert!(heard(&marked).is_final, "a byte order mark is no part of the first line");
    let in_lines = USAGE.replace(",\"usage\"", "\ndata: ,\"usage\"");
    check(&in_lines, true, "", &heard(USAGE));
}

#[test]
fn a_stream_without_its_last_empty_line_ends_as_it_came() {
    for end in ["data: [DONE]", "data: [DONE]\n", "data: {\"a\":1", ":", "\n"] {
        let stream = [CHAT, end].concat();
        check(&stream, true, &stream, &heard(&stream));
    }
    let cut = [CHAT, USAGE.trim_end()].concat();
    assert!(heard(&cut).is_final);
}

#[test]
fn responses_say_their_usage_within_the_last_event() {
    let stream = concat!(
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":\"m\",\"usage\":null}}\n\n",
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"model\":\"m\",\"output\":[{\"usage\":1}],\"usage\":{\"input_tokens\":7,\"input_tokens_details\":{\"cached_tokens\":2},\"output_tokens\":3,\"total_tokens\":10}}}\n\n",
    );
    let heard = heard(stream);
    assert!(heard.is_final);
    assert_eq!(heard.model.as_deref(), Some("m"));
    let usage = Usage { prompt: 7, completion: 3, cached: 2, total: 10, ..Usage::default() };
    assert_eq!(heard.reported.usage(), usage);
    check(stream, true, stream, &heard);
}

#[test]
fn messages_say_their_usage_at_both_ends() {
    let begin = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude\",\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":100,\"cache_creation_input_tokens\":10,\"output_tokens\":1}}}\n\n";
    let piece = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\n";
    let end = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":25}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let stream = [begin, piece, piece, end].concat();
    let whole = heard(&stream);
    assert!(whole.is_final);
    let usage = Usage { prompt: 115, completion: 25, cached: 100, total: 140, ..Usage::default() };
    assert_eq!(whole.reported.usage(), usage);
    check(&stream, true, &stream, &whole);

    let cut = heard(&[begin, piece, piece, piece].concat());
    assert!(!cut.is_final, "the first word on the answer is not the last");
    assert_eq!((cut.reported.prompt(), cut.estimate), (Some(115), 3));
}

#[test]
fn an_event_of_any_length_passes() {
    let long = format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(400 * 1024));
    let stream = [CHAT, &long, USAGE, DONE].concat();
    for size_of_piece in [1000, 65_536, 300_000, stream.len()] {
        let bytes = Bytes::from(stream.clone());
        let pieces: Vec<Bytes> =
            bytes.chunks(size_of_piece).map(|piece| bytes.slice_ref(piece)).collect();
        let mut events = Events::new(size(), StreamMeter::new(true));
        let mut out: Vec<u8> = Vec::new();
        for piece in pieces {
            out.extend_from_slice(&events.push(piece));
        }
        out.extend_from_slice(&events.end());
        let text = String::from_utf8(out).unwrap();
        assert_eq!(without_padding(&text), [CHAT, &long, DONE].concat());
        let heard = events.reader().heard();
        assert!(heard.is_final);
        // It was either read whole or, in pieces, not kept: then a quarter of its bytes are taken for tokens.
        assert!(heard.estimate == 3 || heard.estimate > 100_000);
    }
}

/// Of a stream that breaks off the events that came are counted.
#[test]
fn content_is_counted() {
    let heard = heard(CHAT);
    assert!(!heard.is_final);
    assert_eq!(heard.estimate, 3);
    let text = "data: {\"choices\":[{\"text\":\"a\"}]}\n\n";
    assert_eq!(self::heard(&text.repeat(50)).estimate, 50);
    assert_eq!(self::heard(&": ping\n\n".repeat(50)).estimate, 0);
}
