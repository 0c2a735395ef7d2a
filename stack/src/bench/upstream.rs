//! A server behind the group that does next to nothing, so that it does not hide what the way to it costs.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{BenchError, io};

/// The body of every answer to a GET of [`DOWNLOAD`], in bytes.
pub(crate) const LARGE: usize = 4 * 1024 * 1024;

/// Answers [`LARGE`] bytes.
pub(crate) const DOWNLOAD: &str = "/v1/large";

/// Reads what it is sent and answers a few bytes, as an embedding or a short chat does.
pub(crate) const SHORT: &str = "/v1/chat/completions";

const ANSWER: &[u8] = br#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"A short answer."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}"#;

/// The running server.
pub(crate) struct Upstream {
    pub(crate) url: String,
    accepting: JoinHandle<()>,
}

impl Upstream {
    pub(crate) async fn start() -> Result<Self, BenchError> {
        let needs = "the upstream of the benchmark needs a port";
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(io(needs))?;
        let url = format!("http://{}", listener.local_addr().map_err(io(needs))?);
        let large = Bytes::from(vec![b'x'; LARGE]);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let large = large.clone();
                let service = service_fn(move |request| answer(request, large.clone()));
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { url, accepting })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    large: Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let download = *request.method() == Method::GET && request.uri().path() == DOWNLOAD;
    let mut body = request.into_body();
    // A body that breaks off is the sender's loss.
    while let Some(Ok(_)) = body.frame().await {}
    let answer = if download { large } else { Bytes::from_static(ANSWER) };
    Ok(Response::new(Full::new(answer)))
}
