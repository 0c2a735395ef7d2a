//! Keys that `skr-sidecar` derives of a key of the owner's vault: they come only into a group that the vault releases to.
//!
//! Must not know what they open.

use std::time::Duration;

use proto::skr::skr_client::SkrClient;
use proto::skr::{GetStateKeyReply, GetStateKeyRequest};
use service::listen::Local;
use tonic::{Code, Status};
use zeroize::Zeroizing;

use super::{StateKey, is_version};
use crate::store::StoreError;

/// The key is waited for this long; then the process gives up and is started anew.
const PATIENCE: Duration = Duration::from_secs(300);

/// Pause after the first question, doubled after each further one.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why there is none.
#[derive(Debug, thiserror::Error)]
enum NoKey {
    #[error(
        "skr-sidecar derives no key for stored state: set its STATE_KID, or here PROXY_STATE=memory or PROXY_STATE_KEY=file"
    )]
    NotConfigured,
    #[error("skr-sidecar gave no key for stored state within {} s: {why}", PATIENCE.as_secs())]
    Patience {
        /// What it said last.
        why: String,
    },
    #[error("skr-sidecar answers with what is no key")]
    Form,
}

impl From<NoKey> for StoreError {
    fn from(error: NoKey) -> Self {
        Self::NoKey(Box::new(error))
    }
}

/// The key to encrypt with.
pub(super) async fn current(skr: &Local) -> Result<StateKey, StoreError> {
    match waited_for(skr, "").await? {
        Some(key) => Ok(key),
        None => Err(NoKey::NotConfigured.into()),
    }
}

/// The key of an older version; `None` if the vault has none of that name, or releases it no longer.
pub(super) async fn of_version(skr: &Local, version: &str) -> Result<Option<StateKey>, StoreError> {
    waited_for(skr, version).await
}

async fn waited_for(skr: &Local, version: &str) -> Result<Option<StateKey>, StoreError> {
    let mut client = SkrClient::new(service::grpc::channel(skr));
    let mut last = String::new();
    let key = async {
        let mut pause = PAUSE;
        loop {
            let request = GetStateKeyRequest { version: version.to_owned() };
            match client.get_state_key(request).await {
                Ok(reply) => return read(reply.into_inner()).map(Some),
                Err(status) if is_lasting(&status, version) => return Ok(None),
                Err(status) => {
                    if last != status.message() {
                        status.message().clone_into(&mut last);
                        tracing::warn!(why = last, "no key for stored state yet; asking again");
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    match tokio::time::timeout(PATIENCE, key).await {
        Ok(key) => Ok(key?),
        Err(_) => Err(NoKey::Patience { why: last }.into()),
    }
}

/// Whether asking again is no use. A refusal of the current version can be mended from outside, so it is waited for;
/// that of another one must not keep what the current one opens.
fn is_lasting(status: &Status, version: &str) -> bool {
    match status.code() {
        Code::Unimplemented | Code::NotFound | Code::InvalidArgument => true,
        Code::FailedPrecondition => !version.is_empty(),
        _ => false,
    }
}

fn read(reply: GetStateKeyReply) -> Result<StateKey, NoKey> {
    let GetStateKeyReply { version, key } = reply;
    let key = Zeroizing::new(key);
    let mut bytes = Zeroizing::new([0; 32]);
    if key.len() != bytes.len() || !is_version(&version) {
        return Err(NoKey::Form);
    }
    bytes.copy_from_slice(&key);
    Ok(StateKey { version, bytes })
}
