//! What a failed call looks like to a caller.

use tonic::Status;

use crate::evidence::EvidenceError;
use crate::maa::NotAllowed;
use crate::processor::ProcessorError;

/// A field of a request is missing, too long, or not of its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the field {0} is missing, not of its length, or not one that this call takes")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// A field of exactly `N` bytes.
pub(crate) fn array<const N: usize>(
    bytes: &[u8],
    field: &'static str,
) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed(field))
}

/// Any call's failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    #[error(transparent)]
    Maa(#[from] NotAllowed),
}

/// Which gRPC status a failure gives, with its causes as text.
pub(crate) fn status(failure: &Failure) -> Status {
    let text = service::chain(failure);
    match failure {
        Failure::Malformed(_) | Failure::Maa(_) => Status::invalid_argument(text),
        Failure::Evidence(EvidenceError::Processor(error)) => match error {
            ProcessorError::Busy => Status::resource_exhausted(text),
            ProcessorError::NoDevice(_) => Status::failed_precondition(text),
            ProcessorError::Device(_) | ProcessorError::Gone => Status::unavailable(text),
        },
        Failure::Evidence(EvidenceError::Certificates(_)) => Status::unavailable(text),
    }
}
