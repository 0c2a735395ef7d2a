//! What senders write, and what it becomes.

use opentelemetry_proto::tonic::logs::v1::LogsData;
use prost::Message as _;
use serde_json::{Value, json};

use super::*;
use crate::lines::encode;
use crate::lines::tests::{whole_logs, whole_metrics, whole_traces};
use crate::otlp::Signal;

fn text(signal: Signal, message: &[u8]) -> String {
    let lines = encode(signal, message, None).ok().unwrap();
    String::from_utf8(lines.text.to_vec()).unwrap()
}

fn wire(json: &Value) -> Result<Zeroizing<Vec<u8>>, Refused> {
    to_wire(Kind::LogsRequest, json.to_string().as_bytes())
}

/// The one record, with this in it, as it comes out.
fn record(record: &Value) -> Result<Value, Refused> {
    let wire = wire(&json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}))?;
    let lines = encode(Signal::Logs, &wire, None)?;
    let document: Value = serde_json::from_slice(&lines.text).unwrap();
    Ok(document.pointer("/resourceLogs/0/scopeLogs/0/logRecords/0").unwrap().clone())
}

#[test]
fn what_was_written_here_is_read_here() {
    for (signal, message) in [
        (Signal::Logs, whole_logs().encode_to_vec()),
        (Signal::Traces, whole_traces().encode_to_vec()),
        (Signal::Metrics, whole_metrics().encode_to_vec()),
    ] {
        let written = text(signal, &message);
        let again = to_wire(signal.request(), written.as_bytes()).ok().unwrap();
        assert_eq!(text(signal, &again), written, "{signal:?}");
    }
}

#[test]
fn another_implementation_reads_what_came_as_json() {
    let json = serde_json::to_vec(&whole_logs()).unwrap();
    let wire = to_wire(Kind::LogsRequest, &json).ok().unwrap();
    assert_eq!(LogsData::decode(wire.as_slice()).unwrap(), whole_logs());
}

#[test]
fn what_the_specification_leaves_to_senders_is_taken_in_every_form() {
    let same = |one: Value, other: Value| {
        assert_eq!(record(&one).ok().unwrap(), record(&other).ok().unwrap(), "{one}");
    };
    let time = "1700000000123456789";
    same(json!({"timeUnixNano": 1_700_000_000_123_456_789_u64}), json!({"timeUnixNano": time}));
    same(json!({"time_unix_nano": time}), json!({"timeUnixNano": time}));
    same(json!({"flags": "1", "severityNumber": 9.0}), json!({"flags": 1, "severityNumber": 9}));
    same(json!({"traceId": "AB"}), json!({"traceId": "ab"}));
    same(json!({"body": null, "severityText": null, "attributes": null}), json!({}));
    same(json!({"unknown": [{"deep": {}}], "also": null}), json!({}));
    let body = |value| json!({"body": value});
    same(body(json!({"intValue": -5})), body(json!({"intValue": "-5"})));
    same(body(json!({"doubleValue": 3})), body(json!({"doubleValue": 3.0})));
    same(body(json!({"doubleValue": "0.5"})), body(json!({"doubleValue": 0.5})));
    same(body(json!({"bytesValue": "_-8"})), body(json!({"bytesValue": "/+8="})));
    for kept in [
        body(json!({"doubleValue": "NaN"})),
        body(json!({"doubleValue": "-Infinity"})),
        body(json!({"stringValue": ""})),
        body(json!({"boolValue": false})),
        body(json!({"intValue": "0"})),
        body(json!({"arrayValue": {}})),
        body(json!({"kvlistValue": {"values": [{"key": "k", "value": {}}]}})),
        body(json!({})),
        body(json!({"stringValue": "\u{1}\"\\\u{1f600}"})),
        json!({"flags": 0, "traceId": ""}),
    ] {
        assert_eq!(record(&kept).ok().unwrap(), kept);
    }
}

