//! Who may speak: issuers of tokens and their keys. Knows nothing about tokens.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::anchors::Trust;
use crate::certificate::Certificate;
use crate::rsa_key::RsaKey;

/// The longest key set that is read, in bytes. Real ones have about 20 KiB.
pub const MAX_JWKS: usize = 256 * 1024;

/// Keys that a set may hold at most.
const MAX_KEYS: usize = 32;

/// An issuer that the relying party chose before it saw any token.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Its URL without a slash at the end, exactly as it stands in `iss`.
    pub url: String,
    /// Its keys, fetched from `<url>/certs` over TLS.
    pub keys: Jwks,
    /// Whether it is one of Microsoft's.
    pub trust: Trust,
}

/// The keys of one issuer, fetched from it by whoever calls this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwks(BTreeMap<String, Option<RsaKey>>);

/// A document is no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Not a JSON Web Key Set, or too long.
    #[error("not a set of JSON Web Keys")]
    Syntax,
    /// The same `kid` twice.
    #[error("two keys have one kid")]
    Double,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    kid: String,
    #[serde(default)]
    x5c: Vec<String>,
}

impl Issuer {
    /// An issuer by its URL. Microsoft's stand below `attest.azure.net`; any other is not production.
    #[must_use]
    pub fn new(url: String, keys: Jwks) -> Self {
        let host =
            url.strip_prefix("https://").and_then(|rest| rest.strip_suffix(".attest.azure.net"));
        let labels = |host: &str| {
            host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        };
        let microsofts = host.is_some_and(|host| !host.is_empty() && labels(host));
        let trust = if microsofts { Trust::Production } else { Trust::NotProduction };
        Self { url, keys, trust }
    }
}

impl Jwks {
    /// Reads a key set. Of each key, the first certificate of its `x5c` counts, for nothing but the key in it:
    /// the issuer vouches for the set by its TLS certificate. A key of another type than RSA verifies nothing.
    ///
    /// # Errors
    ///
    /// [`JwksError`].
    pub fn parse(json: &[u8]) -> Result<Self, JwksError> {
        if json.len() > MAX_JWKS {
            return Err(JwksError::Syntax);
        }
        let Set { keys } = serde_json::from_slice(json).map_err(|_| JwksError::Syntax)?;
        if keys.len() > MAX_KEYS {
            return Err(JwksError::Syntax);
        }
        let mut known = BTreeMap::new();
        for Key { kid, x5c } in keys {
            if known.insert(kid, x5c.first().and_then(|text| rsa_key(text))).is_some() {
                return Err(JwksError::Double);
            }
        }
        Ok(Self(known))
    }

    pub(crate) fn get(&self, kid: &str) -> Option<&RsaKey> {
        self.0.get(kid)?.as_ref()
    }
}

fn rsa_key(x5c: &str) -> Option<RsaKey> {
    let certificate = Certificate::from_der(&STANDARD.decode(x5c).ok()?).ok()?;
    RsaKey::from_pkcs1(certificate.rsa_key()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_that_stands_twice_and_what_is_no_set_is_refused() {
        let parse = |text: &str| Jwks::parse(text.as_bytes());
        let twice = r#"{"keys":[{"kid":"a","kty":"EC"},{"kid":"a","kty":"EC"}]}"#;
        assert_eq!(parse(twice), Err(JwksError::Double));
        for text in [
            "",
            "{}",
            "[]",
            r#"{"keys":{}}"#,
            r#"{"keys":[{"kty":"RSA"}]}"#,
            r#"{"keys":[],"keys":[]}"#,
        ] {
            assert_eq!(parse(text), Err(JwksError::Syntax), "{text}");
        }
        let many = |count: usize| {
            let keys: Vec<String> = (0..count).map(|n| format!(r#"{{"kid":"{n}"}}"#)).collect();
            parse(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")))
        };
        assert!(many(MAX_KEYS).is_ok());
        assert_eq!(many(MAX_KEYS + 1), Err(JwksError::Syntax));
        let long = format!(r#"{{"keys":[]{}}}"#, " ".repeat(MAX_JWKS));
        assert_eq!(parse(&long), Err(JwksError::Syntax));
    }

    #[test]
    fn a_key_without_an_rsa_certificate_verifies_nothing() {
        let set = r#"{"keys":[{"kid":"a"},{"kid":"b","x5c":[]},{"kid":"c","x5c":["AAAA"]}]}"#;
        let keys = Jwks::parse(set.as_bytes()).unwrap();
        for kid in ["a", "b", "c", "d", ""] {
            assert_eq!(keys.get(kid), None, "{kid}");
        }
    }

    #[test]
    fn only_microsofts_issuers_are_production() {
        let trust = |url: &str| Issuer::new(url.to_owned(), Jwks(BTreeMap::new())).trust;
        for url in ["https://sharedeus.eus.attest.azure.net", "https://own-1.weu.attest.azure.net"]
        {
            assert_eq!(trust(url), Trust::Production, "{url}");
        }
        for url in [
            "http://sharedeus.eus.attest.azure.net",
            "https://attest.azure.net",
            "https://.attest.azure.net.example",
            "https://localhost:1/x.attest.azure.net",
            "https://evil.example#.attest.azure.net",
            "https://a@b.attest.azure.net",
            "https://sharedeus.eus.attest.azure.net/",
        ] {
            assert_eq!(trust(url), Trust::NotProduction, "{url}");
        }
    }
}
