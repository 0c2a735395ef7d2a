//! The simulated public key infrastructures: AMD's, Microsoft's, and the one of TLS.
//!
//! Must not know: protocols. Everything here derives from a [`KeyRing`]; certificates have fixed
//! serials and a fixed validity, so that one seed gives one set of bytes.

pub mod amd;
pub mod certificate;
pub mod chain;
pub mod keys;
pub mod microsoft;
pub mod signer;
pub mod tls;

pub use keys::{KeyError, KeyRing};

/// A certificate that could not be made, read or verified.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// DER that cannot be written or read.
    #[error("malformed DER")]
    Der(#[from] der::Error),
    /// PEM that holds something else than certificates.
    #[error("malformed PEM")]
    Pem(#[source] der::Error),
    /// A public key of an unknown kind or a wrong form.
    #[error("unusable public key")]
    PublicKey(#[source] x509_cert::spki::Error),
    /// An algorithm that this world does not use.
    #[error("unknown signature algorithm or parameters")]
    Algorithm,
    /// A signature that does not verify, or could not be made.
    #[error("signature refused")]
    Signature(#[from] rsa::signature::Error),
    /// A private key that could not be derived.
    #[error("key derivation failed")]
    Key(#[from] KeyError),
    /// A private key without PKCS#8 form.
    #[error("private key has no PKCS#8 form")]
    Pkcs8(#[from] rsa::pkcs8::Error),
    /// A chain that breaks a rule of RFC 5280 section 6.
    #[error("certificate chain: {0}")]
    Chain(&'static str),
}
