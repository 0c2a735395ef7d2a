//! One connection, proved before it is used.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attestation::bundle::Bundle;
use attestation::certificate::Certificate;
use attestation::connection::{ConnectionError, ProvenConnection, judge};
use attestation::wire::{VerifyAnswer, VerifyRequest};
use attestation::{Anchors, Policy, Trust};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::{Parts, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::Executor as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::identity::{Change, Identity, Remembered};
use crate::mutual::{Channel, OwnProof, ProveSelf, ProveSelfError, nonce_in};
use crate::target::Target;
use crate::tasks::Tasks;
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
    /// Its proof is good, but it is not what it was when it was first proved.
    #[error("{0} is not what it was: {1}")]
    Changed(Target, Changes),
    /// Its proof is good, but it does not take this program for the attested client that it is to be.
    #[error("{0} does not take this program for an attested client")]
    NotAccepted(Target, #[source] Box<ProveSelfError>),
    /// It took too long.
    #[error("{0} did not prove itself in time")]
    TimedOut(Target),
}

/// What is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes(pub Vec<Change>);

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, change) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            write!(f, "{between}{change}")?;
        }
        Ok(())
    }
}

impl ConnectError {
    /// Whether a proof came that speaks against who gave it: it is refused, or it is certain that it is another group's.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Refused(..)) || self.is_another_group()
    }

    /// Whether it is certain that this is another group than the one that was remembered. What a group only does not say
    /// for now (a role of it restarts) is refused all the same, but may come back.
    #[must_use]
    pub fn is_another_group(&self) -> bool {
        matches!(self, Self::Changed(_, Changes(all)) if all.iter().any(|one| one.after.is_some()))
    }

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
    max_age: Duration,
    remembered: Option<Arc<Remembered>>,
    own: Option<OwnProof>,
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
            max_age: MAX_AGE,
            remembered: None,
            own: None,
        }
    }

    /// Lets a proof stand for a shorter time than [`MAX_AGE`], never for a longer one. With zero, every request has a
    /// proof of its own, asked for after the request was made.
    #[must_use]
    pub fn with_max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age.min(MAX_AGE);
        self
    }

    /// Proves this program, too, for the API keys with these ids: on each connection, each time that the server has proved
    /// itself, and before anything else is sent on it. There may be [`MOST_KEYS`](crate::mutual::MOST_KEYS). A
    /// connection on which the server does not accept this program is none: [`ConnectError::NotAccepted`].
    #[must_use]
    pub fn proving_self(
        mut self,
        prover: impl ProveSelf + Send + Sync + 'static,
        key_ids: &[String],
    ) -> Self {
        self.own = Some(OwnProof::new(prover, key_ids));
        self
    }

    /// Accepts from now on only a group that is still what it was, beside what the policy asks.
    pub(crate) fn remember(&mut self, identity: Identity) {
        self.remembered = Some(Arc::new(Remembered::new(identity)));
    }

    /// What is not held to what it was, since the group did not say it yet. Nothing, if nothing is remembered.
    pub(crate) fn untold(&self) -> Vec<String> {
        self.remembered.as_ref().map_or_else(Vec::new, |remembered| remembered.untold())
    }

    /// Which anchors it holds.
    pub(crate) fn trust(&self) -> Trust {
        self.anchors.trust()
    }

    /// How long a proof stands.
    pub(crate) fn max_age(&self) -> Duration {
        self.max_age
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
        unproven.prove(self, |_| true).await
    }

    /// The same on a connection on which nothing will be asked for: this program is not proved on it.
    pub(crate) async fn verify(&self) -> Result<AttestedConnection, ConnectError> {
        Self { own: None, ..self.clone() }.connect().await
    }

    /// The same, but hands out the recorded proof even if it is refused, for looking at it.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], if there is no proof to look at.
    pub async fn record(&self) -> Result<Bundle, ConnectError> {
        let unproven = self.unproven().await?;
        within(&self.target, unproven.take_proof(&self.target, false)).await
    }

    async fn unproven(&self) -> Result<Unproven, ConnectError> {
        within(&self.target, self.dial()).await
    }

    async fn dial(&self) -> Result<Unproven, ConnectError> {
        let target = &self.target;
        let stream = TcpStream::connect((&*target.host, target.port))
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
        let tasks = Tasks::default();
        let (sender, connection) = Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(20)))
            .keep_alive_timeout(Duration::from_secs(20))
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Http(target.clone(), error))?;
        let connection = Arc::new(Mutex::new(connection));
        let driven = Arc::downgrade(&connection);
        // Ends with the last sender, with the server, or with a refused proof.
        tasks.execute(poll_fn(move |context| {
            Pin::new(&mut *connection.lock().unwrap_or_else(PoisonError::into_inner)).poll(context)
        }));
        let most_streams = Arc::new(move || {
            let connection = driven.upgrade();
            connection.map_or(0, |connection| {
                let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                connection.current_max_send_streams()
            })
        });
        let leaves = leaves(&certificate);
        let proving = Arc::default();
        Ok(Unproven { sender, exporter, certificate, tasks, leaves, most_streams, proving })
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
#[derive(Clone)]
pub(crate) struct Unproven {
    sender: SendRequest<RequestBody>,
    exporter: [u8; 32],
    certificate: Vec<u8>,
    tasks: Tasks,
    /// How many requests the server lets run at once, as it last said.
    most_streams: Arc<dyn Fn() -> usize + Send + Sync>,
    /// The server keeps one nonce of a connection for proofs of this program: they follow each other.
    proving: Arc<tokio::sync::Mutex<()>>,
    /// When it is left for another one, by [`clock::since_boot`]; what runs on it may end.
    leaves: Option<Duration>,
}

