//! Key Vault and Managed HSM: the one call that this role makes to them.
//!
//! Source: Key Vault REST API 7.4, operation *release*. What comes back is believed only after
//! `answer` has verified it.

mod answer;

use std::time::Duration;

use attestation::encoding::to_b64u;
use bytes::Bytes;
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use service::clock;
use service::outbound::{Call, Limits, Outbound, OutboundError, shown_request};
use service::roots::Roots;

pub(crate) use answer::{AnswerError, Released};

use crate::attest::Token;
use crate::host::Host;
use crate::kid::KeyId;
use crate::secret::Bearer;
use crate::wrapping_key;

const API_VERSION: &str = "7.4";

/// Bounds of the call. It may be repeated: a release changes nothing in the vault, and what comes back is
/// bound to this request by its nonce and its wrapping key, whichever try it answers.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(25),
    attempt: Duration::from_secs(10),
    attempts: 3,
    answer: 512 * 1024,
};

/// Any vault, called with the roots that its certificates must lead to.
#[derive(Debug)]
pub(crate) struct Vault {
    outbound: Outbound,
    roots: Roots,
}

/// Why a vault released nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    /// No whole answer.
    #[error("AKV post request failed")]
    Call(#[source] OutboundError),
    /// It refused.
    #[error(
        "pulling AKV response body failed: {excerpt}: http response status equal to {status}{}",
        shown_request(request_id.as_deref())
    )]
    Refused {
        /// Its status.
        status: StatusCode,
        /// The beginning of what it said.
        excerpt: String,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
        /// What it calls the request.
        request_id: Option<String>,
    },
    /// It answered, but not with a release that can be believed.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

impl From<OutboundError> for VaultError {
    fn from(error: OutboundError) -> Self {
        match error {
            OutboundError::Refused { status, excerpt, retry_after, request_id, .. } => {
                Self::Refused { status, excerpt, retry_after, request_id }
            }
            other => Self::Call(other),
        }
    }
}

/// What the answer to a request must repeat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// Whom was asked.
    pub(crate) vault: &'a Host,
    /// For which key.
    pub(crate) kid: &'a KeyId,
    /// With which nonce.
    pub(crate) nonce: &'a str,
}

impl Vault {
    /// A caller of vaults that believes `roots`, for TLS and for what a vault signs.
    pub(crate) fn new(roots: Roots) -> Self {
        Self { outbound: Outbound::new("the key vault", &roots, LIMITS), roots }
    }

    /// Asks `vault` to release a key to the group that `target` attests, wrapped for the key that `target`
    /// names. The caller has decided that `bearer` may go there.
    ///
    /// # Panics
    ///
    /// The system has no random numbers.
    pub(crate) async fn release(
        &self,
        vault: &Host,
        kid: &KeyId,
        target: &Token,
        bearer: &Bearer,
    ) -> Result<Released, VaultError> {
        let nonce = nonce();
        let call = call(vault, kid, target, &nonce, bearer);
        let answer = self.outbound.repeatedly(&call).await?;
        let asked = Asked { vault, kid, nonce: &nonce };
        Ok(read(&answer.body, &asked, &self.roots, clock::unix_now())?)
    }
}

/// 32 random bytes, as text.
fn nonce() -> String {
    let mut nonce = [0; 32];
    aws_lc_rs::rand::fill(&mut nonce).expect("the system has random numbers (getrandom(2))");
    to_b64u(&nonce)
}

fn call(vault: &Host, kid: &KeyId, target: &Token, nonce: &str, bearer: &Bearer) -> Call {
    #[derive(Serialize)]
    struct Request<'a> {
        target: &'a str,
        enc: &'static str,
        nonce: &'a str,
    }

    let body = Request { target: &target.0, enc: wrapping_key::ENC, nonce };
    let body = serde_json::to_vec(&body).expect("a struct of strings is JSON");
    Call::post_json(kid.release_url(vault, API_VERSION), Bytes::from(body))
        .header(header::AUTHORIZATION, bearer.header())
}

fn read(body: &[u8], asked: &Asked<'_>, roots: &Roots, now: u64) -> Result<Released, AnswerError> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        value: &'a str,
    }

    let answer: Answer<'_> = serde_json::from_slice(body).map_err(|_| AnswerError::NoRelease)?;
    answer::verify(answer.value, asked, roots.store(), now)
}
