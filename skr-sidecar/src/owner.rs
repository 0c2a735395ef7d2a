//! The owner's signing key: what tells the owner's group from the same containers in somebody else's hands.
//!
//! It signs one kind of message, which is composed here: REPORT_DATA of evidence and a manifest's digest, under a
//! label of its own (`wire.md` part 2). So nothing that a caller sends can become another statement of the owner.

use attestation::ReportData;
use attestation::binding::owner_message;
use attestation::owner::p256_thumbprint;
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

use crate::key::{self, KeyError, Published};

/// The key. The provider zeroes its memory when it is dropped (aws-lc: every allocation is cleansed when freed).
pub(crate) struct OwnerKey {
    pair: EcdsaKeyPair,
    spki: Vec<u8>,
    thumbprint: String,
}

/// What the owner signed, and with which key.
pub(crate) struct Signed {
    /// RFC 7638 thumbprint.
    pub(crate) kid: String,
    /// r ‖ s.
    pub(crate) signature: Vec<u8>,
}

/// Why the owner's key did not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OwnerError {
    /// There is none.
    #[error("no owner's key is configured: name it in OWNER_KID")]
    NotConfigured,
    /// The vault has not released it yet.
    #[error("the vault has not released it yet: the log of skr-sidecar says why")]
    NotYet,
    /// It was refused, and is asked for again from time to time.
    #[error(
        "the vault, or another party, refuses to release it: the log of skr-sidecar says which and why"
    )]
    Refused,
    /// The request is none.
    #[error("report_data must have 64 bytes and manifest_sha256 32")]
    Length,
    /// The provider did not sign.
    #[error("signing failed")]
    Signing,
}

impl OwnerKey {
    /// Takes over what the vault released.
    pub(crate) fn new(published: &Published, released: &[u8]) -> Result<Self, KeyError> {
        const NEEDED: KeyError = KeyError::Unfit("an EC key on P-256");
        key::check(published, released)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, released)
            .map_err(|_| NEEDED)?;
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| NEEDED)?;
        let spki = spki.as_ref().to_vec();
        let thumbprint = p256_thumbprint(pair.public_key().as_ref()).ok_or(NEEDED)?;
        Ok(Self { pair, spki, thumbprint })
    }

    /// Its public half: SubjectPublicKeyInfo (DER).
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The owner's word for evidence with that content, together with that manifest.
    pub(crate) fn sign(
        &self,
        report_data: &ReportData,
        manifest_sha256: &[u8; 32],
    ) -> Result<Signed, OwnerError> {
        let message = owner_message(report_data, manifest_sha256);
        let signature = self.pair.sign(&SystemRandom::new(), &message);
        let signature = signature.map_err(|_| OwnerError::Signing)?;
        Ok(Signed { kid: self.thumbprint.clone(), signature: signature.as_ref().to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use attestation::owner::{OwnerKey as Pinned, OwnerStatement};
    use attestation::wire::OwnerSignature;
    use p256::pkcs8::EncodePrivateKey as _;
    use serde_json::{Value, json};

    use super::*;

    fn published(value: Value) -> Published {
        serde_json::from_value(value).unwrap()
    }

    fn owner() -> OwnerKey {
        let der = p256::SecretKey::random(&mut rand::thread_rng()).to_pkcs8_der().unwrap();
        OwnerKey::new(&published(json!({"kty": "EC-HSM"})), der.as_bytes()).ok().unwrap()
    }

    #[test]
    fn a_client_that_pins_the_key_accepts_its_word_and_no_other() {
        let (owner, other) = (owner(), owner());
        let pinned = Pinned::from_spki(owner.spki()).unwrap();
        let (data, manifest) = ([7; 64], [9; 32]);
        let statement = |signed: Signed, manifest_sha256| OwnerStatement {
            signature: OwnerSignature {
                kid: signed.kid,
                alg: "ES256".to_owned(),
                sig: signed.signature,
            },
            manifest_sha256,
        };
        let of = |key: &OwnerKey| key.sign(&data, &manifest).unwrap();
        assert!(statement(of(&owner), manifest).verify(&pinned, &data).is_ok());
        assert!(statement(of(&other), manifest).verify(&pinned, &data).is_err(), "another owner");
        assert!(statement(of(&owner), [8; 32]).verify(&pinned, &data).is_err(), "manifest");
        assert!(statement(of(&owner), manifest).verify(&pinned, &[6; 64]).is_err(), "evidence");
    }

    #[test]
    fn another_kind_of_key_is_no_owners() {
        let der = p384::SecretKey::random(&mut rand::thread_rng()).to_pkcs8_der().unwrap();
        let refused = OwnerKey::new(&published(json!({"kty": "EC-HSM"})), der.as_bytes()).err();
        assert_eq!(refused, Some(KeyError::Unfit("an EC key on P-256")));
        let refused = OwnerKey::new(&published(json!({"kty": "oct-HSM"})), &[0; 32]).err();
        assert_eq!(refused, Some(KeyError::Unfit("an EC key on P-256")));
    }

    /// The key is the one that the vault signed for, not just any key.
    #[test]
    fn another_key_than_the_published_one_is_refused() {
        let der = p256::SecretKey::random(&mut rand::thread_rng()).to_pkcs8_der().unwrap();
        let refused = OwnerKey::new(&published(json!({"kty": "EC", "x": "AAAA"})), der.as_bytes());
        assert_eq!(refused.err(), Some(KeyError::OtherKey("x")));
    }
}
