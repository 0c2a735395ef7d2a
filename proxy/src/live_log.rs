//! What comes into the sealed log, in the clear, as `log-sealer` shows it by gRPC (`Log.Watch`).
//!
//! Must not know who looks at it, or how it is shown.

use std::time::Duration;

use proto::log::log_client::LogClient;
use proto::log::{WatchRequest, Watched};
use service::listen::Local;
use tonic::{Code, Status, Streaming};

/// How long it may take to begin: that it begins is put on record first, and a record may wait 5 s for its segment.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where `log-sealer` is.
pub(crate) struct LiveLog(Local);

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    /// `LOG_LIVE` does not allow it.
    #[error("the live view is off")]
    Off,
    /// As many watch as may.
    #[error("too many watch")]
    TooMany,
    /// It does not answer, or cannot put the opening on record.
    #[error("log-sealer does not show anything")]
    Unavailable(#[source] Box<Status>),
}

impl LiveLog {
    pub(crate) fn new(at: Local) -> Self {
        Self(at)
    }

    /// Begins to watch. The connection to `log-sealer` is this view's own, and belongs to the thread that asks: one that is not
    /// read holds up no other.
    ///
    /// # Errors
    ///
    /// [`WatchError`].
    pub(crate) async fn watch(
        &self,
        request: WatchRequest,
    ) -> Result<Streaming<Watched>, WatchError> {
        let mut client = LogClient::new(service::grpc::channel(&self.0));
        let begun = tokio::time::timeout(PATIENCE, client.watch(request)).await;
        let late = |_| Err(Status::deadline_exceeded("it takes too long"));
        let answer = begun.unwrap_or_else(late).map_err(|status| match status.code() {
            Code::FailedPrecondition => WatchError::Off,
            Code::ResourceExhausted => WatchError::TooMany,
            _ => WatchError::Unavailable(Box::new(status)),
        })?;
        Ok(answer.into_inner())
    }
}
