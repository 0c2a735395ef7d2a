//! Attested clients: `POST /attestation/client`, where a client in a TEE proves itself for one API key, on this
//! connection (decision 9).
//!
//! Which keys demand it, `keys` knows; what a connection has proved, `proven` keeps. Nothing here knows what the client
//! will ask for.

mod acceptance;
pub(crate) mod proven;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use attestation::client_proof::{ObservedByServer, judge_client};
use attestation::wire::ClientProof;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use serde_json::json;
use service::body::BodyError;
use service::clock::unix_now;
use tokio::sync::Semaphore;

pub(crate) use acceptance::{ANCHORS_VAR, Acceptance, POLICY_VAR};

use crate::body::{Body, full};
use crate::connection::Connection;
use crate::error::Refusal;
use crate::upload::Upload;
use proven::{LIFETIME, Nonce};

/// The longest proof. Evidence with its endorsement has some 30 KiB; the rest is for its enforcement policy.
const MAX_BODY: usize = 256 * 1024;

/// How long its body may take to come.
const BODY: Duration = Duration::from_secs(10);

/// Proofs that are judged at once, for all clients: each takes a processor for milliseconds.
const AT_ONCE: usize = 4;

/// Refusals within this time are one line of the log.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a proof may wait for its turn.
const TURN: Duration = Duration::from_secs(5);

const REQUEST: &str = "The body must be {\"v\": 1, \"key_id_sha256\": <SHA-256 of the API key's id, base64url>, \
                       \"evidence\": <CMW collection>, \"merkle\": {\"index\", \"size\", \"path\"}}";

/// Judges attested clients.
pub(crate) struct Clients {
    acceptance: Arc<Acceptance>,
    turns: Arc<Semaphore>,
    /// When a refusal was last logged.
    told: Mutex<Option<Instant>>,
}

impl Clients {
    pub(crate) fn new(acceptance: Acceptance) -> Self {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Self { acceptance: Arc::new(acceptance), turns, told: Mutex::default() }
    }

    /// Answers one client's proof of itself. The nonce is used up, whatever comes of it.
    pub(crate) async fn admit(
        &self,
        connection: &Connection,
        body: Upload,
    ) -> Result<Response<Body>, Refusal> {
        let channel = connection.channel.as_ref().ok_or(Refusal::NoChannel)?;
        let exporter = channel.exporter.ok_or(Refusal::NoChannel)?;
        // Nobody's body is read without a nonce for it, nor two of one connection.
        let _one_at_a_time = connection.admitting.try_lock().map_err(|_| Refusal::Busy)?;
        let Nonce { value: nonce, since } =
            connection.clients.take_nonce(Instant::now()).ok_or(Refusal::NoClientNonce)?;
        let body = read(body).await?;
        let server_spki_sha256 = channel.leaf.spki_sha256;
        let observed = ObservedByServer { nonce, exporter, server_spki_sha256 };
        let key_id_sha256 = self.judge(body, observed).await?;
        connection.clients.admit(key_id_sha256, since);
        let left = LIFETIME.saturating_sub(since.elapsed()).as_secs();
        tracing::info!("an attested client was accepted");
        Ok(accepted(left))
    }

    /// Returns the digest of the key's id for which the client is accepted.
    async fn judge(&self, body: Bytes, observed: ObservedByServer) -> Result<[u8; 32], Refusal> {
        let turn = tokio::time::timeout(TURN, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Refusal::Busy) };
        let acceptance = self.acceptance.clone();
        let judged = tokio::task::spawn_blocking(move || {
            // The turn ends with the work, not with whoever waits for it.
            let _turn = turn;
            let malformed = |_| Refusal::Malformed(REQUEST);
            let proof: ClientProof = serde_json::from_slice(&body).map_err(malformed)?;
            let Acceptance { policy, anchors } = acceptance.as_ref();
            match judge_client(&proof, &observed, anchors, policy, unix_now()) {
                Ok(_) => Ok(proof.key_id_sha256),
                Err(error) => Err(Refusal::ClientRefused(service::chain(&error))),
            }
        });
        let judged = judged.await.unwrap_or(Err(Refusal::Busy));
        if judged.is_err() {
            self.tell();
        }
        judged
    }

    /// Says that a client was refused, once in a while: anybody can be refused as often as he likes.
    fn tell(&self) {
        let mut last = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|at| at.elapsed() >= SILENCE) {
            *last = Some(Instant::now());
            tracing::warn!("an attested client was refused");
        }
    }
}

async fn read(body: Upload) -> Result<Bytes, Refusal> {
    let body = tokio::time::timeout(BODY, service::body::read(body, MAX_BODY)).await;
    body.map_err(|_| Refusal::Malformed(REQUEST))?.map_err(|error| match error {
        BodyError::TooLarge(limit) => Refusal::TooLarge(limit),
        BodyError::Broken(_) => Refusal::Malformed(REQUEST),
    })
}

fn accepted(seconds: u64) -> Response<Body> {
    let answer = json!({"v": 1, "accepted": true, "seconds": seconds});
    let mut response = Response::new(full(Bytes::from(answer.to_string())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
