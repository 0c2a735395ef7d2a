//! What a vault answers to *release*: a JWS around the wrapped key, believed only after its chain, signature
//! and every echo of the request are verified.
//!
//! Sources: Key Vault REST API 7.4 (`KeyReleaseResult`), RFC 7515 (JWS, `x5c` in section 4.1.6), RFC 5280 and
//! RFC 9525 (chain and name). The algorithm is fixed: what the header says about it is only compared.

use attestation::certificate::Certificate;
use attestation::encoding::from_b64u;
use attestation::json;
use attestation::jws::{Algorithm, Jws, JwsError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use serde_json::Value;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};

use super::Asked;
use crate::host::Host;
use crate::key::Published;
use crate::kid::KeyId;
use crate::wrapping_key::Wrap;

/// The longest JWS that is looked at: a chain of [`LONGEST_CHAIN`] usual certificates and the largest keys and
/// policies stay well below it.
const LONGEST: usize = 256 * 1024;

/// The most certificates in `x5c`. Key Vault sends three.
const LONGEST_CHAIN: usize = 8;

/// A key as the vault released it, verified to be the vault's answer to this request.
pub(crate) struct Released {
    /// What the vault says about the key.
    pub(crate) published: Published,
    /// The key, wrapped for the request's wrapping key.
    pub(crate) wrapped: Vec<u8>,
    /// By which mechanism.
    pub(crate) by: Wrap,
}

/// Why an answer is not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// No JSON with a JWS in it.
    #[error("the vault's answer holds no release")]
    NoRelease,
    /// The JWS is malformed, of another algorithm, or not signed by its leaf certificate.
    #[error("the vault's release is not signed as it must be")]
    Jws(#[from] JwsError),
    /// `x5c` is missing or empty, too long, or holds something else than certificates.
    #[error("the vault's release must bring 1 to {LONGEST_CHAIN} certificates in x5c")]
    X5c,
    /// The chain does not lead to a believed root, is not valid now, or is not for the vault's name.
    #[error("verification of leaf's certificate chain failed: x509")]
    Chain(#[source] webpki::Error),
    /// The leaf cannot have signed RS256.
    #[error("the leaf certificate of the vault's release has no RSA key")]
    LeafKey,
    /// The signed payload is not that of a release.
    #[error("the vault's release has not the form of a release")]
    Payload,
    /// The key has another release policy than the caller expects, or none.
    #[error("the key's release policy is not the one that is expected: read it in the vault")]
    Policy,
    /// The release answers another request.
    #[error("the vault's release is for another {0} than the one asked for")]
    Echo(&'static str),
}

/// Verifies a release and takes out what it holds.
pub(crate) fn verify(
    jws: &str,
    asked: &Asked<'_>,
    roots: &RootCertStore,
    now: u64,
) -> Result<Released, AnswerError> {
    let jws = Jws::parse(jws, LONGEST)?;
    let chain = x5c(&jws)?;
    let (leaf, issuers) = chain.split_first().ok_or(AnswerError::X5c)?;
    verify_chain(leaf, issuers, asked, roots, now)?;
    let payload = verify_signature(&jws, leaf)?;
    let payload: Payload = serde_json::from_slice(&payload).map_err(|_| AnswerError::Payload)?;
    payload.answers(asked)?;
    payload.has_policy(asked.wanted.policy)?;
    payload.release(asked.wrap, asked.wanted.vault)
}

fn x5c(jws: &Jws<'_>) -> Result<Vec<CertificateDer<'static>>, AnswerError> {
    let certificates = jws.header.get("x5c").and_then(Value::as_array);
    let certificates = certificates
        .filter(|certificates| (1..=LONGEST_CHAIN).contains(&certificates.len()))
        .ok_or(AnswerError::X5c)?;
    certificates
        .iter()
        .map(|text| text.as_str().and_then(|text| STANDARD.decode(text).ok()).map(Into::into))
        .collect::<Option<_>>()
        .ok_or(AnswerError::X5c)
}

/// To a believed root, for TLS servers (the purpose that Key Vault's signing certificates have), in the name of
/// the vault. A root among the issuers is of no consequence.
fn verify_chain(
    leaf: &CertificateDer<'_>,
    issuers: &[CertificateDer<'_>],
    asked: &Asked<'_>,
    roots: &RootCertStore,
    now: u64,
) -> Result<(), AnswerError> {
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
    let leaf = EndEntityCert::try_from(leaf).map_err(AnswerError::Chain)?;
    leaf.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        &roots.roots,
        issuers,
        now,
        KeyUsage::server_auth(),
        None,
        None,
    )
    .map_err(AnswerError::Chain)?;
    leaf.verify_is_valid_for_subject_name(&asked.wanted.vault.server_name())
        .map_err(AnswerError::Chain)
}

fn verify_signature(jws: &Jws<'_>, leaf: &CertificateDer<'_>) -> Result<Vec<u8>, AnswerError> {
    let leaf = Certificate::from_der(leaf).map_err(|_| AnswerError::X5c)?;
    let key = leaf.rsa_key().ok_or(AnswerError::LeafKey)?;
    Ok(jws.verify(Algorithm::Rs256, key)?.to_vec())
}

#[derive(Deserialize)]
struct Payload {
    request: Echo,
    response: Response,
}

#[derive(Deserialize)]
struct Echo {
    enc: String,
    kid: String,
    nonce: Option<String>,
}

#[derive(Deserialize)]
struct Response {
    key: KeyBundle,
}

#[derive(Deserialize)]
struct KeyBundle {
    key: Key,
    release_policy: Option<Value>,
}

#[derive(Deserialize)]
struct Key {
    kid: String,
    key_hsm: String,
    #[serde(flatten)]
    published: Published,
}

impl Payload {
    fn answers(&self, asked: &Asked<'_>) -> Result<(), AnswerError> {
        let Echo { enc, kid, nonce } = &self.request;
        let is_key = |kid: &str| asked.wanted.kid.is_meant_by(kid, asked.wanted.vault);
        let same = [
            ("enc", enc == asked.wrap.name()),
            ("nonce", nonce.as_deref() == Some(asked.nonce)),
            ("kid", is_key(kid) && is_key(&self.response.key.key.kid)),
        ];
        match same.into_iter().find(|(_, same)| !same) {
            Some((what, _)) => Err(AnswerError::Echo(what)),
            None => Ok(()),
        }
    }

    /// Compared as JSON: a vault may write the same policy otherwise.
    fn has_policy(&self, expected: Option<&Value>) -> Result<(), AnswerError> {
        let Some(expected) = expected else { return Ok(()) };
        let policy =
            self.response.key.release_policy.as_ref().and_then(|policy| policy.get("data"));
        let policy = policy.and_then(Value::as_str).and_then(from_b64u);
        let policy = policy.and_then(|policy| json::parse(&policy).ok());
        if policy.as_ref() == Some(expected) { Ok(()) } else { Err(AnswerError::Policy) }
    }

    fn release(self, by: Wrap, vault: &Host) -> Result<Released, AnswerError> {
        #[derive(Deserialize)]
        struct KeyHsm {
            ciphertext: String,
        }

        let Key { key_hsm, mut published, kid } = self.response.key.key;
        published.kid = KeyId::of_vault(&kid, vault);
        let wrapped = || {
            let key_hsm: KeyHsm = serde_json::from_slice(&from_b64u(&key_hsm)?).ok()?;
            from_b64u(&key_hsm.ciphertext)
        };
        Ok(Released { published, wrapped: wrapped().ok_or(AnswerError::Payload)?, by })
    }
}

#[cfg(test)]
mod tests;
