//! Messages as other implementations encode them, and what becomes of them.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, LogsData, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, MetricsData, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    Summary, SummaryDataPoint, exemplar, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, TracesData};
use prost::Message as _;
use serde_json::{Value as Json, json};

use super::*;

const SECOND: u64 = NANOSECONDS;

fn value(value: Value) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

fn attribute(key: &str, of: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: value(of), ..Default::default() }
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn of_service(name: &str) -> Option<Resource> {
    let attributes = vec![attribute("service.name", text(name))];
    Some(Resource { attributes, ..Default::default() })
}

fn resource(name: &str, log_records: Vec<LogRecord>) -> ResourceLogs {
    ResourceLogs {
        resource: of_service(name),
        scope_logs: vec![ScopeLogs { log_records, ..Default::default() }],
        ..Default::default()
    }
}

fn logs(resource_logs: Vec<ResourceLogs>) -> Vec<u8> {
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

fn one(record: LogRecord) -> Vec<u8> {
    logs(vec![resource("s", vec![record])])
}

fn lines(signal: Signal, message: &[u8]) -> (Vec<String>, Counts, Option<(u64, u64)>) {
    let lines = encode(signal, message, None).ok().unwrap();
    let text = std::str::from_utf8(&lines.text).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    (text.lines().map(str::to_owned).collect(), lines.counts, lines.times)
}

fn document(message: &[u8]) -> Json {
    serde_json::from_str(&lines(Signal::Logs, message).0[0]).unwrap()
}

/// One attribute of each kind.
fn attributes() -> Vec<KeyValue> {
    let inner = vec![AnyValue { value: Some(Value::IntValue(1)) }, AnyValue::default()];
    vec![
        attribute("text", text("a \"b\" \\ \n \u{1} \u{e4}\u{1f600}")),
        attribute("int", Value::IntValue(i64::MIN)),
        attribute("bytes", Value::BytesValue(vec![0xff, 0])),
        attribute("bool", Value::BoolValue(false)),
        attribute("double", Value::DoubleValue(0.5)),
        attribute("list", Value::ArrayValue(ArrayValue { values: inner })),
        attribute(
            "map",
            Value::KvlistValue(KeyValueList { values: vec![attribute("k", text(""))] }),
        ),
    ]
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "library".into(),
        version: "1.2".into(),
        attributes: attributes(),
        dropped_attributes_count: 1,
    })
}

fn whole_resource() -> Option<Resource> {
    Some(Resource {
        attributes: attributes(),
        dropped_attributes_count: 7,
        entity_refs: vec![EntityRef {
            schema_url: "u".into(),
            r#type: "t".into(),
            id_keys: vec!["a".into(), "b".into()],
            description_keys: vec!["c".into()],
        }],
    })
}

/// Every field of a log record.
pub(crate) fn whole_logs() -> LogsData {
    let record = LogRecord {
        time_unix_nano: 1_700_000_000_123_456_789,
        observed_time_unix_nano: 1_800_000_000_000_000_001,
        severity_number: 9,
        severity_text: "INFO".into(),
        body: value(text("said")),
        attributes: attributes(),
        dropped_attributes_count: 3,
        flags: 1,
        trace_id: vec![0xab; 16],
        span_id: vec![1; 8],
        event_name: "event".into(),
    };
    let scope_logs = vec![ScopeLogs {
        scope: scope(),
        log_records: vec![record, LogRecord::default()],
        schema_url: "s".into(),
    }];
    let resource = whole_resource();
    LogsData { resource_logs: vec![ResourceLogs { resource, scope_logs, schema_url: "r".into() }] }
}

/// Every field of a span.
pub(crate) fn whole_traces() -> TracesData {
    let span = Span {
        trace_id: vec![0x0a; 16],
        span_id: vec![0xbc; 8],
        trace_state: "k=v".into(),
        parent_span_id: vec![2; 8],
        flags: 0x101,
        name: "GET /".into(),
        kind: 2,
        start_time_unix_nano: 1_700_000_001 * SECOND + 1,
        end_time_unix_nano: 1_700_000_002 * SECOND + 2,
        attributes: attributes(),
        dropped_attributes_count: 1,
        events: vec![Event {
            time_unix_nano: 5,
            name: "e".into(),
            attributes: attributes(),
            dropped_attributes_count: 1,
        }],
        dropped_events_count: 2,
        links: vec![Link {
            trace_id: vec![3; 16],
            span_id: vec![4; 8],
            trace_state: "x=y".into(),
            attributes: attributes(),
            dropped_attributes_count: 1,
            flags: 1,
        }],
        dropped_links_count: 3,
        status: Some(Status { message: "no".into(), code: 2 }),
    };
    let scope_spans =
        vec![ScopeSpans { scope: scope(), spans: vec![span], schema_url: "s".into() }];
    let resource = whole_resource();
    TracesData {
        resource_spans: vec![ResourceSpans { resource, scope_spans, schema_url: "r".into() }],
    }
}

