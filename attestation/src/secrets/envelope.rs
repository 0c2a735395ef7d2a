//! The outer half: a JWE in compact form (RFC 7516 section 7.1) by RSA-OAEP-256 and A256GCM (RFC 7518 sections 4.3
//! and 5.3), taken apart and put together.
//!
//! Nothing that its header says is followed. There is one header that is accepted for each key, and it is compared.
//! Must not know what is inside.

use serde_json::{Value, json};

use super::{MAX_ENVELOPE, Refusal};
use crate::encoding::{array_from_b64u, from_b64u, to_b64u};
use crate::json;

/// Bytes of an RSA block: keys of 2048 to 8192 bits.
const BLOCK: std::ops::RangeInclusive<usize> = 256..=1024;

/// Bytes of the nonce: 96 bits (RFC 7518 section 5.3).
const NONCE: usize = 12;

/// Bytes of the tag: 128 bits (RFC 7518 section 5.3).
const TAG: usize = 16;

/// An envelope, taken apart. Nothing about it is verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The header as it came: what the tag covers beside the ciphertext.
    protected: String,
    kid: String,
    /// The content key, for the vault's key: RSAES-OAEP with SHA-256.
    pub encrypted_key: Vec<u8>,
    /// Nonce of AES-256-GCM.
    pub nonce: [u8; NONCE],
    /// Ciphertext ‖ tag, the form of RFC 5116.
    pub sealed: Vec<u8>,
}

impl Envelope {
    /// Takes a text apart.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooLong`], [`Refusal::NotAnEnvelope`], [`Refusal::Header`].
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        const SYNTAX: Refusal = Refusal::NotAnEnvelope;
        if text.len() > MAX_ENVELOPE {
            return Err(Refusal::TooLong(text.len()));
        }
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(SYNTAX);
        let (protected, key, nonce, ciphertext, tag) =
            (part()?, part()?, part()?, part()?, part()?);
        if parts.next().is_some() {
            return Err(SYNTAX);
        }
        let header = json::parse(&from_b64u(protected).ok_or(SYNTAX)?).map_err(|_| SYNTAX)?;
        let encrypted_key =
            from_b64u(key).filter(|key| BLOCK.contains(&key.len())).ok_or(SYNTAX)?;
        let nonce = array_from_b64u(nonce).ok_or(SYNTAX)?;
        let mut sealed = from_b64u(ciphertext).ok_or(SYNTAX)?;
        sealed.extend(array_from_b64u::<TAG>(tag).ok_or(SYNTAX)?);
        let kid = kid(&header).ok_or(Refusal::Header)?;
        Ok(Self { protected: protected.to_owned(), kid, encrypted_key, nonce, sealed })
    }

    /// RFC 7638 thumbprint of the key that it says it is for.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Additional authenticated data (RFC 7516 section 5.1, step 14).
    #[must_use]
    pub fn aad(&self) -> &[u8] {
        self.protected.as_bytes()
    }
}

/// The key's thumbprint, from the one header that is accepted for it.
fn kid(header: &Value) -> Option<String> {
    let kid = header.get("kid")?.as_str()?;
    let only = json!({"alg": "RSA-OAEP-256", "cty": "JOSE", "enc": "A256GCM", "kid": kid});
    let named = array_from_b64u::<32>(kid).is_some() && *header == only;
    named.then(|| kid.to_owned())
}

