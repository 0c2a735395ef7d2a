//! What is counted, as OTLP has it (opentelemetry-proto 1.x, `metrics.proto`): cumulative sums, gauges and histograms, under
//! the names and units of OpenTelemetry.
//!
//! It is read from the text that Prometheus gets: the library shows what it holds in no other form. Only instruments and
//! attributes of the lists here go on, so that nothing is sent that somebody did not put there. Must not know where it goes.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, Sum,
    metric, number_data_point,
};

/// What an instrument does with what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Adds it up.
    Sum,
    /// The same, with fractions.
    Amount,
    /// Shows the last.
    Gauge,
    /// Sorts it by size.
    Histogram,
}

/// One instrument.
struct Instrument {
    /// Its name in the text.
    text: &'static str,
    /// OpenTelemetry's.
    name: &'static str,
    /// UCUM's.
    unit: &'static str,
    kind: Kind,
}

const fn instrument(
    text: &'static str,
    name: &'static str,
    unit: &'static str,
    kind: Kind,
) -> Instrument {
    Instrument { text, name, unit, kind }
}

/// All of them.
const INSTRUMENTS: [Instrument; 13] = [
    instrument(
        "http_server_request_duration_seconds",
        "http.server.request.duration",
        "s",
        Kind::Histogram,
    ),
    instrument(
        "gen_ai_server_request_duration_seconds",
        "gen_ai.server.request.duration",
        "s",
        Kind::Histogram,
    ),
    instrument(
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai.server.time_to_first_token",
        "s",
        Kind::Histogram,
    ),
    instrument("gen_ai_client_token_usage", "gen_ai.client.token.usage", "{token}", Kind::Sum),
    instrument("proxy_cost_euros", "proxy.cost", "EUR", Kind::Amount),
    instrument("proxy_limits_exceeded", "proxy.limits.exceeded", "{request}", Kind::Sum),
    instrument("proxy_upstream_errors", "proxy.upstream.errors", "{call}", Kind::Sum),
    instrument("proxy_metrics_unsent", "proxy.metrics.unsent", "{export}", Kind::Sum),
    instrument("proxy_connections", "proxy.connections", "{connection}", Kind::Gauge),
    instrument("proxy_answers_in_flight", "proxy.answers.in_flight", "{answer}", Kind::Gauge),
    instrument("proxy_key_requests", "proxy.key.requests", "{call}", Kind::Sum),
    instrument("proxy_key_tokens", "proxy.key.tokens", "{token}", Kind::Sum),
    instrument("proxy_key_cost_euros", "proxy.key.cost", "EUR", Kind::Amount),
];

/// Labels, and the attributes that they are.
const ATTRIBUTES: [(&str, &str); 8] = [
    ("http_route", "http.route"),
    ("status", "status"),
    ("gen_ai_operation_name", "gen_ai.operation.name"),
    ("gen_ai_response_model", "gen_ai.response.model"),
    ("gen_ai_token_type", "gen_ai.token.type"),
    ("limit", "limit"),
    ("error_type", "error.type"),
    ("key_id", "key_id"),
];

/// From when to when something was counted, in Unix nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// The metrics of a text. What it does not know of it, it leaves out.
pub(super) fn metrics(text: &str, stretch: Stretch) -> Vec<Metric> {
    let mut all: [Points; INSTRUMENTS.len()] = std::array::from_fn(|_| Points::new());
    for sample in text.lines().filter_map(Sample::read) {
        for (instrument, points) in INSTRUMENTS.iter().zip(&mut all) {
            if let Some(part) = instrument.part(&sample) {
                points.entry(sample.attributes).or_default().take(part, sample.value);
                break;
            }
        }
    }
    let with_points = INSTRUMENTS.iter().zip(all).filter(|(_, points)| !points.is_empty());
    with_points.map(|(instrument, points)| instrument.metric(points, stretch)).collect()
}

/// Attributes, by name.
type Attributes = BTreeMap<&'static str, String>;

/// What was counted with each set of attributes.
type Points = BTreeMap<Attributes, Point>;

/// What was counted with one.
#[derive(Default)]
struct Point {
    value: f64,
    /// The same where it has no fractions: exact.
    whole: Option<i64>,
    count: u64,
    /// Each bound, and how much was within it.
    buckets: Vec<(f64, u64)>,
}

/// Which part of a point a sample says.
#[derive(Clone, Copy)]
enum Part {
    Value,
    Count,
    /// What was within this bound.
    Within(f64),
}

