//! `pmc connect`: a local HTTP server that any OpenAI client uses as its base URL, and that sends nothing before
//! the other end is verified.
//!
//! It listens on loopback only. Bodies flow through both ways as they come; when the client goes away, its
//! request to the server is cancelled.

mod refusal;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use attestation::connection::ProvenConnection;
use http::header::{
    ALT_SVC, CONNECTION, HOST, HeaderName, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    REFRESH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::connection::{ConnectError, Connector, RequestBody, Target, Unanswered};
use crate::forwarder::refusal::Refusal;
use crate::pool::Pool;

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

/// The forwarder, listening and verified.
pub struct Forwarder {
    listener: TcpListener,
    pool: Arc<Pool>,
    proof: Arc<ProvenConnection>,
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
    /// The server is not the attested group that is meant.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl Forwarder {
    /// Verifies the server first, then listens.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn start(connector: Connector, listen: SocketAddr) -> Result<Self, StartError> {
        if !listen.ip().is_loopback() {
            return Err(StartError::NotLocal(listen));
        }
        let connection = connector.connect().await?;
        let listener =
            TcpListener::bind(listen).await.map_err(|error| StartError::Bind(listen, error))?;
        let proof = connection.proof().clone();
        Ok(Self { listener, pool: Pool::with(connector, connection), proof })
    }

    /// The proof that it started with.
    #[must_use]
    pub fn proof(&self) -> &ProvenConnection {
        &self.proof
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
            let pool = self.pool.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let service = service_fn(|request| {
                    let pool = pool.clone();
                    async move { Ok::<_, Infallible>(answer(&pool, request).await) }
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

async fn answer(pool: &Pool, request: Request<Incoming>) -> Response<RequestBody> {
    match forward(pool, request).await {
        Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
        Err(refusal) => refusal.response(),
    }
}

async fn forward(pool: &Pool, request: Request<Incoming>) -> Result<Response<Incoming>, Refusal> {
    let local = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    if !local.is_some_and(is_loopback) {
        return Err(Refusal::ForeignHost);
    }
    let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
    strip(request.headers_mut());
    let mut response = send(pool, request).await?;
    strip(response.headers_mut());
    keep_here(response.headers_mut(), pool.connector().target())?;
    *response.version_mut() = http::Version::HTTP_11;
    Ok(response)
}

/// A client that follows a redirect must not leave the forwarder with its prompt: a `Location` at the server itself
/// becomes a path here, any other one is refused.
fn keep_here(headers: &mut HeaderMap, server: &Target) -> Result<(), Refusal> {
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
        headers.insert(LOCATION, path.parse().map_err(|_| Refusal::Elsewhere)?);
        Ok(())
    } else {
        Err(Refusal::Elsewhere)
    }
}

/// Sends on an attested connection; once more on a new one if the first had just gone and not a byte was sent.
async fn send(pool: &Pool, request: Request<RequestBody>) -> Result<Response<Incoming>, Refusal> {
    let target = pool.connector().target();
    match pool.sender().await?.send(target, request).await {
        Ok(response) => Ok(response),
        Err(Unanswered { unsent: None, .. }) => Err(Refusal::BrokenOff),
        Err(Unanswered { unsent: Some(request), .. }) => {
            let again = pool.sender().await?.send(target, request).await;
            again.map_err(|_| Refusal::BrokenOff)
        }
    }
}

/// A page of the web whose name was made to resolve to loopback still sends its own name as Host.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "127.0.0.1" | "localhost" | "[::1]")
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
            keep_here(&mut headers, &server).ok().map(|()| headers[LOCATION].clone())
        };
        assert_eq!(kept("/v1/x?y").unwrap(), "/v1/x?y");
        assert_eq!(kept("https://group.example:8443/v1/x").unwrap(), "/v1/x");
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

    #[test]
    fn only_names_of_this_machine_are_local() {
        for good in ["127.0.0.1:8787", "localhost", "localhost:1", "[::1]:8787", "[::1]"] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in ["evil.example", "evil.example:8787", "127.0.0.1.evil.example", "127.0.0.1@evil"]
        {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
