//! A server for the fakes: HTTP/1.1, over TLS if there is a configuration for it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub(crate) type Answer = Response<Full<Bytes>>;

/// Answers every request until the test ends.
pub(crate) async fn serve<A>(
    tls: Option<Arc<rustls::ServerConfig>>,
    answer: impl Fn(Request<Bytes>) -> A + Clone + Send + Sync + 'static,
) -> SocketAddr
where
    A: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, answer) = (tls.clone(), answer.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let answer = answer.clone();
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = service::body::read(body, 1 << 20).await.unwrap_or_default();
                        Ok::<_, Infallible>(answer(Request::from_parts(parts, body)).await)
                    }
                });
                let server = http1::Builder::new();
                let _ = match tls {
                    None => server.serve_connection(TokioIo::new(stream), service).await,
                    Some(tls) => match TlsAcceptor::from(tls).accept(stream).await {
                        Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
                        Err(_) => Ok(()),
                    },
                };
            });
        }
    });
    address
}

/// An answer with this status and body.
pub(crate) fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    Response::builder().status(status).body(Full::new(body.into())).unwrap()
}
