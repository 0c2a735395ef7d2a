//! The inner half: what the operator says, as a JWS in compact form by ES256.
//!
//! It is taken apart here and not by [`jws`](crate::jws), because what that keeps is not zeroed. The scratch memory of
//! the JSON parser is not zeroed either; it is used for values with escapes in them.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Refusal, Secrets, Signer};
use crate::crypto;
use crate::encoding::{from_b64u, to_b64u};
use crate::json;

/// The format that is written and read.
const FORMAT: u64 = 1;

/// What the enforcement policy says about secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Whose word it must be.
    pub signer: Signer,
    /// The group that it must be for.
    pub group: String,
    /// The lowest version.
    pub min_version: NonZeroU64,
}

/// What the operator signs (RFC 7515 section 5.1, step 8): the header for a signer with this RFC 7638 thumbprint, and
/// the payload.
///
/// # Errors
///
/// Those of [`Secrets::check`].
pub fn signing_input(secrets: &Secrets, kid: &str) -> Result<Zeroizing<String>, Refusal> {
    secrets.check()?;
    let header = to_b64u(format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#).as_bytes());
    let payload = Zeroizing::new(to_b64u(&payload(secrets)?));
    Ok(Zeroizing::new([header.as_str(), payload.as_str()].join(".")))
}

/// Puts the JWS together. `signature` is r ‖ s.
#[must_use]
pub fn compact(signing_input: &str, signature: &[u8; 64]) -> Zeroizing<String> {
    Zeroizing::new([signing_input, &to_b64u(signature)].join("."))
}

/// Believes what the expected operator said to the expected group, and nothing else.
///
/// # Errors
///
/// The [`Refusal`] of whatever does not hold, in the order: form, signer, signature, format, group, version, values.
pub fn open(statement: &str, expected: &Expected) -> Result<Secrets, Refusal> {
    let payload = verified(statement, &expected.signer)?;
    let secrets = read(&payload)?;
    if secrets.group != expected.group {
        return Err(Refusal::OtherGroup);
    }
    if secrets.version < expected.min_version {
        let (version, lowest) = (secrets.version.get(), expected.min_version.get());
        return Err(Refusal::Old { version, lowest });
    }
    secrets.check()?;
    Ok(secrets)
}

/// The payload, once the signature verified.
fn verified(statement: &str, signer: &Signer) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    const SYNTAX: Refusal = Refusal::NotSigned;
    let (signing_input, signature) = statement.rsplit_once('.').ok_or(SYNTAX)?;
    let (header, payload) = signing_input.split_once('.').ok_or(SYNTAX)?;
    let header = json::parse(&from_b64u(header).ok_or(SYNTAX)?).map_err(|_| SYNTAX)?;
    let kid = header.get("kid").and_then(|kid| kid.as_str()).ok_or(SYNTAX)?;
    if header != json!({"alg": "ES256", "kid": kid}) {
        return Err(SYNTAX);
    }
    if kid != signer.kid() {
        return Err(Refusal::Foreign);
    }
    let (signature, payload) = (from_b64u(signature), from_b64u(payload).map(Zeroizing::new));
    let (signature, payload) = signature.zip(payload).ok_or(SYNTAX)?;
    crypto::verify_p256(signer.point(), signing_input.as_bytes(), &signature)
        .map_err(|_| Refusal::Forged)?;
    Ok(payload)
}

#[derive(Serialize)]
struct Written<'a> {
    v: u64,
    version: NonZeroU64,
    group: &'a str,
    #[serde(serialize_with = "values")]
    values: &'a BTreeMap<String, Zeroizing<String>>,
}

fn values<S: Serializer>(
    values: &BTreeMap<String, Zeroizing<String>>,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_map(values.iter().map(|(name, value)| (name, value.as_str())))
}

/// The payload of checked secrets, written into one buffer: one that grew would leave what it held behind.
fn payload(secrets: &Secrets) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let Secrets { version, group, values } = secrets;
    // Without control characters, a character takes at most twice its length.
    let length = values.iter().map(|(name, value)| name.len() + 2 * value.len() + 6).sum::<usize>();
    let mut payload = Zeroizing::new(Vec::with_capacity(length + 2 * group.len() + 128));
    let written = Written { v: FORMAT, version: *version, group, values };
    serde_json::to_writer(&mut *payload, &written).map_err(|_| Refusal::Payload)?;
    Ok(payload)
}

