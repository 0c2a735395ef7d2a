//! One connection, proved before it is used.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use attestation::bundle::Bundle;
use attestation::connection::{ConnectionError, ProvenConnection, judge};
use attestation::wire::{VerifyAnswer, VerifyRequest};
use attestation::{Anchors, Policy};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::{clock, tls};

/// A request's body on its way to the server.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// How long dialling with the handshake may take, and as long the proof after it.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest answer to a request for a proof, in bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// How long a proof stands, counting the time that this machine slept. Then the connection is proved again before the
/// next request.
pub const MAX_AGE: Duration = Duration::from_secs(15 * 60);

/// A server to reach: `https://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    authority: String,
    name: ServerName<'static>,
    host: String,
    port: u16,
}

/// Not the URL of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be https://host or https://host:port, without a path")]
pub struct NotATarget;

impl FromStr for Target {
    type Err = NotATarget;

    fn from_str(text: &str) -> Result<Self, NotATarget> {
        let url = Url::parse(text).map_err(|_| NotATarget)?;
        let bare = url.scheme() == "https"
            && matches!(url.path(), "/" | "")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let host = url.host().filter(|_| bare).ok_or(NotATarget)?;
        let dialled = match &host {
            Host::Domain(name) => (*name).to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let name = ServerName::try_from(dialled.clone()).map_err(|_| NotATarget)?;
        let port = url.port_or_known_default().ok_or(NotATarget)?;
        let authority =
            url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        Ok(Self { authority, name, host: dialled, port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

/// Why there is no attested connection. Nothing but a request for a proof was ever sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No TCP connection.
    #[error("{0} cannot be reached")]
    Unreachable(Target, #[source] std::io::Error),
    /// No TLS 1.3 with HTTP/2.
    #[error("{0} does not speak TLS 1.3 with HTTP/2, as an attested server does")]
    Tls(Target, #[source] std::io::Error),
    /// The connection broke off.
    #[error("the connection to {0} broke off")]
    Http(Target, #[source] hyper::Error),
    /// It does not prove itself: another status than 200, or an answer of another form.
    #[error("{target} does not prove itself: {what}")]
    NoProof {
        /// Who.
        target: Target,
        /// What it did instead.
        what: String,
    },
    /// Its proof is refused.
    #[error("the proof of {0} is refused")]
    Refused(Target, #[source] Box<ConnectionError>),
    /// It took too long.
    #[error("{0} did not prove itself in time")]
    TimedOut(Target),
}

impl ConnectError {
    /// Id of the first check that failed, if that is what happened.
    #[must_use]
    pub fn failed_check(&self) -> Option<&'static str> {
        match self {
            Self::Refused(_, error) => match error.as_ref() {
                ConnectionError::Rejected(rejected) => {
                    rejected.failures().next().map(|finding| finding.check.id)
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// Makes attested connections to one server.
#[derive(Clone)]
pub struct Connector {
    target: Target,
    anchors: Arc<Anchors>,
    policy: Arc<Policy>,
    tls: Arc<ClientConfig>,
}

impl Connector {
    /// Reaches `target` and nobody else; believes `anchors`; accepts what `policy` accepts.
    #[must_use]
    pub fn new(target: Target, anchors: Anchors, policy: Policy) -> Self {
        Self {
            target,
            anchors: Arc::new(anchors),
            policy: Arc::new(policy),
            tls: Arc::new(tls::client_config()),
        }
    }

    /// The server.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Dials, has the server prove the connection, judges the proof.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; the connection is closed then.
    pub async fn connect(&self) -> Result<AttestedConnection, ConnectError> {
        let unproven = self.unproven().await?;
        unproven.prove(self).await
    }

    /// The same, but hands out the recorded proof even if it is refused, for looking at it.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], if there is no proof to look at.
    pub async fn record(&self) -> Result<Bundle, ConnectError> {
        let mut unproven = self.unproven().await?;
        within(&self.target, unproven.take_proof(&self.target)).await
    }

    async fn unproven(&self) -> Result<Unproven, ConnectError> {
        within(&self.target, self.dial()).await
    }

    async fn dial(&self) -> Result<Unproven, ConnectError> {
        let target = &self.target;
        let stream = TcpStream::connect((target.host.as_str(), target.port))
            .await
            .map_err(|error| ConnectError::Unreachable(target.clone(), error))?;
        let _ = stream.set_nodelay(true);
        let stream = TlsConnector::from(self.tls.clone())
            .connect(target.name.clone(), stream)
            .await
            .map_err(|error| ConnectError::Tls(target.clone(), error))?;
        let session = stream.get_ref().1;
        let no_proof =
            |what: &str| ConnectError::NoProof { target: target.clone(), what: what.to_owned() };
        if session.alpn_protocol() != Some(b"h2") {
            return Err(no_proof("it does not speak HTTP/2"));
        }
        let (exporter, certificate) =
            tls::observe(session).ok_or_else(|| no_proof("it shows no certificate"))?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(20)))
            .keep_alive_timeout(Duration::from_secs(20))
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Http(target.clone(), error))?;
        // Ends with the last sender, with the server, or with a refused proof.
        let driver = tokio::spawn(connection).abort_handle();
        Ok(Unproven { sender, exporter, certificate, driver })
    }
}

async fn within<T>(
    target: &Target,
    work: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .map_err(|_| ConnectError::TimedOut(target.clone()))?
}

/// A connection on which nothing but a request for a proof may be sent.
struct Unproven {
    sender: SendRequest<RequestBody>,
    exporter: [u8; 32],
    certificate: Vec<u8>,
    driver: AbortHandle,
}

impl Unproven {
    /// Has the connection prove itself. If it does not, it is cut, with everything that still runs on it.
    async fn prove(mut self, connector: &Connector) -> Result<AttestedConnection, ConnectError> {
        let outcome = self.judged(connector).await;
        if outcome.is_err() {
            self.driver.abort();
        }
        let (proof, since) = outcome?;
        Ok(AttestedConnection { unproven: self, proof: Arc::new(proof), since })
    }

    async fn judged(
        &mut self,
        connector: &Connector,
    ) -> Result<(ProvenConnection, Duration), ConnectError> {
        let Connector { target, anchors, policy, .. } = connector;
        // The proof is as old as the question, not as the answer.
        let since = clock::since_boot();
        let bundle = within(target, self.take_proof(target)).await?;
        let proof = judge(&bundle.answer, &bundle.observed(), anchors, policy, bundle.time)
            .map_err(|error| ConnectError::Refused(target.clone(), Box::new(error)))?;
        Ok((proof, since))
    }

    async fn take_proof(&mut self, target: &Target) -> Result<Bundle, ConnectError> {
        let no_proof = |what: String| ConnectError::NoProof { target: target.clone(), what };
        let mut nonce = [0; 32];
        aws_lc_rs::rand::fill(&mut nonce)
            .map_err(|_| no_proof("this machine has no random numbers for a nonce".to_owned()))?;
        let request = VerifyRequest { nonce, token: false, client: false };
        let body = serde_json::to_vec(&request).expect("text always serialises");
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri(target, "/attestation/verify"))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body)
            .map_err(|error| no_proof(error.to_string()))?;
        let response = self
            .sender
            .send_request(request)
            .await
            .map_err(|error| ConnectError::Http(target.clone(), error))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(no_proof(format!("it answers {status}")));
        }
        let answer = read(response.into_body())
            .await
            .ok_or_else(|| no_proof("its answer is too long or breaks off".to_owned()))?;
        let answer: VerifyAnswer = serde_json::from_slice(&answer)
            .map_err(|_| no_proof("its answer is not of the expected form".to_owned()))?;
        Ok(Bundle {
            v: 1,
            endpoint: target.to_string(),
            time: clock::unix_now(),
            nonce,
            exporter: self.exporter,
            certificate: self.certificate.clone(),
            answer,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the body is limited")]
async fn read(body: Incoming) -> Option<Bytes> {
    Some(Limited::new(body, MAX_ANSWER).collect().await.ok()?.to_bytes())
}

fn uri(target: &Target, path: &str) -> Uri {
    format!("https://{}{path}", target.authority)
        .parse()
        .expect("an authority that was parsed, and a path of ours")
}

/// A connection to a guest that is genuine and acceptable, proved on this very connection.
pub struct AttestedConnection {
    unproven: Unproven,
    proof: Arc<ProvenConnection>,
    /// When the proof was asked for, by [`clock::since_boot`].
    since: Duration,
}

/// A request was not sent, or got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The proof is older than [`MAX_AGE`]. Nothing was sent: [`AttestedConnection::renew`] it first.
    #[error("the proof of this connection is too old; renew it first")]
    Expired,
    /// The connection broke off.
    #[error("the connection broke off")]
    Broken(#[from] hyper::Error),
}

impl AttestedConnection {
    /// The proof.
    #[must_use]
    pub fn proof(&self) -> &Arc<ProvenConnection> {
        &self.proof
    }

    /// Whether it still stands and is young enough to send a request on.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.is_open() && self.is_fresh()
    }

    fn is_fresh(&self) -> bool {
        clock::since_boot().saturating_sub(self.since) < MAX_AGE
    }

    /// Whether it can be proved again.
    pub(crate) fn is_open(&self) -> bool {
        !self.unproven.sender.is_closed()
    }

    /// Proves it again, on the same connection.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; the connection is closed then.
    pub async fn renew(self, connector: &Connector) -> Result<Self, ConnectError> {
        self.unproven.prove(connector).await
    }

    /// A sender on this connection and no other.
    pub(crate) fn sender(&self) -> AttestedSender {
        AttestedSender(self.unproven.sender.clone())
    }

    /// Sends a request. Its URI names the path and query; scheme and authority are the server's.
    ///
    /// # Errors
    ///
    /// [`SendError`]. Nothing is sent again by itself, here or elsewhere.
    pub async fn send(
        &self,
        target: &Target,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        if !self.is_fresh() {
            return Err(SendError::Expired);
        }
        let answer = self.sender().send(target, request).await;
        answer.map_err(|unanswered| SendError::Broken(unanswered.error))
    }
}

/// Sends on one attested connection.
#[derive(Clone)]
pub(crate) struct AttestedSender(SendRequest<RequestBody>);

/// A request got no answer.
pub(crate) struct Unanswered {
    pub(crate) error: hyper::Error,
    /// The request, if not a byte of it was sent.
    pub(crate) unsent: Option<Request<RequestBody>>,
}

impl AttestedSender {
    pub(crate) async fn send(
        mut self,
        target: &Target,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let path = request.uri().path_and_query().map_or("/", |asked| asked.as_str()).to_owned();
        let mut parts = Uri::default().into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTPS);
        parts.authority = target.authority.parse().ok();
        parts.path_and_query = path.parse().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        request.headers_mut().remove(HOST);
        *request.version_mut() = http::Version::HTTP_2;
        self.0.try_send_request(request).await.map_err(|mut failed| {
            let unsent = failed.take_message();
            Unanswered { error: failed.into_error(), unsent }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_bare_https_url() {
        for good in ["https://a.example", "https://127.0.0.1:8443", "https://[::1]:1", "https://a/"]
        {
            let target: Target = good.parse().unwrap();
            assert_eq!(target.to_string(), good.trim_end_matches('/'));
        }
        for bad in
            ["http://a", "https://a/v1", "https://u@a", "https://a?x", "a.example", "https://"]
        {
            assert_eq!(bad.parse::<Target>(), Err(NotATarget), "{bad}");
        }
    }
}