#[test]
fn what_is_no_such_message_is_refused() {
    for bad in [
        json!({"timeUnixNano": "-1"}),
        json!({"timeUnixNano": 0.5}),
        json!({"timeUnixNano": "soon"}),
        json!({"timeUnixNano": "18446744073709551616"}),
        json!({"severityNumber": "SEVERITY_NUMBER_INFO"}),
        json!({"severityText": 5}),
        json!({"severityText": ["a"]}),
        json!({"traceId": "a"}),
        json!({"traceId": "0x"}),
        json!({"body": "text"}),
        json!({"body": [{}]}),
        json!({"body": {"boolValue": "true"}}),
        json!({"body": {"bytesValue": "?"}}),
        json!({"body": {"doubleValue": "inf"}}),
        json!({"body": {"stringValue": "a", "intValue": "1"}}),
        json!({"attributes": {"key": "k"}}),
        json!({"attributes": [null]}),
        json!({"attributes": [[]]}),
        json!(null),
        json!("text"),
    ] {
        assert_eq!(record(&bad).err(), Some(Refused::Malformed), "{bad}");
    }
    for bad in ["", "{", "[]", "null", "{} {}", "{\"resourceLogs\":{}}", "{\"a\":\u{1}}", "{'a':1}"]
    {
        let refused = to_wire(Kind::LogsRequest, bad.as_bytes()).err();
        assert_eq!(refused, Some(Refused::Malformed), "{bad}");
    }
    let no_utf8 = b"{\"resourceLogs\":[{\"schemaUrl\":\"\xff\"}]}";
    assert_eq!(to_wire(Kind::LogsRequest, no_utf8).err(), Some(Refused::Malformed));
    let twice = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"flags":1,"flags":2}]}]}]}"#;
    let wire = to_wire(Kind::LogsRequest, twice).ok().unwrap();
    assert_eq!(encode(Signal::Logs, &wire, None).err(), Some(Refused::Malformed));
}

#[test]
fn lists_of_numbers_are_lists_of_numbers() {
    let metric = |point: Value| {
        let histogram = json!({"histogram": {"dataPoints": [point]}});
        json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [histogram]}]}]})
    };
    let whole = metric(json!({"bucketCounts": ["1", 0], "explicitBounds": [0.5, "Infinity", 3]}));
    let wire = to_wire(Kind::MetricsRequest, whole.to_string().as_bytes()).ok().unwrap();
    let expected =
        metric(json!({"bucketCounts": ["1", "0"], "explicitBounds": [0.5, "Infinity", 3.0]}));
    let document: Value = serde_json::from_str(&text(Signal::Metrics, &wire)).unwrap();
    assert_eq!(document, expected);
    for bad in [json!({"bucketCounts": "1"}), json!({"bucketCounts": [null]})] {
        let refused = to_wire(Kind::MetricsRequest, metric(bad).to_string().as_bytes()).err();
        assert_eq!(refused, Some(Refused::Malformed));
    }
}

#[test]
fn what_nests_too_deep_or_grows_too_long_is_refused() {
    let mut body = json!({"boolValue": true});
    for _ in 1..24 {
        body = json!({"kvlistValue": {"values": [{"key": "k", "value": body}]}});
    }
    assert!(record(&json!({"body": body})).is_ok());
    let deeper = json!({"arrayValue": {"values": [body]}});
    assert_eq!(record(&json!({"body": deeper})).err(), Some(Refused::TooDeep(24)));

    let brackets = ["[".repeat(100_000), "]".repeat(100_000)].concat();
    let unknown = format!("{{\"unknown\":{brackets}}}");
    assert!(to_wire(Kind::LogsRequest, unknown.as_bytes()).is_ok_and(|wire| wire.is_empty()));

    // two bytes of JSON each, eight on the wire
    let counts = vec!["0"; lines::MAX / 8].join(",");
    let head = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[{"#;
    let long = format!("{head}\"bucketCounts\":[{counts}]}}]}}}}]}}]}}]}}");
    let refused = to_wire(Kind::MetricsRequest, long.as_bytes()).err();
    assert_eq!(refused, Some(Refused::TooMuch));
}
