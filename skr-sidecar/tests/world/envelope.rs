//! An operator who seals secrets, with RustCrypto: another implementation than the one that opens them.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use attestation::encoding::to_b64u;
use attestation::runtime_data::rsa_thumbprint;
use attestation::secrets::Signer;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::EncodePublicKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{Oaep, RsaPrivateKey};
use serde_json::{Value, json};
use sha2::Sha256;

/// Someone with a key in a vault and a signing key.
pub(crate) struct Operator {
    vault: RsaPrivateKey,
    vault_pkcs8: Vec<u8>,
    key: SigningKey,
    pub(crate) signer: Signer,
}

impl Operator {
    pub(crate) fn new() -> Self {
        let key = SigningKey::random(&mut rand::thread_rng());
        let spki = key.verifying_key().to_public_key_der().unwrap();
        let (vault, vault_pkcs8) = vault_key();
        Self { vault, vault_pkcs8, key, signer: Signer::from_spki(spki.as_bytes()).unwrap() }
    }

    /// The same signer, with another key in the vault.
    pub(crate) fn with_new_vault_key(&self) -> Self {
        let (vault, vault_pkcs8) = vault_key();
        Self { vault, vault_pkcs8, key: self.key.clone(), signer: self.signer.clone() }
    }

    /// What the vault publishes about its key, and the key.
    pub(crate) fn vault_key(&self) -> (Value, Vec<u8>) {
        let [n, e] = self.numbers().map(|number| to_b64u(&number));
        (json!({"kty": "RSA-HSM", "n": n, "e": e}), self.vault_pkcs8.clone())
    }

    fn numbers(&self) -> [Vec<u8>; 2] {
        [self.vault.n().to_bytes_be(), self.vault.e().to_bytes_be()]
    }

    /// The header of an envelope for the vault's key.
    pub(crate) fn header(&self) -> Value {
        let [n, e] = self.numbers();
        let kid = rsa_thumbprint(&n, &e);
        json!({"alg": "RSA-OAEP-256", "cty": "JOSE", "enc": "A256GCM", "kid": kid})
    }

    pub(crate) fn seal(&self, payload: &str) -> String {
        self.encrypt(&self.sign(payload))
    }

    pub(crate) fn sign(&self, payload: &str) -> String {
        self.sign_under(&json!({"alg": "ES256", "kid": self.signer.kid()}), payload)
    }

    pub(crate) fn sign_under(&self, header: &Value, payload: &str) -> String {
        let header = to_b64u(header.to_string().as_bytes());
        let input = format!("{header}.{}", to_b64u(payload.as_bytes()));
        let signature: Signature = self.key.sign(input.as_bytes());
        format!("{input}.{}", to_b64u(&signature.to_bytes()))
    }

    pub(crate) fn encrypt(&self, statement: &str) -> String {
        self.encrypt_under(
            &self.header(),
            statement,
            Oaep::new::<Sha256>(),
            &rand::random::<[u8; 32]>(),
        )
    }

    pub(crate) fn encrypt_under(
        &self,
        header: &Value,
        statement: &str,
        padding: Oaep,
        content_key: &[u8],
    ) -> String {
        let header = to_b64u(header.to_string().as_bytes());
        let key = self.vault.to_public_key();
        let block = key.encrypt(&mut rand::thread_rng(), padding, content_key).unwrap();
        let nonce: [u8; 12] = rand::random();
        let payload = Payload { msg: statement.as_bytes(), aad: header.as_bytes() };
        let mut whole = content_key.to_vec();
        whole.resize(32, 0);
        let cipher = Aes256Gcm::new_from_slice(&whole).unwrap();
        let sealed = cipher.encrypt(&nonce.into(), payload).unwrap();
        let (ciphertext, tag) = sealed.split_at(sealed.len() - 16);
        let parts = [&block, &nonce[..], ciphertext, tag].map(to_b64u);
        format!("{header}.{}", parts.join("."))
    }
}

fn vault_key() -> (RsaPrivateKey, Vec<u8>) {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
    (RsaPrivateKey::from_pkcs8_der(der.as_ref()).unwrap(), der.as_ref().to_vec())
}

/// What an operator says to the group `here`.
pub(crate) fn payload(version: u64, values: &Value) -> String {
    json!({"v": 1, "version": version, "group": "here", "values": values}).to_string()
}
