//! The other direction of attestation: a program that itself runs in a TEE proves itself to the server, for API keys
//! that are good only for such clients.
//!
//! Where its evidence comes from is not known here: whoever uses this brings it as a [`ProveSelf`]. [`AttestSidecar`] is one.

mod sidecar;

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use attestation::certificate::Certificate;
use attestation::crypto::sha256;
use attestation::merkle::Inclusion;
use attestation::wire::{ClientProof, InclusionText, VerifyAnswer, VerifyRequest};
use attestation::{Binding, Evidence};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde::Deserialize;

use crate::connection::{AttestedConnection, AttestedSender, SendError, read};
use crate::target::Target;

pub use sidecar::{AttestSidecar, NotASidecar, SidecarAddress, SidecarError};

/// API keys that a connection can be proved for: a server keeps the proofs of as many.
pub const MOST_KEYS: usize = 16;

/// How long the proofs for all keys of a connection may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a program's own evidence comes from.
pub trait ProveSelf {
    /// Evidence that covers this binding, always a [`Binding::ClientChannel`], and where in its batch.
    fn evidence(
        &self,
        binding: &Binding,
    ) -> impl Future<Output = Result<(Evidence, Inclusion), Box<dyn Error + Send + Sync>>> + Send;
}

/// Why the server does not hold this program for an attested client. Other requests can go on.
#[derive(Debug, thiserror::Error)]
pub enum ProveSelfError {
    /// A request was not sent, or got no answer.
    #[error("the server does not answer")]
    NoAnswer(#[from] SendError),
    /// The server gives no nonce for it.
    #[error("the server takes no attested clients: {0}")]
    NotAsked(String),
    /// There is no evidence of this program.
    #[error("there is no evidence of this program")]
    NoEvidence(#[source] Box<dyn Error + Send + Sync>),
    /// The server refuses it.
    #[error("the server does not accept this program: {0}")]
    Refused(String),
    /// The server did not judge it.
    #[error("the server did not judge this program: {0}")]
    NotJudged(String),
    /// It took too long.
    #[error("it was not proved in time")]
    TimedOut,
}

impl AttestedConnection {
    /// Proves this program to the server, for the API key with that id, on this connection. It stands for at most 15
    /// minutes, and for no other connection: prove it again before that, and after each reconnect. A connector that
    /// [proves this program](crate::Connector::proving_self) does so.
    ///
    /// # Errors
    ///
    /// [`ProveSelfError`].
    pub async fn prove_self(
        &self,
        target: &Target,
        key_id: &str,
        prover: &impl ProveSelf,
    ) -> Result<(), ProveSelfError> {
        if !self.is_fresh() {
            return Err(SendError::Expired.into());
        }
        let (exporter, certificate) = self.channel();
        let channel = Channel { sender: self.sender(), target, exporter, certificate };
        channel.prove(key_id, prover, None).await
    }
}

/// What is proved of this program on every connection of a [`Connector`](crate::Connector).
#[derive(Clone)]
pub(crate) struct OwnProof {
    prover: Boxed,
    key_ids: Arc<[String]>,
}

impl OwnProof {
    pub(crate) fn new(prover: impl ProveSelf + Send + Sync + 'static, key_ids: &[String]) -> Self {
        Self { prover: Boxed(Arc::new(prover)), key_ids: key_ids.into() }
    }

    /// Proves it for each key. `nonce` came with the server's proof, and is good for one of them.
    pub(crate) async fn give(
        &self,
        channel: &Channel<'_>,
        mut nonce: Option<[u8; 32]>,
    ) -> Result<(), ProveSelfError> {
        let all = async {
            for key_id in self.key_ids.iter() {
                channel.prove(key_id, &self.prover, nonce.take()).await?;
            }
            Ok(())
        };
        let all = tokio::time::timeout(PATIENCE, Box::pin(all)).await;
        all.map_err(|_| ProveSelfError::TimedOut)?
    }
}

/// A [`ProveSelf`] of any type.
#[derive(Clone)]
struct Boxed(Arc<dyn Prover>);

type Evident<'a> = Pin<
    Box<
        dyn Future<Output = Result<(Evidence, Inclusion), Box<dyn Error + Send + Sync>>>
            + Send
            + 'a,
    >,
>;

trait Prover: Send + Sync {
    fn evident<'a>(&'a self, binding: &'a Binding) -> Evident<'a>;
}

impl<P: ProveSelf + Send + Sync> Prover for P {
    fn evident<'a>(&'a self, binding: &'a Binding) -> Evident<'a> {
        Box::pin(self.evidence(binding))
    }
}

impl ProveSelf for Boxed {
    async fn evidence(
        &self,
        binding: &Binding,
    ) -> Result<(Evidence, Inclusion), Box<dyn Error + Send + Sync>> {
        self.0.evident(binding).await
    }
}

/// A connection that the server has proved, as far as this program is proved on it.
pub(crate) struct Channel<'a> {
    pub(crate) sender: AttestedSender,
    pub(crate) target: &'a Target,
    pub(crate) exporter: [u8; 32],
    /// The server's (DER).
    pub(crate) certificate: &'a [u8],
}

impl Channel<'_> {
    /// Without a nonce, the server is asked for one.
    async fn prove(
        &self,
        key_id: &str,
        prover: &impl ProveSelf,
        nonce: Option<[u8; 32]>,
    ) -> Result<(), ProveSelfError> {
        let nonce = match nonce {
            Some(nonce) => nonce,
            None => self.client_nonce().await?,
        };
        let spki =
            Certificate::from_der(self.certificate).and_then(|certificate| certificate.spki());
        let spki = spki.map_err(|error| ProveSelfError::NotAsked(error.to_string()))?;
        let (exporter, server_spki_sha256) = (self.exporter, sha256(&spki));
        let key_id_sha256 = sha256(key_id.as_bytes());
        let binding = Binding::ClientChannel { nonce, exporter, server_spki_sha256, key_id_sha256 };
        let evidence = prover.evidence(&binding).await;
        let (evidence, inclusion) = evidence.map_err(ProveSelfError::NoEvidence)?;
        let merkle = InclusionText::from(&inclusion);
        let proof = ClientProof { v: 1, key_id_sha256, evidence: evidence.to_json(), merkle };
        let body = serde_json::to_vec(&proof).expect("text and numbers always serialise");
        let (status, answer) = self.post("/attestation/client", body).await?;
        match status {
            StatusCode::OK => Ok(()),
            StatusCode::FORBIDDEN => Err(ProveSelfError::Refused(said(&answer))),
            _ => Err(ProveSelfError::NotJudged(said(&answer))),
        }
    }

