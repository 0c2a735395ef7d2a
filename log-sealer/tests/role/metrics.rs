//! Metrics: what leaves in the clear, and what is sealed.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use serde_json::{Value, json};

use crate::common::http::{Http, JSON};
use crate::common::reader;
use crate::common::receiver::Receiver;
use crate::common::{Place, Sealer};

const CANARY: &str = "canary-5d0a77e1-in-a-metric";

fn document(metrics: &Value) -> Vec<u8> {
    let attributes = json!([{"key": "service.name", "value": {"stringValue": "proxy"}},
                            {"key": "host.name", "value": {"stringValue": CANARY}}]);
    let scopes = json!([{"scope": {"name": CANARY}, "metrics": metrics}]);
    let document = json!({"resourceMetrics": [
        {"resource": {"attributes": attributes}, "scopeMetrics": scopes}
    ]});
    document.to_string().into_bytes()
}

/// Points of an instrument that is on the list, with this attribute.
fn limited(key: &str, value: &str, count: u64) -> Value {
    let attributes = json!([{"key": key, "value": {"stringValue": value}}]);
    json!({"name": "proxy_limits_exceeded", "description": CANARY, "sum": {
        "isMonotonic": true, "aggregationTemporality": 2,
        "dataPoints": [{"asInt": count, "attributes": attributes}]
    }})
}

/// Each instrument that was heard of, with the attributes and the value of its first point.
fn heard(body: &[u8]) -> Vec<(String, Value, Value)> {
    let request = ExportMetricsServiceRequest::decode(body).unwrap();
    let document = serde_json::to_value(&request).unwrap();
    let metrics = document.pointer("/resourceMetrics/0/scopeMetrics/0/metrics").unwrap();
    let metrics = metrics.as_array().unwrap().iter().map(|metric| {
        let point = &metric["sum"]["dataPoints"][0];
        let value = point.pointer("/attributes/0/value/stringValue").unwrap().clone();
        (metric["name"].as_str().unwrap().to_owned(), value, point["asInt"].clone())
    });
    metrics.collect()
}

#[tokio::test]
async fn what_is_on_the_list_is_forwarded_and_the_rest_is_sealed() {
    let answers = &["503 Busy\r\nretry-after: 0", "200 OK"];
    let mut receiver = Receiver::start(answers).await;
    let sealer = Sealer::start(&[("LOG_METRICS_ENDPOINT", &receiver.url)]).await;
    let mut http = Http::connect(&sealer.place).await;
    let own = json!({"name": CANARY, "gauge": {"dataPoints": [{"asInt": 1}, {"asInt": 2}]}});
    let sent = document(&json!([
        limited("limit", "tokens", 3),
        limited("limit", CANARY, 4),
        limited(CANARY, "tokens", 5),
        own,
    ]));
    assert_eq!(http.post("/v1/metrics", JSON, &sent).await.status, 200);

    let refused = receiver.heard().await;
    let accepted = receiver.heard().await;
    assert_eq!(refused.body, accepted.body, "it is sent again");
    assert!(accepted.head.starts_with("post /v1/metrics http/1.1\r\n"), "{}", accepted.head);
    assert!(accepted.head.contains("content-type: application/x-protobuf\r\n"));
    let name = || "proxy.limits.exceeded".to_owned();
    let expected = [(name(), json!("tokens"), json!("3")), (name(), json!("other"), json!("4"))];
    assert_eq!(heard(&accepted.body), expected);
    assert!(!String::from_utf8_lossy(&accepted.body).contains(CANARY));

    // what waits is sent when it stops
    let sent = document(&json!([limited("limit", "budget", 6)]));
    assert_eq!(http.post("/v1/metrics", JSON, &sent).await.status, 200);
    let place = sealer.stop().await;
    assert_eq!(heard(&receiver.heard().await.body)[0].2, json!("6"));
    let boot = reader::read(&place.folder(), &place.reader).remove(0);
    assert_eq!(boot.points("proxy"), 3, "one with another attribute, two of another instrument");
}

/// Where senders wait for the disk, what may leave in the clear is offered after that: at a stop, after everything else.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_while_it_stops_is_forwarded_as_well() {
    let mut receiver = Receiver::start(&[]).await;
    let place = Place::new();
    let spool = place.spool().display().to_string();
    let to = [("LOG_METRICS_ENDPOINT", receiver.url.as_str()), ("LOG_SPOOL", spool.as_str())];
    let sealer =
        Sealer::start_at(place, &[&to[..], &[("LOG_SEGMENT_SECONDS", "5")]].concat()).await;
    sealer.sidecar.give_evidence();
    sealer.ready().await;
    let mut http = Http::connect(&sealer.place).await;
    let own = json!({"name": CANARY, "gauge": {"dataPoints": [{"asInt": 1}]}});
    let sent = document(&json!([limited("limit", "budget", 6), own]));
    let (answer, place) = tokio::join!(http.post("/v1/metrics", JSON, &sent), sealer.stop());
    assert_eq!(answer.status, 200);
    assert_eq!(heard(&receiver.heard().await.body)[0].2, json!("6"));
    assert_eq!(reader::read(&place.folder(), &place.reader)[0].points("proxy"), 1);
}

#[tokio::test]
async fn without_a_receiver_all_metrics_are_sealed() {
    let sealer = Sealer::start(&[]).await;
    let mut http = Http::connect(&sealer.place).await;
    let sent = document(&json!([limited("limit", "tokens", 3)]));
    assert_eq!(http.post("/v1/metrics", JSON, &sent).await.status, 200);
    let place = sealer.stop().await;
    assert_eq!(reader::read(&place.folder(), &place.reader)[0].points("proxy"), 1);
}

#[tokio::test]
async fn azure_monitor_gets_the_same_as_telemetry_items() {
    let mut azure = Receiver::start(&[]).await;
    let mut other = Receiver::start(&["500 Broken"; 9]).await;
    let key = "11112222-3333-4444-5555-666677778888";
    let to = format!("InstrumentationKey={key};IngestionEndpoint={}/", azure.url);
    let receivers =
        [("APPINSIGHTS_CONNECTION_STRING", to.as_str()), ("LOG_METRICS_ENDPOINT", &other.url)];
    let sealer = Sealer::start(&receivers).await;
    let mut http = Http::connect(&sealer.place).await;
    let gauge = json!({"name": "proxy_connections", "description": CANARY, "gauge": {
        "dataPoints": [{"asInt": 5}]
    }});
    let own = json!({"name": CANARY, "gauge": {"dataPoints": [{"asInt": 1}]}});
    let sent = document(&json!([gauge, own]));
    assert_eq!(http.post("/v1/metrics", JSON, &sent).await.status, 200);

    // one that fails is in nobody else's way
    other.heard().await;
    let heard = azure.heard().await;
    assert!(heard.head.starts_with("post /v2.1/track http/1.1\r\n"), "{}", heard.head);
    let text = String::from_utf8(heard.body).unwrap();
    assert!(!text.contains(CANARY));
    let items: Value = serde_json::from_str(&text).unwrap();
    let [item] = items.as_array().unwrap().as_slice() else { panic!("one item: {items}") };
    assert_eq!((&item["iKey"], &item["tags"]["ai.cloud.role"]), (&json!(key), &json!("proxy")));
    let expected = json!([{"name": "proxy.connections", "value": 5.0}]);
    assert_eq!(item["data"]["baseData"]["metrics"], expected);
    sealer.stop().await;
}
