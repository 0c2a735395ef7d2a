//! Wrapping a released key for the one who holds a private key in a guest's memory.
//!
//! Must not know: policies or tokens. `CKM_RSA_AES_KEY_WRAP` (PKCS #11 section 2.1.21) and its
//! relatives: a fresh AES-256 key under RSA-OAEP (RFC 8017 section 7.1, empty label, MGF1 with
//! the same hash), then the secret under that key with AES-KWP (RFC 5649).

use aes_kw::KekAes256;
use rand::{CryptoRng, RngCore};
use rsa::{Oaep, RsaPublicKey};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Sha256, Sha384};

/// The wrapping algorithms of a release, by the names of the vault's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum WrapAlgorithm {
    /// RSA-OAEP with SHA-1; what a request without `enc` gets.
    #[default]
    #[serde(rename = "CKM_RSA_AES_KEY_WRAP")]
    CkmRsaAesKeyWrap,
    /// RSA-OAEP with SHA-256.
    #[serde(rename = "RSA_AES_KEY_WRAP_256")]
    RsaAesKeyWrap256,
    /// RSA-OAEP with SHA-384.
    #[serde(rename = "RSA_AES_KEY_WRAP_384")]
    RsaAesKeyWrap384,
}

impl WrapAlgorithm {
    fn oaep(self) -> Oaep {
        match self {
            Self::CkmRsaAesKeyWrap => Oaep::new::<Sha1>(),
            Self::RsaAesKeyWrap256 => Oaep::new::<Sha256>(),
            Self::RsaAesKeyWrap384 => Oaep::new::<Sha384>(),
        }
    }
}

/// A secret that could not be wrapped.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrapError {
    /// The wrapping key is too small, or otherwise refused.
    #[error("RSA-OAEP refused the wrapping key")]
    Rsa(#[from] rsa::Error),
    /// The secret is empty or too long.
    #[error("AES-KWP refused the secret")]
    Aes(aes_kw::Error),
}

/// RSA-OAEP of a fresh AES-256 key, then AES-KWP of `secret`.
pub(super) fn wrap(
    algorithm: WrapAlgorithm,
    kek: &RsaPublicKey,
    secret: &[u8],
    rng: &mut (impl CryptoRng + RngCore),
) -> Result<Vec<u8>, WrapError> {
    let mut aes = [0; 32];
    rng.fill_bytes(&mut aes);
    let mut wrapped = kek.encrypt(rng, algorithm.oaep(), &aes)?;
    let secret = KekAes256::from(aes).wrap_with_padding_vec(secret).map_err(WrapError::Aes)?;
    wrapped.extend_from_slice(&secret);
    Ok(wrapped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::KeyRing;
    use crate::seed::Seed;
    use crate::testing;

    /// RFC 5649 section 6: both examples, under a 192-bit key.
    #[test]
    fn aes_kwp_is_that_of_the_rfc() {
        let kek = hex::decode("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8").unwrap();
        let kek = aes_kw::KekAes192::try_from(kek.as_slice()).unwrap();
        for (plain, wrapped) in [
            (
                "c37b7e6492584340bed12207808941155068f738",
                "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
            ),
            ("466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"),
        ] {
            let plain = hex::decode(plain).unwrap();
            assert_eq!(hex::encode(kek.wrap_with_padding_vec(&plain).unwrap()), wrapped);
            let wrapped = hex::decode(wrapped).unwrap();
            assert_eq!(kek.unwrap_with_padding_vec(&wrapped).unwrap(), plain);
        }
    }

    #[test]
    fn every_algorithm_unwraps_with_its_own_hash_only() {
        let key = KeyRing::new(Seed::new("wrap"), testing::state()).rsa("kek", 2048).unwrap();
        let algorithms = [
            WrapAlgorithm::CkmRsaAesKeyWrap,
            WrapAlgorithm::RsaAesKeyWrap256,
            WrapAlgorithm::RsaAesKeyWrap384,
        ];
        for algorithm in algorithms {
            let secret = b"a secret of no particular length";
            let wrapped =
                wrap(algorithm, &RsaPublicKey::from(&key), secret, &mut rand::thread_rng());
            let wrapped = wrapped.unwrap();
            let (under_rsa, under_aes) = wrapped.split_at(256);
            for other in algorithms {
                let aes = key.decrypt(other.oaep(), under_rsa);
                if other != algorithm {
                    assert!(aes.is_err());
                    continue;
                }
                let aes: [u8; 32] = aes.unwrap().try_into().unwrap();
                let plain = KekAes256::from(aes).unwrap_with_padding_vec(under_aes).unwrap();
                assert_eq!(plain, secret);
            }
        }
    }

    #[test]
    fn algorithms_have_the_names_of_the_api() {
        let name = |algorithm| serde_json::to_value(algorithm).unwrap();
        assert_eq!(name(WrapAlgorithm::default()), "CKM_RSA_AES_KEY_WRAP");
        assert_eq!(name(WrapAlgorithm::RsaAesKeyWrap384), "RSA_AES_KEY_WRAP_384");
    }
}
