//! The signature algorithms of the simulated certificate authorities.
//!
//! Must not know: what is signed. Salts come from the seeded generator that the caller passes,
//! so that a certificate is the same bytes every time.

use der::asn1::{Any, ObjectIdentifier};
use der::{Decode as _, Encode as _};
use rand_chacha::ChaCha20Rng;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _, Signer as _};
use rsa::{RsaPrivateKey, RsaPublicKey, pkcs1v15, pss};
use sha2::{Sha256, Sha384};
use x509_cert::spki::{
    AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef,
};

use super::PkiError;

pub(crate) const RSASSA_PSS: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");

/// RSASSA-PSS-params (RFC 4055 section 3.1): SHA-384, MGF1 with SHA-384, salt 48 bytes.
const PSS_SHA384: [u8; 54] = [
    0x30, 0x34, // SEQUENCE
    0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, // [0] hash: SHA-384, NULL
    0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30,
    0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, // [1] mask generation: MGF1 over SHA-384, NULL
    0xa2, 0x03, 0x02, 0x01, 0x30, // [2] salt length 48
];

/// `[3]` trailer field 1: the default, which DER omits. AMD's older certificates spell it out.
const TRAILER: [u8; 5] = [0xa3, 0x03, 0x02, 0x01, 0x01];

/// A private key with the algorithm it signs by.
#[derive(Debug, Clone)]
pub enum Signer {
    /// RSASSA-PSS with SHA-384 and a salt of 48 bytes, as AMD signs.
    RsaPssSha384 {
        /// The key.
        key: RsaPrivateKey,
        /// Whether the parameters name the default trailer, as AMD's ARK and ASK do.
        explicit_trailer: bool,
    },
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaSha256(RsaPrivateKey),
    /// RSASSA-PKCS1-v1_5 with SHA-384, as Microsoft's certificate authorities sign.
    RsaSha384(RsaPrivateKey),
}

impl Signer {
    /// The algorithm identifier that goes into the certificate.
    pub(crate) fn algorithm(&self) -> Result<AlgorithmIdentifierOwned, PkiError> {
        let (oid, parameters) = match self {
            Self::RsaPssSha384 { explicit_trailer, .. } => {
                (RSASSA_PSS, Some(Any::from_der(&pss_parameters(*explicit_trailer))?))
            }
            Self::RsaSha256(_) => (RSA_SHA256, Some(Any::null())),
            Self::RsaSha384(_) => (RSA_SHA384, Some(Any::null())),
        };
        Ok(AlgorithmIdentifierOwned { oid, parameters })
    }

    /// Signs; `salt` feeds RSASSA-PSS and is not read by the others.
    pub(crate) fn sign(&self, message: &[u8], salt: &mut ChaCha20Rng) -> Result<Vec<u8>, PkiError> {
        Ok(match self {
            Self::RsaPssSha384 { key, .. } => {
                pss::SigningKey::<Sha384>::new_with_salt_len(key.clone(), 48)
                    .try_sign_with_rng(salt, message)?
                    .to_vec()
            }
            Self::RsaSha256(key) => {
                pkcs1v15::SigningKey::<Sha256>::new(key.clone()).try_sign(message)?.to_vec()
            }
            Self::RsaSha384(key) => {
                pkcs1v15::SigningKey::<Sha384>::new(key.clone()).try_sign(message)?.to_vec()
            }
        })
    }

    /// The public half, as it stands in the signer's own certificate.
    pub(crate) fn public_key(&self) -> Result<SubjectPublicKeyInfoOwned, PkiError> {
        match self {
            Self::RsaPssSha384 { key, .. } | Self::RsaSha256(key) | Self::RsaSha384(key) => {
                public_key_info(&RsaPublicKey::from(key))
            }
        }
    }
}

/// SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) of any public key.
pub(crate) fn public_key_info(
    key: &impl x509_cert::spki::EncodePublicKey,
) -> Result<SubjectPublicKeyInfoOwned, PkiError> {
    let document = key.to_public_key_der().map_err(PkiError::PublicKey)?;
    Ok(SubjectPublicKeyInfoOwned::from_der(document.as_bytes())?)
}

fn pss_parameters(explicit_trailer: bool) -> Vec<u8> {
    let [sequence, length, fields @ ..] = PSS_SHA384;
    if explicit_trailer {
        [&[sequence, length + 5], fields.as_slice(), &TRAILER].concat()
    } else {
        PSS_SHA384.to_vec()
    }
}

/// Verifies a signature by the algorithm that the certificate names; only the algorithms of
/// [`Signer`] and of Azure's own roots are known.
pub(crate) fn verify(
    algorithm: &AlgorithmIdentifierOwned,
    issuer: &SubjectPublicKeyInfoOwned,
    message: &[u8],
    signature: &[u8],
) -> Result<(), PkiError> {
    use rsa::signature::Verifier as _;

    let spki = issuer.to_der()?;
    let spki = SubjectPublicKeyInfoRef::from_der(&spki)?;
    match algorithm.oid {
        RSASSA_PSS => {
            let parameters = algorithm.parameters.as_ref().map(|any| any.to_der()).transpose()?;
            if ![pss_parameters(false), pss_parameters(true)]
                .iter()
                .any(|known| parameters.as_deref() == Some(known))
            {
                return Err(PkiError::Algorithm);
            }
            let key = RsaPublicKey::try_from(spki).map_err(PkiError::PublicKey)?;
            let signature = pss::Signature::try_from(signature)?;
            let key = pss::VerifyingKey::<Sha384>::new_with_salt_len(key, 48);
            Ok(key.verify(message, &signature)?)
        }
        RSA_SHA256 => {
            let key = RsaPublicKey::try_from(spki).map_err(PkiError::PublicKey)?;
            let signature = pkcs1v15::Signature::try_from(signature)?;
            Ok(pkcs1v15::VerifyingKey::<Sha256>::new(key).verify(message, &signature)?)
        }
        RSA_SHA384 => {
            let key = RsaPublicKey::try_from(spki).map_err(PkiError::PublicKey)?;
            let signature = pkcs1v15::Signature::try_from(signature)?;
            Ok(pkcs1v15::VerifyingKey::<Sha384>::new(key).verify(message, &signature)?)
        }
        _ => Err(PkiError::Algorithm),
    }
}
