//! OTLP by HTTP, and the other signals than logs by gRPC.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::pb;

use crate::common::Sealer;
use crate::common::http::{Http, JSON, PROTOBUF};
use crate::common::otlp::{attribute, record, request, say};
use crate::common::reader::{self, Boot};

fn of(service: &str) -> Option<Resource> {
    let attributes = vec![attribute("service.name", service)];
    Some(Resource { attributes, ..Resource::default() })
}

fn spans(service: &str, names: &[&str]) -> ExportTraceServiceRequest {
    let span = |name: &&str| Span { name: name.to_string(), kind: 2, ..Span::default() };
    let spans = names.iter().map(span).collect();
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let spans = ResourceSpans { resource: of(service), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![spans] }
}

fn points(service: &str, count: usize) -> ExportMetricsServiceRequest {
    let gauge = Gauge { data_points: vec![NumberDataPoint::default(); count] };
    let metric =
        Metric { name: "gauge".to_owned(), data: Some(Data::Gauge(gauge)), ..Metric::default() };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let metrics =
        ResourceMetrics { resource: of(service), scope_metrics, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![metrics] }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The only boot of what a sealer wrote.
async fn read(sealer: Sealer) -> Boot {
    let place = sealer.stop().await;
    reader::read(&place.folder(), &place.reader).remove(0)
}

/// As the exporters of these languages write OTLP/JSON, or as protobuf's own printer does.
const PAYLOADS: [(&str, &str); 6] = [
    ("/v1/logs", include_str!("payloads/javascript-logs.json")),
    ("/v1/traces", include_str!("payloads/javascript-traces.json")),
    ("/v1/logs", include_str!("payloads/go-logs.json")),
    ("/v1/metrics", include_str!("payloads/go-metrics.json")),
    ("/v1/logs", include_str!("payloads/python-logs.json")),
    ("/v1/traces", include_str!("payloads/dotnet-traces.json")),
];

#[tokio::test]
async fn what_other_languages_send_as_json_comes_out_once() {
    let sealer = Sealer::start(&[]).await;
    // one connection for all, as their clients keep one
    let mut http = Http::connect(&sealer.place).await;
    for (path, payload) in PAYLOADS {
        let answer = http.post(path, "application/json; charset=utf-8", payload.as_bytes()).await;
        assert_eq!((answer.status, answer.json()), (200, json!({})), "{payload}");
    }
    let boot = read(sealer).await;
    let said = |service| -> Vec<&Value> { boot.records(service).map(|one| &one["body"]).collect() };
    for service in ["go", "python"] {
        let texts = said(service).iter().map(|body| &body["stringValue"]).collect::<Vec<_>>();
        assert_eq!(texts, ["one", "two"], "{service}");
    }
    let [one, two] = said("javascript")[..] else { panic!("two records") };
    assert_eq!(one["stringValue"], "one");
    assert_eq!(two["kvlistValue"]["values"][0]["value"]["stringValue"], "two");
    let python = boot.records("python").next().unwrap();
    assert_eq!(python["timeUnixNano"], "1700000005000000000");
    assert_eq!(python["attributes"][1]["value"]["intValue"], "12");

    let names = |service| -> Vec<&str> {
        boot.spans(service).iter().map(|span| span["name"].as_str().unwrap()).collect()
    };
    assert_eq!(names("javascript"), ["GET /"]);
    assert_eq!(names("dotnet"), ["POST /orders", "db"]);
    assert_eq!(boot.spans("dotnet")[0]["traceId"], "0af7651916cd43dd8448eb211c80319c");
    let metrics = boot.documents.iter().find(|one| one.get("resourceMetrics").is_some()).unwrap();
    let scope = metrics.pointer("/resourceMetrics/0/scopeMetrics/0/metrics").unwrap();
    assert_eq!(scope[0]["sum"]["dataPoints"][0]["asInt"], "42");
    assert_eq!(scope[1]["histogram"]["dataPoints"][0]["bucketCounts"], json!(["1", "2", "0"]));
}

#[tokio::test]
async fn protobuf_by_http_is_the_same_as_by_grpc() {
    let sealer = Sealer::start(&[]).await;
    let mut http = Http::connect(&sealer.place).await;
    say(&sealer.channel, "a", ["by gRPC".to_owned()]).await;
    let mut traces = TraceServiceClient::new(sealer.channel.clone());
    let answer = traces.export(spans("a", &["by gRPC"])).await.unwrap().into_inner();
    assert_eq!(answer.partial_success, None);
    let mut metrics = MetricsServiceClient::new(sealer.channel.clone());
    let answer = metrics.export(points("a", 3)).await.unwrap().into_inner();
    assert_eq!(answer.partial_success, None);

    for (path, message) in [
        ("/v1/logs", request("a", [record("by HTTP")]).encode_to_vec()),
        ("/v1/traces", spans("a", &["by HTTP"]).encode_to_vec()),
        ("/v1/metrics", points("a", 2).encode_to_vec()),
    ] {
        let answer = http.post(path, PROTOBUF, &message).await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b""[..]));
        assert_eq!(answer.header("content-type"), Some(PROTOBUF));
        let packed = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
        let answer = http.send(&format!("POST {path}"), &packed, &gzip(&message)).await;
        assert_eq!(answer.status, 200);
    }
    let boot = read(sealer).await;
    assert_eq!(boot.bodies("a"), ["by gRPC", "by HTTP", "by HTTP"]);
    let names: Vec<_> = boot.spans("a").iter().map(|span| span["name"].clone()).collect();
    assert_eq!(names, ["by gRPC", "by HTTP", "by HTTP"]);
    assert_eq!(boot.points("a"), 3 + 2 + 2);
}

