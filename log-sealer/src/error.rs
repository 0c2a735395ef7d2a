//! Why an export is refused, and which gRPC status says so.
//!
//! No text here repeats a byte of what was sent.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// When a sender may try again, as OTLP's retryable answers say it (OTLP specification, "Failures").
const RETRY: Duration = Duration::from_secs(1);

/// Why an export was not accepted. Nothing of a refused one is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("not a request of OTLP for this signal: check the exporter's version and protocol")]
    Malformed,
    #[error("too much for one request: make the exporter's batches smaller")]
    TooMuch,
    #[error("values nest more than {0} levels deep: flatten the attributes")]
    TooDeep(usize),
    #[error("no room: sealing waits for evidence, the spool or a sink; try again")]
    Full,
    #[error("the request did not arrive, or was not stored, in time; try again")]
    Slow,
    #[error(
        "the spool is full, and LOG_SPOOL_FULL says to drop what comes: it is dropped, and counted"
    )]
    Dropped,
    #[error("the log records could not be sealed: they are lost, and counted")]
    Unsealed,
    #[error("log-sealer is stopping")]
    Stopping,
    #[error("the export was not handled")]
    Failed,
}

/// When the same export may succeed; `None`: never.
pub(crate) fn retry(refused: Refused) -> Option<Duration> {
    match refused {
        Refused::Malformed
        | Refused::TooMuch
        | Refused::TooDeep(_)
        | Refused::Dropped
        | Refused::Unsealed
        | Refused::Failed => None,
        Refused::Full | Refused::Slow | Refused::Stopping => Some(RETRY),
    }
}

/// The answer to a refused export. What may succeed later is UNAVAILABLE with RetryInfo, which exporters obey;
/// what never will is INVALID_ARGUMENT, which makes them drop the batch. So do FAILED_PRECONDITION and INTERNAL, for what
/// is on record as lost: sent again it would be counted again. RESOURCE_EXHAUSTED is no answer, since some exporters
/// try again without a RetryInfo.
pub(crate) fn status(refused: Refused) -> Status {
    let text = refused.to_string();
    match (refused, retry(refused)) {
        (Refused::Dropped, _) => Status::failed_precondition(text),
        (Refused::Failed | Refused::Unsealed, _) => Status::internal(text),
        (_, None) => Status::invalid_argument(text),
        (_, retry) => Status::with_error_details(
            Code::Unavailable,
            text,
            ErrorDetails::with_retry_info(retry),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_succeed_later_says_when() {
        let full = status(Refused::Full);
        assert_eq!(full.code(), Code::Unavailable);
        let info = full.get_details_retry_info().unwrap();
        assert_eq!(info.retry_delay, Some(RETRY));

        let malformed = status(Refused::Malformed);
        assert_eq!(malformed.code(), Code::InvalidArgument);
        assert!(malformed.get_details_retry_info().is_none());
        assert_eq!(status(Refused::Failed).code(), Code::Internal);

        let dropped = status(Refused::Dropped);
        assert_eq!(dropped.code(), Code::FailedPrecondition);
        assert!(dropped.get_details_retry_info().is_none());
    }
}
