//! `attest-sidecar`, as this role asks it: reports for the compatibility routes, tokens for those and for
//! releases.
//!
//! Must not know how a report or a token is made.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use proto::attest::attest_client::AttestClient;
use proto::attest::token_request::Runtime;
use proto::attest::{
    CompatibleReportReply, CompatibleReportRequest, ReleaseKeyRuntime, TokenFailure, TokenReply,
    TokenRequest,
};
use service::listen::Local;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::host::Host;

/// One question. Making a report and asking MAA happens within it.
const DEADLINE: Duration = Duration::from_secs(30);

/// The longest text of the other role that an error repeats, in characters.
const EXCERPT: usize = 2048;

/// The other role.
#[derive(Clone, Debug)]
pub(crate) struct Attest(AttestClient<Channel>);

/// A token of MAA. Not a secret of its own, but evidence, and therefore without `Debug`.
pub(crate) struct Token(pub(crate) String);

/// Why there is no report or token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttestError {
    /// `attest-sidecar` could not do it, or could not be asked.
    #[error("attest-sidecar gave no evidence: {text}")]
    Failed {
        /// Its status.
        code: Code,
        /// Its words.
        text: String,
    },
    /// `attest-sidecar` took too long.
    #[error("attest-sidecar did not answer within {} seconds", DEADLINE.as_secs())]
    TimedOut,
    /// MAA gave no token that can be used.
    #[error(transparent)]
    NoToken(#[from] NoToken),
}

/// Why MAA gave no token. Its text is what callers of the reference implementation match on.
#[derive(thiserror::Error)]
#[error("Retrieving MAA token from MAA endpoint failed: {}{text}", step(*kind, *status))]
pub(crate) struct NoToken {
    /// What kind of failure it is, as `attest-sidecar` says; NONE if it does not.
    pub(crate) kind: TokenFailure,
    /// MAA's status, where it gave one.
    pub(crate) status: Option<StatusCode>,
    /// How long MAA asked to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// The cause: what MAA said, if it said anything.
    text: String,
}

impl fmt::Debug for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("NoToken");
        shown.field("kind", &self.kind.as_str_name()).field("text", &self.text);
        shown.finish_non_exhaustive()
    }
}

/// Which step failed, in the words of the reference implementation; nothing where it has none.
fn step(kind: TokenFailure, status: Option<StatusCode>) -> &'static str {
    match (status, kind) {
        (Some(_), _) | (None, TokenFailure::BadAnswer) => "pulling maa post response failed: ",
        (None, TokenFailure::Unreachable | TokenFailure::TimedOut) => "maa post request failed: ",
        _ => "",
    }
}

impl From<TokenReply> for NoToken {
    fn from(reply: TokenReply) -> Self {
        let status = u16::try_from(reply.failure_status).ok();
        let retry_after = (reply.retry_after > 0).then_some(reply.retry_after);
        Self {
            kind: reply.failure_kind(),
            status: status.and_then(|status| StatusCode::from_u16(status).ok()),
            retry_after: retry_after.map(|seconds| Duration::from_secs(seconds.into())),
            text: excerpt(&reply.failure),
        }
    }
}

impl Attest {
    /// Asks the role at `address`, which may start later.
    pub(crate) fn new(address: &Local) -> Self {
        Self(AttestClient::new(service::grpc::channel(address)))
    }

    /// A report over the caller's bytes, with what belongs to it.
    ///
    /// # Errors
    ///
    /// [`AttestError`], never [`AttestError::NoToken`].
    pub(crate) async fn report(
        &self,
        runtime_data: Vec<u8>,
    ) -> Result<CompatibleReportReply, AttestError> {
        let request = CompatibleReportRequest { runtime_data };
        in_time(self.0.clone().get_compatible_report(request)).await
    }

    /// A token over the caller's bytes, from `maa` or else the instance that `attest-sidecar` is configured for.
    pub(crate) async fn token(
        &self,
        runtime_data: Vec<u8>,
        maa: Option<&Host>,
    ) -> Result<Token, AttestError> {
        self.token_for(Runtime::Compatible(runtime_data), maa).await
    }

    /// A token that tells a vault to wrap for the RSA key of this modulus and exponent (big-endian, without
    /// leading zeros).
    pub(crate) async fn release_token(
        &self,
        modulus: &[u8],
        exponent: &[u8],
        maa: Option<&Host>,
    ) -> Result<Token, AttestError> {
        let key = ReleaseKeyRuntime { modulus: modulus.to_vec(), exponent: exponent.to_vec() };
        self.token_for(Runtime::ReleaseKey(key), maa).await
    }

    async fn token_for(&self, runtime: Runtime, maa: Option<&Host>) -> Result<Token, AttestError> {
        let request = TokenRequest {
            runtime: Some(runtime),
            maa_endpoint: maa.map(Host::origin).unwrap_or_default(),
            ..Default::default()
        };
        let reply: TokenReply = in_time(self.0.clone().get_token(request)).await?;
        if reply.token.is_empty() {
            return Err(NoToken::from(reply).into());
        }
        Ok(Token(reply.token))
    }
}

async fn in_time<T>(
    question: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, AttestError> {
    let answer = tokio::time::timeout(DEADLINE, question).await;
    let answer = answer.map_err(|_| AttestError::TimedOut)?;
    answer.map(tonic::Response::into_inner).map_err(|status| AttestError::Failed {
        code: status.code(),
        text: excerpt(status.message()),
    })
}

fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: TokenFailure, status: u32) -> String {
        let failure = "cause".to_owned();
        let reply = TokenReply { failure, failure_status: status, ..Default::default() };
        let reply = TokenReply { failure_kind: kind.into(), ..reply };
        AttestError::from(NoToken::from(reply)).to_string()
    }

    #[test]
    fn a_text_names_the_step_as_scripts_know_it() {
        let failed = "Retrieving MAA token from MAA endpoint failed: ";
        let (post, pull) = ("maa post request failed: ", "pulling maa post response failed: ");
        for (kind, status, step) in [
            (TokenFailure::Refused, 400, pull),
            (TokenFailure::Throttled, 429, pull),
            (TokenFailure::ServerError, 500, pull),
            (TokenFailure::TimedOut, 408, pull),
            (TokenFailure::BadAnswer, 0, pull),
            (TokenFailure::TimedOut, 0, post),
            (TokenFailure::Unreachable, 0, post),
            (TokenFailure::ServerError, 0, ""),
            (TokenFailure::Unverified, 0, ""),
            (TokenFailure::None, 0, ""),
        ] {
            assert_eq!(text(kind, status), format!("{failed}{step}cause"), "{status}");
        }
    }

    #[test]
    fn what_is_no_status_is_none() {
        for status in [0, 99, 1000, 65_936] {
            let reply = TokenReply { failure_status: status, ..Default::default() };
            assert_eq!(NoToken::from(reply).status, None, "{status}");
        }
    }
}
