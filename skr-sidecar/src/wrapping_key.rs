//! The key that a vault wraps a released key for, and the way back: RSA-OAEP around an AES key, AES-KWP with
//! that around the released key (`RSA_AES_KEY_WRAP_256` and `RSA_AES_KEY_WRAP_384`, which differ in OAEP's hash).
//!
//! Sources: PKCS #11 3.0 section 2.1.21 (RSA AES KEY WRAP), RFC 8017 section 7.1 (OAEP), RFC 5649 (AES-KWP),
//! Key Vault REST API 7.4 (`KeyEncryptionAlgorithm`). All primitives are the provider's.
//!
//! Must not know what kind of key is inside.

use std::str::FromStr;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded as _};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OaepAlgorithm,
    OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey, PublicKey,
};
use zeroize::Zeroizing;

/// The mechanisms of Key Vault that are asked for: OAEP and MGF1 with this hash, no label. `CKM_RSA_AES_KEY_WRAP`,
/// which is SHA-1, is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrap {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
}

/// Why a text is no such mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be RSA_AES_KEY_WRAP_256 or RSA_AES_KEY_WRAP_384")]
pub(crate) struct NotAWrap;

impl Wrap {
    /// What Key Vault calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "RSA_AES_KEY_WRAP_256",
            Self::Sha384 => "RSA_AES_KEY_WRAP_384",
        }
    }

    fn oaep(self) -> &'static OaepAlgorithm {
        match self {
            Self::Sha256 => &OAEP_SHA256_MGF1SHA256,
            Self::Sha384 => &OAEP_SHA384_MGF1SHA384,
        }
    }
}

impl FromStr for Wrap {
    type Err = NotAWrap;

    fn from_str(text: &str) -> Result<Self, NotAWrap> {
        [Self::Sha256, Self::Sha384].into_iter().find(|wrap| wrap.name() == text).ok_or(NotAWrap)
    }
}

/// Bytes of the AES key in the middle.
const AES_KEY: usize = 32;

/// RFC 5649 section 4.1: the shortest output of AES-KWP, and its granularity.
const SHORTEST_WRAP: usize = 16;
const WRAP_BLOCK: usize = 8;

/// An RSA-3072 key for one release. Recovering a key uses it up.
pub(crate) struct WrappingKey {
    private: OaepPrivateDecryptingKey,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

/// The provider made no usable key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenerateError {
    /// It made none.
    #[error("no wrapping key could be made")]
    Generate(#[source] Unspecified),
    /// Its public half could not be read.
    #[error("the public half of a wrapping key could not be read")]
    Public(#[source] KeyRejected),
    /// Its halves do not belong together.
    #[error("a wrapping key does not open what was encrypted to it")]
    Unfit,
}

/// Why wrapped bytes gave no key. Nothing more is said about them: they may be an attacker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnwrapError {
    /// Too short for an RSA block with a wrapped key behind it, or no whole number of AES-KWP blocks.
    #[error("aes key unwrap failed: the wrapped key has an impossible length of {0} bytes")]
    Length(usize),
    /// The RSA block is not for this key, or was made with another hash.
    #[error(
        "rsa key unwrap failed: the wrapped key is not for the key of this release, or not wrapped by {}",
        .0.name()
    )]
    Rsa(Wrap),
    /// The RSA block holds something else than an AES-256 key.
    #[error("rsa key unwrap failed: the key in the middle has {0} bytes instead of 32")]
    AesKey(usize),
    /// AES-KWP's integrity check failed.
    #[error("aes key unwrap failed: the wrapped key was changed on its way")]
    Aes,
}

impl WrappingKey {
    /// Makes a key and tries it out. Takes some hundred milliseconds of a processor.
    ///
    /// The provider prepares a key for its private half's operations (blinding and the numbers that it computes with) at
    /// the first of them, which takes about as long as the operation: so that is done here, and not in a release.
    pub(crate) fn generate() -> Result<Self, GenerateError> {
        let key =
            PrivateDecryptingKey::generate(KeySize::Rsa3072).map_err(GenerateError::Generate)?;
        let public =
            OaepPublicEncryptingKey::new(key.public_key()).map_err(GenerateError::Generate)?;
        let key = Self::new(key)?;
        let probe = [0; AES_KEY];
        let mut block = vec![0; public.ciphertext_size()];
        let encrypted = public.encrypt(&OAEP_SHA256_MGF1SHA256, &probe, &mut block, None);
        encrypted.map_err(GenerateError::Generate)?;
        match key.recover_aes_key(&block, Wrap::Sha256) {
            Ok(recovered) if *recovered == probe => Ok(key),
            _ => Err(GenerateError::Unfit),
        }
    }

