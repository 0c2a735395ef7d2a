//! `grpc.health.v1` of a role, and the question that `healthcheck` asks it.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::server::HealthReporter;

use crate::BoxError;
use crate::grpc;
use crate::listen::{Address, Local};

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

/// Where a role says whether it is ready.
#[derive(Clone, Copy, Debug)]
pub enum Probe<'a> {
    /// By `grpc.health.v1`.
    Grpc(&'a Local),
    /// By 200 at `GET /status`: it answers no gRPC.
    Status(&'a Local),
}

impl<'a> Probe<'a> {
    /// The address that is asked.
    #[must_use]
    pub fn address(self) -> &'a Local {
        match self {
            Self::Grpc(local) | Self::Status(local) => local,
        }
    }
}

/// Asks a running role whether it is ready.
pub(crate) async fn ask(role: Probe<'_>) -> Result<(), BoxError> {
    let ready = async {
        match role {
            Probe::Grpc(local) => says_serving(local).await,
            Probe::Status(local) => says_ok(local).await,
        }
    };
    let ready = tokio::time::timeout(ASK, ready).await;
    if ready.map_err(|_| "no answer to the health check")?? {
        Ok(())
    } else {
        Err("not ready".into())
    }
}

async fn says_serving(role: &Local) -> Result<bool, BoxError> {
    let mut client = HealthClient::new(grpc::channel(role));
    let request = HealthCheckRequest { service: String::new() };
    let answer = client.check(request).await?.into_inner();
    Ok(answer.status == health_check_response::ServingStatus::Serving as i32)
}

async fn says_ok(role: &Local) -> Result<bool, BoxError> {
    Ok(match role.address() {
        Address::Tcp(address) => status_of(TcpStream::connect(address).await?).await?,
        Address::Unix(path) => status_of(UnixStream::connect(path).await?).await?,
    })
}

/// The first line of the answer says all there is to know.
async fn status_of(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<bool> {
    const REQUEST: &[u8] = b"GET /status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    const OK: &[u8; 13] = b"HTTP/1.1 200 ";
    let mut status = [0; OK.len()];
    stream.write_all(REQUEST).await?;
    stream.read_exact(&mut status).await?;
    Ok(status == *OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A role without gRPC that answers one question with this line.
    async fn role(line: &'static str) -> Local {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap().to_string().parse().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 20];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"GET /status HTTP/1.1");
            stream.write_all(line.as_bytes()).await.unwrap();
        });
        local
    }

    #[tokio::test]
    async fn a_role_without_grpc_is_ready_if_its_status_is() {
        assert!(ask(Probe::Status(&role("HTTP/1.1 200 OK\r\n\r\n").await)).await.is_ok());
        assert!(ask(Probe::Status(&role("HTTP/1.1 503 No\r\n\r\n").await)).await.is_err());
        assert!(ask(Probe::Status(&role("HTTP").await)).await.is_err());
    }
}
