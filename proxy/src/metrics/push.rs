//! Sends what is counted to `log-sealer` by OTLP/gRPC, from time to time and once more at the end.
//!
//! Requests never wait for it: it reads sums, and what cannot be sent is in the next ones. One message is at most about a
//! megabyte, since labels have bounds. Must not know what is counted.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use service::listen::Local;
use service::{Identity, Shutdown};
use tonic::transport::Channel;

use super::Metrics;
use super::otlp::{self, Stretch};

/// How long one message may take; the last of a process, which others wait for, less.
const PATIENCE: Duration = Duration::from_secs(10);
const LAST: Duration = Duration::from_secs(2);

/// Where to, and what for.
pub(crate) struct Push {
    client: MetricsServiceClient<Channel>,
    metrics: Arc<Metrics>,
    /// Whose they are.
    identity: Identity,
}

impl Push {
    /// To `log-sealer` at that address.
    pub(crate) fn new(sealer: &Local, metrics: Arc<Metrics>, identity: Identity) -> Self {
        let client = MetricsServiceClient::new(service::grpc::channel(sealer));
        Self { client, metrics, identity }
    }

    /// Sends until it is time to stop.
    pub(crate) async fn run(self, every: Duration, shutdown: Shutdown) {
        let mut stop = std::pin::pin!(shutdown.fired());
        let mut failed = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = &mut stop => {
                    self.send(LAST).await;
                    return;
                }
            }
            let sent = self.send(PATIENCE).await;
            if !sent && !failed {
                tracing::warn!(
                    "log-sealer takes no metrics; they are kept, and sent with the next"
                );
            }
            failed = !sent;
        }
    }

    /// Whether all of it arrived.
    async fn send(&self, patience: Duration) -> bool {
        let mut client = self.client.clone();
        let sent = tokio::time::timeout(patience, client.export(self.request())).await;
        let arrived = match sent {
            Ok(Ok(answer)) => {
                let partial = answer.into_inner().partial_success.unwrap_or_default();
                partial.rejected_data_points == 0
            }
            Ok(Err(_)) | Err(_) => false,
        };
        if !arrived {
            self.metrics.unsent();
        }
        arrived
    }

    fn request(&self) -> ExportMetricsServiceRequest {
        let Identity { role, version, boot_id, started, .. } = &self.identity;
        let nanos = |seconds: u64| seconds.saturating_mul(1_000_000_000);
        // The clock is the host's: one that goes back makes no stretch that ends before it begins.
        let to = service::clock::unix_now().max(*started);
        let stretch = Stretch { from: nanos(*started), to: nanos(to) };
        let attributes = [
            ("service.name", *role),
            ("service.version", *version),
            ("service.instance.id", boot_id.as_str()),
        ];
        let resource = Resource { attributes: attributes.map(text).into(), ..Resource::default() };
        let scope = InstrumentationScope {
            name: (*role).to_owned(),
            version: (*version).to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_metrics = ScopeMetrics {
            scope: Some(scope),
            metrics: otlp::metrics(&self.metrics.text(), stretch),
            ..ScopeMetrics::default()
        };
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(resource),
                scope_metrics: vec![scope_metrics],
                ..ResourceMetrics::default()
            }],
        }
    }
}

fn text((name, value): (&str, &str)) -> KeyValue {
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }),
        ..KeyValue::default()
    }
}