    /// A nonce of the server for one proof. The proof of the server that comes with it is not looked at: this
    /// connection is attested already.
    async fn client_nonce(&self) -> Result<[u8; 32], ProveSelfError> {
        let mut nonce = [0; 32];
        aws_lc_rs::rand::fill(&mut nonce)
            .map_err(|_| ProveSelfError::NotAsked("no random numbers here".to_owned()))?;
        let request = VerifyRequest { nonce, token: false, client: true };
        let body = serde_json::to_vec(&request).expect("text always serialises");
        let (status, answer) = self.post("/attestation/verify", body).await?;
        let given = (status == StatusCode::OK)
            .then(|| nonce_in(&serde_json::from_slice(&answer).ok()?))
            .flatten();
        given.ok_or_else(|| ProveSelfError::NotAsked(said(&answer)))
    }

    async fn post(
        &self,
        path: &'static str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ProveSelfError> {
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        let mut request = Request::post(path).body(body).expect("a path of ours is a URI");
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        let response = self.sender.clone().send(self.target, request).await;
        let response = response.map_err(|unanswered| SendError::Broken(unanswered.error))?;
        let status = response.status();
        Ok((status, read(response.into_body()).await.unwrap_or_default()))
    }
}

/// The nonce for a proof of this program, if the server gave one with its own.
pub(crate) fn nonce_in(answer: &VerifyAnswer) -> Option<[u8; 32]> {
    answer.client_nonce.as_deref()?.try_into().ok()
}

/// The message of an answer in the shape of OpenAI's errors.
fn said(answer: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Envelope {
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        message: String,
    }
    let envelope = serde_json::from_slice::<Envelope>(answer);
    envelope.map_or_else(|_| "it gives no reason".to_owned(), |said| said.error.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        assert_eq!(said(br#"{"error":{"message":"P9","code":"client_refused"}}"#), "P9");
        for other in ["", "{}", "null", r#"{"error":"text"}"#] {
            assert_eq!(said(other.as_bytes()), "it gives no reason");
        }
    }
}
