//! The certificate of an attestation key: whose key it is, and whether its path ends where the anchors believe.
//! Whether one is needed at all is for the expectation.

use crate::anchors::Anchors;
use crate::certificate::{Certificate, CertificateError};
use crate::path::{self, PathError};
use crate::rsa_key::RsaKey;

/// The longest list of issuers that is read, in bytes.
const MAX_ISSUERS: usize = 64 * 1024;

/// What was found of the attestation key's certificate.
#[derive(Clone)]
pub(crate) struct Certified {
    pub(crate) key: Option<RsaKey>,
    pub(crate) path: Result<(), AkError>,
}

/// Why the attestation key's certificate is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AkError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("{0} bytes of issuers are too many")]
    TooLong(usize),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("the root {0} is not believed")]
    Root(String),
}

impl Certified {
    /// Reads a certificate, zeros after it or not, and follows its issuers, root last.
    pub(super) fn read(leaf: &[u8], issuers: &[u8], anchors: &Anchors, at: u64) -> Self {
        match Certificate::from_zero_padded(leaf) {
            Err(error) => Self { key: None, path: Err(error.into()) },
            Ok(leaf) => Self {
                key: leaf.rsa_key().and_then(RsaKey::from_pkcs1),
                path: believed(leaf, issuers, anchors, at),
            },
        }
    }
}

fn believed(leaf: Certificate, issuers: &[u8], anchors: &Anchors, at: u64) -> Result<(), AkError> {
    if issuers.len() > MAX_ISSUERS {
        return Err(AkError::TooLong(issuers.len()));
    }
    let mut chain = vec![leaf];
    chain.extend(Certificate::sequence_from_der(issuers)?);
    path::verify(&chain, at)?;
    match chain.last().map(Certificate::fingerprint) {
        Some(root) if anchors.believes_vtpm_root(&root) => Ok(()),
        root => Err(AkError::Root(root.map(hex::encode).unwrap_or_default())),
    }
}
