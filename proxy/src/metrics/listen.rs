//! `GET /metrics`, on an address that nobody outside the group can reach.
//!
//! Must not know what is counted.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use service::Shutdown;
use service::listen::Listener;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::Metrics;

/// Connections that may be open at once. Further ones wait.
const MAX_CONNECTIONS: usize = 16;

/// How long one may be open.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(10);

/// Answers until it is time to stop.
pub(crate) async fn serve(listener: Listener, metrics: Arc<Metrics>, shutdown: Shutdown) {
    let open = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut stop = std::pin::pin!(shutdown.fired());
    loop {
        let metrics = metrics.clone();
        let accepted = async {
            let permit = open.clone().acquire_owned().await.expect("the semaphore is never closed");
            match &listener {
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    tokio::spawn(async move {
                        connection(stream, metrics).await;
                        drop(permit);
                    });
                }),
                Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                    tokio::spawn(async move {
                        connection(stream, metrics).await;
                        drop(permit);
                    });
                }),
            }
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => return,
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "a connection for metrics could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    metrics: Arc<Metrics>,
) {
    let service = service_fn(|request| {
        let answer = answer(&request, &metrics);
        async { Ok::<_, Infallible>(answer) }
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(LONGEST, http).await;
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let refused = |status, why: &'static str| {
        let mut response = Response::new(Full::from(why));
        *response.status_mut() = status;
        response
    };
    match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            let mut response = Response::new(Full::from(metrics.text()));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        }
        ("/metrics", _) => refused(StatusCode::METHOD_NOT_ALLOWED, "GET only\n"),
        _ => refused(StatusCode::NOT_FOUND, "metrics are at /metrics\n"),
    }
}
