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
use serde_json::Value;
use service::clock;
use service::outbound::{Call, Limits, Outbound, OutboundError, shown_request};
use service::roots::Roots;

pub(crate) use answer::{AnswerError, Released};

use crate::attest::Token;
use crate::host::Host;
use crate::kid::KeyId;
use crate::secret::{self, Bearer};
use crate::wrapping_key::Wrap;

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
    wrap: Wrap,
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
        request_id: Option<Box<str>>,
    },
    /// It answered, but not with a release that can be believed.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

impl VaultError {
    /// Whether it did not accept the access token.
    pub(crate) fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::UNAUTHORIZED)
    }
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

/// Which key is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// Whom is asked.
    pub(crate) vault: &'a Host,
    /// For which key.
    pub(crate) kid: &'a KeyId,
    /// The release policy that the key must have; `None`: any.
    pub(crate) policy: Option<&'a Value>,
}

/// What the answer to a request must repeat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// Which key was asked for.
    pub(crate) wanted: Wanted<'a>,
    /// With which nonce.
    pub(crate) nonce: &'a str,
    /// Wrapped by which mechanism.
    pub(crate) wrap: Wrap,
}

impl Vault {
    /// A caller of vaults that believes `roots`, for TLS and for what a vault signs, and has keys wrapped by `wrap`.
    pub(crate) fn new(roots: Roots, wrap: Wrap) -> Self {
        Self { outbound: Outbound::new("the key vault", &roots, LIMITS), roots, wrap }
    }

    /// Asks a vault to release a key to the group that `target` attests, wrapped for the key that `target`
    /// names. The caller has decided that `bearer` may go there.
    ///
    /// # Panics
    ///
    /// The system has no random numbers.
    pub(crate) async fn release(
        &self,
        wanted: Wanted<'_>,
        target: &Token,
        bearer: &Bearer,
    ) -> Result<Released, VaultError> {
        let nonce = nonce();
        let asked = Asked { wanted, nonce: &nonce, wrap: self.wrap };
        let answer = self.outbound.repeatedly(&call(&asked, target, bearer)).await?;
        let released = read(&answer.body, &asked, &self.roots, clock::unix_now());
        secret::wipe(answer.body);
        Ok(released?)
    }
}

/// 32 random bytes, as text.
fn nonce() -> String {
    let mut nonce = [0; 32];
    aws_lc_rs::rand::fill(&mut nonce).expect("the system has random numbers (getrandom(2))");
    to_b64u(&nonce)
}

fn call(asked: &Asked<'_>, target: &Token, bearer: &Bearer) -> Call {
    #[derive(Serialize)]
    struct Request<'a> {
        target: &'a str,
        enc: &'static str,
        nonce: &'a str,
    }

    let Asked { wanted, nonce, wrap } = asked;
    let body = secret::json(&Request { target: &target.0, enc: wrap.name(), nonce });
    let url = wanted.kid.release_url(wanted.vault, API_VERSION);
    Call::post_json(url, Bytes::from_owner(body)).header(header::AUTHORIZATION, bearer.header())
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
