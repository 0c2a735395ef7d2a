//! Senders of log records, as an OpenTelemetry SDK would be one.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tonic::Status;
use tonic::transport::Channel;

pub(crate) fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.to_owned())) }
}

pub(crate) fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(text(value)), ..KeyValue::default() }
}

pub(crate) fn record(body: &str) -> LogRecord {
    LogRecord {
        time_unix_nano: 1_700_000_000_000_000_001,
        severity_number: 9,
        severity_text: "INFO".to_owned(),
        body: Some(text(body)),
        attributes: vec![attribute("test.attribute", "its value")],
        ..LogRecord::default()
    }
}

/// Records of one source.
pub(crate) fn request(
    service: &str,
    records: impl IntoIterator<Item = LogRecord>,
) -> ExportLogsServiceRequest {
    let resource =
        Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() };
    let scope = ScopeLogs { log_records: records.into_iter().collect(), ..ScopeLogs::default() };
    let logs = ResourceLogs {
        resource: Some(resource),
        scope_logs: vec![scope],
        ..ResourceLogs::default()
    };
    ExportLogsServiceRequest { resource_logs: vec![logs] }
}

pub(crate) async fn export(
    channel: &Channel,
    request: ExportLogsServiceRequest,
) -> Result<(), Status> {
    let answer = LogsServiceClient::new(channel.clone()).export(request).await?.into_inner();
    assert_eq!(answer.partial_success, None);
    Ok(())
}

/// Sends one record after the other, each in its own request.
pub(crate) async fn say(
    channel: &Channel,
    service: &str,
    bodies: impl IntoIterator<Item = String>,
) {
    for body in bodies {
        export(channel, request(service, [record(&body)])).await.unwrap();
    }
}

/// A body that fills a segment of the smallest size.
pub(crate) fn long(name: &str) -> String {
    format!("{name} {}", "x".repeat(5000))
}