/// A server ends a connection with its certificate, and what is just being sent then would be lost. So the client goes
/// first, after half of what the certificate has left. By a clock at which it has nothing left, nobody can tell.
fn leaves(certificate: &[u8]) -> Option<Duration> {
    let (_, not_after) = Certificate::from_der(certificate).ok()?.validity();
    let left = not_after.checked_sub(clock::unix_now()).filter(|left| *left > 0)?;
    clock::since_boot().checked_add(Duration::from_secs(left) / 2)
}

impl Unproven {
    /// Has the connection prove itself. If it does not, it takes no request any more; what still runs on it is cut with it
    /// if the failure is of this kind.
    async fn prove(
        self,
        connector: &Connector,
        is_cut: fn(&ConnectError) -> bool,
    ) -> Result<AttestedConnection, ConnectError> {
        let outcome = self.judged(connector).await;
        if outcome.as_ref().is_err_and(is_cut) {
            self.cut();
        }
        let Proof { proven, identity, since } = outcome?;
        let max_age = connector.max_age;
        Ok(AttestedConnection { unproven: self, proof: proven, identity, since, max_age })
    }

    /// What drives the connection, to end it with. It does not keep it open.
    pub(crate) fn drivers(&self) -> Tasks {
        self.tasks.clone()
    }

    /// Ends the connection, with everything that still runs on it.
    pub(crate) fn cut(&self) {
        self.tasks.cut();
    }

    /// Asks for a proof and judges it; then proves this program, where that is wanted. What follows from a failure is for
    /// the caller.
    pub(crate) async fn judged(&self, connector: &Connector) -> Result<Proof, ConnectError> {
        let Connector { target, own, .. } = connector;
        let _turn = match own {
            Some(_) => Some(self.proving.lock().await),
            None => None,
        };
        // The proof is as old as the question, not as the answer. The server counts this program's from its answer on, so
        // that one does not end before.
        let since = clock::since_boot();
        let bundle = within(target, self.take_proof(target, own.is_some())).await?;
        let (bundle, proof) = within(target, judged_aside(bundle, connector)).await?;
        let proof =
            proof.map_err(|error| ConnectError::Refused(target.clone(), Box::new(error)))?;
        let identity = Arc::new(Identity::of(&proof, &bundle.answer));
        if let Some(remembered) = &connector.remembered {
            let changes = remembered.changes(&identity);
            if !changes.is_empty() {
                return Err(ConnectError::Changed(target.clone(), Changes(changes)));
            }
        }
        if let Some(own) = own {
            let (sender, certificate) = (AttestedSender(self.sender.clone()), &self.certificate);
            let channel = Channel { sender, target, exporter: self.exporter, certificate };
            let accepted = own.give(&channel, nonce_in(&bundle.answer)).await;
            accepted.map_err(|why| ConnectError::NotAccepted(target.clone(), Box::new(why)))?;
        }
        Ok(Proof { proven: Arc::new(proof), identity, since })
    }

    /// `client`: with a nonce for a proof of this program.
    async fn take_proof(&self, target: &Target, client: bool) -> Result<Bundle, ConnectError> {
        let no_proof = |what: String| ConnectError::NoProof { target: target.clone(), what };
        let mut nonce = [0; 32];
        aws_lc_rs::rand::fill(&mut nonce)
            .map_err(|_| no_proof("this machine has no random numbers for a nonce".to_owned()))?;
        let request = VerifyRequest { nonce, token: false, client };
        let body = serde_json::to_vec(&request).expect("text always serialises");
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri(target, Some(PathAndQuery::from_static("/attestation/verify"))))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body)
            .map_err(|error| no_proof(error.to_string()))?;
        let response = self
            .sender
            .clone()
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

