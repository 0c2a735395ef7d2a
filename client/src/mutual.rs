//! The other direction of attestation: a program that itself runs in a TEE proves itself to the server, for API keys
//! that are good only for such clients.
//!
//! Where its evidence comes from is not known here: whoever uses this brings it as a [`ProveSelf`].

use std::error::Error;

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

use crate::connection::{AttestedConnection, SendError, read};
use crate::target::Target;

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
}

impl AttestedConnection {
    /// Proves this program to the server, for the API key with that id, on this connection. It stands for at most 15
    /// minutes, and for no other connection: prove it again before that, and after each reconnect.
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
        let nonce = self.client_nonce(target).await?;
        let (exporter, certificate) = self.channel();
        let spki = Certificate::from_der(certificate).and_then(|certificate| certificate.spki());
        let spki = spki.map_err(|error| ProveSelfError::NotAsked(error.to_string()))?;
        let key_id_sha256 = sha256(key_id.as_bytes());
        let server_spki_sha256 = sha256(&spki);
        let binding = Binding::ClientChannel { nonce, exporter, server_spki_sha256, key_id_sha256 };
        let evidence = prover.evidence(&binding).await;
        let (evidence, inclusion) = evidence.map_err(ProveSelfError::NoEvidence)?;
        let merkle = InclusionText::from(&inclusion);
        let proof = ClientProof { v: 1, key_id_sha256, evidence: evidence.to_json(), merkle };
        let body = serde_json::to_vec(&proof).expect("text and numbers always serialise");
        let (status, answer) = self.post(target, "/attestation/client", body).await?;
        if status == StatusCode::OK { Ok(()) } else { Err(ProveSelfError::Refused(said(&answer))) }
    }

    /// A nonce of the server for one proof. The proof of the server that comes with it is not looked at: this
    /// connection is attested already.
    async fn client_nonce(&self, target: &Target) -> Result<[u8; 32], ProveSelfError> {
        let mut nonce = [0; 32];
        aws_lc_rs::rand::fill(&mut nonce)
            .map_err(|_| ProveSelfError::NotAsked("no random numbers here".to_owned()))?;
        let request = VerifyRequest { nonce, token: false, client: true };
        let body = serde_json::to_vec(&request).expect("text always serialises");
        let (status, answer) = self.post(target, "/attestation/verify", body).await?;
        let given = (status == StatusCode::OK)
            .then(|| serde_json::from_slice::<VerifyAnswer>(&answer).ok()?.client_nonce)
            .flatten();
        let given = given.and_then(|nonce| nonce.try_into().ok());
        given.ok_or_else(|| ProveSelfError::NotAsked(said(&answer)))
    }

    async fn post(
        &self,
        target: &Target,
        path: &'static str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ProveSelfError> {
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
        let mut request = Request::post(path).body(body).expect("a path of ours is a URI");
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        let response = self.send(target, request).await?;
        let status = response.status();
        Ok((status, read(response.into_body()).await.unwrap_or_default()))
    }
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
