//! The one seam to the cryptography provider. Everything here verifies or hashes; nothing signs, encrypts or
//! needs randomness, so that another provider (in a browser, say) has eight functions to offer.
//!
//! Sources: FIPS 180-4, FIPS 186-5 (ECDSA), RFC 8017 (RSASSA-PSS, RSASSA-PKCS1-v1_5), RFC 3279, 4055 and 5758
//! (how certificates name and carry them).

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_ASN1,
    ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA384, UnparsedPublicKey, VerificationAlgorithm,
};

/// The signature is not one of this key over this message, or the key is none, or is too short (RSA below
/// 2048 bits). Which of them is not said: nothing good comes from telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// How an authority signed a certificate. RSA keys are `RSAPublicKey` (PKCS #1, DER), those on a curve
/// uncompressed points; a signature of ECDSA is in DER here, unlike everywhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateSignature {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaSha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RsaSha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RsaSha512,
    /// ECDSA over P-256 with SHA-256.
    P256Sha256,
    /// ECDSA over P-384 with SHA-384.
    P384Sha384,
}

/// SHA-256.
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    fixed(&digest::SHA256, data)
}

/// SHA-384.
#[must_use]
pub fn sha384(data: &[u8]) -> [u8; 48] {
    fixed(&digest::SHA384, data)
}

/// SHA-512.
#[must_use]
pub fn sha512(data: &[u8]) -> [u8; 64] {
    fixed(&digest::SHA512, data)
}

fn fixed<const N: usize>(algorithm: &'static digest::Algorithm, data: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(digest::digest(algorithm, data).as_ref());
    out
}

/// ECDSA over P-384 with SHA-384. `key` is the uncompressed point (97 bytes), `signature` r ‖ s big-endian
/// (96 bytes).
///
/// # Errors
///
/// [`BadSignature`].
pub fn verify_p384(key: &[u8], message: &[u8], signature: &[u8; 96]) -> Result<(), BadSignature> {
    verify(&ECDSA_P384_SHA384_FIXED, key, message, signature)
}

/// ECDSA over P-256 with SHA-256 (ES256). `key` is the uncompressed point (65 bytes), `signature` r ‖ s
/// big-endian (64 bytes).
///
/// # Errors
///
/// [`BadSignature`].
pub fn verify_p256(key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    verify(&ECDSA_P256_SHA256_FIXED, key, message, signature)
}

/// RSASSA-PSS with SHA-384, MGF1-SHA-384 and a salt of 48 bytes. `key` is an `RSAPublicKey` (PKCS #1, DER).
///
/// # Errors
///
/// [`BadSignature`].
pub fn verify_pss_sha384(key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    verify(&RSA_PSS_2048_8192_SHA384, key, message, signature)
}

/// RSASSA-PKCS1-v1_5 with SHA-256 (RS256). `key` is an `RSAPublicKey` (PKCS #1, DER).
///
/// # Errors
///
/// [`BadSignature`].
pub fn verify_rs256(key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    verify(&RSA_PKCS1_2048_8192_SHA256, key, message, signature)
}

/// The signature in a certificate.
///
/// # Errors
///
/// [`BadSignature`].
pub fn verify_certificate(
    kind: CertificateSignature,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), BadSignature> {
    let algorithm: &'static dyn VerificationAlgorithm = match kind {
        CertificateSignature::RsaSha256 => &RSA_PKCS1_2048_8192_SHA256,
        CertificateSignature::RsaSha384 => &RSA_PKCS1_2048_8192_SHA384,
        CertificateSignature::RsaSha512 => &RSA_PKCS1_2048_8192_SHA512,
        CertificateSignature::P256Sha256 => &ECDSA_P256_SHA256_ASN1,
        CertificateSignature::P384Sha384 => &ECDSA_P384_SHA384_ASN1,
    };
    verify(algorithm, key, message, signature)
}

fn verify(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), BadSignature> {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature).map_err(|_| BadSignature)
}
