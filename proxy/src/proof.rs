//! `POST /attestation/verify`: the only route that proves a connection (`wire.md` part 2).
//!
//! The proof binds the client's nonce, this connection's exporter, the certificate that its handshake showed
//! and the manifest. It is made anew every time and kept nowhere; those who wait at the same time share a report
//! ([`batch`](crate::batch)). Of one connection one proof is made at a time, and only so many (its `allowance`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use attestation::wire::VerifyRequest;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use service::body::BodyError;
use tokio::sync::Semaphore;

use crate::answer::Rest;
use crate::attest::{AttestSidecar, ChannelFacts};
use crate::batch::Batches;
use crate::body::{Body, holding, parts};
use crate::connection::Connection;
use crate::error::Refusal;
use crate::manifest::CurrentManifest;
use crate::owner::Owner;
use crate::upload::Upload;

/// The longest request.
const MAX_BODY: usize = 1024;

const REQUEST: &str = "The body must be {\"nonce\": <32 bytes in base64url without padding>, \
                       \"token\": <true or false>, \"client\": <true or false>}";

/// Tokens that may be asked for at once, for all clients. Each takes a report of its own, a call to another party and
/// seconds; without this, anybody could keep the security processor from the other roles.
const TOKENS: usize = 2;

/// How long a request may wait for its turn to have a token made. Then its proof goes out without.
const TOKEN: Duration = Duration::from_secs(5);

/// How long the body of a request for a proof may take to come.
const BODY: Duration = Duration::from_secs(10);

/// Makes proofs.
pub(crate) struct Prover {
    attest: AttestSidecar,
    batches: Batches,
    manifest: CurrentManifest,
    owner: Arc<Owner>,
    /// Whether attested clients may prove themselves here.
    clients: bool,
    tokens: Semaphore,
}

impl Prover {
    pub(crate) fn new(
        attest: AttestSidecar,
        manifest: CurrentManifest,
        owner: Arc<Owner>,
        clients: bool,
    ) -> Self {
        let sidecar = attest.clone();
        let batches = Batches::start(move |channels| {
            let sidecar = sidecar.clone();
            async move { sidecar.channel_evidence(channels).await }
        });
        Self { attest, batches, manifest, owner, clients, tokens: Semaphore::new(TOKENS) }
    }

    /// Answers one request for a proof of `connection`.
    pub(crate) async fn prove(
        &self,
        connection: &Connection,
        request: Request<Upload>,
    ) -> Result<Response<Body>, Refusal> {
        let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_json = kind.is_some_and(|kind| kind.starts_with(b"application/json"));
        let body = request.into_body();
        let body = tokio::time::timeout(BODY, service::body::read(body, MAX_BODY)).await;
        let body = body.map_err(|_| Refusal::Malformed(REQUEST))?.map_err(|error| match error {
            BodyError::TooLarge(limit) => Refusal::TooLarge(limit),
            BodyError::Broken(_) => Refusal::Malformed(REQUEST),
        })?;
        let request: VerifyRequest =
            serde_json::from_slice(&body).map_err(|_| Refusal::Malformed(REQUEST))?;
        let channel = connection.channel.as_ref().ok_or(Refusal::NoChannel)?;
        let exporter = channel.exporter.ok_or(Refusal::NoChannel)?;
        let wait = connection.allowance.take(Instant::now()).map_err(Refusal::ProvedTooOften)?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }

        let one_at_a_time = connection.proving.clone().lock_owned().await;
        let manifest = self.manifest.get();
        let facts = ChannelFacts {
            nonce: request.nonce,
            exporter,
            spki_sha256: channel.leaf.spki_sha256,
            certificate_sha256: channel.leaf.certificate_sha256,
            manifest_sha256: manifest.sha256,
        };
        let proof = self.batches.prove(facts, !connection.is_proved()).await?;
        let token = if request.token { self.token(&facts).await } else { None };
        let wants_nonce = request.client && self.clients;
        let client_nonce =
            wants_nonce.then(|| connection.clients.give_nonce(Instant::now())).flatten();
        let rest = Rest::new(&proof.inclusion, &manifest.bytes)
            .owner(self.owner.word(&facts, &proof.inclusion).await)
            .token(token)
            .client_nonce(client_nonce);
        connection.set_proved();
        if is_json {
            connection.set_proved_to_a_program();
        }
        // The next one waits until the client has taken this one: its bytes are kept as long.
        let body = holding(parts([proof.opening.bytes(), rest.bytes()]), one_at_a_time);
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// MAA's word, if it gives one and not too many ask for it at once. A client that insists on it sees that it is
    /// missing, and may ask again.
    async fn token(&self, facts: &ChannelFacts) -> Option<String> {
        let turn = tokio::time::timeout(TOKEN, self.tokens.acquire()).await;
        let _turn = turn.ok()?.ok()?;
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
