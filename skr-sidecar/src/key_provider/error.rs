//! What callers of the reference's service are told: its codes, and the fragments of text that scripts match on
//! (contract `skr.md` part 1.2). Nothing of a request is repeated but the name of an agent.

use std::error::Error as StdError;

use tonic::{Code, Status};

use super::packets::PacketError;
use super::wrap::{DecryptError, WrapError};
use crate::attest::AttestError;
use crate::http::base64::NotBase64;
use crate::release::ReleaseError;

/// Ends every text.
const HELP: &str = "docs/how-to/skr-sidecar.md says what to do about each cause";

/// The longest text, in bytes. It travels percent-encoded in a header, for which clients allow 16 KiB.
const LONGEST: usize = 3000;

/// Why a call failed. Its own text comes first, its sources behind it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// There is no report.
    #[error("failed to retrieve attestation report, attest-sidecar says")]
    Report(#[source] AttestError),
    /// The runtime data is not base64.
    #[error("decoding base64-encoded runtime data of request failed")]
    RuntimeData(#[source] NotBase64),
    /// The platform mounted no endorsement of the utility VM.
    #[error("uvmInfo is not set: no reference-info is mounted")]
    NoEndorsement,
    /// The packet is not what it should be.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// Nothing may be read to wrap with.
    #[error(
        "failed to read key info file: SKR_WRAP_KEYS names no folder with keys that WrapKey may use"
    )]
    NoWrapKeys,
    /// The key to wrap with could not be read, or does not encrypt this.
    #[error(transparent)]
    Wrap(#[from] WrapError),
    /// The vault did not release the key.
    #[error("SKR failed")]
    Release(#[source] Box<ReleaseError>),
    /// The wrapped key is not base64.
    #[error("Unwrapping failed")]
    WrappedData(#[source] NotBase64),
    /// The released key does not decrypt it.
    #[error("Unwrapping failed")]
    Decrypt(#[from] DecryptError),
    /// The thread that worked on it ended early.
    #[error("the work was interrupted: try again")]
    Interrupted,
}

impl Failure {
    fn code(&self) -> Code {
        match self {
            Self::Report(AttestError::Failed { code: Code::FailedPrecondition, .. })
            | Self::RuntimeData(_)
            | Self::NoEndorsement => Code::FailedPrecondition,
            Self::Packet(_) => Code::InvalidArgument,
            Self::Report(_) | Self::NoWrapKeys | Self::Wrap(_) | Self::Interrupted => {
                Code::Internal
            }
            Self::Release(_) | Self::WrappedData(_) | Self::Decrypt(_) => Code::Unknown,
        }
    }

    /// The failure as gRPC tells it.
    pub(super) fn status(&self) -> Status {
        let code = self.code();
        let mut text = match self {
            // As it stands: `SEV guest driver is missing` is what callers look for.
            Self::Report(AttestError::Failed { text, .. }) if code == Code::FailedPrecondition => {
                text.clone()
            }
            Self::Release(_) | Self::WrappedData(_) | Self::Decrypt(_) => {
                format!("{self}\n{HELP}: {}", causes(self))
            }
            _ if self.source().is_some() => format!("{self}: {}", causes(self)),
            _ => self.to_string(),
        };
        text.truncate(text.floor_char_boundary(LONGEST));
        Status::new(code, format!("{text}\n{HELP}"))
    }
}

fn causes(error: &dyn StdError) -> String {
    let mut texts = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_without_a_device_is_told_from_one_whose_device_fails() {
        let of = |code, text: &str| {
            let text = text.to_owned();
            Failure::Report(AttestError::Failed { code, text }).status()
        };
        let missing = of(Code::FailedPrecondition, "SEV guest driver is missing.");
        assert_eq!(missing.code(), Code::FailedPrecondition);
        assert_eq!(missing.message(), format!("SEV guest driver is missing.\n{HELP}"));
        let failed = of(Code::Internal, "ioctl failed");
        assert_eq!(failed.code(), Code::Internal);
        assert!(failed.message().starts_with("failed to retrieve attestation report, "));
    }

    #[test]
    fn a_text_has_a_bound_and_an_end() {
        let text = "ä".repeat(4000);
        let error = AttestError::Failed { code: Code::Internal, text };
        let status = Failure::Report(error).status();
        assert!(status.message().len() < LONGEST + 100, "{}", status.message().len());
        assert!(status.message().ends_with(HELP));
    }
}
