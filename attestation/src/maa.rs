//! Tokens of Microsoft Azure Attestation: another party's word that a guest is genuine.
//!
//! Source: measured on real instances (`attestation.md` part 3). A token is an RS256 JWT (RFC 7519); its keys
//! are published at `<issuer>/certs` as JSON Web Keys that carry nothing but `kid`, `kty` and `x5c`.
//!
//! The claims of a confidential container group and of a confidential VM have different shapes. There is one
//! decoder for each; which one is tried is the caller's choice, never the token's.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::anchors::Trust;
use crate::certificate::Certificate;
use crate::check::{self, Rejected};
use crate::checks::token::{ACI_CHECKS, AciSubject, CHECKS, Subject};
use crate::jws::{Jws, JwsError};
use crate::policy::{Expect, Hex};
use crate::verify::Verified;

/// The longest token that is read, in bytes. Real ones have 4 to 7 KiB.
pub const MAX_TOKEN: usize = 64 * 1024;

/// The longest key set that is read, in bytes. Real ones have about 20 KiB.
pub const MAX_JWKS: usize = 256 * 1024;

/// Keys that a set may hold at most.
const MAX_KEYS: usize = 32;

/// The keys of one issuer, fetched from it by whoever calls this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwks(BTreeMap<String, Vec<u8>>);

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

impl Jwks {
    /// Reads a key set. Of each key, the first certificate of its `x5c` counts; keys without one, or without
    /// an RSA key in it, are left out, since no token could be verified with them.
    ///
    /// # Errors
    ///
    /// [`JwksError`].
    pub fn parse(json: &[u8]) -> Result<Self, JwksError> {
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
        if json.len() > MAX_JWKS {
            return Err(JwksError::Syntax);
        }
        let Set { keys } = serde_json::from_slice(json).map_err(|_| JwksError::Syntax)?;
        if keys.len() > MAX_KEYS {
            return Err(JwksError::Syntax);
        }
        let mut known = BTreeMap::new();
        for Key { kid, x5c } in keys {
            let Some(key) = x5c.first().and_then(|text| rsa_key(text)) else { continue };
            if known.insert(kid, key).is_some() {
                return Err(JwksError::Double);
            }
        }
        Ok(Self(known))
    }

    pub(crate) fn get(&self, kid: &str) -> Option<&[u8]> {
        self.0.get(kid).map(Vec::as_slice)
    }
}

fn rsa_key(x5c: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let der = base64::engine::general_purpose::STANDARD.decode(x5c).ok()?;
    Certificate::from_der(&der).ok()?.rsa_key().map(<[u8]>::to_vec)
}

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

/// The claims of an authentic token, of whatever shape.
#[derive(Clone, PartialEq)]
pub struct Claims(pub(crate) Value);

/// How old a token may be at most when something is decided on it, in seconds. MAA makes them for 8 hours.
pub const MAX_AGE: u64 = 3600;

/// Seconds by which clocks may differ.
pub(crate) const SKEW: u64 = 60;

/// Verifies a token: this issuer signed it, and it is neither old nor from the future. Says nothing about what
/// it claims: see [`appraise_aci`].
///
/// # Errors
///
/// [`TokenError::Syntax`] if it is no token at all, else [`TokenError::Rejected`] with every check's outcome.
pub fn verify_token(token: &str, issuer: &Issuer, at: u64) -> Result<Verified<Claims>, TokenError> {
    let jws = Jws::parse(token, MAX_TOKEN)?;
    let claims: Value = jws.unverified()?;
    let subject = Subject { token: token.to_owned(), claims, issuer: issuer.clone(), at };
    let findings = check::judge(check::run(&CHECKS, &subject), issuer.trust)?;
    Ok(Verified::new(Claims(subject.claims), findings, issuer.trust, at))
}

/// Why a token is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no JWT.
    #[error("not a token of Azure Attestation")]
    Syntax(#[from] JwsError),
    /// A check failed.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// What a token of a confidential container group must say.
#[derive(Clone, Debug)]
pub struct AciExpectations {
    /// SHA-256 digests of enforcement policies, one of which must be the group's.
    pub host_data: Expect<Vec<Hex<32>>>,
    /// The exact runtime data that the token must be about.
    pub runtime_data: Expect<Vec<u8>>,
    /// The nonce that was sent, as its decimal text.
    pub nonce: Expect<String>,
    /// The attestation policies (`x-ms-policy-hash`) that the issuer may have applied: its owner can change
    /// them.
    pub policy_hashes: Expect<Vec<String>>,
    /// The lowest UVM security version.
    pub minimum_uvm_svn: Expect<u64>,
}

/// Holds the claims of an authentic token, in the shape of a confidential container group, against what is
/// expected.
///
/// # Errors
///
/// [`Rejected`] with every check's outcome.
pub fn appraise_aci(
    verified: Verified<Claims>,
    expectations: &AciExpectations,
) -> Result<Verified<Claims>, Rejected> {
    let at = verified.at();
    let (claims, mut findings, trust) = verified.into_parts();
    let subject = AciSubject { claims: claims.0, expectations: expectations.clone() };
    findings.extend(check::run(&ACI_CHECKS, &subject));
    let findings = check::judge(findings, trust)?;
    Ok(Verified::new(Claims(subject.claims), findings, trust, at))
}