    fn new(key: PrivateDecryptingKey) -> Result<Self, GenerateError> {
        let public = key.public_key().as_der().map_err(GenerateError::Generate)?;
        let public = PublicKey::from_der(public.as_ref()).map_err(GenerateError::Public)?;
        Ok(Self {
            private: OaepPrivateDecryptingKey::new(key).map_err(GenerateError::Generate)?,
            modulus: public.modulus().big_endian_without_leading_zero().to_vec(),
            exponent: public.exponent().big_endian_without_leading_zero().to_vec(),
        })
    }

    /// The public modulus, big-endian without leading zeros.
    pub(crate) fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// The public exponent, big-endian without leading zeros.
    pub(crate) fn exponent(&self) -> &[u8] {
        &self.exponent
    }

    /// Recovers what was wrapped for this key by this mechanism.
    pub(crate) fn recover(
        self,
        wrapped: &[u8],
        by: Wrap,
    ) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
        let length = UnwrapError::Length(wrapped.len());
        let (aes_key, key) =
            wrapped.split_at_checked(self.private.key_size_bytes()).ok_or(length)?;
        if key.len() < SHORTEST_WRAP || !key.len().is_multiple_of(WRAP_BLOCK) {
            return Err(length);
        }
        let aes_key = self.recover_aes_key(aes_key, by)?;
        let aes_key =
            AesKek::new(&AES_256, aes_key.as_slice()).expect("AES-256 takes a key of 32 bytes");
        recover_padded(aes_key, key)
    }

    fn recover_aes_key(
        &self,
        block: &[u8],
        by: Wrap,
    ) -> Result<Zeroizing<[u8; AES_KEY]>, UnwrapError> {
        let mut buffer = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let key = self
            .private
            .decrypt(by.oaep(), block, &mut buffer, None)
            .map_err(|Unspecified| UnwrapError::Rsa(by))?;
        let length = key.len();
        let mut copy = Zeroizing::new([0; AES_KEY]);
        if length != AES_KEY {
            return Err(UnwrapError::AesKey(length));
        }
        copy.copy_from_slice(key);
        Ok(copy)
    }
}

