//! One document of OTLP/JSON, and what is in it as lines of text.
//!
//! What records hold was written by programs that strangers talk to. In text, nothing of it can reach the
//! terminal as a control sequence: whatever is not printable is escaped, and a record is always one line.

mod items;
mod text;

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Deserialize;
use serde_json::Value;

use self::items::{Attribute, Item, LogRecord, Metric, Span};
use self::text::plain;
use super::filter::Filter;

pub(super) use self::text::date;

/// A document with where it stood.
pub struct Document<'a> {
    /// The boot that sealed it.
    pub boot: &'a str,
    /// The number of its segment's record.
    pub seq: u64,
    json: &'a str,
    data: Data,
}

/// What a document is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Log records.
    Logs,
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
}

impl Signal {
    /// Names of the three lists, from the outermost.
    pub(super) fn lists(self) -> [&'static str; 3] {
        match self {
            Self::Logs => ["resourceLogs", "scopeLogs", "logRecords"],
            Self::Traces => ["resourceSpans", "scopeSpans", "spans"],
            Self::Metrics => ["resourceMetrics", "scopeMetrics", "metrics"],
        }
    }
}

/// `LogsData`, `TracesData` or `MetricsData` (OpenTelemetry protocol, `opentelemetry/proto`): an object with this one
/// member.
#[derive(Deserialize)]
enum Data {
    #[serde(rename = "resourceLogs")]
    Logs(Vec<OfResource<LogRecord>>),
    #[serde(rename = "resourceSpans")]
    Traces(Vec<OfResource<Span>>),
    #[serde(rename = "resourceMetrics")]
    Metrics(Vec<OfResource<Metric>>),
}

#[derive(Deserialize)]
struct OfResource<T> {
    #[serde(default)]
    resource: Option<Resource>,
    #[serde(
        default = "Vec::new",
        rename = "scopeLogs",
        alias = "scopeSpans",
        alias = "scopeMetrics"
    )]
    scopes: Vec<OfScope<T>>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
struct OfScope<T> {
    #[serde(default = "Vec::new", rename = "logRecords", alias = "spans", alias = "metrics")]
    items: Vec<T>,
}

impl<T> OfResource<T> {
    fn service(&self) -> Option<&Value> {
        let attributes = &self.resource.as_ref()?.attributes;
        let name = attributes.iter().find(|attribute| attribute.key == "service.name");
        name.map(|attribute| &attribute.value)
    }
}

impl<'a> Document<'a> {
    pub(super) fn parse(boot: &'a str, seq: u64, line: &'a [u8]) -> io::Result<Self> {
        let json = std::str::from_utf8(line).map_err(io::Error::other)?;
        // serde_json's text may repeat a value; where it went wrong says enough
        let data = serde_json::from_str(json).map_err(|error| {
            io::Error::other(format!("{:?} error in column {}", error.classify(), error.column()))
        })?;
        Ok(Self { boot, seq, json, data })
    }

    /// The document as it was sealed: `{"resourceLogs":[…]}`, say.
    #[must_use]
    pub fn json(&self) -> &str {
        self.json
    }

    /// What it is about.
    #[must_use]
    pub fn signal(&self) -> Signal {
        match self.data {
            Data::Logs(_) => Signal::Logs,
            Data::Traces(_) => Signal::Traces,
            Data::Metrics(_) => Signal::Metrics,
        }
    }

    /// Log records in it.
    #[must_use]
    pub fn records(&self) -> u64 {
        if let Data::Logs(data) = &self.data { count(data) } else { 0 }
    }

    /// Spans in it.
    #[must_use]
    pub fn spans(&self) -> u64 {
        if let Data::Traces(data) = &self.data { count(data) } else { 0 }
    }

    /// Data points of metrics in it.
    #[must_use]
    pub fn points(&self) -> u64 {
        if let Data::Metrics(data) = &self.data { count(data) } else { 0 }
    }