/// The header of an envelope for the key with this RFC 7638 thumbprint, as it stands in the envelope: base64url.
#[must_use]
pub fn protected_header(kid: &str) -> String {
    let text = format!(r#"{{"alg":"RSA-OAEP-256","cty":"JOSE","enc":"A256GCM","kid":"{kid}"}}"#);
    to_b64u(text.as_bytes())
}

/// Puts an envelope together. `sealed` is ciphertext ‖ tag.
///
/// # Errors
///
/// [`Refusal::NotAnEnvelope`] if `sealed` has no tag; [`Refusal::TooLong`].
pub fn compact(
    protected: &str,
    encrypted_key: &[u8],
    nonce: &[u8; NONCE],
    sealed: &[u8],
) -> Result<String, Refusal> {
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG>().ok_or(Refusal::NotAnEnvelope)?;
    let parts = [encrypted_key, nonce, ciphertext, tag].map(to_b64u);
    let text = format!("{protected}.{}", parts.join("."));
    if text.len() > MAX_ENVELOPE { Err(Refusal::TooLong(text.len())) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KID: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

    fn envelope() -> String {
        let sealed = [&b"text"[..], &[9; TAG]].concat();
        compact(&protected_header(KID), &[7; 384], &[8; NONCE], &sealed).unwrap()
    }

    #[test]
    fn an_envelope_is_taken_apart_as_it_was_put_together() {
        let envelope = Envelope::parse(&envelope()).ok().unwrap();
        assert_eq!(envelope.kid(), KID);
        assert_eq!(envelope.aad(), protected_header(KID).as_bytes());
        assert_eq!(envelope.encrypted_key, [7; 384]);
        assert_eq!(envelope.nonce, [8; NONCE]);
        assert_eq!(envelope.sealed, [&b"text"[..], &[9; TAG]].concat());
    }

    #[test]
    fn what_has_another_form_is_no_envelope() {
        let good = envelope();
        let parts: Vec<&str> = good.split('.').collect();
        let with = |at: usize, part: &str| {
            let mut parts = parts.clone();
            parts[at] = part;
            parts.join(".")
        };
        let short = to_b64u(&[7; 255]);
        let long = to_b64u(&[7; 1025]);
        for text in [
            String::new(),
            parts[..4].join("."),
            format!("{good}."),
            format!("{good}\n"),
            format!(" {good}"),
            with(0, "e30=="),
            with(0, "AAAA"),
            with(1, &short),
            with(1, &long),
            with(2, "AAAA"),
            with(3, "+/"),
            with(4, "AAAA"),
            with(4, &to_b64u(&[9; TAG - 1])),
        ] {
            assert_eq!(Envelope::parse(&text).err(), Some(Refusal::NotAnEnvelope), "{text}");
        }
        let huge = "A".repeat(MAX_ENVELOPE + 1);
        assert_eq!(Envelope::parse(&huge).err(), Some(Refusal::TooLong(huge.len())));
        assert_eq!(Envelope::parse(&huge[1..]).err(), Some(Refusal::NotAnEnvelope));
        let sealed = vec![0; MAX_ENVELOPE];
        let refused = compact(&protected_header(KID), &[7; 384], &[8; NONCE], &sealed);
        assert!(matches!(refused, Err(Refusal::TooLong(_))));
    }

    #[test]
    fn the_header_chooses_nothing() {
        let good = envelope();
        let (_, rest) = good.split_once('.').unwrap();
        let ours = json!({"alg": "RSA-OAEP-256", "cty": "JOSE", "enc": "A256GCM", "kid": KID});
        let parse = |header: &Value| {
            Envelope::parse(&format!("{}.{rest}", to_b64u(header.to_string().as_bytes())))
        };
        assert!(parse(&ours).is_ok());
        for (name, value) in [
            ("alg", json!("RSA-OAEP")),
            ("alg", json!("RSA1_5")),
            ("alg", json!("dir")),
            ("enc", json!("A128CBC-HS256")),
            ("alg", json!("A256GCM")),
            ("cty", json!("JWT")),
            ("kid", json!("short")),
            ("kid", json!(7)),
            ("zip", json!("DEF")),
            ("crit", json!([])),
            ("jwk", json!({})),
            ("epk", json!({})),
            ("p2c", json!(1)),
        ] {
            let mut header = ours.clone();
            header[name] = value;
            assert_eq!(parse(&header).err(), Some(Refusal::Header), "{header}");
        }
        for name in ["alg", "cty", "enc", "kid"] {
            let mut header = ours.clone();
            header.as_object_mut().unwrap().remove(name);
            assert_eq!(parse(&header).err(), Some(Refusal::Header), "without {name}");
        }
        let twice = format!(r#"{{"alg":"none",{}"#, &ours.to_string()[1..]);
        let twice = format!("{}.{rest}", to_b64u(twice.as_bytes()));
        assert_eq!(Envelope::parse(&twice).err(), Some(Refusal::NotAnEnvelope));
    }
}
