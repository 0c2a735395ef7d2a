//! A saved proof: everything that is needed to judge it again, years later and without a network.

use serde::{Deserialize, Serialize};

use crate::connection::Observed;
use crate::encoding::b64u;
use crate::wire::VerifyAnswer;

/// The longest bundle that is read, in bytes.
pub const MAX_LENGTH: usize = 8 * 1024 * 1024;

/// A recorded proof of one connection, in one JSON file.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Version of this form: 1.
    pub v: u8,
    /// The server's URL, as the client named it.
    pub endpoint: String,
    /// When the proof was taken, in Unix seconds by the client's clock.
    pub time: u64,
    /// The client's nonce.
    #[serde(with = "b64u")]
    pub nonce: [u8; 32],
    /// The client's own exporter value.
    #[serde(with = "b64u")]
    pub exporter: [u8; 32],
    /// The certificate that the handshake showed (DER).
    #[serde(with = "b64u")]
    pub certificate: Vec<u8>,
    /// The server's answer.
    pub answer: VerifyAnswer,
}

/// The bytes are no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Longer than [`MAX_LENGTH`].
    #[error("{0} bytes are too many for a saved proof")]
    TooLong(usize),
    /// Not the JSON of a bundle.
    #[error("not a saved proof: `pmc verify URL --save FILE` writes one")]
    Syntax,
    /// Of another version.
    #[error("a saved proof of version {0}, not 1: update this client")]
    Version(u8),
}

impl Bundle {
    /// Reads a file's bytes.
    ///
    /// # Errors
    ///
    /// [`BundleError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_LENGTH {
            return Err(BundleError::TooLong(bytes.len()));
        }
        let bundle: Self = serde_json::from_slice(bytes).map_err(|_| BundleError::Syntax)?;
        if bundle.v == 1 { Ok(bundle) } else { Err(BundleError::Version(bundle.v)) }
    }

    /// The file's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("text and numbers always serialise")
    }

    /// What the client observed.
    #[must_use]
    pub fn observed(&self) -> Observed {
        Observed {
            nonce: self.nonce,
            exporter: self.exporter,
            certificate: self.certificate.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(version: u8) -> String {
        let answer = json!({
            "v": 1,
            "evidence": {},
            "merkle": {"index": 0, "size": 1, "path": []},
            "manifest": "AQ",
            "owner": null,
            "token": null,
            "client_nonce": null,
        });
        json!({
            "v": version,
            "endpoint": "https://group.example",
            "time": 7,
            "nonce": "01".repeat(21) + "0",
            "exporter": "A".repeat(43),
            "certificate": "AgM",
            "answer": answer,
        })
        .to_string()
    }

    #[test]
    fn what_is_saved_is_what_is_read() {
        let bundle = Bundle::parse(text(1).as_bytes()).unwrap();
        assert_eq!((bundle.endpoint.as_str(), bundle.time), ("https://group.example", 7));
        let observed = bundle.observed();
        assert_eq!((observed.exporter, observed.certificate), ([0; 32], vec![2, 3]));
        assert_eq!(observed.nonce, bundle.nonce);
        assert_ne!(observed.nonce, [0; 32]);
        assert!(Bundle::parse(bundle.to_json().as_bytes()).unwrap() == bundle);
    }

    #[test]
    fn another_version_or_member_is_refused() {
        let refused = |text: String| Bundle::parse(text.as_bytes()).err();
        assert_eq!(refused(text(2)), Some(BundleError::Version(2)));
        assert_eq!(refused(text(1).replace("\"time\"", "\"tome\"")), Some(BundleError::Syntax));
    }
}
