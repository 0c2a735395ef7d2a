//! What a vault releases, as a JSON Web Key: one variant a type of key.
//!
//! Sources: RFC 7517 and RFC 7518 section 6 (JWK), RFC 5958 (PKCS #8), RFC 8017 appendix A (RSA keys),
//! RFC 5915 (EC keys), Key Vault's types of keys. Members stand in alphabetical order, as callers are used to.
//!
//! A key is checked before it is handed out: the provider must accept it, and its public half must be the one
//! that the vault signed for.

use attestation::encoding::{from_b64u, to_b64u};
use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
};
use pkcs1::UintRef;
use pkcs8::PrivateKeyInfo;
use pkcs8::der::Decode as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::kid::KeyId;
use crate::secret;

/// A private or symmetric key as JWK, in JSON. Has no `Debug`; zeroed when dropped.
pub(crate) struct Jwk(Zeroizing<Vec<u8>>);

/// What a vault says in the clear about a key that it releases (RFC 7517 sections 4.1, 4.3; RFC 7518
/// sections 6.2.1, 6.3.1).
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Published {
    /// `RSA`, `EC` or `oct`, with or without `-HSM`.
    pub(crate) kty: String,
    /// What it may be used for. Key Vault's own words, such as `import`, are among them.
    #[serde(default)]
    pub(crate) key_ops: Vec<String>,
    /// Which key it is, with its version, as far as the vault says.
    #[serde(skip)]
    pub(crate) kid: Option<KeyId>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Why released bytes are no key that can be handed out. Says nothing about the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// Another type of key than those below.
    #[error("released key type {0} not supported")]
    Type(String),
    /// No RSA key of two primes and 2048 to 8192 bits in PKCS #8.
    #[error("could not parse RSA key")]
    Rsa,
    /// No EC key on P-256, P-384 or P-521 in PKCS #8.
    #[error("could not parse EC key: it is on none of P-256, P-384 and P-521, or damaged")]
    Ec,
    /// A key that cannot do what it is configured for.
    #[error("the key cannot be used for this: it must be {0}")]
    Unfit(&'static str),
    /// The public half of what was released is not what the vault published.
    #[error("the released key is another one than the vault published: its {0:?} differs")]
    OtherKey(&'static str),
}

impl Jwk {
    /// Makes the JWK of what was released: the raw bytes of a symmetric key, PKCS #8 of any other.
    pub(crate) fn new(published: &Published, released: &[u8]) -> Result<Self, KeyError> {
        let json = match KeyType::of(&published.kty)? {
            KeyType::Ec => ec(published, released)?,
            KeyType::Oct => oct(published, released),
            KeyType::Rsa => rsa(published, released)?,
        };
        Ok(Self(json))
    }

    /// The JSON text.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("JSON is written as UTF-8")
    }

    /// The same key once more, zeroed like this one.
    pub(crate) fn copy(&self) -> Self {
        Self(self.0.clone())
    }

    /// The JSON text's bytes, for a message that takes them over. They are not zeroed any more.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut *self.0)
    }
}

/// The part of a key that is secret, in the one form that every release of it has: the bytes of a symmetric key, the
/// private number of one on an elliptic curve. `None` for other kinds: of an RSA key there are several forms.
pub(crate) fn secret_part(
    published: &Published,
    released: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
    check(published, released)?;
    match KeyType::of(&published.kty)? {
        KeyType::Rsa => Ok(None),
        KeyType::Oct => Ok(Some(Zeroizing::new(released.to_vec()))),
        KeyType::Ec => {
            let on = |(_, algorithm)| EcdsaKeyPair::from_pkcs8(algorithm, released).ok();
            let key = CURVES.into_iter().find_map(on).ok_or(KeyError::Ec)?;
            let d: EcPrivateKeyBin<'_> =
                key.private_key().as_be_bytes().map_err(|_| KeyError::Ec)?;
            Ok(Some(Zeroizing::new(d.as_ref().to_vec())))
        }
    }
}

