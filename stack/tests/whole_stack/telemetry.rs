//! The OpenTelemetry SDK for Python, unmodified, by gRPC and by HTTP: what it sends comes out at the reader once, and in
//! order. What it sends is in `python/tests/telemetry_list.py`.

use std::time::Duration;

use serde_json::{Value, json};
use stack::RoleName;

use crate::support::python::Python;
use crate::support::{Running, pmc, start, text};

/// How long the SDK may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn what_the_python_sdk_sends_comes_out_once_and_in_order() {
    let Some(python) = Python::with_openai().await else { return };
    let running = start().await;
    let group = &running.stack.group;
    let grpc = format!("unix:{}", group.places().socket(RoleName::LogSealer).display());
    let http =
        format!("http://{}", group.info(RoleName::LogSealer).await.unwrap().listening["http"]);
    let mut list = python.command("telemetry_list.py");
    list.args([&grpc, &http]);
    let output = tokio::time::timeout(PATIENCE, list.output()).await.unwrap().unwrap();
    assert!(output.status.success() && output.stdout == b"ok\n", "{}", text(&output));

    let log = group.places().sealed_logs().display().to_string();
    let mut words =
        ["logs", "open", &log, "--format", "json", "--identity"].map(str::to_owned).to_vec();
    words.push(running.path("reader.txt"));
    words.extend(running.trusting());
    let Running { stack, folder, .. } = running;
    assert!(stack.stop().await.is_empty());
    let opened = pmc(&words).await;
    assert_eq!(opened.status.code(), Some(0), "{}", String::from_utf8_lossy(&opened.stderr));
    drop(folder);

    let lines = String::from_utf8(opened.stdout).unwrap();
    let documents: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for service in ["python-grpc", "python-http"] {
        let records = items(&documents, service, ["resourceLogs", "scopeLogs", "logRecords"]);
        let numbers = records.iter().map(|record| &record["body"]["stringValue"]);
        assert!(
            numbers.eq((0..1000).map(|n| json!(format!("record {n}"))).collect::<Vec<_>>().iter())
        );
        let spans = items(&documents, service, ["resourceSpans", "scopeSpans", "spans"]);
        let names: Vec<_> = spans.iter().map(|span| &span["name"]).collect();
        assert_eq!(names, ["inner", "outer"], "{service}");
        let metrics = items(&documents, service, ["resourceMetrics", "scopeMetrics", "metrics"]);
        assert!(!metrics.is_empty(), "{service}");
        for metric in metrics {
            assert_eq!(metric["name"], "calls");
            assert_eq!(metric["sum"]["dataPoints"][0]["asInt"], "2");
        }
    }
}

/// What a service said of one signal, in order.
fn items<'a>(documents: &'a [Value], service: &str, path: [&str; 3]) -> Vec<&'a Value> {
    let [resources, scopes, items] = path;
    let list = |value: &'a Value, name: &str| value[name].as_array().into_iter().flatten();
    let named = |resource: &&Value| {
        let name = json!({"key": "service.name", "value": {"stringValue": service}});
        resource["resource"]["attributes"].as_array().unwrap().contains(&name)
    };
    let resources = documents.iter().flat_map(|document| list(document, resources)).filter(named);
    resources.flat_map(|one| list(one, scopes)).flat_map(|scope| list(scope, items)).collect()
}