    /// Writes one line a record: time, severity, service, body, attributes.
    ///
    /// # Errors
    ///
    /// What the writer says.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write_text_of(&Filter::default(), out)
    }

    /// The same of what a filter keeps.
    ///
    /// # Errors
    ///
    /// What the writer says.
    pub fn write_text_of(&self, filter: &Filter, out: &mut dyn Write) -> io::Result<()> {
        match &self.data {
            Data::Logs(data) => write(data, filter, out),
            Data::Traces(data) => write(data, filter, out),
            Data::Metrics(data) => write(data, filter, out),
        }
    }

    /// The document with what a filter keeps; `None` if that is nothing.
    #[must_use]
    pub fn json_of(&self, filter: &Filter) -> Option<Cow<'_, str>> {
        if filter.is_everything() {
            return Some(Cow::Borrowed(self.json));
        }
        let kept = match &self.data {
            Data::Logs(data) => kept(data, filter),
            Data::Traces(data) => kept(data, filter),
            Data::Metrics(data) => kept(data, filter),
        };
        let mut document: Value = serde_json::from_str(self.json).ok()?;
        let [outer, middle, inner] = self.signal().lists();
        let resources = document.get_mut(outer)?.as_array_mut()?;
        let mut left = false;
        for (resource, kept) in resources.iter_mut().zip(&kept) {
            let Some(scopes) = resource.get_mut(middle).and_then(Value::as_array_mut) else {
                continue;
            };
            for (scope, kept) in scopes.iter_mut().zip(kept) {
                let Some(items) = scope.get_mut(inner).and_then(Value::as_array_mut) else {
                    continue;
                };
                let mut kept = kept.iter();
                items.retain(|_| kept.next().is_some_and(|kept| *kept));
                left |= !items.is_empty();
            }
            scopes.retain(|scope| is_filled(scope, inner));
        }
        resources.retain(|resource| is_filled(resource, middle));
        left.then(|| Cow::Owned(document.to_string()))
    }
}