#[tokio::test]
async fn what_can_never_succeed_is_refused_for_good() {
    let sealer = Sealer::start(&[]).await;
    let deep = (0..40).fold(json!({}), |inner, _| json!({"arrayValue": {"values": [inner]}}));
    let deep = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": deep}]}]}]});
    let bomb = gzip(&vec![0; 64 << 20]);
    let message = request("a", [record("canary")]).encode_to_vec();
    let long = vec![0; (4 << 20) + 1];
    let plain: &[(&str, &str)] = &[];
    let packed = &[("content-encoding", "gzip")][..];
    for (kind, further, body, status) in [
        (JSON, plain, &b"{\"resourceLogs\":[{]}"[..], 400),
        (JSON, plain, b"", 400),
        (JSON, plain, &message, 400),
        (JSON, plain, deep.to_string().as_bytes(), 400),
        (PROTOBUF, plain, b"{}", 400),
        (PROTOBUF, packed, &message, 400),
        (PROTOBUF, plain, &long, 413),
        (PROTOBUF, packed, &bomb, 413),
        (JSON, packed, &bomb, 413),
    ] {
        let headers = [&[("content-type", kind)], further].concat();
        let mut http = Http::connect(&sealer.place).await;
        let answer = http.send("POST /v1/logs", &headers, body).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), Some(kind));
        assert_eq!(answer.header("retry-after"), None);
        let (code, message) = if kind == JSON {
            let status = answer.json();
            (status["code"].as_i64().unwrap(), status["message"].as_str().unwrap().to_owned())
        } else {
            let status = pb::Status::decode(answer.body.as_slice()).unwrap();
            (status.code.into(), status.message)
        };
        assert_eq!(code, i64::from(i32::from(Code::InvalidArgument)));
        assert!(message.contains(": ") && !message.contains("canary"), "{message}");
    }
    say(&sealer.channel, "a", ["small".to_owned()]).await;
    assert_eq!(read(sealer).await.bodies("a"), ["small"]);
}

#[tokio::test]
async fn who_sends_too_much_hears_so_and_not_that_the_connection_broke() {
    let sealer = Sealer::start(&[]).await;
    let mut http = Http::connect(&sealer.place).await;
    let long = vec![b' '; 20 << 20];
    http.begin("POST /v1/logs", &[("content-type", JSON)], long.len()).await;
    http.write(&long).await.unwrap();
    assert_eq!(http.answer().await.status, 413);
    assert_eq!(http.post("/v1/logs", JSON, b"{}").await.status, 200, "on the same connection");
    sealer.stop().await;
}

#[tokio::test]
async fn what_is_not_spoken_here_is_said_so() {
    let sealer = Sealer::start(&[]).await;
    let json = ("content-type", JSON);
    for (what, headers, status, header) in [
        ("POST /", &[json][..], 404, None),
        ("POST /v1/logs/", &[json], 404, None),
        ("GET /v1/logs", &[], 405, Some(("allow", "POST"))),
        ("POST /v1/logs", &[], 415, None),
        ("POST /v1/logs", &[("content-type", "text/plain")], 415, None),
        (
            "POST /v1/logs",
            &[json, ("content-encoding", "zstd")],
            415,
            Some(("accept-encoding", "gzip")),
        ),
    ] {
        let mut http = Http::connect(&sealer.place).await;
        let answer = http.send(what, headers, b"{}").await;
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert!(answer.body.ends_with(b"\n"));
        if let Some((name, value)) = header {
            assert_eq!(answer.header(name), Some(value));
        }
    }
    sealer.stop().await;
}

#[tokio::test]
async fn a_full_queue_tells_senders_by_http_to_come_back() {
    let sealer = Sealer::start_without_evidence(&[]).await;
    let mut http = Http::connect(&sealer.place).await;
    let message = request("a", [record(&"z".repeat(3 << 20))]).encode_to_vec();
    let mut accepted = 0;
    let refused = loop {
        let answer = http.post("/v1/logs", PROTOBUF, &message).await;
        if answer.status != 200 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 100, "the queue has no end");
    };
    assert_eq!((accepted, refused.status, refused.header("retry-after")), (10, 503, Some("1")));
    let status = pb::Status::decode(refused.body.as_slice()).unwrap();
    assert_eq!(status.code, i32::from(Code::Unavailable));
    assert_eq!(status.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");

    let text = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [
        {"body": {"stringValue": "z".repeat(3 << 20)}}
    ]}]}]});
    let refused = http.post("/v1/logs", JSON, text.to_string().as_bytes()).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    let details = json!([
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}
    ]);
    assert_eq!((&refused.json()["code"], &refused.json()["details"]), (&json!(14), &details));
    let (_, outcome) = {
        // nothing but time would end this now
        tokio::time::pause();
        sealer.try_stop().await
    };
    assert!(outcome.unwrap_err().to_string().contains("10 log records are lost"));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let sealer = Sealer::start(&[]).await;
    let mut http = Http::connect(&sealer.place).await;
    http.begin("POST /v1/logs", &[("content-type", JSON)], 100).await;
    http.write(b"{\"resourceLogs\":").await.unwrap();
    tokio::time::pause();
    let answer = http.answer().await;
    tokio::time::resume();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert!(answer.json()["message"].as_str().unwrap().contains("in time"));
    say(&sealer.channel, "a", ["others are served".to_owned()]).await;
    assert_eq!(read(sealer).await.bodies("a"), ["others are served"]);
}
