//! What a document holds: log records, spans, metrics. Of each what is shown, and what it is chosen by.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::text::{moment, nanoseconds, number, plain, printable, quoted};
use crate::logs::filter::{Facts, Level};

/// One of them.
pub(super) trait Item {
    /// What it is chosen by.
    fn facts(&self) -> Facts<'_>;

    /// As lines of text, at least one, each with its end.
    fn write(&self, service: &str, out: &mut String);

    /// How many it counts as in a segment's record.
    fn count(&self) -> usize {
        1
    }
}

#[derive(Deserialize)]
pub(super) struct Attribute {
    #[serde(default)]
    pub(super) key: String,
    #[serde(default)]
    pub(super) value: Value,
}

fn write_attributes(attributes: &[Attribute], out: &mut String) {
    for Attribute { key, value } in attributes {
        let _ = write!(out, " {}={}", printable(key), quoted(value));
    }
}

fn write_ids(trace_id: &str, span_id: &str, out: &mut String) {
    for (name, id) in [("trace_id", trace_id), ("span_id", span_id)] {
        if !id.is_empty() {
            let _ = write!(out, " {name}={}", printable(id));
        }
    }
}

fn id(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// OpenTelemetry protocol, logs.proto.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LogRecord {
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

impl LogRecord {
    /// When it happened, or else when it was observed.
    fn time(&self) -> Option<u64> {
        let times = [&self.time_unix_nano, &self.observed_time_unix_nano];
        times.into_iter().find_map(nanoseconds)
    }

    /// The number counts; a word of the source's own only where there is none.
    fn level(&self) -> Option<Level> {
        Level::of_number(self.severity_number).or_else(|| self.severity_text.parse().ok())
    }

    /// The source's own word for it, or the name of the number's range (logs.proto, `SeverityNumber`).
    fn severity(&self) -> String {
        if !self.severity_text.is_empty() {
            return printable(&self.severity_text);
        }
        Level::of_number(self.severity_number).map_or("-", Level::name).to_owned()
    }
}

impl Item for LogRecord {
    fn facts(&self) -> Facts<'_> {
        Facts { time: self.time(), level: self.level(), trace: id(&self.trace_id) }
    }

    fn write(&self, service: &str, out: &mut String) {
        let _ = write!(out, "{} {} {service}", moment(self.time()), self.severity());
        if !self.event_name.is_empty() {
            let _ = write!(out, " [{}]", printable(&self.event_name));
        }
        if !self.body.is_null() {
            let _ = write!(out, " {}", plain(&self.body));
        }
        write_attributes(&self.attributes, out);
        write_ids(&self.trace_id, &self.span_id, out);
        out.push('\n');
    }
}

/// OpenTelemetry protocol, trace.proto.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Span {
    trace_id: String,
    span_id: String,
    name: String,
    start_time_unix_nano: Value,
    end_time_unix_nano: Value,
    attributes: Vec<Attribute>,
    status: Option<Status>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    code: u32,
    message: String,
}

impl Item for Span {
    fn facts(&self) -> Facts<'_> {
        let time = nanoseconds(&self.start_time_unix_nano);
        Facts { time, level: None, trace: id(&self.trace_id) }
    }

    fn write(&self, service: &str, out: &mut String) {
        let start = nanoseconds(&self.start_time_unix_nano);
        let _ = write!(out, "{} SPAN {service} {}", moment(start), printable(&self.name));
        let end = nanoseconds(&self.end_time_unix_nano);
        if let Some(took) = start.zip(end).and_then(|(start, end)| end.checked_sub(start)) {
            let _ = write!(out, " took={}us", took / 1000);
        }
        if let Some(Status { code, message }) = &self.status {
            // trace.proto, `StatusCode`; unset says nothing
            let code = match code {
                1 => " status=ok",
                2 => " status=error",
                _ => "",
            };
            let _ = write!(out, "{code}");
            if !message.is_empty() {
                let _ = write!(out, " status.message=\"{}\"", printable(message));
            }
        }
        write_attributes(&self.attributes, out);
        write_ids(&self.trace_id, &self.span_id, out);
        out.push('\n');
    }
}

/// OpenTelemetry protocol, metrics.proto.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metric {
    name: String,
    unit: String,
    gauge: Option<Points>,
    sum: Option<Points>,
    histogram: Option<Points>,
    exponential_histogram: Option<Points>,
    summary: Option<Points>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Points {
    data_points: Vec<Point>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Point {
    attributes: Vec<Attribute>,
    time_unix_nano: Value,
    as_int: Value,
    as_double: Value,
    count: Value,
    sum: Value,
}

impl Metric {
    fn points(&self) -> impl Iterator<Item = &Point> {
        [&self.gauge, &self.sum, &self.histogram, &self.exponential_histogram, &self.summary]
            .into_iter()
            .flatten()
            .flat_map(|points| &points.data_points)
    }
}

impl Item for Metric {
    /// A metric is as new as the newest of its points.
    fn facts(&self) -> Facts<'_> {
        let time = self.points().filter_map(|point| nanoseconds(&point.time_unix_nano)).max();
        Facts { time, ..Facts::default() }
    }

    fn write(&self, service: &str, out: &mut String) {
        for point in self.points() {
            let time = moment(nanoseconds(&point.time_unix_nano));
            let _ = write!(out, "{time} METRIC {service} {}", printable(&self.name));
            for (name, value) in [
                ("", &point.as_int),
                ("", &point.as_double),
                (".count", &point.count),
                (".sum", &point.sum),
            ] {
                if !value.is_null() {
                    let value = number(value).map_or_else(|| value.to_string(), |n| n.to_string());
                    let _ = write!(out, "{name}={}", printable(&value));
                }
            }
            if !self.unit.is_empty() {
                let _ = write!(out, " {}", printable(&self.unit));
            }
            write_attributes(&point.attributes, out);
            out.push('\n');
        }
    }

    fn count(&self) -> usize {
        self.points().count()
    }
}