fn is_filled(value: &Value, list: &str) -> bool {
    value.get(list).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

fn count<T: Item>(data: &[OfResource<T>]) -> u64 {
    let items = data.iter().flat_map(|resource| &resource.scopes).flat_map(|scope| &scope.items);
    items
        .map(Item::count)
        .fold(0, |sum, n| sum.saturating_add(u64::try_from(n).unwrap_or(u64::MAX)))
}

/// For each item whether it is kept.
fn kept<T: Item>(data: &[OfResource<T>], filter: &Filter) -> Vec<Vec<Vec<bool>>> {
    data.iter()
        .map(|resource| {
            let of_service = keeps_service(resource, filter);
            let keeps = |item: &T| of_service && filter.keeps(item.facts());
            resource.scopes.iter().map(|scope| scope.items.iter().map(keeps).collect()).collect()
        })
        .collect()
}

fn keeps_service<T>(resource: &OfResource<T>, filter: &Filter) -> bool {
    let name = resource.service().and_then(|name| name.get("stringValue")?.as_str());
    filter.keeps_service(name)
}

fn write<T: Item>(data: &[OfResource<T>], filter: &Filter, out: &mut dyn Write) -> io::Result<()> {
    let mut line = String::new();
    for resource in data.iter().filter(|resource| keeps_service(resource, filter)) {
        let service = resource.service().map_or_else(|| "-".to_owned(), plain);
        let items = resource.scopes.iter().flat_map(|scope| &scope.items);
        for item in items.filter(|item| filter.keeps(item.facts())) {
            line.clear();
            item.write(&service, &mut line);
            out.write_all(line.as_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(record: &Value) -> String {
        let document = json!({"resourceLogs": [{
            "resource": {"attributes": [
                {"key": "host", "value": {"stringValue": "h"}},
                {"key": "service.name", "value": {"stringValue": "proxy"}},
            ]},
            "scopeLogs": [{"scope": null, "logRecords": [record]}],
        }]});
        let json = document.to_string();
        let document = Document::parse("b", 1, json.as_bytes()).unwrap();
        assert_eq!(document.json(), json);
        assert_eq!(document.records(), 1);
        let mut out = Vec::new();
        document.write_text(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_is_a_line() {
        let line = text(&json!({
            "timeUnixNano": "1700000000123456789", "severityNumber": 9, "severityText": "INFO",
            "body": {"stringValue": "request finished"},
            "attributes": [
                {"key": "status", "value": {"intValue": "200"}},
                {"key": "path", "value": {"stringValue": "/v1/models"}},
                {"key": "agent", "value": {"stringValue": "a \"b\" c"}},
                {"key": "ok", "value": {"boolValue": true}},
                {"key": "took", "value": {"doubleValue": 0.25}},
                {"key": "raw", "value": {"bytesValue": "AP8="}},
                {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "1"}, {}]}}},
                {"key": "map", "value": {"kvlistValue": {"values": [
                    {"key": "k", "value": {"stringValue": ""}},
                ]}}},
                {"key": "none", "value": null},
            ],
            "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "",
        }));
        assert_eq!(
            line,
            "2023-11-14T22:13:20.123456789Z INFO proxy request finished status=200 path=/v1/models \
             agent=\"a \\\"b\\\" c\" ok=true took=0.25 raw=AP8= list=[1, null] map={k=\"\"} none=null \
             trace_id=0af7651916cd43dd8448eb211c80319c\n"
        );
    }

    #[test]
    fn what_is_missing_is_a_dash_or_nothing() {
        assert_eq!(text(&json!({})), "- - proxy\n");
        assert_eq!(
            text(&json!({
                "timeUnixNano": "0", "observedTimeUnixNano": 1_000_000_000, "severityNumber": 18
            })),
            "1970-01-01T00:00:01Z ERROR proxy\n"
        );
    }

    #[test]
    fn nothing_reaches_the_terminal_but_printable_text() {
        let evil = "a\nb\r\u{1b}[2J\u{7}\u{202e}\u{9b}\\n \u{e4}\u{1f600}\"";
        let line = text(&json!({
            "severityText": evil, "eventName": evil, "body": {"stringValue": evil}, "traceId": evil,
            "attributes": [{"key": evil, "value": {"stringValue": evil}},
                           {"key": "odd", "value": {evil: [evil]}}],
        }));
        assert!(line.ends_with('\n'));
        let line = line.trim_end();
        assert!(line.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{line:?}");
        assert!(
            line.contains("a\\nb\\r\\u{1b}[2J\\u{7}\\u{202e}\\u{9b}\\\\n \u{e4}\u{1f600}\""),
            "{line}"
        );
    }

    #[test]
    fn what_is_no_document_is_refused_without_being_repeated() {
        for bad in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"resourceLogs":"canary"}"#,
            r#"{"resourceLogs":[],"canary":1}"#,
            "\"canary\"",
        ] {
            let error = Document::parse("b", 1, bad.as_bytes()).err().unwrap();
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        assert!(Document::parse("b", 1, &[0xff]).is_err());
    }

    fn parse(json: &Value) -> String {
        json.to_string()
    }

    #[test]
    fn spans_and_points_are_counted_and_shown() {
        let resource =
            json!({"attributes": [{"key": "service.name", "value": {"stringValue": "p"}}]});
        let spans = parse(
            &json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [
                {"traceId": "0af7", "spanId": "b7ad", "name": "GET\n/", "kind": 2, "status": {"code": 2},
                 "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000000250000",
                 "attributes": [{"key": "a", "value": {"boolValue": true}}]},
                {"name": "", "status": {}},
            ]}]}]}),
        );
        let document = Document::parse("b", 1, spans.as_bytes()).unwrap();
        assert_eq!((document.signal(), document.spans()), (Signal::Traces, 2));
        assert_eq!((document.records(), document.points()), (0, 0));
        let mut out = Vec::new();
        document.write_text(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2023-11-14T22:13:20Z SPAN p GET\\n/ took=250us status=error a=true trace_id=0af7 \
             span_id=b7ad\n- SPAN p \n"
        );

        let metrics = parse(&json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
            {"name": "requests", "unit": "1", "sum": {"dataPoints": [
                {"asInt": "7", "timeUnixNano": "1700000000000000000",
                 "attributes": [{"key": "path", "value": {"stringValue": "/v1"}}]},
                {"asDouble": 0.5},
            ]}},
            {"name": "took", "histogram": {"dataPoints": [{"count": "3", "sum": 1.5}]}},
        ]}]}]}));
        let document = Document::parse("b", 1, metrics.as_bytes()).unwrap();
        assert_eq!((document.signal(), document.points()), (Signal::Metrics, 3));
        let mut out = Vec::new();
        document.write_text(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "2023-11-14T22:13:20Z METRIC - requests=7 1 path=/v1\n- METRIC - requests=0.5 1\n\
             - METRIC - took.count=3.sum=1.5\n"
        );
    }

    #[test]
    fn a_filter_leaves_a_document_that_is_one() {
        let record = |body: &str, severity: u32| json!({"body": {"stringValue": body}, "severityNumber": severity, "unknown": [1]});
        let of = |service: &str, records: Vec<Value>| {
            let name = json!({"key": "service.name", "value": {"stringValue": service}});
            json!({"resource": {"attributes": [name]}, "schemaUrl": "kept",
                   "scopeLogs": [{"logRecords": records}, {"logRecords": []}]})
        };
        let json = parse(&json!({"resourceLogs": [
            of("a", vec![record("one", 9), record("two", 17)]),
            of("b", vec![record("three", 17)]),
        ]}));
        let document = Document::parse("b", 1, json.as_bytes()).unwrap();
        assert_eq!(document.json_of(&Filter::default()).as_deref(), Some(json.as_str()));
        let filter = Filter {
            services: vec!["a".to_owned()],
            level: Some(crate::logs::Level::Error),
            ..Filter::default()
        };
        let left: Value = serde_json::from_str(&document.json_of(&filter).unwrap()).unwrap();
        let mut expected = of("a", vec![record("two", 17)]);
        expected["scopeLogs"].as_array_mut().unwrap().pop();
        assert_eq!(left, json!({"resourceLogs": [expected]}));
        let mut out = Vec::new();
        document.write_text_of(&filter, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "- ERROR a two\n");

        let nothing = Filter { services: vec!["c".to_owned()], ..Filter::default() };
        assert_eq!(document.json_of(&nothing), None);
    }
}
