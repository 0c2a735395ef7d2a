//! Multipart requests.

use proptest::prelude::*;

use super::{all, cuts, only};
use crate::error::Refusal;
use crate::openai::access::Models;
use crate::openai::multipart::MultipartRequest;

const TYPE: &str = "multipart/form-data; boundary=----x-y";

fn field(name: &str, value: &str) -> String {
    format!("------x-y\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn file(bytes: &[u8]) -> Vec<u8> {
    let head = "------x-y\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n";
    [head.as_bytes(), bytes, b"\r\n"].concat()
}

const END: &str = "------x-y--\r\n";

fn read(pieces: &[impl AsRef<[u8]>], content_type: &str) -> MultipartRequest {
    let mut request = MultipartRequest::new(Some(content_type));
    for piece in pieces {
        request.push(piece.as_ref());
    }
    request
}

fn refused(body: &[u8], models: &Models) -> Result<(), Refusal> {
    read(&[body], TYPE).check_whole(models)
}

#[test]
fn case_83_model_and_audio_are_found_wherever_the_body_is_cut() {
    // What looks like a delimiter and is none.
    let audio = b"\r\n------x-\r\n-----\r\n--\r--\n----\r\n-\r\n------";
    let model = field("model", "whisper-large-v3").into_bytes();
    for (body, length) in [
        ([model.clone(), file(audio), END.into()].concat(), audio.len()),
        (
            [file(audio), field("prompt", "").into_bytes(), model.clone(), END.into()].concat(),
            audio.len(),
        ),
        ([file(b""), model, b"------x-y--".to_vec()].concat(), 0),
    ] {
        for pieces in cuts(&body) {
            let request = read(&pieces, TYPE);
            assert_eq!(request.named().as_deref(), Some("whisper-large-v3"));
            assert_eq!(request.audio(), Some(length as u64));
            request.check_whole(&only(&["whisper-large-v3"])).unwrap();
            assert!(matches!(
                request.check_whole(&only(&["other"])),
                Err(Refusal::ModelNotAllowed)
            ));
        }
    }
}

#[test]
fn boundaries_are_read_as_they_are_written() {
    let body = "--b\r\ncontent-disposition: FORM-DATA; name=model\r\n\r\nm\r\n--b--";
    for good in
        ["multipart/form-data; boundary=b", "Multipart/Form-Data;charset=utf-8; Boundary=\"b\""]
    {
        assert_eq!(read(&[body], good).named().as_deref(), Some("m"), "{good}");
    }
    for bad in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=b; boundary=c",
        "multipart/mixed; boundary=b",
        "application/json",
        "multipart/form-data; boundary=b\u{e4}",
    ] {
        assert_eq!(read(&[body], bad).named(), None, "{bad}");
    }
}

/// Each of these means one thing to one reader and another to the next.
#[test]
fn what_can_be_read_in_two_ways_is_given_up() {
    let model = |value: &str| field("model", value);
    let part = |head: &str, value: &str| format!("------x-y\r\n{head}\r\n\r\n{value}\r\n");
    let bodies = [
        // Two models.
        [&model("a"), &model("b"), END].concat(),
        [&model("a"), &field("Model", "b"), END].concat(),
        [&field("MODEL", "b"), &model("a"), END].concat(),
        // Names in other forms.
        [&model("a"), &part("Content-Disposition: form-data; name*=utf-8''model", "b"), END].concat(),
        [&model("a"), &part("Content-Disposition: form-data; name=\"x\"; name=\"model\"", "b"), END].concat(),
        [&model("a"), &part("Content-Disposition: form-data; name=\"mod\\el\"", "b"), END].concat(),
        [&model("a"), &part("Content-Disposition: form-data; filename=\"a\\\"; name=\"model\"", "b"), END].concat(),
        [&model("a"), &part("Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"", "b"), END].concat(),
        [&model("a"), &part("Content-Disposition: form-data;\r\n name=\"model\"", "b"), END].concat(),
        [&model("a"), &part("Content-Disposition : form-data; name=\"model\"", "b"), END].concat(),
        [&model("a"), &part("X: y\nContent-Disposition: form-data; name=\"model\"", "b"), END].concat(),
        [&model("a"), &part("Content-Type: text/plain", "b"), END].concat(),
        [&part("Content-Disposition: form-data; name=\"model\"; filename=\"m\"", "a"), END].concat(),
        // Delimiters that are not quite.
        [&model("a"), "------x-y \r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nb\r\n", END].concat(),
        [&field("x", &format!("y\n{}", model("b"))), &model("a"), END].concat(),
        [&field("x", "y------x-y"), &model("a"), END].concat(),
        [&model("a"), &field("x", &format!("y\r\n-{}", field("z", "b").trim_end())), END].concat(),
        [&model("a"), &field("x", &format!("y\r\n--{}", field("z", "b").trim_end())), END].concat(),
        [&model("a"), END, &model("b"), END].concat(),
        [&model("a"), "------x-y--x"].concat(),
        ["preamble\r\n", &model("a"), END].concat(),
        ["\r\n", &model("a"), END].concat(),
        // No end, or nothing.
        model("a"),
        String::new(),
        END.to_owned(),
        [&field("x", "y"), END].concat(),
        // A model that is none.
        [&model(&"a".repeat(257)), END].concat(),
    ];
    for body in bodies {
        for pieces in cuts(body.as_bytes()).step_by(3) {
            assert!(read(&pieces, TYPE).check_whole(&only(&["a"])).is_err(), "{body}");
        }
    }
}

#[test]
fn a_key_for_all_models_sends_what_it_wants_but_two_models() {
    for body in ["", "x", END, &field("x", "y"), "\u{0}\u{1}"] {
        refused(body.as_bytes(), &all()).unwrap();
    }
    let twice = [field("model", "a"), field("model", "a"), END.to_owned()].concat();
    assert!(matches!(refused(twice.as_bytes(), &all()), Err(Refusal::Repeated("model"))));
    let lost = read(&[&[b"x".to_vec(), file(b"abc"), END.into()].concat()], TYPE);
    assert_eq!(lost.audio(), None, "what was given up has no length");
}

proptest! {
    #[test]
    fn any_audio_has_its_length(audio in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'-'), Just(b'\r'), Just(b'\n'), Just(b'x'), Just(b'y')], 0..200), size in 1_usize..40) {
        let delimiter = b"------x-y";
        prop_assume!(!audio.windows(delimiter.len()).any(|window| window == delimiter));
        let body = [field("model", "m").into_bytes(), file(&audio), END.into()].concat();
        let pieces: Vec<&[u8]> = body.chunks(size).collect();
        let request = read(&pieces, TYPE);
        // The line end behind the content may complete what looks like a delimiter within it: then there is none.
        if request.check_whole(&only(&["m"])).is_ok() {
            prop_assert_eq!(request.audio(), Some(audio.len() as u64));
        } else {
            prop_assert!(audio.windows(4).any(|window| window == b"----"));
        }
    }

    #[test]
    fn anything_can_be_sent(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8)) {
        read(&pieces, TYPE);
    }
}
