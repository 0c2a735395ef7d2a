//! The operator's signing key, as the enforcement policy names it: its public half.
//!
//! Must not know what it signs.

use std::str::FromStr;

use crate::encoding::{from_b64u, to_b64u};
use crate::owner::{p256_point, p256_thumbprint};

/// A public key on P-256. In a variable or a file: its SubjectPublicKeyInfo in base64url, as `owner_key` of a
/// manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    spki: Vec<u8>,
    point: Vec<u8>,
    kid: String,
}

/// The text is no key on P-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be the SubjectPublicKeyInfo of a P-256 key in base64url, as `pmc secrets new-signer` prints it"
)]
pub struct NotASigner;

impl Signer {
    /// Reads a SubjectPublicKeyInfo (DER).
    ///
    /// # Errors
    ///
    /// [`NotASigner`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, NotASigner> {
        let point = p256_point(spki).ok_or(NotASigner)?;
        let kid = p256_thumbprint(&point).ok_or(NotASigner)?;
        Ok(Self { spki: spki.to_vec(), point, kid })
    }

    /// SubjectPublicKeyInfo in base64url.
    #[must_use]
    pub fn to_text(&self) -> String {
        to_b64u(&self.spki)
    }

    /// RFC 7638 thumbprint.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The uncompressed point.
    pub(crate) fn point(&self) -> &[u8] {
        &self.point
    }
}

impl FromStr for Signer {
    type Err = NotASigner;

    fn from_str(text: &str) -> Result<Self, NotASigner> {
        Self::from_spki(&from_b64u(text).ok_or(NotASigner)?)
    }
}
