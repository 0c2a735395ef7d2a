//! `pmc connect`: a local HTTP server that any OpenAI client uses as its base URL, and that sends nothing before
//! the other end is verified.
//!
//! It listens on loopback only. Bodies flow through both ways as they come; when the client goes away, its
//! request to the server is cancelled.

mod gate;
mod refusal;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALT_SVC, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, LOCATION, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, REFERER, REFRESH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::attested::AttestedClient;
use crate::connection::RequestBody;
use crate::forwarder::gate::Admitted;
use crate::forwarder::refusal::Refusal;
use crate::target::Target;

pub use gate::{NotAToken, Token};

/// Local connections that may be open at once.
const MAX_CONNECTIONS: usize = 1024;

/// How long a client may take to send a request's head.
const HEAD: Duration = Duration::from_secs(30);

/// Headers of one hop (RFC 9110, 7.6.1); HTTP/2 has none of them (RFC 9113, 8.2.2).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A port on loopback. Nobody is answered on it before it is part of a [`Forwarder`].
pub struct Port(TcpListener);

/// The forwarder, listening; its client is verified.
pub struct Forwarder {
    listener: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    client: AttestedClient,
    token: Option<Token>,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is not on loopback: whoever reached it would use this machine's verdict.
    #[error("{0} is not on loopback; listen on 127.0.0.1 or [::1]")]
    NotLocal(SocketAddr),
    /// The address cannot be bound.
    #[error("cannot listen on {0}")]
    Bind(SocketAddr, #[source] std::io::Error),
}

impl Port {
    /// Takes a port.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn bind(listen: SocketAddr) -> Result<Self, StartError> {
        if !listen.ip().is_loopback() {
            return Err(StartError::NotLocal(listen));
        }
        let listener = TcpListener::bind(listen).await;
        listener.map(Self).map_err(|error| StartError::Bind(listen, error))
    }
}

impl Forwarder {
    /// Listens on behalf of a client, whose server is verified. With a token, only for who knows it.
    #[must_use]
    pub fn new(port: Port, client: AttestedClient, token: Option<Token>) -> Self {
        Self { listener: port.0, shared: Arc::new(Shared { client, token }) }
    }

    /// Where it listens, with the port that the kernel chose.
    ///
    /// # Errors
    ///
    /// The socket has no address any more.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the future is dropped.
    pub async fn serve(self) {
        let open = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let permit = open.clone().acquire_owned().await.expect("the semaphore is never closed");
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let shared = self.shared.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let service = service_fn(|request| {
                    let shared = shared.clone();
                    async move { Ok::<_, Infallible>(shared.answer(request).await) }
                });
                // An error here is the local client's.
                let _ = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<RequestBody> {
        match self.forward(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        }
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<Response<RequestBody>, Refusal> {
        let (mut parts, body) = request.into_parts();
        let Admitted { prefix, path } = gate::admit(&parts, self.token.as_ref())?;
        if parts.method == Method::GET && path.path() == "/attestation" {
            return Ok(verdict(&self.client));
        }
        strip(&mut parts.headers);
        // The URL of a page here, with the token in it.
        parts.headers.remove(REFERER);
        parts.uri = path.into();
        let mut response = self.client.send(Request::from_parts(parts, body)).await?;
        strip(response.headers_mut());
        keep_here(response.headers_mut(), self.client.target(), &prefix)?;
        *response.version_mut() = http::Version::HTTP_11;
        Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}

/// How the server was last judged. The server's own page of that name says nothing that a local program could believe.
fn verdict(client: &AttestedClient) -> Response<RequestBody> {
    let body = Full::new(Bytes::from(client.verdict()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A client that follows a redirect must not leave the forwarder with its prompt: a `Location` at the server itself
/// becomes a path here, any other one is refused.
fn keep_here(headers: &mut HeaderMap, server: &Target, prefix: &str) -> Result<(), Refusal> {
    for name in [ALT_SVC, REFRESH] {
        headers.remove(name);
    }
    let Some(location) = headers.get(LOCATION).cloned() else { return Ok(()) };
    let own = server.to_string();
    let text = location.to_str().map_err(|_| Refusal::Elsewhere)?;
    let path = text.strip_prefix(&own).unwrap_or(text);
    // Browsers and Node leave tabs away, so that "/<tab>/" begins a server's name.
    let plain = !path.contains(['\\', '\t']);
    if path.starts_with('/') && !path.starts_with("//") && plain {
        let here = format!("{prefix}{path}").parse().map_err(|_| Refusal::Elsewhere)?;
        headers.insert(LOCATION, here);
        Ok(())
    } else {
        Err(Refusal::Elsewhere)
    }
}

fn strip(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in nominated.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_stays_with_the_server_or_is_refused() {
        let server: Target = "https://group.example:8443".parse().unwrap();
        let kept = |location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location.parse().unwrap());
            keep_here(&mut headers, &server, "/token").ok().map(|()| headers[LOCATION].clone())
        };
        assert_eq!(kept("/v1/x?y").unwrap(), "/token/v1/x?y");
        assert_eq!(kept("https://group.example:8443/v1/x").unwrap(), "/token/v1/x");
        for elsewhere in [
            "http://group.example:8443/v1",
            "https://group.example:8443.evil.example/",
            "https://group.example:8443@evil.example/",
            "//evil.example/",
            "/\\evil.example",
            "/\t/evil.example/",
            "https://evil.example/",
            "v1/relative",
        ] {
            assert_eq!(kept(elsewhere), None, "{elsewhere}");
        }
    }
}