/// Whether what was released is a whole key, and the one that was published.
pub(crate) fn check(published: &Published, released: &[u8]) -> Result<(), KeyError> {
    Jwk::new(published, released).map(drop)
}

/// The types of keys that vaults release.
enum KeyType {
    Ec,
    Oct,
    Rsa,
}

impl KeyType {
    fn of(kty: &str) -> Result<Self, KeyError> {
        match kty.strip_suffix("-HSM").unwrap_or(kty) {
            "EC" => Ok(Self::Ec),
            "oct" => Ok(Self::Oct),
            "RSA" => Ok(Self::Rsa),
            _ => Err(KeyError::Type(kty.chars().take(32).collect())),
        }
    }
}

/// A member that is secret.
type Member = Zeroizing<String>;

fn member(bytes: &[u8]) -> Member {
    Zeroizing::new(to_b64u(bytes))
}

/// The public half must be what was published, where it was. Numbers may begin with zeros or not.
fn compare(name: &'static str, published: Option<&str>, released: &[u8]) -> Result<(), KeyError> {
    let Some(published) = published else { return Ok(()) };
    let published = from_b64u(published).ok_or(KeyError::OtherKey(name))?;
    let same = without_zeros(&published) == without_zeros(released);
    if same { Ok(()) } else { Err(KeyError::OtherKey(name)) }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

fn oct(published: &Published, released: &[u8]) -> Zeroizing<Vec<u8>> {
    #[derive(Serialize)]
    struct OctJwk<'a> {
        k: &'a str,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        key_ops: &'a [String],
        kty: &'static str,
    }

    secret::json(&OctJwk { k: &member(released), key_ops: &published.key_ops, kty: "oct" })
}

fn rsa(published: &Published, released: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    #[derive(Serialize)]
    struct RsaJwk<'a> {
        d: &'a str,
        dp: &'a str,
        dq: &'a str,
        e: &'a str,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        key_ops: &'a [String],
        kty: &'static str,
        n: &'a str,
        p: &'a str,
        q: &'a str,
        qi: &'a str,
    }

    // The provider checks that the numbers belong together, but does not give the private ones back.
    rsa::KeyPair::from_pkcs8(released).map_err(|_| KeyError::Rsa)?;
    let outer = PrivateKeyInfo::from_der(released).map_err(|_| KeyError::Rsa)?;
    let key = pkcs1::RsaPrivateKey::from_der(outer.private_key).map_err(|_| KeyError::Rsa)?;
    if key.version() != pkcs1::Version::TwoPrime {
        return Err(KeyError::Rsa);
    }

    compare("n", published.n.as_deref(), key.modulus.as_bytes())?;
    compare("e", published.e.as_deref(), key.public_exponent.as_bytes())?;
    let number = |number: UintRef<'_>| member(number.as_bytes());
    Ok(secret::json(&RsaJwk {
        d: &number(key.private_exponent),
        dp: &number(key.exponent1),
        dq: &number(key.exponent2),
        e: &number(key.public_exponent),
        key_ops: &published.key_ops,
        kty: "RSA",
        n: &number(key.modulus),
        p: &number(key.prime1),
        q: &number(key.prime2),
        qi: &number(key.coefficient),
    }))
}