fn number(value: number_data_point::Value) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(),
        start_time_unix_nano: SECOND,
        time_unix_nano: 1_700_000_000 * SECOND,
        exemplars: vec![Exemplar {
            filtered_attributes: attributes(),
            time_unix_nano: 9,
            span_id: vec![1; 8],
            trace_id: vec![2; 16],
            value: Some(exemplar::Value::AsInt(-4)),
        }],
        flags: 1,
        value: Some(value),
    }
}

/// Every kind of metric, and every field of each.
pub(crate) fn whole_metrics() -> MetricsData {
    let points =
        [number_data_point::Value::AsInt(-7), number_data_point::Value::AsDouble(1.25)].map(number);
    let histogram = HistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano: SECOND,
        time_unix_nano: 1_700_000_005 * SECOND,
        count: 3,
        sum: Some(2.5),
        bucket_counts: vec![1, 0, 2],
        explicit_bounds: vec![0.5, 10.0],
        exemplars: vec![],
        flags: 1,
        min: Some(0.25),
        max: Some(11.0),
    };
    let buckets = |offset| Some(Buckets { offset, bucket_counts: vec![300, 0, 1] });
    let exponential = ExponentialHistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano: SECOND,
        time_unix_nano: 1_700_000_001 * SECOND,
        count: 301,
        sum: Some(-2.5),
        scale: -3,
        zero_count: 1,
        positive: buckets(-2),
        negative: buckets(2),
        flags: 1,
        exemplars: vec![],
        min: Some(-1.0),
        max: Some(1.0),
        zero_threshold: 0.125,
    };
    let summary = SummaryDataPoint {
        attributes: attributes(),
        start_time_unix_nano: SECOND,
        time_unix_nano: 1_700_000_001 * SECOND,
        count: 2,
        sum: 3.5,
        quantile_values: vec![ValueAtQuantile { quantile: 0.5, value: 1.5 }],
        flags: 1,
    };
    let data = [
        Data::Gauge(Gauge { data_points: points.to_vec() }),
        Data::Sum(Sum {
            data_points: points.to_vec(),
            aggregation_temporality: 2,
            is_monotonic: true,
        }),
        Data::Histogram(Histogram { data_points: vec![histogram], aggregation_temporality: 2 }),
        Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![exponential],
            aggregation_temporality: 1,
        }),
        Data::Summary(Summary { data_points: vec![summary] }),
    ];
    let metrics = data.map(|data| Metric {
        name: "n".into(),
        description: "d".into(),
        unit: "s".into(),
        metadata: attributes(),
        data: Some(data),
    });
    let scope_metrics =
        vec![ScopeMetrics { scope: scope(), metrics: metrics.into(), schema_url: "s".into() }];
    let resource = whole_resource();
    MetricsData {
        resource_metrics: vec![ResourceMetrics { resource, scope_metrics, schema_url: "r".into() }],
    }
}

#[test]
fn another_implementation_reads_every_field_of_every_message() {
    let [logs, traces, metrics] = [
        (Signal::Logs, whole_logs().encode_to_vec()),
        (Signal::Traces, whole_traces().encode_to_vec()),
        (Signal::Metrics, whole_metrics().encode_to_vec()),
    ]
    .map(|(signal, message)| lines(signal, &message));
    assert_eq!(serde_json::from_str::<LogsData>(&logs.0[0]).unwrap(), whole_logs());
    assert_eq!(serde_json::from_str::<TracesData>(&traces.0[0]).unwrap(), whole_traces());
    assert_eq!(serde_json::from_str::<MetricsData>(&metrics.0[0]).unwrap(), whole_metrics());
    assert_eq!(logs.1, Counts { records: 2, spans: 0, points: 0 });
    assert_eq!(traces.1, Counts { records: 0, spans: 1, points: 0 });
    assert_eq!(metrics.1, Counts { records: 0, spans: 0, points: 7 });
    assert_eq!(logs.2, Some((1_700_000_000, 1_700_000_000)));
    assert_eq!(traces.2, Some((1_700_000_001, 1_700_000_002)));
    assert_eq!(metrics.2, Some((1_700_000_000, 1_700_000_005)));
}

