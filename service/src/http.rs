//! HTTP/1.1 on a local listener, with the bounds that keep one caller from taking everything: connections,
//! headers, and the time that either may take.
//!
//! Must not know routes. A caller that goes away takes its request with it: the answer's future is dropped.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;

use crate::Shutdown;
use crate::connections::Connections;
use crate::listen::Listener;

/// A whole answer.
pub type Answer = Response<Full<Bytes>>;

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 256;

/// How long a request's headers may take to arrive, and an idle connection may stay.
const HEADERS: Duration = Duration::from_secs(30);

/// The most bytes of a request's headers.
const HEADER_BYTES: usize = 64 * 1024;

/// Serves until the signal to stop, then finishes what runs.
pub async fn serve<H, A>(listener: Listener, shutdown: &Shutdown, handler: H)
where
    H: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let connections = TaskTracker::new();
    let arriving = Connections::new(listener, CONNECTIONS);
    let mut stop = pin!(shutdown.fired());
    loop {
        let stream = tokio::select! {
            () = &mut stop => break,
            stream = arriving.next() => stream,
        };
        let (handler, stop) = (handler.clone(), shutdown.fired());
        connections.spawn(connection(stream, handler, stop));
    }
    drop(arriving);
    connections.close();
    connections.wait().await;
}

async fn connection<S, H, A>(stream: S, handler: H, stop: impl Future<Output = ()>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<Incoming>) -> A,
    A: Future<Output = Answer>,
{
    let answer = service_fn(|request| {
        let answer = handler(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), answer)
    );
    // How a connection ends is its caller's business.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(address: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A connection that ends without an answer may also be reset.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    /// A mistake in one handler costs its connection, and nobody else.
    #[tokio::test]
    async fn a_handler_that_panics_ends_its_connection_only() {
        let local: crate::listen::Local = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(local.address()).await.unwrap();
        let address = listener.address().to_string();
        let shutdown = Shutdown::default();
        let stop = shutdown.clone();
        let handler = |request: Request<Incoming>| async move {
            assert_ne!(request.uri().path(), "/panic", "on purpose");
            Answer::default()
        };
        let served = tokio::spawn(async move { serve(listener, &stop, handler).await });
        for _ in 0..3 {
            assert_eq!(get(&address, "/panic").await, "");
            assert!(get(&address, "/").await.starts_with("HTTP/1.1 200 "));
        }
        shutdown.fire();
        tokio::time::timeout(Duration::from_secs(10), served).await.unwrap().unwrap();
    }
}
