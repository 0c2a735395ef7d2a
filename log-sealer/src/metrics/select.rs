//! Which metrics of a message may leave in the clear. A metric does so whole or not at all: with an instrument,
//! an attribute or a kind of point that is not on the list, all of it is sealed.

use super::allowed::{self, Instrument};
use super::{Metric, Number, Point, Shape};
use crate::error::Refused;
use crate::lines;
use crate::otlp::wire::{self, Value};

/// The most buckets, and the most bounds, of a point: whoever keeps points counts them, not what is in them.
const BUCKETS: usize = 256;

/// What of a message leaves in the clear.
#[derive(Debug, Default)]
pub(crate) struct Clear {
    pub(super) metrics: Vec<Metric>,
    points: usize,
    service: Option<&'static str>,
}

impl Clear {
    /// Its metrics.
    pub(crate) fn into_metrics(self) -> Vec<Metric> {
        self.metrics
    }

    /// What follows is in this resource, a `ResourceMetrics`.
    pub(crate) fn begin(&mut self, resource: &[u8]) {
        self.service = Some(service(resource).unwrap_or(allowed::OTHER));
    }

    /// Whether this `Metric` leaves in the clear.
    ///
    /// # Errors
    ///
    /// [`Refused::TooMuch`].
    pub(crate) fn takes(&mut self, metric: &[u8]) -> Result<bool, Refused> {
        // what is malformed is sealed, which finds out
        let Some(service) = self.service else { return Ok(false) };
        let Some(metric) = metric_of(service, metric).ok().flatten() else { return Ok(false) };
        self.points += metric.points.len();
        if self.points > lines::ITEMS {
            return Err(Refused::TooMuch);
        }
        self.metrics.push(metric);
        Ok(true)
    }
}

