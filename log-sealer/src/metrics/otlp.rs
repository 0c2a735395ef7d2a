//! Metrics in the clear as an `ExportMetricsServiceRequest` (opentelemetry-proto 1.x, metrics.proto), for any
//! receiver of OTLP/HTTP.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use service::outbound::Call;
use url::Url;

use super::{Metric, Number, Point, Shape};
use crate::buffer::Buffer;
use crate::error::Refused;
use crate::lines;
use crate::otlp::wire::{VARINT, Writer};

/// Who says so.
const SCOPE: &[u8] = b"privatemode-confidential";

/// The call that brings metrics to this address.
///
/// # Errors
///
/// [`Refused::TooMuch`].
pub(super) fn call(address: &Url, metrics: &[Metric]) -> Result<Call, Refused> {
    let mut to = Writer::new(Buffer::new(metrics.len() * 256, lines::MAX));
    for service in services(metrics) {
        let resource_metrics = to.open(1)?;
        let resource = to.open(1)?;
        attribute(&mut to, 1, "service.name", service)?;
        to.close(resource)?;
        let scope_metrics = to.open(2)?;
        let scope = to.open(1)?;
        to.bytes(1, SCOPE)?;
        to.close(scope)?;
        for metric in metrics.iter().filter(|metric| metric.service == service) {
            write(&mut to, metric)?;
        }
        to.close(scope_metrics)?;
        to.close(resource_metrics)?;
    }
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))].into_iter().collect();
    let body = Bytes::from(to.finish().to_vec());
    Ok(Call { method: Method::POST, url: address.clone(), headers, body })
}

/// Each source once, in the order in which they come.
fn services(metrics: &[Metric]) -> Vec<&'static str> {
    let mut services = Vec::new();
    for metric in metrics {
        if !services.contains(&metric.service) {
            services.push(metric.service);
        }
    }
    services
}

fn attribute(to: &mut Writer, number: u32, key: &str, value: &str) -> Result<(), Refused> {
    let attribute = to.open(number)?;
    to.bytes(1, key.as_bytes())?;
    let any = to.open(2)?;
    to.bytes(1, value.as_bytes())?;
    to.close(any)?;
    to.close(attribute)
}

fn write(to: &mut Writer, metric: &Metric) -> Result<(), Refused> {
    let whole = to.open(2)?;
    to.bytes(1, metric.instrument.name.as_bytes())?;
    to.bytes(3, metric.instrument.unit.as_bytes())?;
    let number = match metric.shape {
        Shape::Gauge => 5,
        Shape::Sum { .. } => 7,
        Shape::Histogram { .. } => 9,
    };
    let data = to.open(number)?;
    for point in &metric.points {
        match metric.shape {
            Shape::Gauge | Shape::Sum { .. } => number_point(to, point)?,
            Shape::Histogram { .. } => histogram_point(to, point)?,
        }
    }
    if let Shape::Sum { temporality, .. } | Shape::Histogram { temporality } = metric.shape {
        to.key(2, VARINT)?;
        to.varint(temporality)?;
    }
    if let Shape::Sum { monotonic, .. } = metric.shape {
        to.key(3, VARINT)?;
        to.varint(monotonic.into())?;
    }
    to.close(data)?;
    to.close(whole)
}

fn number_point(to: &mut Writer, point: &Point) -> Result<(), Refused> {
    let whole = to.open(1)?;
    to.fixed64(2, point.start)?;
    to.fixed64(3, point.time)?;
    match point.value {
        Number::None => {}
        Number::Double(value) => to.fixed64(4, value.to_bits())?,
        Number::Int(value) => to.fixed64(6, value.cast_unsigned())?,
    }
    for (key, value) in &point.attributes {
        attribute(to, 7, key, value)?;
    }
    to.close(whole)
}

fn histogram_point(to: &mut Writer, point: &Point) -> Result<(), Refused> {
    let whole = to.open(1)?;
    to.fixed64(2, point.start)?;
    to.fixed64(3, point.time)?;
    to.fixed64(4, point.count)?;
    packed(to, 6, point.buckets.iter().copied())?;
    packed(to, 7, point.bounds.iter().map(|bound| bound.to_bits()))?;
    for (key, value) in &point.attributes {
        attribute(to, 9, key, value)?;
    }
    for (number, value) in [(5, point.sum), (11, point.min), (12, point.max)] {
        if let Some(value) = value {
            to.fixed64(number, value.to_bits())?;
        }
    }
    to.close(whole)
}

/// Numbers of eight bytes.
fn packed(to: &mut Writer, number: u32, numbers: impl Iterator<Item = u64>) -> Result<(), Refused> {
    let list = to.open(number)?;
    for bits in numbers {
        to.raw(&bits.to_le_bytes())?;
    }
    to.close(list)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use prost::Message as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::select::tests::selected;

    #[test]
    fn another_implementation_reads_what_leaves() {
        let attributes = json!([{"key": "limit", "value": {"stringValue": "key"}}]);
        let (metrics, _) = selected(&json!([
            {"name": "proxy_limits_exceeded", "sum": {
                "isMonotonic": true, "aggregationTemporality": 2,
                "dataPoints": [{"asInt": "-7", "timeUnixNano": "5", "attributes": attributes}],
            }},
            {"name": "proxy_connections", "gauge": {"dataPoints": [{"asDouble": 0.5}]}},
            {"name": "gen_ai_server_request_duration_seconds", "histogram": {
                "aggregationTemporality": 1,
                "dataPoints": [{
                    "count": "3", "sum": 1.5, "min": 0.25, "max": 1.0,
                    "bucketCounts": ["1", "2"], "explicitBounds": [0.5],
                }],
            }},
        ]));
        let call = call(&"http://127.0.0.1:1/v1/metrics".parse().unwrap(), &metrics).ok().unwrap();
        let request = ExportMetricsServiceRequest::decode(call.body).unwrap();
        let document: Value = serde_json::to_value(&request).unwrap();
        let resource = &document["resourceMetrics"][0];
        let name = &resource["resource"]["attributes"][0];
        assert_eq!(
            (&name["key"], &name["value"]["stringValue"]),
            (&json!("service.name"), &json!("proxy"))
        );
        let metrics = resource.pointer("/scopeMetrics/0/metrics").unwrap();
        let [limits, connections, durations] = metrics.as_array().unwrap().as_slice() else {
            panic!("three metrics: {metrics}");
        };
        assert_eq!(limits["name"], "proxy.limits.exceeded");
        assert_eq!(
            (&limits["sum"]["isMonotonic"], &limits["unit"]),
            (&json!(true), &json!("{request}"))
        );
        let point = &limits["sum"]["dataPoints"][0];
        assert_eq!((&point["asInt"], &point["timeUnixNano"]), (&json!("-7"), &json!("5")));
        assert_eq!(point["attributes"], attributes);
        assert_eq!(connections["gauge"]["dataPoints"][0]["asDouble"], 0.5);
        let point = &durations["histogram"]["dataPoints"][0];
        assert_eq!(point["bucketCounts"], json!(["1", "2"]));
        assert_eq!((&point["explicitBounds"], &point["count"]), (&json!([0.5]), &json!("3")));
        assert_eq!(
            (&point["sum"], &point["min"], &point["max"]),
            (&json!(1.5), &json!(0.25), &json!(1.0))
        );
    }
}
