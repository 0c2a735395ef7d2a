//! JSON requests: what is refused, and what is written into them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{all, cuts, only};
use crate::error::Refusal;
use crate::openai::access::Models;
use crate::openai::most::{MOST_ANSWERS, MOST_TOKENS, Most};
use crate::openai::request::JsonRequest;

/// What the upstream gets, if it gets all of it; and whether usage was asked for.
fn sent(pieces: &[Bytes], models: &Models, leaves_after: usize) -> Result<(String, bool), Refusal> {
    let mut request = JsonRequest::new(true);
    let (mut out, mut left) = (VecDeque::new(), Vec::new());
    for (number, piece) in pieces.iter().enumerate() {
        if number == leaves_after {
            request.leave(&mut out);
        }
        if number >= leaves_after {
            left.extend(out.drain(..));
        }
        request.push(piece, &mut out);
        request.check(models)?;
    }
    request.end(&mut out);
    request.check_whole(models)?;
    left.extend(out);
    Ok((String::from_utf8(left.concat()).unwrap(), request.was_asked()))
}

/// In whatever pieces it comes, with nothing sent before its end.
fn becomes(before: &str, after: &str) {
    for pieces in cuts(before.as_bytes()) {
        let (text, asked) = sent(&pieces, &all(), usize::MAX).unwrap();
        assert_eq!(text, after);
        assert_eq!(asked, before != after);
    }
}

#[test]
fn case_82_a_stream_is_asked_for_its_usage() {
    becomes(
        r#"{"model":"m","stream":true,"messages":[{"content":"}"}]}"#,
        r#"{"model":"m","stream":true,"messages":[{"content":"}"}],"stream_options":{"include_usage":true}}"#,
    );
    becomes(
        "{ \"stream\" : true }\n",
        "{ \"stream\" : true ,\"stream_options\":{\"include_usage\":true}}\n",
    );
    let asked = r#"{"stream_options":{"include_usage":true},"stream":true}"#;
    for before in [
        r#"{"stream_options":{"include_usage":false},"stream":true}"#,
        r#"{"stream_options":{},"stream":true}"#,
        r#"{"stream_options":null,"stream":true}"#,
        r#"{"stream_options":{"include_usage":null},"stream":true}"#,
    ] {
        becomes(before, asked);
    }
    becomes(
        r#"{"stream":true,"stream_options": {"chunk":[1,"}"]} ,"model":"m"}"#,
        r#"{"stream":true,"stream_options": {"chunk":[1,"}"],"include_usage":true} ,"model":"m"}"#,
    );
}