/// Judges a proof beside the threads that requests run on: it takes milliseconds, in which no stream should stand still.
async fn judged_aside(
    bundle: Bundle,
    connector: &Connector,
) -> Result<(Bundle, Result<ProvenConnection, ConnectionError>), ConnectError> {
    let (anchors, policy) = (connector.anchors.clone(), connector.policy.clone());
    let judging = tokio::task::spawn_blocking(move || {
        let proof = judge(&bundle.answer, &bundle.observed(), &anchors, &policy, bundle.time);
        (bundle, proof)
    });
    judging.await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        // The runtime ends.
        Err(_) => ConnectError::TimedOut(connector.target.clone()),
    })
}

#[expect(clippy::disallowed_methods, reason = "the body is limited")]
pub(crate) async fn read(body: Incoming) -> Option<Bytes> {
    Some(Limited::new(body, MAX_ANSWER).collect().await.ok()?.to_bytes())
}

fn uri(target: &Target, path: Option<PathAndQuery>) -> Uri {
    let mut parts = Parts::default();
    parts.scheme = Some(Scheme::HTTPS);
    parts.authority = Some(target.authority.clone());
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(parts).expect("scheme, authority and path are all there is to a URI")
}

/// A proof that was judged and accepted.
pub(crate) struct Proof {
    pub(crate) proven: Arc<ProvenConnection>,
    identity: Arc<Identity>,
    /// When it was asked for, by [`clock::since_boot`].
    since: Duration,
}

/// A connection to a guest that is genuine and acceptable, proved on this very connection.
pub struct AttestedConnection {
    unproven: Unproven,
    proof: Arc<ProvenConnection>,
    identity: Arc<Identity>,
    /// When the proof was asked for, by [`clock::since_boot`].
    since: Duration,
    max_age: Duration,
}

/// A request was not sent, or got no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The proof is older than it may be. Nothing was sent: [`AttestedConnection::renew`] it first.
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

    /// Who proved it.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Whether it still stands and is young enough to send a request on.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.is_open() && self.is_fresh()
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.age() < self.max_age
    }

    /// Time since its proof was asked for.
    pub(crate) fn age(&self) -> Duration {
        clock::since_boot().saturating_sub(self.since)
    }

    /// Whether its proof was asked for at this time, by [`clock::since_boot`], or later.
    pub(crate) fn is_proved_since(&self, time: Duration) -> bool {
        self.since >= time
    }

    /// How many requests the server lets run on it at once.
    pub(crate) fn most_streams(&self) -> usize {
        (self.unproven.most_streams)()
    }

    /// The connection as one that can only be asked for a proof, to prove it again while it is used.
    pub(crate) fn unproven(&self) -> Unproven {
        self.unproven.clone()
    }

    /// Puts a newer proof of this very connection in the place of the last.
    pub(crate) fn put(&mut self, proof: Proof) {
        self.proof = proof.proven;
        self.identity = proof.identity;
        self.since = proof.since;
    }

    /// Whether it takes further requests, once it is proved again.
    pub(crate) fn is_open(&self) -> bool {
        let left = self.unproven.leaves.is_some_and(|at| clock::since_boot() >= at);
        !left && !self.unproven.sender.is_closed()
    }

    /// What this side observed: the exporter (RFC 9266), and the certificate that the handshake showed (DER).
    pub(crate) fn channel(&self) -> ([u8; 32], &[u8]) {
        (self.unproven.exporter, &self.unproven.certificate)
    }

    /// Proves it again, on the same connection.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; nothing can be sent on the connection then. If a proof came and is refused, or is another group's,
    /// it is cut at once. If none came, or the group only does not say for now what it said before, answers to what was
    /// sent while it was proved may still end.
    pub async fn renew(self, connector: &Connector) -> Result<Self, ConnectError> {
        self.unproven.prove(connector, ConnectError::is_final).await
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
        *request.uri_mut() =
            uri(target, std::mem::take(request.uri_mut()).into_parts().path_and_query);
        request.headers_mut().remove(HOST);
        *request.version_mut() = http::Version::HTTP_2;
        self.0.try_send_request(request).await.map_err(|mut failed| {
            let unsent = failed.take_message();
            Unanswered { error: failed.into_error(), unsent }
        })
    }
}
