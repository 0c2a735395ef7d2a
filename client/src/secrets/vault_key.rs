//! The public half of the vault's key that secrets are sealed to: RSA, in the forms in which vaults and their tools
//! give it away.

use attestation::rsa_key::RsaKey;
use attestation::{encoding, json, runtime_data};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey, PublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use super::SealError;

/// Bits of keys that are taken.
const BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A public key.
pub struct VaultKey {
    key: OaepPublicEncryptingKey,
    kid: String,
}

/// Why a text is no such key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAVaultKey {
    /// In no known form.
    #[error(
        "not a public RSA key: give PEM as `az keyvault key download --encoding PEM` writes it, a JWK, or what `az keyvault key show` prints"
    )]
    Form,
    /// Too short, or far too long.
    #[error("the key has {0} bits: it must have 2048 to 8192")]
    Bits(usize),
    /// The private half is in it.
    #[error(
        "this is a private key: it belongs into the vault, and only its public half is needed here"
    )]
    Private,
}

impl VaultKey {
    /// Reads a SubjectPublicKeyInfo in PEM, or a JWK, plain or as the member `key` of a document.
    ///
    /// # Errors
    ///
    /// [`NotAVaultKey`].
    pub fn parse(text: &[u8]) -> Result<Self, NotAVaultKey> {
        let key = match json::parse(text) {
            Ok(document) => of_jwk(document.get("key").unwrap_or(&document))?,
            Err(_) => of_pem(text)?,
        };
        let (modulus, exponent) = (key.modulus(), key.exponent());
        let modulus = modulus.big_endian_without_leading_zero();
        let exponent = exponent.big_endian_without_leading_zero();
        let bits = RsaKey::new(modulus, exponent).ok_or(NotAVaultKey::Form)?.bits();
        if !BITS.contains(&bits) {
            return Err(NotAVaultKey::Bits(bits));
        }
        let kid = runtime_data::rsa_thumbprint(modulus, exponent);
        let spki: PublicKeyX509Der<'_> = key.as_der().map_err(|_| NotAVaultKey::Form)?;
        let key = PublicEncryptingKey::from_der(spki.as_ref()).map_err(|_| NotAVaultKey::Form)?;
        let key = OaepPublicEncryptingKey::new(key).map_err(|_| NotAVaultKey::Form)?;
        Ok(Self { key, kid })
    }

    /// RFC 7638 thumbprint.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// RSA-OAEP-256 (RFC 7518 section 4.3).
    pub(super) fn encrypt(&self, key: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut block = vec![0; self.key.ciphertext_size()];
        let length = self
            .key
            .encrypt(&OAEP_SHA256_MGF1SHA256, key, &mut block, None)
            .map_err(|_| SealError::Provider)?
            .len();
        block.truncate(length);
        Ok(block)
    }
}

fn of_pem(text: &[u8]) -> Result<PublicKey, NotAVaultKey> {
    let Ok(spki) = SubjectPublicKeyInfoDer::from_pem_slice(text) else {
        let private = text.windows(11).any(|word| word == b"PRIVATE KEY");
        return Err(if private { NotAVaultKey::Private } else { NotAVaultKey::Form });
    };
    PublicKey::from_der(&spki).map_err(|_| NotAVaultKey::Form)
}

/// Vaults say `RSA-HSM` for a key that never leaves them in the clear.
fn of_jwk(jwk: &Value) -> Result<PublicKey, NotAVaultKey> {
    const FORM: NotAVaultKey = NotAVaultKey::Form;
    let member = |name| jwk.get(name).and_then(Value::as_str);
    if member("d").is_some() {
        return Err(NotAVaultKey::Private);
    }
    if !matches!(member("kty"), Some("RSA" | "RSA-HSM")) {
        return Err(FORM);
    }
    let number = |name| member(name).and_then(number_of).ok_or(FORM);
    let key = RsaKey::new(&number("n")?, &number("e")?).ok_or(FORM)?;
    // The provider refuses what is too short or too long as well, but does not say so.
    if !BITS.contains(&key.bits()) {
        return Err(NotAVaultKey::Bits(key.bits()));
    }
    PublicKey::from_der(key.pkcs1()).map_err(|_| FORM)
}

/// A JWK has base64url without padding (RFC 7518 section 2); some of Azure's tools print ordinary base64.
fn number_of(text: &str) -> Option<Vec<u8>> {
    encoding::from_b64u(text).or_else(|| STANDARD.decode(text).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// RFC 7638 section 3.1.
    const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP\
                     ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY3\
                     68QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4\
                     lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    const KID: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

    fn parse(text: &str) -> Result<String, NotAVaultKey> {
        VaultKey::parse(text.as_bytes()).map(|key| key.kid().to_owned())
    }

    #[test]
    fn every_form_names_the_same_key() {
        let jwk = json!({"kty": "RSA", "n": N, "e": "AQAB"});
        assert_eq!(parse(&jwk.to_string()).as_deref(), Ok(KID));
        let ordinary = STANDARD.encode(encoding::from_b64u(N).unwrap());
        let shown = json!({"attributes": {}, "key": {"kty": "RSA-HSM", "n": ordinary, "e": "AQAB", "d": null}});
        assert_eq!(parse(&shown.to_string()).as_deref(), Ok(KID));
        let key = RsaKey::from_jwk(&jwk).unwrap();
        let spki: PublicKeyX509Der<'_> =
            PublicKey::from_der(key.pkcs1()).unwrap().as_der().unwrap();
        let text = STANDARD.encode(spki.as_ref());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
        assert_eq!(parse(&pem).as_deref(), Ok(KID));
    }

    #[test]
    fn what_is_no_public_rsa_key_is_refused() {
        let short = encoding::to_b64u(&[0xff; 255]);
        for (text, why) in [
            (String::new(), NotAVaultKey::Form),
            ("{}".to_owned(), NotAVaultKey::Form),
            (json!({"kty": "EC", "n": N, "e": "AQAB"}).to_string(), NotAVaultKey::Form),
            (json!({"kty": "RSA", "n": "!", "e": "AQAB"}).to_string(), NotAVaultKey::Form),
            (json!({"kty": "RSA", "n": short, "e": "AQAB"}).to_string(), NotAVaultKey::Bits(2040)),
            (
                json!({"kty": "RSA", "n": N, "e": "AQAB", "d": "AQAB"}).to_string(),
                NotAVaultKey::Private,
            ),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned(),
                NotAVaultKey::Private,
            ),
        ] {
            assert_eq!(parse(&text), Err(why), "{text}");
        }
    }
}