#[test]
fn each_resource_is_one_line_whatever_its_records_hold() {
    let record = |body: &str| LogRecord { body: value(text(body)), ..Default::default() };
    let message = logs(vec![
        resource("a", vec![record("two\nlines\r\n"), record("\u{2028}")]),
        resource("nothing", vec![]),
        resource("b", vec![record("x")]),
    ]);
    let (lines, counts, times) = lines(Signal::Logs, &message);
    assert_eq!((counts.records, times), (3, None));
    assert_eq!(lines.len(), 2);
    assert!(!lines.iter().any(|line| line.contains("nothing")));
    let body = "/resourceLogs/0/scopeLogs/0/logRecords/0/body/stringValue";
    assert_eq!(document(&message).pointer(body), Some(&json!("two\nlines\r\n")));
}

#[test]
fn when_a_record_was_observed_counts_where_nothing_says_when_it_happened() {
    let record = |happened, observed| LogRecord {
        time_unix_nano: happened * SECOND,
        observed_time_unix_nano: observed * SECOND,
        ..Default::default()
    };
    let times = |records| lines(Signal::Logs, &logs(vec![resource("s", records)])).2;
    assert_eq!(times(vec![record(5, 90), record(7, 90)]), Some((5, 7)));
    assert_eq!(times(vec![record(0, 6)]), Some((6, 6)));
    assert_eq!(times(vec![record(0, 0)]), None);
}

#[test]
fn the_encoding_is_the_one_of_otlp() {
    let record = LogRecord {
        time_unix_nano: 1_700_000_000_123_456_789,
        severity_number: 9,
        severity_text: "INFO".into(),
        trace_id: vec![0xab; 16],
        span_id: vec![1; 8],
        attributes: vec![
            attribute("int", Value::IntValue(i64::MIN)),
            attribute("bytes", Value::BytesValue(vec![0xff, 0])),
            attribute("bool", Value::BoolValue(false)),
            attribute("double", Value::DoubleValue(0.5)),
            attributes().remove(5),
            attribute("nan", Value::DoubleValue(f64::NAN)),
            attribute("infinite", Value::DoubleValue(f64::NEG_INFINITY)),
        ],
        ..Default::default()
    };
    let document = document(&one(record));
    let record = document.pointer("/resourceLogs/0/scopeLogs/0/logRecords/0").unwrap();
    assert_eq!(record["timeUnixNano"], "1700000000123456789");
    assert_eq!(record["severityNumber"], 9);
    assert_eq!(record["traceId"], "ab".repeat(16));
    assert_eq!(record["spanId"], "01".repeat(8));
    let expected = json!([
        {"key": "int", "value": {"intValue": "-9223372036854775808"}},
        {"key": "bytes", "value": {"bytesValue": "/wA="}},
        {"key": "bool", "value": {"boolValue": false}},
        {"key": "double", "value": {"doubleValue": 0.5}},
        {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "1"}, {}]}}},
        {"key": "nan", "value": {"doubleValue": "NaN"}},
        {"key": "infinite", "value": {"doubleValue": "-Infinity"}},
    ]);
    assert_eq!(record["attributes"], expected);
}

