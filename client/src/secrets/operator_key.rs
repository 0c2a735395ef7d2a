//! The operator's signing key: EC on P-256, in a file of its owner's.

use attestation::secrets::Signer;
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::SealError;

/// A private key. The provider zeroes its memory when it is dropped.
pub struct OperatorKey {
    pair: EcdsaKeyPair,
    signer: Signer,
}

/// The text is no such key. Says nothing about the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a signing key: it must be EC on P-256 in PEM, PKCS #8 (\"BEGIN PRIVATE KEY\"), as `pmc secrets new-signer` writes it"
)]
pub struct NotAnOperatorKey;

impl OperatorKey {
    /// Makes a key, and the text of its file: PKCS #8 in PEM.
    ///
    /// # Errors
    ///
    /// [`SealError::Provider`].
    pub fn generate() -> Result<(Self, Zeroizing<String>), SealError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let pair = pair.map_err(|_| SealError::Provider)?;
        let der = pair.to_pkcs8v1().map_err(|_| SealError::Provider)?;
        let text = Zeroizing::new(STANDARD.encode(der.as_ref()));
        let mut pem = Zeroizing::new(String::with_capacity(2 * text.len() + 128));
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        for (at, character) in text.chars().enumerate() {
            if at > 0 && at % 64 == 0 {
                pem.push('\n');
            }
            pem.push(character);
        }
        pem.push_str("\n-----END PRIVATE KEY-----\n");
        let key = Self::new(pair).map_err(|NotAnOperatorKey| SealError::Provider)?;
        Ok((key, pem))
    }

    /// Reads PKCS #8 in PEM.
    ///
    /// # Errors
    ///
    /// [`NotAnOperatorKey`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, NotAnOperatorKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| NotAnOperatorKey)?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der());
        Self::new(pair.map_err(|_| NotAnOperatorKey)?)
    }

    fn new(pair: EcdsaKeyPair) -> Result<Self, NotAnOperatorKey> {
        let spki: PublicKeyX509Der<'_> =
            pair.public_key().as_der().map_err(|_| NotAnOperatorKey)?;
        let signer = Signer::from_spki(spki.as_ref()).map_err(|_| NotAnOperatorKey)?;
        Ok(Self { pair, signer })
    }

    /// Its public half, which the enforcement policy names in `SECRETS_SIGNER`.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// r ‖ s.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64], SealError> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        let signature = signature.map_err(|_| SealError::Provider)?;
        signature.as_ref().try_into().map_err(|_| SealError::Provider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_read_from_its_own_text() {
        let (made, pem) = OperatorKey::generate().ok().unwrap();
        let read = OperatorKey::from_pem(pem.as_bytes()).ok().unwrap();
        assert_eq!(read.signer(), made.signer());
        assert!(pem.lines().all(|line| line.len() <= 64), "RFC 7468 section 2");
    }

    #[test]
    fn another_key_is_none() {
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let (_, pem) = OperatorKey::generate().ok().unwrap();
        for text in [other.serialize_pem(), pem.replace("PRIVATE", "PUBLIC"), String::new()] {
            assert_eq!(OperatorKey::from_pem(text.as_bytes()).err(), Some(NotAnOperatorKey));
        }
    }
}