impl Point {
    fn take(&mut self, part: Part, value: &str) {
        match part {
            Part::Value => {
                self.value = value.parse().unwrap_or_default();
                self.whole = value.parse().ok();
            }
            Part::Count => self.count = value.parse().unwrap_or_default(),
            Part::Within(bound) => self.buckets.push((bound, value.parse().unwrap_or_default())),
        }
    }
}

impl Instrument {
    /// What a sample says of this one, if it does.
    fn part(&self, sample: &Sample<'_>) -> Option<Part> {
        let rest = sample.name.strip_prefix(self.text)?;
        match (self.kind, rest) {
            (Kind::Sum | Kind::Amount, "_total")
            | (Kind::Gauge, "")
            | (Kind::Histogram, "_sum") => Some(Part::Value),
            (Kind::Histogram, "_count") => Some(Part::Count),
            (Kind::Histogram, "_bucket") => sample.bound.map(Part::Within),
            _ => None,
        }
    }

    fn metric(&self, points: Points, stretch: Stretch) -> Metric {
        let cumulative = AggregationTemporality::Cumulative.into();
        let data = match self.kind {
            Kind::Sum | Kind::Amount => metric::Data::Sum(Sum {
                data_points: self.numbers(points, stretch),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            Kind::Gauge => {
                metric::Data::Gauge(Gauge { data_points: self.numbers(points, stretch) })
            }
            Kind::Histogram => metric::Data::Histogram(Histogram {
                data_points: points.into_iter().map(|point| histogram(point, stretch)).collect(),
                aggregation_temporality: cumulative,
            }),
        };
        Metric {
            name: self.name.to_owned(),
            unit: self.unit.to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }

    fn numbers(&self, points: Points, stretch: Stretch) -> Vec<NumberDataPoint> {
        let number = |(attributes, point): (Attributes, Point)| {
            let whole = point.whole.filter(|_| self.kind != Kind::Amount);
            let value = whole.map_or(
                number_data_point::Value::AsDouble(point.value),
                number_data_point::Value::AsInt,
            );
            NumberDataPoint {
                attributes: key_values(attributes),
                start_time_unix_nano: stretch.from,
                time_unix_nano: stretch.to,
                value: Some(value),
                ..NumberDataPoint::default()
            }
        };
        points.into_iter().map(number).collect()
    }
}

fn histogram((attributes, point): (Attributes, Point), stretch: Stretch) -> HistogramDataPoint {
    let bounds = point.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite());
    let mut before = 0;
    let counts = point.buckets.iter().map(|(_, within)| {
        let count = within.saturating_sub(before);
        before = *within;
        count
    });
    HistogramDataPoint {
        attributes: key_values(attributes),
        start_time_unix_nano: stretch.from,
        time_unix_nano: stretch.to,
        count: point.count,
        sum: Some(point.value),
        explicit_bounds: bounds.collect(),
        bucket_counts: counts.collect(),
        ..HistogramDataPoint::default()
    }
}

fn key_values(attributes: Attributes) -> Vec<KeyValue> {
    let key_value = |(name, text): (&str, String)| KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(text)) }),
        ..KeyValue::default()
    };
    attributes.into_iter().map(key_value).collect()
}

/// One line of the text (OpenMetrics 1.0, "Text format") that is no comment.
struct Sample<'a> {
    name: &'a str,
    attributes: Attributes,
    /// The label `le`, of a bucket.
    bound: Option<f64>,
    value: &'a str,
}

impl<'a> Sample<'a> {
    fn read(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at(end);
        let mut sample = Self { name, attributes: Attributes::new(), bound: None, value: "" };
        if let Some(labels) = rest.strip_prefix('{') {
            rest = sample.labels(labels)?;
        }
        sample.value = rest.trim();
        Some(sample)
    }

    /// Reads labels up to their end, and returns what follows.
    fn labels(&mut self, mut rest: &'a str) -> Option<&'a str> {
        loop {
            if let Some(after) = rest.strip_prefix('}') {
                return Some(after);
            }
            let (name, quoted) = rest.split_once("=\"")?;
            let (value, after) = unquoted(quoted)?;
            if name == "le" {
                self.bound = value.parse().ok();
            } else {
                let (_, attribute) = ATTRIBUTES.iter().find(|(label, _)| *label == name)?;
                self.attributes.insert(attribute, value);
            }
            rest = after.strip_prefix(',').unwrap_or(after);
        }
    }
}

/// A text up to its closing quote, its escapes read, and what follows.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::StatusCode;

