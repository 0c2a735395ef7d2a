//! One document of OTLP/JSON, and its log records as lines of text. Spans and data points of metrics are counted;
//! who wants to see them asks for JSON.
//!
//! What records hold was written by programs that strangers talk to. In text, nothing of it can reach the
//! terminal as a control sequence: whatever is not printable is escaped, and a record is always one line.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A document with where it stood.
pub struct Document<'a> {
    /// The boot that sealed it.
    pub boot: &'a str,
    /// The number of its segment's record.
    pub seq: u64,
    json: &'a str,
    data: Data,
}

/// The parts of `LogsData`, `TracesData` and `MetricsData` (OpenTelemetry protocol) that are shown or counted. A
/// document is one of the three.
#[derive(Deserialize)]
enum Data {
    #[serde(rename = "resourceLogs")]
    Logs(Vec<ResourceLogs>),
    #[serde(rename = "resourceSpans")]
    Traces(Vec<ResourceSpans>),
    #[serde(rename = "resourceMetrics")]
    Metrics(Vec<ResourceMetrics>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    #[serde(default)]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Deserialize)]
struct ScopeSpans {
    #[serde(default)]
    spans: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics {
    #[serde(default)]
    scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Deserialize)]
struct ScopeMetrics {
    #[serde(default)]
    metrics: Vec<Metric>,
}

/// It has one of these.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Metric {
    gauge: Points,
    sum: Points,
    histogram: Points,
    exponential_histogram: Points,
    summary: Points,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Points {
    data_points: Vec<IgnoredAny>,
}

impl Metric {
    fn points(&self) -> usize {
        [&self.gauge, &self.sum, &self.histogram, &self.exponential_histogram, &self.summary]
            .map(|points| points.data_points.len())
            .iter()
            .sum()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs {
    #[serde(default)]
    resource: Option<Resource>,
    #[serde(default)]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs {
    #[serde(default)]
    log_records: Vec<LogRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct LogRecord {
    time_unix_nano: Value,
    observed_time_unix_nano: Value,
    severity_number: u32,
    severity_text: String,
    event_name: String,
    body: Value,
    attributes: Vec<Attribute>,
    trace_id: String,
    span_id: String,
}

#[derive(Deserialize)]
struct Attribute {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: Value,
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

    /// The document as it was sealed: `{"resourceLogs":[…]}` and its like.
    #[must_use]
    pub fn json(&self) -> &str {
        self.json
    }

    /// Log records, spans or data points in it.
    #[must_use]
    pub fn records(&self) -> u64 {
        let count: usize = match &self.data {
            Data::Logs(logs) => {
                logs.iter().flat_map(|logs| &logs.scope_logs).map(|s| s.log_records.len()).sum()
            }
            Data::Traces(traces) => {
                traces.iter().flat_map(|traces| &traces.scope_spans).map(|s| s.spans.len()).sum()
            }
            Data::Metrics(metrics) => {
                let scopes = metrics.iter().flat_map(|metrics| &metrics.scope_metrics);
                scopes.flat_map(|scope| &scope.metrics).map(Metric::points).sum()
            }
        };
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// Writes one line a log record: time, severity, service, body, attributes. Of others, nothing.
    ///
    /// # Errors
    ///
    /// What the writer says.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Data::Logs(logs) = &self.data else { return Ok(()) };
        for logs in logs {
            let service = logs.resource.as_ref().map_or("-".to_owned(), service);
            for record in logs.scope_logs.iter().flat_map(|scope| &scope.log_records) {
                writeln!(out, "{}", record.line(&service))?;
            }
        }
        Ok(())
    }
}

fn service(resource: &Resource) -> String {
    let name = resource.attributes.iter().find(|attribute| attribute.key == "service.name");
    name.map_or("-".to_owned(), |attribute| plain(&attribute.value))
}

impl LogRecord {
    fn line(&self, service: &str) -> String {
        let mut line = format!("{} {} {service}", self.time(), self.severity());
        if !self.event_name.is_empty() {
            let _ = write!(line, " [{}]", printable(&self.event_name));
        }
        if !self.body.is_null() {
            let _ = write!(line, " {}", plain(&self.body));
        }
        for Attribute { key, value } in &self.attributes {
            let _ = write!(line, " {}={}", printable(key), quoted(value));
        }
        for (name, id) in [("trace_id", &self.trace_id), ("span_id", &self.span_id)] {
            if !id.is_empty() {
                let _ = write!(line, " {name}={}", printable(id));
            }
        }
        line
    }

    /// When it happened, or else when it was observed.
    fn time(&self) -> String {
        [&self.time_unix_nano, &self.observed_time_unix_nano]
            .into_iter()
            .filter_map(nanoseconds)
            .find(|time| *time != 0)
            .and_then(|time| OffsetDateTime::from_unix_timestamp_nanos(time.into()).ok())
            .and_then(|time| time.format(&Rfc3339).ok())
            .unwrap_or_else(|| "-".to_owned())
    }

    /// The source's own word for it, or the name of the number's range (logs.proto, `SeverityNumber`).
    fn severity(&self) -> String {
        if !self.severity_text.is_empty() {
            return printable(&self.severity_text);
        }
        let name = match self.severity_number {
            1..=4 => "TRACE",
            5..=8 => "DEBUG",
            9..=12 => "INFO",
            13..=16 => "WARN",
            17..=20 => "ERROR",
            21..=24 => "FATAL",
            _ => "-",
        };
        name.to_owned()
    }
}

/// 64-bit integers are strings in OTLP/JSON, and readers take numbers too.
fn nanoseconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A date from Unix seconds.
pub(super) fn date(unix: u64) -> String {
    i64::try_from(unix)
        .ok()
        .and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("second {unix}"))
}

/// An `AnyValue` as text.
fn plain(value: &Value) -> String {
    match one_of(value) {
        Some(("stringValue", Value::String(text))) => printable(text),
        _ => quoted(value),
    }
}

/// The same where something follows: strings that could be mistaken for more than one word are in quotes.
fn quoted(value: &Value) -> String {
    let Some((kind, inner)) = one_of(value) else { return "null".to_owned() };
    match (kind, inner) {
        ("stringValue", Value::String(text)) => {
            let text = printable(text);
            let word = !text.is_empty() && !text.contains([' ', '"', '=', ',', '[', ']', '{', '}']);
            if word { text } else { format!("\"{}\"", text.replace('"', "\\\"")) }
        }
        ("intValue" | "bytesValue", Value::String(text)) => printable(text),
        ("arrayValue", inner) => {
            let items = list(inner).map(quoted).collect::<Vec<_>>();
            format!("[{}]", items.join(", "))
        }
        ("kvlistValue", inner) => {
            let items = list(inner).map(|item| {
                let key = item.get("key").and_then(Value::as_str).unwrap_or_default();
                format!("{}={}", printable(key), quoted(item.get("value").unwrap_or(&Value::Null)))
            });
            format!("{{{}}}", items.collect::<Vec<_>>().join(", "))
        }
        (_, other) => printable(&other.to_string()),
    }
}

/// The one member that an `AnyValue` has.
fn one_of(value: &Value) -> Option<(&str, &Value)> {
    let (kind, inner) = value.as_object()?.iter().next()?;
    Some((kind, inner))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.get("values").and_then(Value::as_array).into_iter().flatten()
}

/// The text with everything escaped that is not printable: controls, line ends, marks that change the
/// direction of writing. A backslash is escaped too, so that no text can pretend to be an escape.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
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
    fn spans_and_data_points_are_counted() {
        let spans = json!({"scopeSpans": [{"spans": [{"name": "a"}, {}]}, {"spans": [{}]}, {}]});
        let metrics = json!({"scopeMetrics": [{"metrics": [
            {"name": "a", "sum": {"dataPoints": [{}, {}], "isMonotonic": true}},
            {"gauge": {"dataPoints": [{}]}}, {"histogram": {"dataPoints": [{}]}},
            {"exponentialHistogram": {"dataPoints": [{}]}}, {"summary": {"dataPoints": [{}]}}, {},
        ]}]});
        for (document, count) in
            [(json!({"resourceSpans": [spans]}), 3), (json!({"resourceMetrics": [metrics]}), 6)]
        {
            let json = document.to_string();
            let document = Document::parse("b", 1, json.as_bytes()).unwrap();
            assert_eq!(document.records(), count);
            let mut out = Vec::new();
            document.write_text(&mut out).unwrap();
            assert!(out.is_empty());
        }
    }

    #[test]
    fn what_is_no_document_is_refused_without_being_repeated() {
        for bad in ["", "{", "[]", "{}", r#"{"resourceLogs":"canary"}"#, "\"canary\""] {
            let error = Document::parse("b", 1, bad.as_bytes()).err().unwrap();
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        assert!(Document::parse("b", 1, &[0xff]).is_err());
    }

    #[test]
    fn dates_are_dates() {
        assert_eq!(date(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(date(u64::MAX), format!("second {}", u64::MAX));
    }
}