#[test]
fn what_is_not_known_is_passed_over_and_lists_may_come_in_parts() {
    let record = one(LogRecord { severity_text: "x".into(), ..Default::default() });
    let mut strange = vec![0x9a, 0x3f, 3, 1, 2, 3]; // field 1011
    strange.extend(&record);
    strange.extend([0xf8, 0x3f, 1]); // field 1023
    assert_eq!(document(&strange), document(&record));

    // a log record whose attributes are not next to each other: 6, 3, 6
    let message = |attribute: &[u8]| [&[0x32, 3, 0x0a, 1], attribute].concat();
    let record = [message(b"a"), vec![0x1a, 1, b'x'], message(b"b")].concat();
    let wrapped =
        |field: u8, inner: &[u8]| [&[field, u8::try_from(inner.len()).unwrap()], inner].concat();
    let request = wrapped(0x0a, &wrapped(0x12, &wrapped(0x12, &record)));
    let document = document(&request);
    let record = document.pointer("/resourceLogs/0/scopeLogs/0/logRecords/0").unwrap();
    let expected = json!({"attributes": [{"key": "a"}, {"key": "b"}], "severityText": "x"});
    assert_eq!(*record, expected);

    // numbers that are not packed: 300, and 1 and 2 that are
    let buckets = [0x10, 0xac, 2, 0x12, 2, 1, 2];
    let mut encoder =
        Encoder { out: Buffer::new(0, MAX), counts: Counts::default(), times: None, clear: None };
    encoder.message(Kind::Buckets, &buckets, 0).unwrap();
    assert_eq!(**encoder.out.finish(), *br#"{"bucketCounts":["300","1","2"]}"#);
}

#[test]
fn what_no_encoder_writes_is_refused() {
    let refused = |message: &[u8]| encode(Signal::Logs, message, None).err();
    let record = |inner: &[u8]| {
        [
            &[0x0a, 4 + inner.len() as u8, 0x12, 2 + inner.len() as u8, 0x12, inner.len() as u8],
            inner,
        ]
        .concat()
    };
    assert_eq!(refused(&record(&[0x1a, 1, b'x'])), None);
    for (bad, why) in [
        (&[0x1a, 1, b'x', 0x1a, 1, b'y'][..], "two texts"),
        (&[0x2a, 4, 0x10, 1, 0x18, 1], "a value that is a bool and an integer"),
        (&[0x18, 1], "a number for a text"),
        (&[0x0a, 1, 0], "a text for a number"),
        (&[0x1a, 1, 0xff], "a text that is no UTF-8"),
        (&[0x09, 1], "a number that is cut off"),
        (&[0x1b, 0x1c], "a group"),
    ] {
        assert_eq!(refused(&record(bad)), Some(Refused::Malformed), "{why}");
    }
    assert_eq!(refused(&[0x08, 1]), Some(Refused::Malformed), "a number for a resource");
    assert_eq!(refused(b"\xff"), Some(Refused::Malformed));
}

fn nested(depth: usize, wrap: fn(AnyValue) -> Value) -> LogRecord {
    let mut body = AnyValue { value: Some(Value::BoolValue(true)) };
    for _ in 1..depth {
        body = AnyValue { value: Some(wrap(body)) };
    }
    LogRecord { body: Some(body), ..Default::default() }
}

#[test]
fn the_deepest_value_that_is_accepted_can_be_read() {
    let in_array = |inner| Value::ArrayValue(ArrayValue { values: vec![inner] });
    let in_map = |inner| {
        let entry = KeyValue { value: Some(inner), ..Default::default() };
        Value::KvlistValue(KeyValueList { values: vec![entry] })
    };
    for wrap in [in_array, in_map] {
        let deepest = one(nested(DEPTH, wrap));
        assert_eq!(document(&deepest)["resourceLogs"].as_array().unwrap().len(), 1);
        let deeper = one(nested(DEPTH + 1, wrap));
        assert_eq!(encode(Signal::Logs, &deeper, None).err(), Some(Refused::TooDeep(DEPTH)));
    }
}

#[test]
fn what_becomes_too_much_is_refused() {
    // a control character takes six bytes in JSON
    let long = LogRecord { body: value(text(&"\u{1}".repeat(MAX / 6))), ..Default::default() };
    assert_eq!(encode(Signal::Logs, &one(long), None).err(), Some(Refused::TooMuch));

    let many = |count| logs(vec![resource("s", vec![LogRecord::default(); count])]);
    assert_eq!(lines(Signal::Logs, &many(ITEMS)).1.records, ITEMS);
    assert_eq!(encode(Signal::Logs, &many(ITEMS + 1), None).err(), Some(Refused::TooMuch));
}

#[test]
fn a_collectors_batch_is_accepted() {
    let attribute =
        |n: usize| attribute(&format!("http.request.header.{n}"), text("a value of usual length"));
    let record = LogRecord { attributes: (0..10).map(attribute).collect(), ..Default::default() };
    let message = logs(vec![resource("s", vec![record; 8192])]);
    assert_eq!(lines(Signal::Logs, &message).1.records, 8192);
}

#[test]
fn the_other_signals_requests_are_the_data_that_files_hold() {
    let logs = ExportLogsServiceRequest { resource_logs: whole_logs().resource_logs };
    assert_eq!(logs.encode_to_vec(), whole_logs().encode_to_vec());
    let traces = ExportTraceServiceRequest { resource_spans: whole_traces().resource_spans };
    assert_eq!(traces.encode_to_vec(), whole_traces().encode_to_vec());
    let metrics =
        ExportMetricsServiceRequest { resource_metrics: whole_metrics().resource_metrics };
    assert_eq!(metrics.encode_to_vec(), whole_metrics().encode_to_vec());
}
