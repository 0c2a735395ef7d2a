//! Accepting clients: TLS handshake, then HTTP, until one of the two ends or it is time to stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use service::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::connection::Connection;
use crate::route::Router;
use crate::tls::Channel;
use crate::tls::rotation::Current;

/// Connections that may be open at once. Further ones wait in the kernel's queue.
const MAX_CONNECTIONS: u32 = 8192;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a client may take to send a request's head.
const HEAD: Duration = Duration::from_secs(30);

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// Requests that one HTTP/2 connection may have open at once.
const STREAMS: u32 = 256;

/// How long open requests may take to end once it is time to stop.
const DRAIN: Duration = Duration::from_secs(20);

/// Accepts until the signal to stop, then lets open requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Current>,
    router: Arc<Router>,
    shutdown: Shutdown,
) {
    let open = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let mut stop = std::pin::pin!(shutdown.fired());
    loop {
        let accept = async {
            let permit = open.clone().acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, router, shutdown) = (tls.clone(), router.clone(), shutdown.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            match tls {
                None => http(stream, Connection::new(peer, None), router, shutdown, None).await,
                Some(current) => secured(stream, peer, &current, router, shutdown).await,
            }
        });
    }
    drop(listener);
    let all = open.acquire_many(MAX_CONNECTIONS);
    if tokio::time::timeout(DRAIN, all).await.is_err() {
        tracing::warn!("open requests were cut off");
    }
}

async fn secured(
    stream: TcpStream,
    peer: SocketAddr,
    current: &Current,
    router: Arc<Router>,
    shutdown: Shutdown,
) {
    let leaf = current.leaf();
    let handshake = TlsAcceptor::from(leaf.config.clone()).accept(stream);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, handshake).await else { return };
    // A connection ends with its certificate, so that no proof outlives what it was about.
    let left = leaf.not_after.saturating_sub(service::clock::unix_now());
    let channel = Channel::of(stream.get_ref().1, leaf);
    let connection = Connection::new(peer, Some(channel));
    http(stream, connection, router, shutdown, Some(Duration::from_secs(left))).await;
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: Connection,
    router: Arc<Router>,
    shutdown: Shutdown,
    life: Option<Duration>,
) {
    let connection = Arc::new(connection);
    let service = service_fn(|request| {
        let answer = router.clone().answer(connection.clone(), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    let mut http = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let end_of_life = async {
        match life {
            Some(life) => tokio::time::sleep(life).await,
            None => std::future::pending().await,
        }
    };
    // An error here is the client's or the network's; a framing error may hold a credential or a prompt, so its
    // text goes nowhere.
    tokio::select! {
        _ = &mut http => return,
        () = shutdown.fired() => {}
        () = end_of_life => {}
    }
    http.as_mut().graceful_shutdown();
    let _ = http.await;
}
