//! Key material: three kinds, made, imported, published and exported.
//!
//! Must not know: names, versions, policies. Private JWKs come in as RFC 7518 section 6 writes
//! them; what is released is PKCS#8 (RFC 5958), or the bare bytes of a symmetric key.

use rand::{CryptoRng, RngCore};
use rsa::pkcs8::EncodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, RsaPrivateKey, RsaPublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::encoding::{b64u, from_b64u};
use crate::jose;

/// Curves of the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Curve {
    /// NIST P-256.
    #[default]
    #[serde(rename = "P-256")]
    P256,
    /// NIST P-384.
    #[serde(rename = "P-384")]
    P384,
}

/// Which key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA of 2048, 3072 or 4096 bits.
    Rsa {
        /// Size.
        bits: usize,
    },
    /// An elliptic curve key.
    Ec {
        /// Curve.
        curve: Curve,
    },
    /// A symmetric key of 128, 192 or 256 bits.
    Oct {
        /// Size.
        bits: usize,
    },
}

/// A key type, size or private member that the vault does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    /// Neither RSA, EC nor oct.
    #[error("unknown key type {0:?}")]
    Type(String),
    /// A size that the type does not have.
    #[error("a key of type {kty} cannot have {bits} bits")]
    Size {
        /// The type.
        kty: &'static str,
        /// The size.
        bits: usize,
    },
    /// A member of the JWK is missing or malformed.
    #[error("member {0:?} of the key is missing or malformed")]
    Member(&'static str),
    /// The private key contradicts itself, or could not be made.
    #[error("the key is not usable")]
    Unusable,
}

impl KeyKind {
    /// Reads type, size and curve as requests give them; `-HSM` makes no difference here.
    ///
    /// # Errors
    /// [`MaterialError`] for unknown types and sizes.
    pub fn read(
        kty: &str,
        bits: Option<usize>,
        curve: Option<Curve>,
    ) -> Result<Self, MaterialError> {
        let size = |kty, default, known: &[usize]| {
            let bits = bits.unwrap_or(default);
            if known.contains(&bits) { Ok(bits) } else { Err(MaterialError::Size { kty, bits }) }
        };
        match kty.trim_end_matches("-HSM") {
            "RSA" => Ok(Self::Rsa { bits: size("RSA", 2048, &[2048, 3072, 4096])? }),
            "EC" => Ok(Self::Ec { curve: curve.unwrap_or_default() }),
            "oct" => Ok(Self::Oct { bits: size("oct", 256, &[128, 192, 256])? }),
            _ => Err(MaterialError::Type(kty.to_owned())),
        }
    }
}

/// A private key.
#[derive(Clone)]
pub(crate) enum Material {
    Rsa(Box<RsaPrivateKey>),
    P256(p256::SecretKey),
    P384(p384::SecretKey),
    Oct(Vec<u8>),
}

impl Material {
    /// A new key from a generator: the seeded one for keys of the configuration, the system's
    /// for keys of the API.
    pub(crate) fn generate(
        kind: KeyKind,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Result<Self, MaterialError> {
        Ok(match kind {
            KeyKind::Rsa { bits } => Self::Rsa(Box::new(
                RsaPrivateKey::new(rng, bits).map_err(|_| MaterialError::Unusable)?,
            )),
            KeyKind::Ec { curve: Curve::P256 } => Self::P256(p256::SecretKey::random(rng)),
            KeyKind::Ec { curve: Curve::P384 } => Self::P384(p384::SecretKey::random(rng)),
            KeyKind::Oct { bits } => {
                let mut bytes = vec![0; bits / 8];
                rng.fill_bytes(&mut bytes);
                Self::Oct(bytes)
            }
        })
    }

    /// Reads a private JWK.
    pub(crate) fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, MaterialError> {
        let kty = jwk.get("kty").and_then(Value::as_str).unwrap_or_default();
        let member = |name: &'static str| {
            jwk.get(name)
                .and_then(Value::as_str)
                .and_then(|text| from_b64u(text).ok())
                .filter(|bytes| !bytes.is_empty())
                .ok_or(MaterialError::Member(name))
        };
        match kty.trim_end_matches("-HSM") {
            "RSA" => {
                let number = |name| member(name).map(|bytes| BigUint::from_bytes_be(&bytes));
                let key = RsaPrivateKey::from_components(
                    number("n")?,
                    number("e")?,
                    number("d")?,
                    vec![number("p")?, number("q")?],
                )
                .map_err(|_| MaterialError::Unusable)?;
                key.validate().map_err(|_| MaterialError::Unusable)?;
                KeyKind::read("RSA", Some(key.size() * 8), None)?;
                Ok(Self::Rsa(Box::new(key)))
            }
            "EC" => match jwk.get("crv").and_then(Value::as_str) {
                Some("P-256") => p256::SecretKey::from_slice(&member("d")?)
                    .map(Self::P256)
                    .map_err(|_| MaterialError::Unusable),
                Some("P-384") => p384::SecretKey::from_slice(&member("d")?)
                    .map(Self::P384)
                    .map_err(|_| MaterialError::Unusable),
                _ => Err(MaterialError::Member("crv")),
            },
            "oct" => {
                let bytes = member("k")?;
                KeyKind::read("oct", Some(bytes.len() * 8), None)?;
                Ok(Self::Oct(bytes))
            }
            _ => Err(MaterialError::Type(kty.to_owned())),
        }
    }

