//! The reader of JSON objects.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::cuts;
use crate::openai::json::Wanted;
use crate::openai::members::{Members, Value};

static WANTED: [Wanted; 4] = [
    Wanted::top("model", 64),
    Wanted::top("usage", 64),
    Wanted::of("response", "usage", 64),
    Wanted::top("stream", 8),
];

fn read(pieces: &[impl AsRef<[u8]>]) -> Members<4> {
    let mut members = Members::new(&WANTED);
    for piece in pieces {
        members.feed(piece.as_ref());
    }
    members
}

fn raw(text: &str) -> Value {
    Value::Raw(text.as_bytes().to_vec())
}

/// What each wanted member is, in whatever pieces the document comes.
fn check(document: &str, expected: &[Value; 4]) {
    for pieces in cuts(document.as_bytes()) {
        let members = read(&pieces);
        assert!(members.scanner().is_complete(), "{document}");
        assert_eq!(members.scanner().repeated(), None, "{document}");
        for (index, expected) in expected.iter().enumerate() {
            assert_eq!(members.value(index), expected, "{document}");
        }
    }
}

const NO: Value = Value::Absent;

#[test]
fn members_are_found_wherever_the_document_is_cut() {
    check(r#"{"model":"gpt-oss-120b"}"#, &[raw(r#""gpt-oss-120b""#), NO, NO, NO]);
    check(
        " {\r\n\t\"usage\" : {\"a\": [1, {\"b\": null}]} , \"stream\":true,\"model\":-1.5e+3 } \n",
        &[raw("-1.5e+3"), raw("{\"a\": [1, {\"b\": null}]}"), NO, raw("true")],
    );
    check("{}", &[NO, NO, NO, NO]);
    check(r#"{"stream":false}"#, &[NO, NO, NO, raw("false")]);
    check(r#"{"mod\u0065l":"\u0061\"\\"}"#, &[raw(r#""\u0061\"\\""#), NO, NO, NO]);
    check(r#"{"\u006D\u006f\u0064el":null}"#, &[raw("null"), NO, NO, NO]);
    let nested = r#"{"response":{"model":"x","usage":{"n":1},"o":{"usage":2}},"choices":[{"model":"y","usage":3}]}"#;
    check(nested, &[NO, NO, raw(r#"{"n":1}"#), NO]);
    check(r#"{"response":[{"usage":1}],"other":{"usage":2}}"#, &[NO, NO, NO, NO]);
    check(r#"{"response":7,"other":{"usage":2}}"#, &[NO, NO, NO, NO]);
    check(r#"{"text":"{\"model\":\"x\"}","modelx":"y","mode":"z"}"#, &[NO, NO, NO, NO]);
}

#[test]
fn what_is_longer_than_its_limit_is_not_kept() {
    let long = format!(r#"{{"model":"{}","stream":true}}"#, "m".repeat(63));
    check(&long, &[Value::TooLong, NO, NO, raw("true")]);
    let name = format!(r#"{{"{}":1,"stream":true}}"#, "n".repeat(100_000));
    assert_eq!(read(&[name]).value(3), &raw("true"));
}

#[test]
fn a_repetition_is_seen_in_whatever_spelling() {
    for document in [
        r#"{"model":"a","model":"b"}"#,
        r#"{"model":"a","x":{"y":[]},"mod\u0065l":"a"}"#,
        r#"{"Model":"a","model":"b"}"#,
        r#"{"model":"a","MODEL":"b"}"#,
        r#"{"model":"a","model":"#,
    ] {
        for pieces in cuts(document.as_bytes()) {
            assert_eq!(read(&pieces).scanner().repeated(), Some(0), "{document}");
        }
    }
    let nested = r#"{"model":"a","x":{"model":"b","model":"c"}}"#;
    assert_eq!(read(&[nested]).scanner().repeated(), None);
}

#[test]
fn what_is_not_one_json_object_is_given_up() {
    let deep = [r#"{"a":"#, &"[".repeat(20_000), &"]".repeat(20_000), "}"].concat();
    for document in [
        "[1]",
        "\"x\"",
        "null",
        "7",
        "{'model':'x'}",
        "{model:\"x\"}",
        r#"{"model":"x",}"#,
        r#"{"a":1 /*,"model":"y"*/,"model":"x"}"#,
        "{\"a\":1,//\n\"model\":\"x\"}",
        r#"{"a":[1,]}"#,
        r#"{"a":[}"#,
        r#"{"a":{]}"#,
        r#"{"a" 1}"#,
        r#"{"a":1 2}"#,
        r#"{"a":NaN}"#,
        r#"{"a":nul}"#,
        r#"{"a":"\x41"}"#,
        r#"{"mod\u006l":"x"}"#,
        r#"{"a":1}{"model":"x"}"#,
        r#"{"a":1}x"#,
        r#"{"model\u0000":"x"}"#,
        "\u{feff}{\"model\":\"x\"}",
        &deep,
    ] {
        for pieces in cuts(document.as_bytes()).take(200) {
            assert!(read(&pieces).scanner().is_broken(), "{document:.40}");
        }
    }
    for bytes in [
        &b"\x1f\x8b\x08\x00"[..],
        b"{\0\"\0m\0",
        b"\0{\0\"",
        b"\xff\xfe{\0",
        b"{\"mod\xffel\":\"x\"}",
    ] {
        assert!(read(&[bytes]).scanner().is_broken(), "{bytes:?}");
    }
    for cut in ["", "{", r#"{"model":"x""#, r#"{"a":"#] {
        let members = read(&[cut]);
        assert!(!members.scanner().is_complete() && !members.scanner().is_broken(), "{cut}");
    }
}

#[test]
fn a_value_that_breaks_off_is_none() {
    let members = read(&[r#"{"usage":{"a":!"#]);
    assert_eq!(members.value(1), &NO);
    let members = read(&[r#"{"usage":{"a":1"#]);
    assert_eq!(members.value(1).read::<Json>(), None);
}

/// Any JSON, with names that are ours or nearly.
fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        let name = prop_oneof![Just("model".to_owned()), Just("usage".to_owned()), any::<String>()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Json::from),
            prop::collection::vec((name, inner), 0..8).prop_map(|pairs| {
                let unique = |name: &String| {
                    !["model", "usage", "response", "stream"]
                        .iter()
                        .any(|own| name != own && name.eq_ignore_ascii_case(own))
                };
                Json::Object(
                    pairs
                        .into_iter()
                        .filter(|(name, _)| unique(name) && !name.contains('\0'))
                        .collect(),
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn it_reads_what_serde_reads(members in prop::collection::vec(any_json(), 3), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
        let document = json!({"x": members[0], "model": members[1], "response": {"usage": members[2]}});
        let text = document.to_string();
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        places.extend([0, text.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
        let found = read(&pieces);
        prop_assert!(found.scanner().is_complete());
        for (index, value) in [(0, &document["model"]), (2, &document["response"]["usage"])] {
            let text = value.to_string();
            if text.len() <= 64 {
                prop_assert_eq!(found.value(index).raw().unwrap(), text.as_bytes());
            } else {
                prop_assert_eq!(found.value(index), &Value::TooLong);
            }
        }
    }

    #[test]
    fn it_takes_for_an_object_what_others_take_for_one(text in r#"[{}\[\]":,\\a-f0-9u ]{0,24}"#) {
        let text = format!("{{{text}}}");
        let members = read(&[&text]);
        if serde_json::from_str::<Json>(&text).is_ok() {
            prop_assert!(members.scanner().is_complete());
        }
    }

    #[test]
    fn it_takes_anything(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..32), 0..8)) {
        read(&pieces);
    }
}
