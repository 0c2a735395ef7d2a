//! `attest-sidecar`, as this role asks it: reports for the compatibility routes, tokens for those and for
//! releases.
//!
//! Must not know how a report or a token is made.

use std::time::Duration;

use proto::attest::attest_client::AttestClient;
use proto::attest::token_request::Runtime;
use proto::attest::{
    CompatibleReportReply, CompatibleReportRequest, ReleaseKeyRuntime, TokenReply, TokenRequest,
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
    /// MAA gave no token; the text names the status and repeats what MAA said.
    #[error("Retrieving MAA token from MAA endpoint failed: pulling maa post response failed: {0}")]
    NoToken(String),
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
            return Err(AttestError::NoToken(excerpt(&reply.failure)));
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
