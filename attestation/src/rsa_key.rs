//! An RSA public key, and the two forms it comes in: `RSAPublicKey` of PKCS #1 (RFC 8017, A.1.1), as
//! certificates hold it, and the numbers of a JSON Web Key (RFC 7518, 6.3.1).

use der::asn1::UintRef;
use der::{Decode as _, Encode as _, Sequence};
use serde_json::Value;

use crate::encoding::from_b64u;

/// The longest modulus that is read, in bytes: 8192 bits.
const MAX_MODULUS: usize = 1024;

/// A public key. Two are equal if their numbers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaKey {
    pkcs1: Vec<u8>,
    bits: usize,
}

#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

impl RsaKey {
    /// From its numbers, big-endian. `None` if one is zero, or too long.
    #[must_use]
    pub fn new(modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let (modulus, exponent) = (UintRef::new(modulus).ok()?, UintRef::new(exponent).ok()?);
        let bits = bits(modulus.as_bytes())?;
        bits_of_exponent(exponent.as_bytes())?;
        Some(Self { pkcs1: RsaPublicKey { modulus, exponent }.to_der().ok()?, bits })
    }

    /// From an `RSAPublicKey` in DER.
    #[must_use]
    pub fn from_pkcs1(der: &[u8]) -> Option<Self> {
        let RsaPublicKey { modulus, exponent } = RsaPublicKey::from_der(der).ok()?;
        Self::new(modulus.as_bytes(), exponent.as_bytes())
    }

    /// From a JSON Web Key with `kty` RSA.
    #[must_use]
    pub fn from_jwk(jwk: &Value) -> Option<Self> {
        let member = |name| jwk.get(name).and_then(Value::as_str);
        if member("kty")? != "RSA" {
            return None;
        }
        Self::new(&from_b64u(member("n")?)?, &from_b64u(member("e")?)?)
    }

    /// Its `RSAPublicKey` in DER, as the functions of [`crypto`](crate::crypto) take it.
    #[must_use]
    pub fn pkcs1(&self) -> &[u8] {
        &self.pkcs1
    }

    /// The length of its modulus in bits.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.bits
    }
}

fn bits(modulus: &[u8]) -> Option<usize> {
    let first = *modulus.first().filter(|first| **first != 0)?;
    (modulus.len() <= MAX_MODULUS)
        .then(|| modulus.len() * 8 - usize::try_from(first.leading_zeros()).unwrap_or(0))
}

fn bits_of_exponent(exponent: &[u8]) -> Option<usize> {
    bits(exponent).filter(|_| exponent.len() <= 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_give_one_key() {
        let modulus = [&[0x80][..], &[7; 255]].concat();
        let key = RsaKey::new(&modulus, &[1, 0, 1]).unwrap();
        assert_eq!(key.bits(), 2048);
        assert_eq!(RsaKey::from_pkcs1(key.pkcs1()), Some(key.clone()));
        let n = crate::encoding::to_b64u(&modulus);
        let jwk = json!({"kty": "RSA", "n": n, "e": "AQAB"});
        assert_eq!(RsaKey::from_jwk(&jwk), Some(key.clone()));
        let padded = [&[0, 0][..], &modulus].concat();
        assert_eq!(RsaKey::new(&padded, &[0, 1, 0, 1]), Some(key));
    }

    #[test]
    fn what_is_no_key_is_none() {
        assert_eq!(RsaKey::new(&[], &[3]), None);
        assert_eq!(RsaKey::new(&[0, 0], &[3]), None);
        assert_eq!(RsaKey::new(&[9], &[0]), None);
        assert_eq!(RsaKey::new(&[9; MAX_MODULUS + 1], &[3]), None);
        assert_eq!(RsaKey::new(&[9; 256], &[3; 9]), None);
        assert_eq!(RsaKey::from_pkcs1(&[0x30, 0]), None);
        for jwk in [
            json!(null),
            json!({"kty": "EC", "n": "AQ", "e": "AQ"}),
            json!({"kty": "RSA", "n": "AQ"}),
            json!({"kty": "RSA", "n": "A=", "e": "AQ"}),
        ] {
            assert_eq!(RsaKey::from_jwk(&jwk), None, "{jwk}");
        }
    }
}
