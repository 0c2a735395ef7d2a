//! `grpc.health.v1` of a role, and the question that `healthcheck` asks it.

use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::server::HealthReporter;

use crate::BoxError;
use crate::grpc;
use crate::listen::Local;

const ASK: Duration = Duration::from_secs(3);

/// What a role says about itself. Clones speak for the same role. It starts as not serving.
#[derive(Clone, Debug)]
pub struct Health(HealthReporter);

impl Health {
    pub(crate) async fn new() -> Self {
        let health = Self(HealthReporter::new());
        health.not_ready().await;
        health
    }

    /// The service to add to the role's gRPC server.
    #[must_use]
    pub fn service(&self) -> HealthServer<impl HealthService + use<>> {
        HealthServer::new(tonic_health::server::HealthService::from_health_reporter(self.0.clone()))
    }

    /// It can do its work.
    pub async fn ready(&self) {
        self.0.set_service_status("", ServingStatus::Serving).await;
    }

    /// It runs, but cannot do its work.
    pub async fn not_ready(&self) {
        self.0.set_service_status("", ServingStatus::NotServing).await;
    }
}

/// Asks a running role whether it is ready.
pub(crate) async fn ask(role: &Local) -> Result<(), BoxError> {
    let mut client = HealthClient::new(grpc::channel(role));
    let request = HealthCheckRequest { service: String::new() };
    let answer = tokio::time::timeout(ASK, client.check(request))
        .await
        .map_err(|_| "no answer to the health check")??
        .into_inner();
    if answer.status == health_check_response::ServingStatus::Serving as i32 {
        Ok(())
    } else {
        Err("not ready".into())
    }
}
