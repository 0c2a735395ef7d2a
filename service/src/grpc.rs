//! gRPC between the roles: on loopback or a Unix socket, with bounds on both ends.

use std::time::Duration;

use tonic::transport::server::Router;
use tonic::transport::{Channel, Endpoint, Server};

use crate::Shutdown;
use crate::listen::{Address, Listener, Local};

/// The longest call between roles that does not say otherwise. A role that waits for a slow outside party
/// answers its caller within this, one way or the other.
pub const CALL: Duration = Duration::from_secs(60);

const CONNECT: Duration = Duration::from_secs(3);

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
        .tcp_nodelay(true)
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
    let stop = shutdown.fired();
    match listener {
        Listener::Tcp(listener) => {
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            router.serve_with_incoming_shutdown(incoming, stop).await
        }
        Listener::Unix(listener, _) => {
            let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
            router.serve_with_incoming_shutdown(incoming, stop).await
        }
    }
}
