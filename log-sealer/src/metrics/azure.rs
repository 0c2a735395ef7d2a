//! Metrics in the clear for Azure Monitor: telemetry items of the kind `MetricData`, as the ingestion endpoint of
//! Application Insights takes them (`POST /v2.1/track`).
//!
//! It adds up what it is sent, so a sum that grows is sent as what it grew by. The first value of one that began
//! before this process is only where counting starts.

use std::collections::HashMap;
use std::str::FromStr;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use service::clock;
use service::outbound::{Answer, Call};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;

use super::{Metric, Number, Point, Shape};

/// Sums whose last value is known. With more, all are forgotten, and counted anew from where they are.
const SERIES: usize = 8192;

/// `AGGREGATION_TEMPORALITY_CUMULATIVE` (metrics.proto).
const CUMULATIVE: u64 = 2;

const NANOSECONDS: u64 = 1_000_000_000;

/// `APPINSIGHTS_CONNECTION_STRING`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionString {
    key: String,
    track: Url,
}

/// Why a text is no connection string.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAConnectionString {
    #[error(
        "must hold InstrumentationKey=…: copy the connection string of the Application Insights resource"
    )]
    NoKey,
    #[error("must hold IngestionEndpoint=https://…: copy the connection string of the resource")]
    NoEndpoint,
}

impl FromStr for ConnectionString {
    type Err = NotAConnectionString;

    fn from_str(text: &str) -> Result<Self, NotAConnectionString> {
        let value = |name: &str| {
            let mut pairs = text.split(';').filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(is, _)| is.trim().eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim())
        };
        let is_key =
            |key: &&str| key.len() == 36 && key.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        let key = value("InstrumentationKey").filter(is_key).ok_or(NotAConnectionString::NoKey)?;
        let endpoint = value("IngestionEndpoint").and_then(|value| value.parse::<Url>().ok());
        let track = endpoint
            .filter(|url| matches!(url.scheme(), "https" | "http") && url.path() == "/")
            .and_then(|url| url.join("v2.1/track").ok())
            .ok_or(NotAConnectionString::NoEndpoint)?;
        Ok(Self { key: key.to_owned(), track })
    }
}

/// What is known of a sum that grows.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    value: f64,
    count: u64,
}

/// Which sum it is, and when it began.
#[derive(PartialEq, Eq, Hash)]
struct Series {
    service: &'static str,
    instrument: &'static str,
    attributes: Vec<(&'static str, &'static str)>,
    start: u64,
}

/// Writes items.
pub(super) struct Azure {
    to: ConnectionString,
    /// When this began, in Unix nanoseconds.
    began: u64,
    last: HashMap<Series, Last>,
}

/// The endpoint's answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tracked {
    items_received: usize,
    items_accepted: usize,
}

impl Azure {
    pub(super) fn new(to: ConnectionString) -> Self {
        let began = clock::unix_now().saturating_mul(NANOSECONDS);
        Self { to, began, last: HashMap::new() }
    }

    /// The call that brings metrics there; `None`: nothing has changed. It is made once for a batch, however often
    /// it is then tried.
    pub(super) fn call(&mut self, metrics: &[Metric]) -> Option<Call> {
        let mut items = Vec::new();
        for metric in metrics {
            for point in &metric.points {
                items.extend(self.item(metric, point));
            }
        }
        if items.is_empty() {
            return None;
        }
        let body = Bytes::from(Value::Array(items).to_string());
        Some(Call::post_json(self.to.track.clone(), body))
    }

    /// How many items of a call were not taken.
    pub(super) fn rejected(answer: &Answer) -> usize {
        let tracked = serde_json::from_slice::<Tracked>(&answer.body);
        tracked.map_or(0, |tracked| tracked.items_received.saturating_sub(tracked.items_accepted))
    }

    fn item(&mut self, metric: &Metric, point: &Point) -> Option<Value> {
        let mut data = self.measured(metric, point)?;
        data.insert("name".to_owned(), metric.instrument.name.into());
        let properties: Map<_, _> =
            point.attributes.iter().map(|(key, value)| (key.to_string(), json!(value))).collect();
        Some(json!({
            "name": "Microsoft.ApplicationInsights.Metric",
            "time": time(point.time)?,
            "iKey": self.to.key,
            "tags": {"ai.cloud.role": metric.service},
            "data": {
                "baseType": "MetricData",
                "baseData": {"ver": 2, "metrics": [data], "properties": properties},
            },
        }))
    }