/// The fields of a message.
fn fields(message: &[u8]) -> impl Iterator<Item = Result<(u32, Value<'_>), Refused>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = wire::field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

/// The message in this field of another, if it is there.
fn inner(message: &[u8], number: u32) -> Result<Option<&[u8]>, Refused> {
    for field in fields(message) {
        if let (found, Value::Bytes(bytes)) = field?
            && found == number
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// The name of the role that this is of.
fn service(resource_metrics: &[u8]) -> Result<&'static str, Refused> {
    let resource = inner(resource_metrics, 1)?.unwrap_or_default();
    for field in fields(resource) {
        if let (1, Value::Bytes(attribute)) = field?
            && inner(attribute, 1)? == Some(b"service.name")
        {
            return Ok(allowed::service(text_of(attribute)?));
        }
    }
    Ok(allowed::OTHER)
}

/// The value of an attribute; empty if it is no text.
fn text_of(attribute: &[u8]) -> Result<&str, Refused> {
    let value = inner(attribute, 2)?.unwrap_or_default();
    let text = inner(value, 1)?.unwrap_or_default();
    std::str::from_utf8(text).map_err(|_| Refused::Malformed)
}

fn metric_of(service: &'static str, metric: &[u8]) -> Result<Option<Metric>, Refused> {
    let name = inner(metric, 1)?.and_then(|name| std::str::from_utf8(name).ok());
    let Some(instrument) = name.and_then(allowed::instrument_of) else { return Ok(None) };
    let (mut data, mut count) = (None, 0);
    for field in fields(metric) {
        if let (number @ 5..=11, Value::Bytes(of)) = field? {
            data = Some((number, of));
            count += 1;
        }
    }
    let Some((number @ (5 | 7 | 9), data)) = data.filter(|_| count == 1) else { return Ok(None) };
    let (mut points, mut temporality, mut monotonic) = (Vec::new(), 0, false);
    for field in fields(data) {
        match field? {
            (1, Value::Bytes(point)) if points.len() < lines::ITEMS => {
                let point = point_of(instrument, number == 9, point)?;
                let Some(point) = point else { return Ok(None) };
                points.push(point);
            }
            (2, Value::Varint(value)) => temporality = value,
            (3, Value::Varint(value)) => monotonic = value != 0,
            _ => return Ok(None),
        }
    }
    let shape = match number {
        5 => Shape::Gauge,
        7 => Shape::Sum { temporality, monotonic },
        _ => Shape::Histogram { temporality },
    };
    let metric = Metric { service, instrument, shape, points };
    Ok((temporality <= 2 && !metric.points.is_empty()).then_some(metric))
}

/// Numbers and times; exemplars, which hold ids of traces, stay behind, and so do flags.
fn point_of(
    instrument: &Instrument,
    is_histogram: bool,
    point: &[u8],
) -> Result<Option<Point>, Refused> {
    let mut to = Point::default();
    for field in fields(point) {
        match (field?, is_histogram) {
            ((2, Value::Fixed64(start)), _) => to.start = start,
            ((3, Value::Fixed64(time)), _) => to.time = time,
            ((7, Value::Bytes(attribute)), false) | ((9, Value::Bytes(attribute)), true) => {
                let key = inner(attribute, 1)?.and_then(|key| std::str::from_utf8(key).ok());
                let listed = key.and_then(|key| instrument.attribute(key));
                let Some(listed) = listed else { return Ok(None) };
                if to.attributes.iter().any(|(key, _)| *key == listed.key) {
                    return Ok(None);
                }
                to.attributes.push((listed.key, listed.value(text_of(attribute)?)));
            }
            ((4, Value::Fixed64(bits)), false) => to.value = Number::Double(f64::from_bits(bits)),
            ((6, Value::Fixed64(bits)), false) => to.value = Number::Int(bits.cast_signed()),
            ((4, Value::Fixed64(count)), true) => to.count = count,
            ((5, Value::Fixed64(bits)), true) => to.sum = Some(f64::from_bits(bits)),
            ((6, Value::Bytes(packed)), true) if to.buckets.len() + packed.len() / 8 <= BUCKETS => {
                to.buckets.extend(numbers(packed)?);
            }
            ((7, Value::Bytes(packed)), true) if to.bounds.len() + packed.len() / 8 <= BUCKETS => {
                to.bounds.extend(numbers(packed)?.map(f64::from_bits));
            }
            ((11, Value::Fixed64(bits)), true) => to.min = Some(f64::from_bits(bits)),
            ((12, Value::Fixed64(bits)), true) => to.max = Some(f64::from_bits(bits)),
            ((5, Value::Bytes(_)), false)
            | ((8, Value::Varint(0)), false)
            | ((8, Value::Bytes(_)), true)
            | ((10, Value::Varint(0)), true) => {}
            // not known here, or too long: sealed
            _ => return Ok(None),
        }
    }
    Ok(Some(to))
}

/// Numbers of eight bytes.
fn numbers(packed: &[u8]) -> Result<impl Iterator<Item = u64>, Refused> {
    let (numbers, rest) = packed.as_chunks();
    if rest.is_empty() {
        Ok(numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)))
    } else {
        Err(Refused::Malformed)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::lines::{Lines, encode};
    use crate::otlp::Signal;
    use crate::otlp::tests::wire_of;

    /// What becomes of these metrics of the proxy.
    pub(in crate::metrics) fn selected(metrics: &Json) -> (Vec<Metric>, Lines) {
        let name = json!({"key": "service.name", "value": {"stringValue": "proxy"}});
        let document = json!({"resourceMetrics": [{
            "scopeMetrics": [{"metrics": metrics, "scope": {"name": "canary"}}],
            "resource": {"attributes": [{"key": "canary", "value": {}}, name]},
        }]});
        let mut clear = Clear::default();
        let message = wire_of(Signal::Metrics, &document);
        let lines = encode(Signal::Metrics, &message, Some(&mut clear)).ok().unwrap();
        (clear.into_metrics(), lines)
    }

    fn limits(key: &str, value: &Json) -> Json {
        json!({"name": "proxy_limits_exceeded_total", "unit": "canary", "description": "canary",
               "sum": {"isMonotonic": true, "aggregationTemporality": 2, "dataPoints": [{
            "asInt": "7", "timeUnixNano": "5", "startTimeUnixNano": 3,
            "attributes": [{"key": key, "value": value}],
            "exemplars": [{"traceId": "abcd", "asInt": 1}],
        }]}})
    }

    #[test]
    fn what_is_listed_leaves_and_nothing_of_it_is_the_senders() {
        let (metrics, lines) = selected(&json!([limits("limit", &json!({"stringValue": "key"}))]));
        assert!(lines.text.is_empty() && lines.counts.all() == 0);
        let [metric] = metrics.as_slice() else { panic!("one metric") };
        assert_eq!((metric.service, metric.instrument.name), ("proxy", "proxy.limits.exceeded"));
        assert_eq!(metric.shape, Shape::Sum { temporality: 2, monotonic: true });
        let attributes = vec![("limit", "key")];
        let (start, time, value) = (3, 5, Number::Int(7));
        assert_eq!(metric.points, [Point { attributes, start, time, value, ..Point::default() }]);
        assert!(!format!("{metrics:?}").contains("canary"));
    }

    #[test]
    fn a_value_outside_its_set_is_other() {
        for value in [json!({"stringValue": "canary"}), json!({"intValue": 5}), json!({})] {
            let (metrics, lines) = selected(&json!([limits("limit", &value)]));
            assert_eq!(metrics[0].points[0].attributes, [("limit", "other")]);
            assert!(lines.text.is_empty());
        }
    }

    #[test]
    fn what_is_not_listed_is_sealed_whole() {
        let text = json!({"stringValue": "key"});
        let point = json!({"asInt": 1});
        let listed = limits("limit", &text);
        let mut two = limits("limit", &text);
        let (_, bad) = (0, limits("key_id", &text));
        let points = two["sum"]["dataPoints"].as_array_mut().unwrap();
        points.push(bad["sum"]["dataPoints"][0].clone());
        for (sealed, count) in [
            (bad, 1),
            (two, 2),
            (json!({"name": "proxy_key_tokens", "sum": {"dataPoints": [point]}}), 1),
            (json!({"name": "proxy_connections", "summary": {"dataPoints": [{"count": 1}]}}), 1),
            (json!({"name": "proxy_connections", "gauge": {"dataPoints": [{"flags": 1}]}}), 1),
            (json!({"sum": {"dataPoints": [point]}}), 1),
        ] {
            let (metrics, lines) = selected(&json!([sealed, listed]));
            assert_eq!((metrics.len(), lines.counts.points), (1, count), "{sealed}");
            let text = String::from_utf8(lines.text.to_vec()).unwrap();
            let document: Json = serde_json::from_str(&text).unwrap();
            let metrics = document.pointer("/resourceMetrics/0/scopeMetrics/0/metrics").unwrap();
            assert_eq!(metrics.as_array().unwrap().len(), 1, "{text}");
        }
    }

    #[test]
    fn a_histogram_of_too_many_buckets_is_sealed() {
        for (count, leaves) in [(BUCKETS, 1), (BUCKETS + 1, 0)] {
            for list in ["bucketCounts", "explicitBounds"] {
                let (metrics, lines) = selected(&json!([{
                    "name": "http.server.request.duration",
                    "histogram": {"aggregationTemporality": 1, "dataPoints": [
                        {list: vec![1; count]},
                    ]},
                }]));
                assert_eq!((metrics.len(), lines.counts.points), (leaves, 1 - leaves), "{list}");
            }
        }
    }

    #[test]
    fn histograms_keep_their_buckets() {
        let (metrics, _) = selected(&json!([{"name": "http.server.request.duration",
        "histogram": {"aggregationTemporality": 1, "dataPoints": [{
            "count": "3", "sum": 1.5, "min": 0.25, "max": 1.0,
            "bucketCounts": ["1", "2"], "explicitBounds": [0.5],
            "attributes": [{"key": "http_route", "value": {"stringValue": "/admin"}}],
        }]}}]));
        assert_eq!(metrics[0].shape, Shape::Histogram { temporality: 1 });
        let point = Point {
            attributes: vec![("http.route", "/admin")],
            count: 3,
            sum: Some(1.5),
            min: Some(0.25),
            max: Some(1.0),
            bounds: vec![0.5],
            buckets: vec![1, 2],
            ..Point::default()
        };
        assert_eq!(metrics[0].points, [point]);
    }
}
