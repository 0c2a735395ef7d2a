//! One accept loop for every HTTP simulator, in the clear or over TLS.
//!
//! Must not know: the routes. Connections are bounded, handshakes and request heads have a
//! deadline, and a stop ends everything within half a second, stalled calls included.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that are served at a time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 512;
const HANDSHAKE: Duration = Duration::from_secs(10);
const REQUEST_HEAD: Duration = Duration::from_secs(15);
/// What a running request gets after a stop.
const GRACE: Duration = Duration::from_millis(400);

/// A running server. Dropping it, or [`Server::stop`], ends it and all its connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Where it listens, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` or `https://` with the address; over TLS the certificate names the address only
    /// when the caller asked for it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Ends the server and waits until its last connection is gone.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Binds an address; port 0 takes a free one.
///
/// # Errors
/// The kernel's, for example when the port is taken.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves `app` on a bound listener, over TLS when a configuration is given.
///
/// # Errors
/// When the listener has no address.
pub fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    app: Router,
) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let acceptor = tls.map(TlsAcceptor::from);
    tasks.spawn(accept(listener, acceptor, app, stop.clone(), tasks.clone()));
    tasks.close();
    Ok(Server { address, scheme, stop, tasks })
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    app: Router,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => return,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        // A failed accept concerns that one connection, or passes when descriptors are free.
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (acceptor, app, stop) = (acceptor.clone(), app.clone(), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            match acceptor {
                None => connection(stream, app, stop).await,
                Some(acceptor) => secure(stream, acceptor, app, stop).await,
            }
        });
    }
}

async fn secure(stream: TcpStream, acceptor: TlsAcceptor, app: Router, stop: CancellationToken) {
    let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
    let finished = tokio::select! {
        () = stop.cancelled() => return,
        finished = handshake => finished,
    };
    if let Ok(Ok(stream)) = finished {
        connection(stream, app, stop).await;
    }
}

/// How a connection ends is the peer's affair; a simulator has nobody to tell.
async fn connection<S>(stream: S, app: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(REQUEST_HEAD);
    builder.http2().timer(TokioTimer::new());
    let service = TowerToHyperService::new(app);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(GRACE, connection).await;
}