    /// The numbers of a point.
    fn measured(&mut self, metric: &Metric, point: &Point) -> Option<Map<String, Value>> {
        let mut value = value(metric.shape, point)?;
        let mut count = None;
        let (mut min, mut max) = (point.min, point.max);
        match metric.shape {
            Shape::Sum { temporality: CUMULATIVE, monotonic: true } => {
                (value, _) = self.grown(metric, point, Last { value, count: 0 })?;
            }
            Shape::Histogram { temporality } => {
                let mut all = point.count;
                if temporality == CUMULATIVE {
                    (value, all) = self.grown(metric, point, Last { value, count: all })?;
                    // those of all time
                    (min, max) = (None, None);
                }
                count = Some(all).filter(|count| *count > 0);
                count?;
            }
            Shape::Gauge | Shape::Sum { .. } => {}
        }
        let mut data = Map::new();
        data.insert("value".to_owned(), json!(value));
        for (name, number) in [("min", min), ("max", max)] {
            if let Some(number) = number.filter(|number| number.is_finite()) {
                data.insert(name.to_owned(), json!(number));
            }
        }
        data.extend(count.map(|count| ("count".to_owned(), json!(count))));
        Some(data)
    }

    /// By how much a sum grew since it was last seen.
    fn grown(&mut self, metric: &Metric, point: &Point, now: Last) -> Option<(f64, u64)> {
        let mut attributes = point.attributes.clone();
        attributes.sort_unstable();
        let (service, instrument) = (metric.service, metric.instrument.name);
        let series = Series { service, instrument, attributes, start: point.start };
        if self.last.len() >= SERIES && !self.last.contains_key(&series) {
            self.last.clear();
        }
        let is_new = point.start >= self.began;
        let last = self.last.insert(series, now).or(is_new.then(Last::default))?;
        Some((now.value - last.value, now.count.saturating_sub(last.count)))
    }
}

/// The value of a point, or the sum of its values; `None` if JSON has no such number.
fn value(shape: Shape, point: &Point) -> Option<f64> {
    let value = match (shape, point.value) {
        (Shape::Histogram { .. }, _) => point.sum?,
        (_, Number::Double(value)) => value,
        #[expect(clippy::cast_precision_loss, reason = "the endpoint's numbers are of this kind")]
        (_, Number::Int(value)) => value as f64,
        (_, Number::None) => return None,
    };
    value.is_finite().then_some(value)
}