    use super::super::names::{Failed, Operation};
    use super::super::{Metrics, Route, tests::call};
    use super::*;
    use crate::limits::Limit;
    use crate::money::Money;

    const STRETCH: Stretch = Stretch { from: 1, to: 2 };

    fn of(metrics: &Metrics) -> Vec<Metric> {
        super::metrics(&metrics.text(), STRETCH)
    }

    fn named<'a>(all: &'a [Metric], name: &str) -> &'a metric::Data {
        all.iter().find(|metric| metric.name == name).unwrap().data.as_ref().unwrap()
    }

    fn attributes(of: &[KeyValue]) -> Vec<(String, String)> {
        let text = |of: &KeyValue| match of.value.as_ref().unwrap().value.as_ref().unwrap() {
            Value::StringValue(text) => text.clone(),
            other => panic!("{other:?}"),
        };
        of.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
    }

    #[test]
    fn what_prometheus_reads_otlp_says_as_well() {
        let counted = std::sync::Arc::new(Metrics::new(true, ["gpt-oss-120b"]));
        counted.settled(&call("key\"\\\n{x}", Some("gpt-oss-120b")), Money::from_nanos(150_000));
        counted.request(Route::Health, StatusCode::OK, Instant::now());
        let _open = counted.connection();
        let all = of(&counted);
        let metric::Data::Sum(tokens) = named(&all, "gen_ai.client.token.usage") else { panic!() };
        assert!(tokens.is_monotonic && tokens.aggregation_temporality == 2);
        let output = tokens.data_points.iter().find(|point| {
            attributes(&point.attributes).contains(&("gen_ai.token.type".into(), "output".into()))
        });
        let output = output.unwrap();
        assert_eq!(output.value, Some(number_data_point::Value::AsInt(20)));
        assert_eq!((output.start_time_unix_nano, output.time_unix_nano), (1, 2));
        assert_eq!(attributes(&output.attributes).len(), 3);

        let metric::Data::Sum(cost) = named(&all, "proxy.key.cost") else { panic!() };
        let [point] = cost.data_points.as_slice() else { panic!() };
        assert_eq!(point.value, Some(number_data_point::Value::AsDouble(0.00015)));
        assert_eq!(attributes(&point.attributes), [("key_id".into(), "key\"\\\n{x}".into())]);

        let metric::Data::Gauge(open) = named(&all, "proxy.connections") else { panic!() };
        assert_eq!(open.data_points[0].value, Some(number_data_point::Value::AsInt(1)));

        let metric::Data::Histogram(times) = named(&all, "http.server.request.duration") else {
            panic!()
        };
        let [point] = times.data_points.as_slice() else { panic!() };
        assert_eq!((point.count, point.bucket_counts.iter().sum::<u64>()), (1, 1));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert_eq!(point.explicit_bounds[0], 0.001);
    }

    /// Nobody forgets to put a new one on the list.
    #[test]
    fn every_instrument_and_every_label_is_listed() {
        let counted = std::sync::Arc::new(Metrics::new(true, []));
        counted.settled(&call("k", None), Money::ZERO);
        counted.limited(Limit::Global);
        counted.request(Route::Health, StatusCode::OK, Instant::now());
        let operation = Operation { gen_ai_operation_name: "chat", status: "2xx" };
        counted.series.duration.get_or_create(&operation).observe(1.0);
        counted.series.first_token.get_or_create(&operation).observe(1.0);
        counted.series.upstream_errors.get_or_create(&Failed { error_type: "timeout" }).inc();
        let text = counted.text();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let names: Vec<_> = types.map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(names.len(), INSTRUMENTS.len());
        for name in names {
            assert!(INSTRUMENTS.iter().any(|instrument| instrument.text == name), "{name}");
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let sample = Sample::read(line).unwrap_or_else(|| panic!("{line}"));
            assert!(INSTRUMENTS.iter().any(|of| of.part(&sample).is_some()), "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        for text in [
            "",
            "x",
            "x 1",
            "proxy_connections",
            "proxy_connections{",
            "proxy_connections{x=\"1\"} 1",
            "proxy_limits_exceeded_total{limit=\"a} 1",
            "proxy_limits_exceeded_total{limit=\"a\\",
            "proxy_limits_exceeded{limit=\"a\"} 1",
        ] {
            assert!(super::metrics(text, STRETCH).is_empty(), "{text}");
        }
    }
}
