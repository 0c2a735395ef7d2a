//! The vault's key of the sealed secrets, and the one thing that it does: open an envelope (RFC 7516 section 5.2).
//!
//! Must not know what is inside, or who may read it.

use attestation::runtime_data::rsa_thumbprint;
use attestation::secrets::{Envelope, Refusal};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey, PublicKey,
};
use zeroize::Zeroizing;

use crate::key::{self, KeyError, Published};

/// A private key. The provider zeroes its memory when it is dropped.
pub(crate) struct SecretsKey {
    private: OaepPrivateDecryptingKey,
    kid: String,
}

impl SecretsKey {
    /// Takes over what the vault released.
    pub(crate) fn new(published: &Published, released: &[u8]) -> Result<Self, KeyError> {
        const NEEDED: KeyError = KeyError::Unfit("RSA of 2048 to 8192 bits");
        key::check(published, released)?;
        let key = PrivateDecryptingKey::from_pkcs8(released).map_err(|_| NEEDED)?;
        let spki = key.public_key().as_der().map_err(|_| NEEDED)?;
        let public = PublicKey::from_der(spki.as_ref()).map_err(|_| NEEDED)?;
        let kid = rsa_thumbprint(
            public.modulus().big_endian_without_leading_zero(),
            public.exponent().big_endian_without_leading_zero(),
        );
        let private = OaepPrivateDecryptingKey::new(key).map_err(|_| NEEDED)?;
        Ok(Self { private, kid })
    }

    /// RFC 7638 thumbprint.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// What is inside.
    pub(crate) fn open(&self, envelope: Envelope) -> Result<Zeroizing<String>, Refusal> {
        let content_key = self.content_key(&envelope.encrypted_key)?;
        // Which refuses what has another length than 32 bytes.
        let key = UnboundKey::new(&AES_256_GCM, &content_key).map_err(|_| Refusal::OtherKey)?;
        let (aad, nonce) = (Aad::from(envelope.aad().to_vec()), envelope.nonce);
        // Decrypted where it stands, in memory that is zeroed from the first.
        let mut sealed = Zeroizing::new(envelope.sealed);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = LessSafeKey::new(key).open_in_place(nonce, aad, &mut sealed);
        let length = opened.map_err(|_| Refusal::Changed)?.len();
        sealed.truncate(length);
        let text = String::from_utf8(std::mem::take(&mut *sealed));
        text.map(Zeroizing::new).map_err(|not_text| {
            drop(Zeroizing::new(not_text.into_bytes()));
            Refusal::NotSigned
        })
    }

    /// Why the block gave no key is not told apart: it may be an attacker's.
    fn content_key(&self, block: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let mut buffer = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let opened = self.private.decrypt(&OAEP_SHA256_MGF1SHA256, block, &mut buffer, None);
        let length = opened.map_err(|_| Refusal::OtherKey)?.len();
        buffer.truncate(length);
        Ok(buffer)
    }
}