#[derive(serde::Deserialize)]
struct Format {
    v: u64,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    #[serde(rename = "v")]
    _format: u64,
    version: NonZeroU64,
    group: String,
    values: Values,
}

fn read(payload: &[u8]) -> Result<Secrets, Refusal> {
    // A sequence of the members' values would do for the derived readers, too.
    if payload.first() != Some(&b'{') {
        return Err(Refusal::Payload);
    }
    let Format { v } = serde_json::from_slice(payload).map_err(|_| Refusal::Payload)?;
    if v != FORMAT {
        return Err(Refusal::Format);
    }
    let read: Read = serde_json::from_slice(payload).map_err(|_| Refusal::Payload)?;
    Ok(Secrets { version: read.version, group: read.group, values: read.values.0 })
}

/// Texts by name; a name that stands twice is refused.
struct Values(BTreeMap<String, Zeroizing<String>>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Values, A::Error> {
                let mut values = BTreeMap::new();
                while let Some(name) = from.next_key::<String>()? {
                    let value = Zeroizing::new(from.next_value::<String>()?);
                    if values.insert(name, value).is_some() {
                        return Err(de::Error::custom("a name stands twice"));
                    }
                }
                Ok(Values(values))
            }
        }

        from.deserialize_map(Texts)
    }
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::Signer as _;
    use p256::ecdsa::{Signature, SigningKey};
    use p256::pkcs8::EncodePublicKey as _;

    use super::*;

    struct Operator {
        key: SigningKey,
        signer: Signer,
    }

    impl Operator {
        fn new(scalar: u8) -> Self {
            let key = SigningKey::from_slice(&[scalar; 32]).unwrap();
            let spki = key.verifying_key().to_public_key_der().unwrap();
            Self { signer: Signer::from_spki(spki.as_bytes()).unwrap(), key }
        }

        fn sign(&self, input: &str) -> Zeroizing<String> {
            let signature: Signature = self.key.sign(input.as_bytes());
            compact(input, &signature.to_bytes().into())
        }

        fn say(&self, header: &str, payload: &str) -> Zeroizing<String> {
            self.sign(&format!("{}.{}", to_b64u(header.as_bytes()), to_b64u(payload.as_bytes())))
        }

        fn header(&self) -> String {
            format!(r#"{{"alg":"ES256","kid":"{}"}}"#, self.signer.kid())
        }

        fn expected(&self) -> Expected {
            let min_version = NonZeroU64::new(3).unwrap();
            Expected { signer: self.signer.clone(), group: "group".to_owned(), min_version }
        }
    }

    const PAYLOAD: &str = r#"{"v":1,"version":3,"group":"group","values":{"A":"x\"\\ü","B":"y"}}"#;

    #[test]
    fn what_the_operator_seals_is_what_is_read() {
        let operator = Operator::new(7);
        let said = operator.say(&operator.header(), PAYLOAD);
        let secrets = open(&said, &operator.expected()).ok().unwrap();
        assert_eq!((secrets.version.get(), secrets.group.as_str()), (3, "group"));
        assert_eq!(secrets.values["A"].as_str(), "x\"\\ü");
        assert_eq!(secrets.values["B"].as_str(), "y");
        let input = signing_input(&secrets, operator.signer.kid()).unwrap();
        assert!(said.starts_with(input.as_str()), "the exact bytes are fixed");
        assert!(open(&operator.sign(&input), &operator.expected()).is_ok());
    }

    #[test]
    fn a_payload_is_written_into_a_buffer_that_does_not_grow() {
        let values = [("A", "\"\\".repeat(1000)), ("B", "ü".repeat(10))];
        let values = values.map(|(name, value)| (name.to_owned(), Zeroizing::new(value)));
        let group = "\"".repeat(super::super::MAX_GROUP);
        let version = NonZeroU64::MAX;
        let secrets = Secrets { version, group, values: values.into() };
        let length = 2 * 2020 + 2 + 12 + 2 * 128 + 128;
        let payload = payload(&secrets).unwrap();
        assert!(payload.len() <= length && payload.capacity() <= length, "{}", payload.capacity());
    }

    #[test]
    fn only_the_operators_own_signature_counts() {
        let (operator, other) = (Operator::new(7), Operator::new(8));
        let refused = |said: &str| open(said, &operator.expected()).err();
        assert_eq!(refused(&other.say(&other.header(), PAYLOAD)), Some(Refusal::Foreign));
        assert_eq!(refused(&other.say(&operator.header(), PAYLOAD)), Some(Refusal::Forged));
        let said = operator.say(&operator.header(), PAYLOAD);
        let (input, signature) = said.rsplit_once('.').unwrap();
        let swapped =
            format!("{}.{}.{signature}", input.split_once('.').unwrap().0, to_b64u(b"{}"));
        assert_eq!(refused(&swapped), Some(Refusal::Forged));
        assert_eq!(refused(&format!("{input}.")), Some(Refusal::Forged));
        assert_eq!(refused(&format!("{input}.AAAA")), Some(Refusal::Forged));
    }

    #[test]
    fn only_es256_and_no_other_member_is_taken() {
        let operator = Operator::new(7);
        let kid = operator.signer.kid();
        for header in [
            format!(r#"{{"alg":"none","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"ES384","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"ES256","kid":"{kid}","jwk":{{}}}}"#),
            format!(r#"{{"alg":"ES256","kid":"{kid}","crit":[]}}"#),
            format!(r#"{{"alg":"ES256","kid":"{kid}","b64":false}}"#),
            format!(r#"{{"alg":"ES256","alg":"ES256","kid":"{kid}"}}"#),
            r#"{"alg":"ES256"}"#.to_owned(),
            "[]".to_owned(),
            String::new(),
        ] {
            let refused = open(&operator.say(&header, PAYLOAD), &operator.expected()).err();
            assert_eq!(refused, Some(Refusal::NotSigned), "{header}");
        }
        let good = operator.say(&operator.header(), PAYLOAD);
        for text in ["", ".", "..", "a.b.c", &format!("{}.", *good), &format!("{}=", *good)] {
            let refused = open(text, &operator.expected()).err();
            assert_eq!(refused, Some(Refusal::NotSigned), "{text}");
        }
    }

    #[test]
    fn group_version_and_values_are_those_of_the_policy() {
        let operator = Operator::new(7);
        let of = |payload: &str| {
            open(&operator.say(&operator.header(), payload), &operator.expected()).err()
        };
        assert_eq!(of(PAYLOAD), None);
        assert_eq!(
            of(&PAYLOAD.replace(r#""group":"group""#, r#""group":"Group""#)),
            Some(Refusal::OtherGroup)
        );
        let old = Refusal::Old { version: 2, lowest: 3 };
        assert_eq!(of(&PAYLOAD.replace(r#""version":3"#, r#""version":2"#)), Some(old));
        assert_eq!(of(&PAYLOAD.replace(r#""B""#, r#""b""#)), Some(Refusal::Name));
        let control = PAYLOAD.replace(r#""y""#, r#""y\n""#);
        assert_eq!(of(&control), Some(Refusal::Value("B".to_owned())));
    }

    #[test]
    fn a_payload_has_one_form() {
        let operator = Operator::new(7);
        let of = |payload: &str| {
            open(&operator.say(&operator.header(), payload), &operator.expected()).err()
        };
        assert_eq!(of(&PAYLOAD.replace(r#""v":1"#, r#""v":2,"more":0"#)), Some(Refusal::Format));
        for (old, new) in [
            (r#""v":1"#, r#""v":1,"v":1"#),
            (r#""v":1,"#, ""),
            (r#""v":1"#, r#""v":"1""#),
            (r#""version":3"#, r#""version":0"#),
            (r#""version":3"#, r#""version":-1"#),
            (r#""version":3"#, r#""version":3.0"#),
            (r#""version":3"#, r#""version":18446744073709551616"#),
            (r#""version":3"#, r#""version":3,"version":9"#),
            (r#""version":3"#, r#""version":3,"more":0"#),
            (r#""B":"y""#, r#""B":7"#),
            (r#""B":"y""#, r#""B":null"#),
            (r#""B":"y""#, r#""A":"y""#),
            (r#"}}"#, r#"}}x"#),
            (r#"{"v""#, r#" {"v""#),
        ] {
            let payload = PAYLOAD.replacen(old, new, 1);
            assert_eq!(of(&payload), Some(Refusal::Payload), "{payload}");
        }
        assert_eq!(of(r#"[1,3,"group",{}]"#), Some(Refusal::Payload));
        // Another statement of the same key, of whatever kind, is none of these.
        assert_eq!(of(r#"{"iss":"operator","sub":"admin"}"#), Some(Refusal::Payload));
    }
}
