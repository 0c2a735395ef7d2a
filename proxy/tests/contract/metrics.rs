//! Metrics, as an operator's Prometheus reads them, and as `log-sealer` gets them.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;

use crate::support::{Bench, K1, K2, Setup, chat, get, post};

fn shown(bench: &Bench, path: &str) -> String {
    let mut stream = UnixStream::connect(bench.path("metrics.sock")).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn start() -> Bench {
    let setup = Setup::new();
    let socket = format!("unix:{}", setup.path("metrics.sock"));
    setup.set("PROXY_METRICS_LISTEN", &socket).start()
}

#[test]
fn what_happened_is_counted() {
    let bench = start();
    bench.send(get("/health", ""));
    for _ in 0..6 {
        bench.chat(K2);
    }
    bench.chat("bad");
    bench.upstream.does(|_, _| false);
    bench.chat(K1);
    let text = shown(&bench, "/metrics");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    for line in [
        r#"http_server_request_duration_seconds_count{http_route="/health",status="2xx"} 1"#,
        r#"http_server_request_duration_seconds_count{http_route="upstream",status="2xx"} 5"#,
        r#"proxy_limits_exceeded_total{limit="key"} 1"#,
        r#"proxy_upstream_errors_total{error_type="unreachable"} 1"#,
        r#"gen_ai_server_time_to_first_token_seconds_count{gen_ai_operation_name="chat",status="2xx"} 5"#,
        r#"gen_ai_server_request_duration_seconds_count{gen_ai_operation_name="chat",status="2xx"} 5"#,
        "proxy_answers_in_flight 0",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(shown(&bench, "/").starts_with("HTTP/1.1 404"));
}

/// Whatever a client sends, nothing of it is read there, and no series is made of it.
#[test]
fn nothing_of_a_request_is_shown() {
    let bench = start();
    bench.chat(K1);
    let lines = shown(&bench, "/metrics").lines().count();
    for n in 0..20 {
        let key = format!("X-API-Key: {K1}\r\nX-Canary: CANARY{n}\r\n");
        let body = format!(r#"{{"model":"CANARY{n}","messages":[{{"content":"CANARY{n}"}}]}}"#);
        bench.send(post("/v1/chat/completions", &key, &body));
        bench.send(get(&format!("/v1/CANARY{n}"), &key));
        bench.send(format!("CANARY{n} /v1/x HTTP/1.1\r\nHost: CANARY{n}\r\n{key}\r\n"));
        bench.send(chat(&format!("Authorization: Bearer CANARY{n}\r\n")));
    }
    let text = shown(&bench, "/metrics");
    assert!(
        !text.contains("CANARY") && !text.contains("test_key_1") && !text.contains("127.0.0.1")
    );
    assert!(text.lines().count() < lines + 150, "{text}");
}

/// What stands for `log-sealer`: it takes every other message.
struct Sealer {
    got: mpsc::Sender<ExportMetricsServiceRequest>,
    takes: std::sync::atomic::AtomicBool,
}

#[tonic::async_trait]
impl MetricsService for Sealer {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, tonic::Status> {
        let _ = self.got.send(request.into_inner());
        if self.takes.fetch_not(std::sync::atomic::Ordering::SeqCst) {
            Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
        } else {
            Err(tonic::Status::unavailable("busy"))
        }
    }
}

/// The sums of an export, by name: of all its points.
fn sums(export: &ExportMetricsServiceRequest) -> std::collections::BTreeMap<String, f64> {
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
    let [resource] = export.resource_metrics.as_slice() else { panic!("{export:?}") };
    let metrics = resource.scope_metrics.iter().flat_map(|scope| &scope.metrics);
    let sum = |data: &Data| match data {
        Data::Sum(sum) => sum
            .data_points
            .iter()
            .map(|point| match point.value {
                Some(Value::AsInt(whole)) => f64::from(i32::try_from(whole).unwrap()),
                Some(Value::AsDouble(double)) => double,
                None => panic!("{point:?}"),
            })
            .sum(),
        Data::Histogram(histogram) => {
            let counts = histogram.data_points.iter().map(|point| point.count);
            f64::from(u32::try_from(counts.sum::<u64>()).unwrap())
        }
        _ => 0.0,
    };
    metrics.map(|metric| (metric.name.clone(), sum(metric.data.as_ref().unwrap()))).collect()
}

/// They are sent from time to time, and at the end; what could not be sent is in what is sent next.
#[test]
fn log_sealer_is_sent_the_same() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let setup = Setup::new();
    let socket = setup.path("sealer.sock");
    let (got, exports) = mpsc::channel();
    let sealer = Sealer { got, takes: false.into() };
    let listener = {
        let _inside = runtime.enter();
        tokio::net::UnixListener::bind(&socket).unwrap()
    };
    let incoming = futures_util::stream::unfold(listener, |listener| async move {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    });
    let server = tonic::transport::Server::builder()
        .add_service(MetricsServiceServer::new(sealer))
        .serve_with_incoming(incoming);
    runtime.spawn(server);
    let mut bench = setup
        .set("LOG_SEALER", &format!("unix:{socket}"))
        .set("PROXY_METRICS_SECONDS", "1")
        .start();
    bench.chat(K1);
    let next = || exports.recv_timeout(Duration::from_secs(30)).unwrap();
    let calls = "gen_ai.server.request.duration";
    let mut export = next();
    while sums(&export).get(calls) != Some(&1.0) {
        export = next();
    }
    let resource = export.resource_metrics[0].resource.clone().unwrap();
    let names: Vec<_> = resource.attributes.iter().map(|one| one.key.as_str()).collect();
    assert_eq!(names, ["service.name", "service.version", "service.instance.id"]);
    while sums(&export).get("proxy.metrics.unsent").is_none_or(|unsent| *unsent < 1.0) {
        export = next();
    }
    assert_eq!(sums(&export)["gen_ai.client.token.usage"], 30.0);
    bench.chat(K1);
    assert_eq!(bench.process.stop(), 0);
    let last = exports.try_iter().last().unwrap();
    assert_eq!(sums(&last)[calls], 2.0, "at the end, all of it");
}
