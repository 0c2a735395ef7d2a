//! gRPC between the roles: on loopback or a Unix socket, with bounds on both ends.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::stream;
use tonic::transport::server::Router;
use tonic::transport::{Channel, Endpoint, Server};

use crate::Shutdown;
use crate::connections::Connections;
use crate::listen::{Address, Listener, Local};

/// The longest call between roles that does not say otherwise. A role that waits for a slow outside party
/// answers its caller within this, one way or the other.
pub const CALL: Duration = Duration::from_secs(60);

const CONNECT: Duration = Duration::from_secs(3);

/// Connections at once; more wait to be accepted. A role of ours opens one or two to each neighbour, an exporter of another
/// container as many.
const CONNECTIONS: usize = 256;

/// Requests that one connection may have open at once.
const STREAMS: u32 = 1024;

/// A channel that connects when it is first used and again whenever it must: the other role may start later
/// or restart at any time.
#[must_use]
pub fn channel(to: &Local) -> Channel {
    let uri = match to.address() {
        Address::Tcp(address) => format!("http://{address}"),
        Address::Unix(path) => format!("unix://{}", path.display()),
    };
    Endpoint::from_shared(uri)
        .expect("a parsed address is a URI: an IP and a port, or an absolute path")
        .connect_timeout(CONNECT)
        .timeout(CALL)
        .tcp_nodelay(true)
        .connect_lazy()
}

/// A server with this project's bounds; add services to it, then [`serve`] it.
#[must_use]
pub fn server() -> Server {
    Server::builder()
        .timeout(CALL)
        .max_concurrent_streams(STREAMS)
        .concurrency_limit_per_connection(1024)
}

/// Serves until the signal to stop, then finishes what runs.
///
/// # Errors
///
/// The transport failed as a whole.
pub async fn serve(
    router: Router,
    listener: Listener,
    shutdown: &Shutdown,
) -> Result<(), tonic::transport::Error> {
    let incoming = stream::unfold(Connections::new(listener, CONNECTIONS), |incoming| async move {
        let connection = incoming.next().await;
        Some((Ok::<_, Infallible>(connection), incoming))
    });
    // boxed: it is long, and is part of every role's own
    Box::pin(router.serve_with_incoming_shutdown(incoming, shutdown.fired())).await
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Request, Response, Status};
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::health_server::{Health, HealthServer};
    use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

    use super::*;

    /// A service whose handler has a mistake.
    struct Panics;

    #[tonic::async_trait]
    impl Health for Panics {
        async fn check(
            &self,
            request: Request<HealthCheckRequest>,
        ) -> Result<Response<HealthCheckResponse>, Status> {
            assert_ne!(request.get_ref().service, "panic", "on purpose");
            let status = ServingStatus::Serving.into();
            Ok(Response::new(HealthCheckResponse { status }))
        }

        type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

        async fn watch(
            &self,
            _: Request<HealthCheckRequest>,
        ) -> Result<Response<Self::WatchStream>, Status> {
            Ok(Response::new(tokio_stream::empty()))
        }
    }

    /// A mistake in one handler is told to its caller, and the process answers on.
    #[tokio::test]
    async fn a_handler_that_panics_ends_its_call_only() {
        let folder = tempfile::tempdir().unwrap();
        let local: Local = format!("unix:{}/s", folder.path().display()).parse().unwrap();
        let listener = Listener::bind(local.address()).await.unwrap();
        let (shutdown, router) =
            (Shutdown::default(), server().add_service(HealthServer::new(Panics)));
        let stop = shutdown.clone();
        let served = tokio::spawn(async move { serve(router, listener, &stop).await });
        let ask = async |service: &str| {
            let request = HealthCheckRequest { service: service.to_owned() };
            HealthClient::new(channel(&local)).check(request).await
        };
        for _ in 0..3 {
            let failed = ask("panic").await.unwrap_err();
            assert_ne!(failed.code(), Code::Ok);
            assert!(ask("").await.is_ok());
        }
        shutdown.fire();
        tokio::time::timeout(Duration::from_secs(10), served).await.unwrap().unwrap().unwrap();
    }
}