/// A time of the endpoint: of the point, or now.
fn time(nanoseconds: u64) -> Option<String> {
    let seconds = if nanoseconds == 0 { clock::unix_now() } else { nanoseconds / NANOSECONDS };
    let time = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
    time.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::select::tests::selected;

    const KEY: &str = "11112222-3333-4444-5555-666677778888";

    fn azure() -> Azure {
        let to = format!("InstrumentationKey={KEY};IngestionEndpoint=https://westeurope.test/");
        let mut azure = Azure::new(to.parse().unwrap());
        azure.began = 100;
        azure
    }

    /// The items that are sent of a metric.
    fn items(azure: &mut Azure, metric: &Value) -> Vec<Value> {
        let call = azure.call(&selected(&json!([metric])).0);
        call.map_or_else(Vec::new, |call| serde_json::from_slice(&call.body).unwrap())
    }

    fn grows(start: u64, value: u64) -> Value {
        let point = json!({"asInt": value, "startTimeUnixNano": start, "timeUnixNano": 5_000_000_000_u64,
            "attributes": [{"key": "limit", "value": {"stringValue": "key"}}]});
        json!({"name": "proxy_limits_exceeded", "sum": {
            "isMonotonic": true, "aggregationTemporality": 2, "dataPoints": [point]}})
    }

    #[test]
    fn a_connection_string_is_what_the_portal_shows() {
        let whole = format!(
            "InstrumentationKey={KEY};IngestionEndpoint=https://westeurope-5.in.applicationinsights.azure.com/;\
             LiveEndpoint=https://westeurope.livediagnostics.monitor.azure.com/;ApplicationId={KEY}"
        );
        let parsed: ConnectionString = whole.parse().unwrap();
        let track = "https://westeurope-5.in.applicationinsights.azure.com/v2.1/track";
        assert_eq!((parsed.key.as_str(), parsed.track.as_str()), (KEY, track));
        for (bad, why) in [
            (KEY.to_owned(), NotAConnectionString::NoKey),
            ("InstrumentationKey=abc".to_owned(), NotAConnectionString::NoKey),
            (format!("InstrumentationKey={KEY}"), NotAConnectionString::NoEndpoint),
            (
                format!("InstrumentationKey={KEY};IngestionEndpoint=file:///"),
                NotAConnectionString::NoEndpoint,
            ),
        ] {
            assert_eq!(bad.parse::<ConnectionString>(), Err(why), "{bad}");
        }
    }

    #[test]
    fn an_item_is_as_the_endpoint_wants_it() {
        let items = items(&mut azure(), &grows(100, 7));
        let expected = json!([{
            "name": "Microsoft.ApplicationInsights.Metric",
            "time": "1970-01-01T00:00:05Z",
            "iKey": KEY,
            "tags": {"ai.cloud.role": "proxy"},
            "data": {"baseType": "MetricData", "baseData": {
                "ver": 2,
                "metrics": [{"name": "proxy.limits.exceeded", "value": 7.0}],
                "properties": {"limit": "key"},
            }},
        }]);
        assert_eq!(Value::Array(items), expected);
    }

    #[test]
    fn what_grows_is_sent_as_what_it_grew_by() {
        let mut azure = azure();
        let mut value = |start, value| {
            let items = items(&mut azure, &grows(start, value));
            items
                .first()
                .map(|item| item.pointer("/data/baseData/metrics/0/value").cloned().unwrap())
        };
        assert_eq!(value(150, 5), Some(json!(5.0)), "it began after this did");
        assert_eq!(value(150, 9), Some(json!(4.0)));
        assert_eq!(value(160, 2), Some(json!(2.0)), "it began again");
        assert_eq!(value(20, 1000), None, "it began before: how much of it was sent is not known");
        assert_eq!(value(20, 1001), Some(json!(1.0)));
    }

    #[test]
    fn histograms_are_sums_and_counts_and_gauges_are_values() {
        let mut azure = azure();
        let mut data = |metric: &Value| {
            let items = items(&mut azure, metric);
            items.first().map(|item| item.pointer("/data/baseData/metrics/0").cloned().unwrap())
        };
        let histogram = |temporality: u8, count: u8, sum: f64| {
            json!({"name": "http_server_request_duration_seconds", "histogram": {
            "aggregationTemporality": temporality, "dataPoints": [
                {"count": count, "sum": sum, "min": 0.5, "max": 2.0, "startTimeUnixNano": 100}
            ]}})
        };
        let name = "http.server.request.duration";
        let expected = json!({"name": name, "value": 2.5, "count": 2, "min": 0.5, "max": 2.0});
        assert_eq!(data(&histogram(1, 2, 2.5)), Some(expected));
        assert_eq!(
            data(&histogram(2, 2, 2.5)),
            Some(json!({"name": name, "value": 2.5, "count": 2}))
        );
        assert_eq!(
            data(&histogram(2, 3, 4.0)),
            Some(json!({"name": name, "value": 1.5, "count": 1}))
        );
        assert_eq!(data(&histogram(2, 3, 4.0)), None, "nothing happened");

        let gauge = |value: Value| json!({"name": "proxy_connections", "gauge": {"dataPoints": [{"asDouble": value}]}});
        let expected = json!({"name": "proxy.connections", "value": 3.0});
        assert_eq!(data(&gauge(json!(3))), Some(expected));
        assert_eq!(data(&gauge(json!("NaN"))), None);
    }

    #[test]
    fn what_was_not_taken_is_counted() {
        let rejected = |body: &'static str| {
            let (status, headers) = (http::StatusCode::PARTIAL_CONTENT, http::HeaderMap::new());
            Azure::rejected(&Answer { status, headers, body: Bytes::from(body) })
        };
        assert_eq!(rejected(r#"{"itemsReceived":5,"itemsAccepted":3,"errors":[]}"#), 2);
        assert_eq!(rejected(r#"{"itemsReceived":5,"itemsAccepted":5}"#), 0);
        assert_eq!(rejected("?"), 0);
    }
}
