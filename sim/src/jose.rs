//! JSON Web Signatures and Keys, as far as Azure uses them (RFC 7515, 7517, 7518, 7638).
//!
//! Must not know: claims. One algorithm is real here, RS256; `none` can be written, for the
//! fault that sends it, and is never read.

use rsa::pkcs1v15::{Signature, SigningKey, VerifyingKey};
use rsa::signature::{SignatureEncoding as _, Signer as _, Verifier as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, RsaPrivateKey, RsaPublicKey};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::encoding::{DecodeError, b64u, from_b64u};

/// A token or key that cannot be read, or does not verify.
#[derive(Debug, thiserror::Error)]
pub enum JoseError {
    /// Not three parts, separated by dots.
    #[error("not a compact JWS")]
    Parts,
    /// A part is not base64url.
    #[error("a part is not base64url")]
    Encoding(#[from] DecodeError),
    /// A part is not the JSON that it should be.
    #[error("a part is not the expected JSON")]
    Json(#[from] serde_json::Error),
    /// Another algorithm than RS256.
    #[error("the algorithm is not RS256")]
    Algorithm,
    /// A key that is no RSA key of at least 2048 bits.
    #[error("not an RSA key of at least 2048 bits")]
    Key,
    /// The signature does not verify, or could not be made.
    #[error("the signature does not verify")]
    Signature,
}

impl From<rsa::signature::Error> for JoseError {
    fn from(_: rsa::signature::Error) -> Self {
        Self::Signature
    }
}

/// The parts of a compact JWS, not verified.
#[derive(Debug, Clone)]
pub struct Jws {
    /// The protected header.
    pub header: Map<String, Value>,
    /// The payload.
    pub payload: Map<String, Value>,
    signed: String,
    signature: Vec<u8>,
}

impl Jws {
    /// Splits and decodes a compact JWS.
    ///
    /// # Errors
    /// [`JoseError`] when it has another form.
    pub fn parse(token: &str) -> Result<Self, JoseError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(JoseError::Parts)?;
        let (header, payload) = signed.split_once('.').ok_or(JoseError::Parts)?;
        if payload.contains('.') {
            return Err(JoseError::Parts);
        }
        Ok(Self {
            header: serde_json::from_slice(&from_b64u(header)?)?,
            payload: serde_json::from_slice(&from_b64u(payload)?)?,
            signed: signed.to_owned(),
            signature: from_b64u(signature)?,
        })
    }

    /// Verifies RS256, whatever the header would rather have.
    ///
    /// # Errors
    /// [`JoseError`] when the header names another algorithm, the key is too small or the
    /// signature does not verify.
    pub fn verify(&self, key: &RsaPublicKey) -> Result<(), JoseError> {
        if self.header.get("alg").and_then(Value::as_str) != Some("RS256") {
            return Err(JoseError::Algorithm);
        }
        if key.size() < 256 {
            return Err(JoseError::Key);
        }
        let signature = Signature::try_from(self.signature.as_slice())?;
        Ok(VerifyingKey::<Sha256>::new(key.clone()).verify(self.signed.as_bytes(), &signature)?)
    }

    /// A string of the header.
    #[must_use]
    pub fn header_str(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }
}

/// Signs header and payload with RS256. The header must already say so.
///
/// # Errors
/// [`JoseError`] when a part does not encode or the signer fails.
pub fn sign(
    header: &impl Serialize,
    payload: &impl Serialize,
    key: &RsaPrivateKey,
) -> Result<String, JoseError> {
    let signed = unsigned(header, payload)?;
    let signature = SigningKey::<Sha256>::new(key.clone()).try_sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", b64u(&signature.to_bytes())))
}

/// Header and payload with an empty signature, as `alg: none` has it.
///
/// # Errors
/// [`JoseError::Json`] when a part does not encode.
pub fn with_empty_signature(
    header: &impl Serialize,
    payload: &impl Serialize,
) -> Result<String, JoseError> {
    Ok(format!("{}.", unsigned(header, payload)?))
}

fn unsigned(header: &impl Serialize, payload: &impl Serialize) -> Result<String, JoseError> {
    Ok(format!("{}.{}", b64u(&serde_json::to_vec(header)?), b64u(&serde_json::to_vec(payload)?)))
}

/// An RSA public key as JWK members `kty`, `n`, `e`.
#[must_use]
pub fn rsa_jwk(key: &RsaPublicKey) -> Map<String, Value> {
    let mut jwk = Map::new();
    jwk.insert("kty".into(), json!("RSA"));
    jwk.insert("n".into(), json!(b64u(&key.n().to_bytes_be())));
    jwk.insert("e".into(), json!(b64u(&key.e().to_bytes_be())));
    jwk
}

/// Reads `n` and `e` of an RSA JWK.
///
/// # Errors
/// [`JoseError`] when it is no RSA key of at least 2048 bits.
pub fn rsa_from_jwk(jwk: &Map<String, Value>) -> Result<RsaPublicKey, JoseError> {
    let member = |name: &str| -> Result<BigUint, JoseError> {
        let text = jwk.get(name).and_then(Value::as_str).ok_or(JoseError::Key)?;
        Ok(BigUint::from_bytes_be(&from_b64u(text)?))
    };
    if jwk.get("kty").and_then(Value::as_str) != Some("RSA") {
        return Err(JoseError::Key);
    }
    let key = RsaPublicKey::new(member("n")?, member("e")?).map_err(|_| JoseError::Key)?;
    if key.size() < 256 {
        return Err(JoseError::Key);
    }
    Ok(key)
}

/// The thumbprint of an RSA key (RFC 7638 section 3): the required members in alphabetical order.
#[must_use]
pub fn thumbprint(key: &RsaPublicKey) -> String {
    let (n, e) = (b64u(&key.n().to_bytes_be()), b64u(&key.e().to_bytes_be()));
    b64u(&Sha256::digest(format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::KeyRing;
    use crate::seed::Seed;

    fn key(label: &str) -> RsaPrivateKey {
        KeyRing::new(Seed::new("jose"), crate::testing::state()).rsa(label, 2048).unwrap()
    }

    #[test]
    fn a_signed_token_verifies_with_its_key_only() {
        let token = sign(&json!({"alg": "RS256"}), &json!({"a": 1}), &key("one")).unwrap();
        let jws = Jws::parse(&token).unwrap();
        jws.verify(&RsaPublicKey::from(&key("one"))).unwrap();
        assert!(matches!(jws.verify(&RsaPublicKey::from(&key("two"))), Err(JoseError::Signature)));
    }

    #[test]
    fn other_algorithms_and_other_payloads_are_refused() {
        let public = RsaPublicKey::from(&key("one"));
        let token = sign(&json!({"alg": "PS256"}), &json!({"a": 1}), &key("one")).unwrap();
        assert!(matches!(Jws::parse(&token).unwrap().verify(&public), Err(JoseError::Algorithm)));
        let none = with_empty_signature(&json!({"alg": "none"}), &json!({"a": 1})).unwrap();
        assert!(matches!(Jws::parse(&none).unwrap().verify(&public), Err(JoseError::Algorithm)));

        let token = sign(&json!({"alg": "RS256"}), &json!({"a": 1}), &key("one")).unwrap();
        let mut parts: Vec<&str> = token.split('.').collect();
        let forged = b64u(br#"{"a":2}"#);
        parts[1] = &forged;
        let forged = Jws::parse(&parts.join(".")).unwrap();
        assert!(matches!(forged.verify(&public), Err(JoseError::Signature)));
    }

    /// RFC 7638 section 3.1: the key and its thumbprint.
    #[test]
    fn the_thumbprint_is_that_of_the_rfc() {
        let jwk = json!({
            "kty": "RSA",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "e": "AQAB",
        });
        let key = rsa_from_jwk(jwk.as_object().unwrap()).unwrap();
        assert_eq!(thumbprint(&key), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    }
}