fn recover_padded(with: AesKek, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
    let mut buffer = Zeroizing::new(vec![0; wrapped.len()]);
    let length = with
        .unwrap_with_padding(wrapped, &mut buffer)
        .map_err(|Unspecified| UnwrapError::Aes)?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::key_wrap::{AES_128, KeyEncryptionKey};
    use rsa::{BigUint, Oaep, RsaPublicKey};
    use sha1::Sha1;
    use sha2::{Sha256, Sha384};

    use super::*;

    /// The other implementation: RustCrypto's.
    fn oaep(for_key: &WrappingKey, padding: Oaep, aes_key: &[u8]) -> Vec<u8> {
        let number = BigUint::from_bytes_be;
        let public =
            RsaPublicKey::new(number(for_key.modulus()), number(for_key.exponent())).unwrap();
        public.encrypt(&mut rand::thread_rng(), padding, aes_key).unwrap()
    }

    fn wrap(for_key: &WrappingKey, secret: &[u8]) -> Vec<u8> {
        let aes_key = [7; 32];
        let mut wrapped = oaep(for_key, Oaep::new::<Sha256>(), &aes_key);
        wrapped.extend(aes_kw::KekAes256::from(aes_key).wrap_with_padding_vec(secret).unwrap());
        wrapped
    }

    fn key() -> PrivateDecryptingKey {
        PrivateDecryptingKey::generate(KeySize::Rsa3072).unwrap()
    }

    /// The same key again: recovering uses it up.
    fn again(key: &PrivateDecryptingKey) -> WrappingKey {
        WrappingKey::new(key.clone()).unwrap()
    }

    #[test]
    fn what_another_implementation_wrapped_is_recovered() {
        let key = key();
        for length in [1, 8, 31, 32, 33, 1217, 2375] {
            let secret: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            let wrapped = wrap(&again(&key), &secret);
            assert_eq!(*again(&key).recover(&wrapped, Wrap::Sha256).unwrap(), secret);
        }
    }

    #[test]
    fn each_mechanism_opens_its_own_wrapping_only() {
        let key = key();
        let wrapped = |padding| {
            let mut wrapped = oaep(&again(&key), padding, &[7; 32]);
            wrapped.extend(aes_kw::KekAes256::from([7; 32]).wrap_with_padding_vec(b"s").unwrap());
            wrapped
        };
        let (of_256, of_384) = (wrapped(Oaep::new::<Sha256>()), wrapped(Oaep::new::<Sha384>()));
        let recovered = |bytes: &[u8], by| again(&key).recover(bytes, by).map(|key| key.to_vec());
        assert_eq!(recovered(&of_256, Wrap::Sha256), Ok(b"s".to_vec()));
        assert_eq!(recovered(&of_384, Wrap::Sha384), Ok(b"s".to_vec()));
        assert_eq!(recovered(&of_256, Wrap::Sha384), Err(UnwrapError::Rsa(Wrap::Sha384)));
        assert_eq!(recovered(&of_384, Wrap::Sha256), Err(UnwrapError::Rsa(Wrap::Sha256)));
    }

    #[test]
    fn sha_1_is_no_mechanism_of_ours() {
        for (name, wrap) in [
            ("RSA_AES_KEY_WRAP_256", Ok(Wrap::Sha256)),
            ("RSA_AES_KEY_WRAP_384", Ok(Wrap::Sha384)),
            ("CKM_RSA_AES_KEY_WRAP", Err(NotAWrap)),
            ("", Err(NotAWrap)),
        ] {
            assert_eq!(name.parse::<Wrap>(), wrap, "{name}");
        }
    }

    #[test]
    fn the_public_half_is_rsa_3072() {
        let key = WrappingKey::generate().unwrap();
        assert_eq!(key.modulus().len(), 384);
        assert!(key.modulus()[0] >= 0x80);
        assert_eq!(key.exponent(), [1, 0, 1]);
    }

    #[test]
    fn impossible_lengths_are_refused_before_any_cryptography() {
        let key = key();
        for length in [0, 1, 383, 384, 385, 399, 401, 407] {
            let refused = again(&key).recover(&vec![0; length], Wrap::Sha256).err();
            assert_eq!(refused, Some(UnwrapError::Length(length)));
        }
    }

    #[test]
    fn another_hash_another_key_and_another_aes_key_are_refused() {
        let (mine, yours) = (key(), key());
        let refused = |padding: Oaep, aes_key: &[u8]| {
            let mut wrapped = oaep(&again(&mine), padding, aes_key);
            wrapped.extend([0; 16]);
            again(&mine).recover(&wrapped, Wrap::Sha256).unwrap_err()
        };
        assert_eq!(refused(Oaep::new::<Sha1>(), &[7; 32]), UnwrapError::Rsa(Wrap::Sha256));
        assert_eq!(refused(Oaep::new::<Sha384>(), &[7; 32]), UnwrapError::Rsa(Wrap::Sha256));
        assert_eq!(
            refused(Oaep::new_with_label::<Sha256, _>("l"), &[7; 32]),
            UnwrapError::Rsa(Wrap::Sha256)
        );
        assert_eq!(refused(Oaep::new::<Sha256>(), &[7; 16]), UnwrapError::AesKey(16));
        assert_eq!(refused(Oaep::new::<Sha256>(), &[7; 32]), UnwrapError::Aes);

        let for_you = wrap(&again(&yours), b"secret");
        let opened = again(&mine).recover(&for_you, Wrap::Sha256).err();
        assert_eq!(opened, Some(UnwrapError::Rsa(Wrap::Sha256)));
    }

    #[test]
    fn every_changed_byte_of_the_wrapped_key_is_noticed() {
        let key = key();
        let wrapped = wrap(&again(&key), b"twenty bytes or more");
        for at in 384..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            let opened = again(&key).recover(&changed, Wrap::Sha256).err();
            assert_eq!(opened, Some(UnwrapError::Aes), "byte {at}");
        }
    }

    /// RFC 5649 section 6, both examples. They have an AES-192 key, which is not offered here, so the other
    /// implementation is held to them, and the provider to it.
    #[test]
    fn both_implementations_agree_on_rfc_5649() {
        let kek = "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8";
        let kek: [u8; 24] = hex::decode(kek).unwrap().try_into().unwrap();
        for (plain, wrapped) in [
            (
                "c37b7e6492584340bed12207808941155068f738",
                "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
            ),
            ("466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"),
        ] {
            let (plain, wrapped) = (hex::decode(plain).unwrap(), hex::decode(wrapped).unwrap());
            let other = aes_kw::KekAes192::from(kek);
            assert_eq!(other.wrap_with_padding_vec(&plain).unwrap(), wrapped);
            assert_eq!(other.unwrap_with_padding_vec(&wrapped).unwrap(), plain);

            let wrapped = aes_kw::KekAes256::from([9; 32]).wrap_with_padding_vec(&plain).unwrap();
            let provider = AesKek::new(&AES_256, &[9; 32]).unwrap();
            assert_eq!(*recover_padded(provider, &wrapped).unwrap(), plain);

            let wrapped = aes_kw::KekAes128::from([9; 16]).wrap_with_padding_vec(&plain).unwrap();
            let provider = KeyEncryptionKey::new(&AES_128, &[9; 16]).unwrap();
            assert_eq!(*recover_padded(provider, &wrapped).unwrap(), plain);
        }
    }
}
