//! JSON Web Signatures in compact form (RFC 7515), taken apart and verified with an algorithm that the caller
//! fixes. What the header says about algorithms and keys is never followed.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::crypto::{self, BadSignature};
use crate::encoding::from_b64u;
use crate::json;

/// Header members that would let a token choose what it is verified with.
const REFUSED: [&str; 4] = ["crit", "jwk", "x5u", "b64"];

/// A compact JWS, decoded. Nothing about it is verified.
#[derive(Clone, PartialEq)]
pub struct Jws<'a> {
    signing_input: Cow<'a, str>,
    /// The protected header.
    pub header: Map<String, Value>,
    /// The payload's bytes.
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// An algorithm that this project accepts somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA P-256 with SHA-256; the key is the uncompressed point.
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256; the key is an `RSAPublicKey` (PKCS #1, DER).
    Rs256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

/// Why a JWS is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Not three base64url parts with a JSON object in front, or a member stands twice in it.
    #[error("not a JWS in compact form")]
    Syntax,
    /// Longer than its use allows.
    #[error("{0} bytes are too many for this token")]
    TooLong(usize),
    /// The header names another algorithm than the one that is fixed here.
    #[error("the algorithm must be {0}")]
    Algorithm(&'static str),
    /// The header holds a member that is not accepted.
    #[error("the header must not have {0:?}")]
    Header(&'static str),
    /// The signature does not verify.
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

impl<'a> Jws<'a> {
    /// Takes apart a token of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`JwsError::Syntax`], [`JwsError::TooLong`].
    pub fn parse(token: &'a str, limit: usize) -> Result<Self, JwsError> {
        if token.len() > limit {
            return Err(JwsError::TooLong(token.len()));
        }
        let (signing_input, signature) = token.rsplit_once('.').ok_or(JwsError::Syntax)?;
        let (header, payload) = signing_input.split_once('.').ok_or(JwsError::Syntax)?;
        let part = |text| from_b64u(text).ok_or(JwsError::Syntax);
        let Ok(Value::Object(header)) = json::parse(&part(header)?) else {
            return Err(JwsError::Syntax);
        };
        let (payload, signature) = (part(payload)?, part(signature)?);
        Ok(Self { signing_input: signing_input.into(), header, payload, signature })
    }

    /// The same, with a copy of the text it was taken from.
    #[must_use]
    pub fn into_owned(self) -> Jws<'static> {
        let Self { signing_input, header, payload, signature } = self;
        Jws { signing_input: Cow::Owned(signing_input.into_owned()), header, payload, signature }
    }

    /// A member of the header that is a string.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }

    /// The payload before its signature was verified: only to find out which key to verify it with.
    ///
    /// # Errors
    ///
    /// [`JwsError::Syntax`] if it is not such a JSON document, or a member stands twice in it.
    pub fn unverified<T: for<'de> Deserialize<'de>>(&self) -> Result<T, JwsError> {
        serde_json::from_value(self.unverified_json()?).map_err(|_| JwsError::Syntax)
    }

    /// The same, of whatever form.
    ///
    /// # Errors
    ///
    /// As [`unverified`](Self::unverified).
    pub fn unverified_json(&self) -> Result<Value, JwsError> {
        json::parse(&self.payload).map_err(|_| JwsError::Syntax)
    }

    /// The payload, once the signature verified.
    ///
    /// # Errors
    ///
    /// Any [`JwsError`].
    pub fn verify(&self, algorithm: Algorithm, key: &[u8]) -> Result<&[u8], JwsError> {
        if self.header_text("alg") != Some(algorithm.name()) {
            return Err(JwsError::Algorithm(algorithm.name()));
        }
        if let Some(name) = REFUSED.iter().find(|name| self.header.contains_key(**name)) {
            return Err(JwsError::Header(name));
        }
        let message = self.signing_input.as_bytes();
        match algorithm {
            Algorithm::Es256 => crypto::verify_p256(key, message, &self.signature)?,
            Algorithm::Rs256 => crypto::verify_rs256(key, message, &self.signature)?,
        }
        Ok(&self.payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::to_b64u;

    fn compact(header: &str, payload: &str) -> String {
        format!("{}.{}.AAAA", to_b64u(header.as_bytes()), to_b64u(payload.as_bytes()))
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_in_header_and_payload() {
        let twice = compact(r#"{"alg":"RS256","alg":"RS256"}"#, "{}");
        assert_eq!(Jws::parse(&twice, 1000).err(), Some(JwsError::Syntax));

        let twice = compact(r#"{"alg":"RS256"}"#, r#"{"a":{"b":1,"b":2}}"#);
        let jws = Jws::parse(&twice, 1000).ok().unwrap();
        assert_eq!(jws.unverified::<Value>(), Err(JwsError::Syntax));
    }

    #[test]
    fn only_three_parts_with_an_object_in_front_are_a_jws() {
        for text in ["", ".", "..", "a.b", "e30.e30.e30.e30", "W10.e30.AAAA", "e30=.e30.AAAA"] {
            assert_eq!(Jws::parse(text, 1000).err(), Some(JwsError::Syntax), "{text}");
        }
        let good = compact("{}", "{}");
        assert!(Jws::parse(&good, good.len()).is_ok());
        let short = good.len() - 1;
        assert_eq!(Jws::parse(&good, short).err(), Some(JwsError::TooLong(good.len())));
    }
}
