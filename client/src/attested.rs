//! A client of one attested server: requests go out on connections that proved themselves, or not at all.
//!
//! It is what people use. It follows no redirect, shares nothing with other servers, and repeats a request only if not
//! a byte of it was sent. This module must not know how a connection is proved.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use attestation::connection::ProvenConnection;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tower_service::Service;

use crate::connection::{ConnectError, Connector, RequestBody, Unanswered};
use crate::pool::{Lease, Pool, Stream, Unavailable};
use crate::target::Target;

/// Sends requests to one server, each on a connection whose proof stands. Clones share the connections.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use attestation::{Anchors, Expect, Policy};
/// use client::{AttestedClient, Connector};
///
/// let policy = Policy::for_host_data(Expect::Value(vec!["ab".repeat(32).parse()?]));
/// let connector = Connector::new("https://group.example".parse()?, Anchors::production(), policy);
/// let client = AttestedClient::connect(connector).await?;
/// let request = http::Request::get("/v1/models").body(String::new())?;
/// println!("{}", client.send(request).await?.status());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AttestedClient(Arc<Pool>);

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection proved itself. Nothing was sent.
    #[error("nothing was sent: there is no attested connection")]
    Unproven(#[source] Arc<ConnectError>),
    /// A connection whose proof had become too old did not prove itself again, and is not used any more. Nothing was sent.
    /// One that broke off or went silent is not the reason: another one was tried then.
    #[error("nothing was sent: the connection was not proved again")]
    NotRenewed(#[source] Arc<ConnectError>),
    /// All connections are full. Nothing was sent; try again later.
    #[error("nothing was sent: too many requests are under way; try again later")]
    Busy,
    /// The request's URI names another server than the one that is proved. Nothing was sent.
    #[error("nothing was sent: the request names another server than {0}")]
    OtherServer(Target),
    /// The request cannot be sent as it is. Nothing was sent.
    #[error("nothing was sent: the request is malformed")]
    Malformed(#[source] Box<dyn Error + Send + Sync>),
    /// No answer came in the time that the request gave it. The server may have got it.
    #[error("no answer came in time")]
    TimedOut,
    /// The connection broke off while the request was under way. The server may have got it.
    #[error("the connection broke off")]
    BrokenOff(#[source] hyper::Error),
}

impl CallError {
    /// Why there was no proof, if that is what happened.
    #[must_use]
    pub fn unproven(&self) -> Option<&ConnectError> {
        match self {
            Self::Unproven(error) | Self::NotRenewed(error) => Some(error),
            Self::Busy
            | Self::OtherServer(_)
            | Self::Malformed(_)
            | Self::TimedOut
            | Self::BrokenOff(_) => None,
        }
    }

    /// Id of the first check that failed, if the proof was refused.
    #[must_use]
    pub fn failed_check(&self) -> Option<&'static str> {
        self.unproven()?.failed_check()
    }

    /// Whether the server could not be reached at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self.unproven(), Some(ConnectError::Unreachable(..)))
    }

    /// Whether not a byte of the request was sent.
    #[must_use]
    pub fn nothing_was_sent(&self) -> bool {
        !matches!(self, Self::TimedOut | Self::BrokenOff(_))
    }
}

impl From<Unavailable> for CallError {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::Unproven(error) => Self::Unproven(error),
            Unavailable::NotRenewed(error) => Self::NotRenewed(error),
            Unavailable::Busy => Self::Busy,
        }
    }
}

impl AttestedClient {
    /// Verifies the server first.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; nothing but a request for a proof was sent then.
    pub async fn connect(connector: Connector) -> Result<Self, ConnectError> {
        Ok(Self(Pool::start(connector).await?))
    }