    /// The kind of this key.
    pub(crate) fn kind(&self) -> KeyKind {
        match self {
            Self::Rsa(key) => KeyKind::Rsa { bits: key.size() * 8 },
            Self::P256(_) => KeyKind::Ec { curve: Curve::P256 },
            Self::P384(_) => KeyKind::Ec { curve: Curve::P384 },
            Self::Oct(bytes) => KeyKind::Oct { bits: bytes.len() * 8 },
        }
    }

    /// `RSA`, `EC` or `oct`.
    pub(crate) const fn kty(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RSA",
            Self::P256(_) | Self::P384(_) => "EC",
            Self::Oct(_) => "oct",
        }
    }

    /// What the key may do when nobody says otherwise.
    pub(crate) const fn default_operations(&self) -> &'static [&'static str] {
        match self {
            Self::Rsa(_) => &["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"],
            Self::P256(_) | Self::P384(_) => &["sign", "verify"],
            Self::Oct(_) => &["encrypt", "decrypt", "wrapKey", "unwrapKey"],
        }
    }

    /// The public members of a JWK; none for a symmetric key.
    pub(crate) fn public_members(&self) -> Map<String, Value> {
        match self {
            Self::Rsa(key) => {
                let mut members = jose::rsa_jwk(&RsaPublicKey::from(key.as_ref()));
                members.remove("kty");
                members
            }
            Self::P256(key) => {
                use p256::elliptic_curve::sec1::ToEncodedPoint as _;
                let point = key.public_key().to_encoded_point(false);
                curve_members("P-256", point.x().map(|x| &x[..]), point.y().map(|y| &y[..]))
            }
            Self::P384(key) => {
                use p384::elliptic_curve::sec1::ToEncodedPoint as _;
                let point = key.public_key().to_encoded_point(false);
                curve_members("P-384", point.x().map(|x| &x[..]), point.y().map(|y| &y[..]))
            }
            Self::Oct(_) => Map::new(),
        }
    }

    /// What a release carries.
    pub(crate) fn export(&self) -> Result<Vec<u8>, MaterialError> {
        let document = match self {
            Self::Rsa(key) => key.to_pkcs8_der(),
            Self::P256(key) => key.to_pkcs8_der(),
            Self::P384(key) => key.to_pkcs8_der(),
            Self::Oct(bytes) => return Ok(bytes.clone()),
        };
        Ok(document.map_err(|_| MaterialError::Unusable)?.as_bytes().to_vec())
    }
}

fn curve_members(name: &str, x: Option<&[u8]>, y: Option<&[u8]>) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("crv".to_owned(), json!(name));
    members.insert("x".to_owned(), json!(b64u(x.unwrap_or_default())));
    members.insert("y".to_owned(), json!(b64u(y.unwrap_or_default())));
    members
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::KeyRing;
    use crate::seed::Seed;
    use crate::testing;

    #[test]
    fn a_private_jwk_comes_in_and_leaves_as_the_same_key() {
        let key = KeyRing::new(Seed::new("material"), testing::state()).rsa("rsa", 2048).unwrap();
        use rsa::traits::PrivateKeyParts as _;
        let text = |number: &BigUint| json!(b64u(&number.to_bytes_be()));
        let jwk = json!({
            "kty": "RSA-HSM", "n": text(key.n()), "e": text(key.e()), "d": text(key.d()),
            "p": text(&key.primes()[0]), "q": text(&key.primes()[1]),
        });
        let material = Material::from_jwk(jwk.as_object().unwrap()).unwrap();
        let exported = material.export().unwrap();
        assert_eq!(exported, key.to_pkcs8_der().unwrap().as_bytes());
        assert_eq!(material.public_members()["n"], jwk["n"]);

        let jwk = json!({"kty": "oct", "k": b64u(&[7; 32])});
        let material = Material::from_jwk(jwk.as_object().unwrap()).unwrap();
        assert_eq!(material.export().unwrap(), [7; 32]);
        assert!(material.public_members().is_empty());
    }

    #[test]
    fn odd_sizes_and_broken_members_are_refused() {
        assert!(KeyKind::read("RSA-HSM", Some(1024), None).is_err());
        assert!(KeyKind::read("oct-HSM", Some(100), None).is_err());
        assert!(KeyKind::read("OKP", None, None).is_err());
        for jwk in [
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB", "p": "AQ", "q": "AQ"}),
            json!({"kty": "EC", "crv": "P-521", "d": "AQ"}),
            json!({"kty": "EC", "crv": "P-256", "d": "AQ"}),
            json!({"kty": "oct", "k": ""}),
            json!({"kty": "oct", "k": b64u(&[7; 15])}),
        ] {
            assert!(Material::from_jwk(jwk.as_object().unwrap()).is_err(), "{jwk}");
        }
    }
}