/// The curves that vaults and the provider share, with the names of RFC 7518 section 6.2.1.1.
const CURVES: [(&str, &EcdsaSigningAlgorithm); 3] = [
    ("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
    ("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
    ("P-521", &ECDSA_P521_SHA512_FIXED_SIGNING),
];

fn ec(published: &Published, released: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    #[derive(Serialize)]
    struct EcJwk<'a> {
        crv: &'static str,
        d: &'a str,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        key_ops: &'a [String],
        kty: &'static str,
        x: &'a str,
        y: &'a str,
    }

    let on = |(crv, algorithm): (&'static str, _)| {
        EcdsaKeyPair::from_pkcs8(algorithm, released).ok().map(|key| (crv, key))
    };
    let (crv, key) = CURVES.into_iter().find_map(on).ok_or(KeyError::Ec)?;
    let d: EcPrivateKeyBin<'_> = key.private_key().as_be_bytes().map_err(|_| KeyError::Ec)?;

    // SEC 1 section 2.3.3: 04 ‖ x ‖ y, of the same length each.
    let [4, point @ ..] = key.public_key().as_ref() else { return Err(KeyError::Ec) };
    let (x, y) = point.split_at(point.len() / 2);
    if published.crv.as_deref().is_some_and(|published| published != crv) {
        return Err(KeyError::OtherKey("crv"));
    }
    compare("x", published.x.as_deref(), x)?;
    compare("y", published.y.as_deref(), y)?;
    Ok(secret::json(&EcJwk {
        crv,
        d: &member(d.as_ref()),
        key_ops: &published.key_ops,
        kty: "EC",
        x: &to_b64u(x),
        y: &to_b64u(y),
    }))
}

#[cfg(test)]
mod tests {
    use ::rsa::RsaPrivateKey;
    use ::rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};
    use p256::elliptic_curve::sec1::ToEncodedPoint as _;
    use pkcs8::EncodePrivateKey as _;
    use serde_json::{Value, json};

    use super::*;

    fn published(value: Value) -> Published {
        serde_json::from_value(value).unwrap()
    }

    fn rsa_key() -> RsaPrivateKey {
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
        use pkcs8::DecodePrivateKey as _;
        let key = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        RsaPrivateKey::from_pkcs8_der(der.as_ref()).unwrap()
    }

    #[test]
    fn a_symmetric_key_is_the_sample_of_the_contract() {
        let ops = ["encrypt", "decrypt", "wrapKey", "unwrapKey"];
        let published = published(json!({"kty": "oct-HSM", "key_ops": ops}));
        let released: Vec<u8> = (0..32).collect();
        let jwk = Jwk::new(&published, &released).ok().unwrap();
        assert_eq!(
            jwk.as_str(),
            r#"{"k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","key_ops":["encrypt","decrypt","wrapKey","unwrapKey"],"kty":"oct"}"#
        );
        assert_eq!(jwk.into_bytes().len(), 117);
    }

    #[test]
    fn an_rsa_key_has_every_member_in_alphabetical_order() {
        let key = rsa_key();
        let der = key.to_pkcs8_der().unwrap();
        let n = to_b64u(&key.n().to_bytes_be());
        let published = published(
            json!({"kty": "RSA-HSM", "key_ops": ["sign", "export", "<&>"], "n": n, "e": "AQAB"}),
        );
        let jwk = Jwk::new(&published, der.as_bytes()).ok().unwrap();
        let b64 = |number: &::rsa::BigUint| to_b64u(&number.to_bytes_be());
        let [p, q] = key.primes() else { panic!("two primes") };
        let qi = to_b64u(&key.crt_coefficient().unwrap().to_bytes_be());
        assert_eq!(
            jwk.as_str(),
            format!(
                r#"{{"d":"{}","dp":"{}","dq":"{}","e":"AQAB","key_ops":["sign","export","<&>"],"kty":"RSA","n":"{n}","p":"{}","q":"{}","qi":"{qi}"}}"#,
                b64(key.d()),
                b64(key.dp().unwrap()),
                b64(key.dq().unwrap()),
                b64(p),
                b64(q),
            )
        );
    }

    #[test]
    fn ec_keys_have_members_of_fixed_length_and_lose_no_zeros() {
        // A private key that begins with zeros: minimal integers would be shorter.
        let mut scalar = [0; 32];
        scalar[31] = 5;
        let key = p256::SecretKey::from_slice(&scalar).unwrap();
        let der = key.to_pkcs8_der().unwrap();
        let jwk = Jwk::new(&published(json!({"kty": "EC-HSM"})), der.as_bytes()).ok().unwrap();
        let point = key.public_key().to_encoded_point(false);
        assert_eq!(
            jwk.as_str(),
            format!(
                r#"{{"crv":"P-256","d":"{}","kty":"EC","x":"{}","y":"{}"}}"#,
                to_b64u(&scalar),
                to_b64u(point.x().unwrap()),
                to_b64u(point.y().unwrap()),
            )
        );

        let key = p384::SecretKey::random(&mut rand::thread_rng());
        let der = key.to_pkcs8_der().unwrap();
        let jwk = Jwk::new(&published(json!({"kty": "EC"})), der.as_bytes()).ok().unwrap();
        let jwk: Value = serde_json::from_str(jwk.as_str()).unwrap();
        assert_eq!(jwk["crv"], "P-384");
        assert_eq!(from_b64u(jwk["d"].as_str().unwrap()).unwrap(), key.to_bytes().to_vec());
    }

    #[test]
    fn p_521_is_a_curve_too() {
        let key = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
        let der = key.to_pkcs8v1().unwrap();
        let jwk = Jwk::new(&published(json!({"kty": "EC"})), der.as_ref()).ok().unwrap();
        let jwk: Value = serde_json::from_str(jwk.as_str()).unwrap();
        for member in ["d", "x", "y"] {
            assert_eq!(from_b64u(jwk[member].as_str().unwrap()).unwrap().len(), 66, "{member}");
        }
    }

    /// RFC 5915 leaves the public key out at will; it is computed then.
    #[test]
    fn an_ec_key_without_its_public_half_is_read() {
        let der = hex::decode(
            "3041020100301306072a8648ce3d020106082a8648ce3d030107042730250201010420\
             0000000000000000000000000000000000000000000000000000000000000005",
        )
        .unwrap();
        let jwk = Jwk::new(&published(json!({"kty": "EC"})), &der).ok().unwrap();
        assert!(jwk.as_str().contains(r#""crv":"P-256""#));
    }

    #[test]
    fn another_key_than_the_published_one_is_refused() {
        let refused = |value: Value, der: &[u8]| Jwk::new(&published(value), der).err();
        let key = rsa_key();
        let der = key.to_pkcs8_der().unwrap();
        let other = to_b64u(&rsa_key().n().to_bytes_be());
        assert_eq!(
            refused(json!({"kty": "RSA", "n": other}), der.as_bytes()),
            Some(KeyError::OtherKey("n"))
        );
        assert_eq!(
            refused(json!({"kty": "RSA", "e": "Aw"}), der.as_bytes()),
            Some(KeyError::OtherKey("e"))
        );
        let der = p256::SecretKey::random(&mut rand::thread_rng()).to_pkcs8_der().unwrap();
        for (member, value) in [("crv", "P-384"), ("x", "AAAA"), ("y", "AAAA"), ("y", "!")] {
            assert_eq!(
                refused(json!({"kty": "EC", member: value}), der.as_bytes()),
                Some(KeyError::OtherKey(member))
            );
        }
    }

    #[test]
    fn what_is_no_such_key_is_refused() {
        let refused = |kty: &str, der: &[u8]| Jwk::new(&published(json!({"kty": kty})), der).err();
        let rsa = rsa_key().to_pkcs8_der().unwrap();
        let ec = p256::SecretKey::random(&mut rand::thread_rng()).to_pkcs8_der().unwrap();
        for kty in ["", "RSA-HSM-HSM", "rsa", "OKP", "oct-hsm"] {
            assert_eq!(refused(kty, rsa.as_bytes()), Some(KeyError::Type(kty.to_owned())));
        }
        assert_eq!(refused("EC", rsa.as_bytes()), Some(KeyError::Ec));
        assert_eq!(refused("RSA", ec.as_bytes()), Some(KeyError::Rsa));
        for length in [0, 1, 100, rsa.as_bytes().len() - 1] {
            assert_eq!(refused("RSA", &rsa.as_bytes()[..length]), Some(KeyError::Rsa), "{length}");
        }
        let mut damaged = rsa.as_bytes().to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(refused("RSA", &damaged), Some(KeyError::Rsa), "the coefficient is wrong");
        let mut trailing = rsa.as_bytes().to_vec();
        trailing.push(0);
        assert_eq!(refused("RSA", &trailing), Some(KeyError::Rsa));
    }
}