#[test]
fn nothing_else_is_changed() {
    let long = format!(r#"{{"stream":true,"stream_options":{{"x":"{}"}}}}"#, "y".repeat(5000));
    for same in [
        r#"{"model":"m","messages":[]}"#,
        r#"{"model":"m","stream":false}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true, "x":1}}"#,
        r#"{"stream_options":null,"stream":false}"#,
        r#"{"stream_options":{"include_usage":false},"stream":false}"#,
        r#"{"stream":true,"stream_options":"x"}"#,
        r#"{"stream":true,"stream_options":7}"#,
        r#"{"stream":"maybe"}"#,
        "[1]",
        "null",
        "not json",
        "",
        r#"{"stream":true"#,
        r#"{"stream":true,"stream_options":{"#,
        r#"{"stream":true,"stream_options":{!}}"#,
    ] {
        becomes(same, same);
    }
    for pieces in cuts(long.as_bytes()).step_by(97) {
        assert_eq!(sent(&pieces, &all(), usize::MAX).unwrap(), (long.clone(), false));
    }
}

/// What has left cannot be changed: then it is decided with what is known.
#[test]
fn usage_is_asked_for_in_a_request_that_already_leaves() {
    let long = [
        r#"{"stream":true,"messages":["long"],"stream_options":{"a":1},"model":"m"}"#,
        r#"{"messages":["long"],"stream_options":{"a":1},"stream":true}"#,
        r#"{"messages":["long"],"model":"m","stream":true}"#,
    ];
    for before in long {
        for pieces in cuts(before.as_bytes()) {
            for leaves_after in 0..pieces.len() {
                let (text, asked) = sent(&pieces, &all(), leaves_after).unwrap();
                let request: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(request["stream_options"]["include_usage"], true, "{text}");
                assert!(asked);
            }
        }
    }
    // A null whose meaning comes too late passes; the stream's usage is estimated.
    let null = r#"{"stream_options":null,"stream":true}"#;
    let pieces: Vec<Bytes> = null.bytes().map(|byte| Bytes::copy_from_slice(&[byte])).collect();
    assert_eq!(sent(&pieces, &all(), 0).unwrap(), (null.to_owned(), false));
}

#[test]
fn what_is_there_twice_is_refused_for_every_key() {
    for (document, name) in [
        (r#"{"model":"a","model":"a"}"#, "model"),
        (r#"{"model":"a","mod\u0065l":"b"}"#, "model"),
        (r#"{"model":"a","x":[{}],"MODEL":"b"}"#, "model"),
        (r#"{"stream":true,"stream":false}"#, "stream"),
        (r#"{"stream_options":{},"stream":true,"stream_options":null}"#, "stream_options"),
        (r#"{"max_tokens":1,"x":{},"max_tokens":2}"#, "max_tokens"),
        (r#"{"n":1,"N":2}"#, "n"),
    ] {
        for pieces in cuts(document.as_bytes()) {
            let refused = sent(&pieces, &all(), 0);
            assert!(matches!(refused, Err(Refusal::Repeated(of)) if of == name), "{document}");
        }
    }
}

/// What a request asks for, of whatever pieces it is made.
#[test]
fn how_long_an_answer_may_be_is_read() {
    let most = MOST_TOKENS;
    for (document, tokens, answers) in [
        (r#"{"model":"m","messages":[{"max_tokens":7,"n":7}]}"#, None, 1),
        (r#"{"max_tokens":7}"#, Some(7), 1),
        (r#"{"max_tokens":7,"max_completion_tokens": 90 ,"n":3}"#, Some(90), 3),
        (r#"{"n":2,"best_of":5,"max_output_tokens":8}"#, Some(8), 5),
        (r#"{"max\u005ftokens":7}"#, Some(7), 1),
        (r#"{"MAX_TOKENS":7}"#, Some(most), 1),
        (r#"{"max_tokens":-7,"n":"4"}"#, Some(most), MOST_ANSWERS),
        (r#"{"max_tokens":1e999,"n":0}"#, Some(most), 1),
        (r#"{"max_tokens":null}"#, None, 1),
        (r#"{"max_tokens":                                      [[7]]}"#, Some(most), 1),
        (r#"{"max_tokens":000000000000000000000000000000000000000}"#, Some(most), 1),
        // The rest of the number has not come.
        (r#"{"max_tokens":12"#, Some(most), 1),
        (r#"{"max_tokens":12,"#, Some(12), 1),
        ("not json", None, 1),
    ] {
        for pieces in cuts(document.as_bytes()) {
            let mut request = JsonRequest::new(false);
            pieces.iter().for_each(|piece| request.push(piece, &mut VecDeque::new()));
            assert_eq!(request.most(), Most { tokens, answers }, "{document}");
        }
    }
}

/// Each prompt of a list is answered, and each by so many answers. A list of numbers is the tokens of one prompt.
#[test]
fn how_many_prompts_there_are_is_counted() {
    for (document, answers) in [
        (r#"{"prompt":"one, [\"two\"]"}"#, 1),
        (r#"{"prompt":[]}"#, 1),
        (r#"{"prompt":null}"#, 1),
        (r#"{"prompt":["one"]}"#, 1),
        (r#"{"prompt":["one" , "two",""]}"#, 3),
        (r#"{"prompt":[1,-2, 3e1]}"#, 1),
        (r#"{"prompt":[[1,2],[3],[]]}"#, 3),
        (r#"{"prompt":[true,null,1,"x",2]}"#, 4),
        (r#"{"prompt":[["a","b",["c"]],{"d":["e","f"]}]}"#, 2),
        (r#"{"prompt":{"id":"p","variables":["a","b"]}}"#, 1),
        (r#"{"n":2,"prompt":["a","b","c"],"best_of":5}"#, 15),
        (r#"{"prompt":["a","b"],"prompt_embeds":["AA==","AA==","AA=="]}"#, 5),
        (r#"{"pr\u006fmpt":["a","b"]}"#, 2),
        (r#"{"Prompt":["a"]}"#, MOST_ANSWERS),
        (r#"{"messages":[{"prompt":["a","b"]}],"input":["a","b"]}"#, 1),
        // The rest of the list has not come.
        (r#"{"prompt":["a","b"#, 2),
    ] {
        for pieces in cuts(document.as_bytes()) {
            let mut request = JsonRequest::new(false);
            pieces.iter().for_each(|piece| request.push(piece, &mut VecDeque::new()));
            assert_eq!(request.most(), Most { tokens: None, answers }, "{document}");
        }
    }
}

/// A prompt that goes on and on keeps nothing that stands before it from being known.
#[test]
fn what_stands_before_a_long_prompt_is_known_while_it_comes() {
    let mut request = JsonRequest::new(true);
    let begin = Bytes::from_static(br#"{"model":"other","stream":false,"prompt":["a long"#);
    request.push(&begin, &mut VecDeque::new());
    assert!(matches!(request.check(&only(&["a"])), Err(Refusal::ModelNotAllowed)));
    assert!(!request.may_grow(), "no stream: nothing is put in");
}

#[test]
fn a_key_without_a_list_may_name_as_many_as_the_upstream_takes() {
    let detour = r#"{"model":"a","models":["b"],"fallbacks":["c"],"extra_body":{"model":"d"}}"#;
    becomes(detour, detour);
}

#[test]
fn only_models_of_the_list_go_on() {
    let models = only(&["a", "b/c"]);
    for good in [
        r#"{"model":"a"}"#,
        r#"{"x":1,"model":"b\/c","y":[]}"#,
        r#"{"model":"\u0061"}"#,
        r#"{"model":"a","models":[],"fallbacks":null,"messages":[{"models":["x"]}]}"#,
    ] {
        for pieces in cuts(good.as_bytes()) {
            assert!(sent(&pieces, &models, 0).is_ok(), "{good}");
        }
    }
    for bad in [
        r#"{"model":"x"}"#,
        r#"{"model":"A"}"#,
        r#"{"model":"a "}"#,
        r#"{"model":"x""#,
        r#"{"model":"a\u0000"}"#,
    ] {
        for pieces in cuts(bad.as_bytes()) {
            let refused = sent(&pieces, &models, 0);
            assert!(matches!(refused, Err(Refusal::ModelNotAllowed)), "{bad}");
        }
    }
    let long = format!(r#"{{"model":"{}"}}"#, "a".repeat(5000));
    for unclear in [
        r#"{"messages":[]}"#,
        r#"{"Model":"a"}"#,
        r#"{"model":["a"]}"#,
        r#"{"model":null}"#,
        r#"{"model":"\ud800"}"#,
        r#"{"model":"a""#,
        r#"{"model":"a"},"#,
        r#"{"messages":[{"model":"a"}]}"#,
        r#"{"model":"a","models":["a","x"]}"#,
        r#"{"model":"a","Models":["x"]}"#,
        r#"{"model":"a","x":1,"fallbacks":[{"model":"x"}]}"#,
        r#"{"fallb\u0061cks":"x","model":"a"}"#,
        r#"{"model":"a","extra_body":{"model":"x"}}"#,
        r#"[{"model":"a"}]"#,
        "",
        "model=a",
        "\u{feff}{\"model\":\"a\"}",
        &long,
    ] {
        for pieces in cuts(unclear.as_bytes()).step_by(1 + unclear.len() / 64) {
            let refused = sent(&pieces, &models, 0);
            assert!(matches!(refused, Err(Refusal::ModelUnknown(_))), "{unclear:.40}");
        }
    }
}
