//! `POST /attestation/verify`: the only route that proves a connection (`wire.md` part 2).
//!
//! The proof binds the client's nonce, this connection's exporter, the certificate that its handshake showed
//! and the manifest. It is made anew every time and kept nowhere.

use std::time::Duration;

use attestation::wire::{InclusionText, VerifyAnswer, VerifyRequest};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use service::body::BodyError;
use tokio::sync::Semaphore;

use crate::attest::{AttestSidecar, ChannelFacts};
use crate::body::{Body, full};
use crate::connection::Connection;
use crate::error::Refusal;
use crate::manifest::CurrentManifest;

/// The longest request.
const MAX_BODY: usize = 1024;

const REQUEST: &str = "The body must be {\"nonce\": <32 bytes in base64url without padding>, \
                       \"token\": <true or false>, \"client\": <true or false>}";

/// Tokens that may be asked for at once, for all clients. Each takes a report of its own, a call to another party and
/// seconds; without this, anybody could keep the security processor from the other roles.
const TOKENS: usize = 2;

/// How long the body of a request for a proof may take to come.
const BODY: Duration = Duration::from_secs(10);

/// Makes proofs.
pub(crate) struct Prover {
    attest: AttestSidecar,
    manifest: CurrentManifest,
    tokens: Semaphore,
}

impl Prover {
    pub(crate) fn new(attest: AttestSidecar, manifest: CurrentManifest) -> Self {
        Self { attest, manifest, tokens: Semaphore::new(TOKENS) }
    }

    /// Answers one request for a proof of `connection`.
    pub(crate) async fn prove(
        &self,
        connection: &Connection,
        body: Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let body = tokio::time::timeout(BODY, service::body::read(body, MAX_BODY)).await;
        let body = body.map_err(|_| Refusal::Malformed(REQUEST))?.map_err(|error| match error {
            BodyError::TooLarge(limit) => Refusal::TooLarge(limit),
            BodyError::Broken(_) => Refusal::Malformed(REQUEST),
        })?;
        let request: VerifyRequest =
            serde_json::from_slice(&body).map_err(|_| Refusal::Malformed(REQUEST))?;
        let channel = connection.channel.as_ref().ok_or(Refusal::NoChannel)?;
        let exporter = channel.exporter.as_ref().ok_or(Refusal::NoChannel)?;

        let _one_at_a_time = connection.proving.lock().await;
        let manifest = self.manifest.get();
        let facts = ChannelFacts {
            nonce: &request.nonce,
            exporter,
            spki_sha256: &channel.leaf.spki_sha256,
            certificate_sha256: &channel.leaf.certificate_sha256,
            manifest_sha256: &manifest.sha256,
        };
        let (evidence, inclusion) =
            self.attest.channel_evidence(&facts).await.map_err(|error| {
                let busy = error.is_busy();
                tracing::warn!(error = &error as &dyn std::error::Error, busy, "no proof was made");
                Refusal::NoEvidence
            })?;
        let token = if request.token { self.token(&facts).await } else { None };
        let answer = VerifyAnswer {
            v: 1,
            evidence: evidence.to_json(),
            merkle: InclusionText::from(&inclusion),
            manifest: manifest.bytes.to_vec(),
            owner: None,
            token,
            client_nonce: None,
        };
        let json = serde_json::to_vec(&answer).expect("text and numbers always serialise");
        let mut response = Response::new(full(Bytes::from(json)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// MAA's word, if it gives one and not too many ask for it at once. A client that insists on it sees that it is
    /// missing, and may ask again.
    async fn token(&self, facts: &ChannelFacts<'_>) -> Option<String> {
        let _turn = self.tokens.try_acquire().ok()?;
        match self.attest.channel_token(facts).await {
            Ok(reply) if reply.token.is_empty() => {
                tracing::warn!(why = reply.failure, "MAA gave no token for a proof");
                None
            }
            Ok(reply) => Some(reply.token),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "no token was made for a proof");
                None
            }
        }
    }
}