    /// Verifies the server first, and from then on takes no other group than this one: the same launch measurement,
    /// enforcement policy, owner's key and measured variables, beside what the policy asks. What it does not say at
    /// first ([`untold`](Self::untold)) is remembered when it first says it. When it is certain that another group answers,
    /// nothing is sent any more, whatever it becomes later, and what is under way is cut.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; nothing but a request for a proof was sent then.
    pub async fn connect_and_remember(connector: Connector) -> Result<Self, ConnectError> {
        Ok(Self(Pool::start_remembering(connector).await?))
    }

    /// What of it the remembered group did not say yet: it may still become anything. Empty, if no group is remembered.
    #[must_use]
    pub fn untold(&self) -> Vec<String> {
        self.0.connector().untold()
    }

    /// Has the server prove itself now, on a connection beside those that requests use.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]
    pub async fn verify_again(&self) -> Result<Arc<ProvenConnection>, Arc<ConnectError>> {
        self.0.verify_again().await
    }

    /// Sends nothing any more; every request is refused for this reason, and what is under way is cut.
    pub fn block(&self, why: Arc<ConnectError>) {
        self.0.block(why);
    }

    /// Waits until another group than the remembered one answers, and says what changed. Never, if none is remembered.
    pub async fn changed(&self) -> Arc<ConnectError> {
        self.0.changed().await
    }

    /// The last judgement as one JSON document, the same as `pmc verify --json` prints; with `error` if it is a refusal.
    #[must_use]
    pub fn verdict(&self) -> String {
        let connector = self.0.connector();
        self.0.judged().json(&connector.target().to_string(), connector.trust())
    }

    /// As [`Self::verify_again`]; what was judged of this proof comes as a document like [`Self::verdict`]'s.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]
    pub async fn verify_again_as_json(&self) -> Result<String, Arc<ConnectError>> {
        let proof = self.verify_again().await?;
        Ok(crate::verdict::accepted_now(&self.target().to_string(), proof))
    }

    /// Sends a request on a proved connection. Its URI is a path, or a whole URL of this server. The answer's extensions
    /// hold the proof of its connection, as an `Arc<ProvenConnection>`; a body that is dropped before its end cancels
    /// the request at the server.
    ///
    /// If the server closed the connection before a byte was sent, the request is sent on another proved one, once.
    ///
    /// # Errors
    ///
    /// [`CallError`]
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<ResponseBody>, CallError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let target = self.target();
        if !target.is_named_by(request.uri()) {
            return Err(CallError::OtherServer(target.clone()));
        }
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        match self.send_once(request).await? {
            Ok(response) => Ok(response),
            Err(Unanswered { error, unsent: None }) => Err(CallError::BrokenOff(error)),
            Err(Unanswered { unsent: Some(request), .. }) => {
                let again = self.send_once(request).await?;
                again.map_err(|unanswered| CallError::BrokenOff(unanswered.error))
            }
        }
    }

    async fn send_once(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Result<Response<ResponseBody>, Unanswered>, CallError> {
        let Lease { sender, proof, stream } = self.0.lease().await?;
        let answer = sender.send(self.target(), request).await;
        Ok(answer.map(|response| {
            let mut response = response.map(|incoming| ResponseBody { incoming, _stream: stream });
            response.extensions_mut().insert(proof);
            response
        }))
    }

    /// The newest proof.
    #[must_use]
    pub fn proof(&self) -> Arc<ProvenConnection> {
        self.0.proof()
    }

    /// The server.
    #[must_use]
    pub fn target(&self) -> &Target {
        self.0.connector().target()
    }
}

/// For whatever is built on tower; [`AttestedClient::send`] says what it does.
impl<B> Service<Request<B>> for AttestedClient
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = CallError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, CallError>> + Send>>;

    /// Always: who has to wait for a connection waits in the call.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.send(request).await })
    }
}

/// An answer's body, as it comes. Dropped before its end, it cancels the request.
pub struct ResponseBody {
    incoming: Incoming,
    /// The stream is taken until the body is dropped.
    _stream: Stream,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.incoming).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
