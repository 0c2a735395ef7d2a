//! Verifying the attestation token that a release asks with.
//!
//! Must not know: keys or policies, except the one question which issuers count. The vault finds
//! an issuer's keys by itself, through OpenID Connect Discovery over TLS, and never through
//! anything that stands in the token.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use der::Encode as _;
use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey as _;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use x509_cert::Certificate;

use crate::encoding::from_b64;
use crate::http::tls::{self, TlsError};
use crate::jose::{self, Jws};
use crate::pki::certificate;

/// How long an issuer's keys are believed.
const MAX_AGE: Duration = Duration::from_secs(600);
/// An unknown key id makes the vault look again, but not more often than this.
const MIN_AGE: Duration = Duration::from_secs(1);
const MAX_ISSUERS: usize = 16;
const MAX_DOCUMENT: usize = 256 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Clock difference that is tolerated.
const SKEW: u64 = 300;

/// A vault whose outgoing side could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The TLS configuration.
    #[error("TLS client")]
    Tls(#[from] TlsError),
    /// The HTTP client.
    #[error("HTTP client")]
    Http(#[from] reqwest::Error),
}

/// A token that is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    #[error("not a token")]
    Malformed(#[from] jose::JoseError),
    #[error("issuer {0:?} is in no policy of the key")]
    Issuer(String),
    #[error("the issuer's keys cannot be had")]
    Discovery,
    #[error("the issuer has no such key")]
    UnknownKey,
    #[error("expired or not valid yet")]
    Time,
}

/// A verified token.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) issuer: String,
    pub(super) claims: Map<String, Value>,
}

/// Verifies tokens; keeps the keys of the issuers that it met.
#[derive(Debug)]
pub(super) struct TargetVerifier {
    client: reqwest::Client,
    issuers: Mutex<HashMap<String, IssuerKeys>>,
}

#[derive(Debug, Clone)]
struct IssuerKeys {
    fetched: Instant,
    keys: HashMap<String, RsaPublicKey>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Map<String, Value>>,
}

impl TargetVerifier {
    /// `root` is the one root of all HTTPS servers; `resolve` names hosts that the system's
    /// resolver does not know.
    pub(super) fn new(
        root: &Certificate,
        resolve: &[(String, SocketAddr)],
    ) -> Result<Self, ClientError> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client(root)?)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .https_only(true)
            .timeout(TIMEOUT);
        for (host, address) in resolve {
            builder = builder.resolve(host, *address);
        }
        Ok(Self { client: builder.build()?, issuers: Mutex::default() })
    }

    /// Verifies a token whose issuer is `allowed`: RS256, a key of the issuer, and the time.
    pub(super) async fn verify(
        &self,
        token: &str,
        allowed: impl Fn(&str) -> bool,
        now: u64,
    ) -> Result<Target, TargetError> {
        let jws = Jws::parse(token)?;
        let issuer = jws.payload.get("iss").and_then(Value::as_str).unwrap_or_default();
        if !allowed(issuer) {
            return Err(TargetError::Issuer(issuer.to_owned()));
        }
        let key = self.key(issuer, jws.header_str("kid").unwrap_or_default()).await?;
        jws.verify(&key)?;
        let time = |claim: &str| jws.payload.get(claim).and_then(Value::as_u64);
        let begun = time("nbf").is_none_or(|from| from <= now + SKEW);
        if !begun || time("exp").is_none_or(|until| until.saturating_add(SKEW) <= now) {
            return Err(TargetError::Time);
        }
        Ok(Target { issuer: issuer.to_owned(), claims: jws.payload })
    }

    /// The lock is held while keys are fetched, so that many releases make one fetch.
    async fn key(&self, issuer: &str, kid: &str) -> Result<RsaPublicKey, TargetError> {
        let mut issuers = self.issuers.lock().await;
        let known = issuers.get(issuer);
        let age = known.map(|known| known.fetched.elapsed());
        let key = known.and_then(|known| known.keys.get(kid));
        if let (Some(key), Some(age)) = (key, age)
            && age < MAX_AGE
        {
            return Ok(key.clone());
        }
        if age.is_some_and(|age| age < MIN_AGE) {
            return Err(TargetError::UnknownKey);
        }
        let keys = self.fetch(issuer).await.ok_or(TargetError::Discovery)?;
        let key = keys.get(kid).cloned().ok_or(TargetError::UnknownKey);
        if issuers.len() >= MAX_ISSUERS && !issuers.contains_key(issuer) {
            issuers.clear();
        }
        issuers.insert(issuer.to_owned(), IssuerKeys { fetched: Instant::now(), keys });
        key
    }

    async fn fetch(&self, issuer: &str) -> Option<HashMap<String, RsaPublicKey>> {
        let base = issuer.trim_end_matches('/');
        let url = format!("{base}/.well-known/openid-configuration");
        let discovery: Discovery = serde_json::from_slice(&self.get(&url).await?).ok()?;
        if discovery.issuer.trim_end_matches('/') != base {
            return None;
        }
        let set: KeySet = serde_json::from_slice(&self.get(&discovery.jwks_uri).await?).ok()?;
        Some(
            set.keys
                .iter()
                .filter_map(|jwk| {
                    let kid = jwk.get("kid")?.as_str()?.to_owned();
                    Some((kid, public_key(jwk)?))
                })
                .collect(),
        )
    }

    async fn get(&self, url: &str) -> Option<BytesMut> {
        let mut response = self.client.get(url).send().await.ok()?.error_for_status().ok()?;
        let mut document = BytesMut::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            if document.len() + chunk.len() > MAX_DOCUMENT {
                return None;
            }
            document.extend_from_slice(&chunk);
        }
        Some(document)
    }
}

/// The key of a JWK: of its certificate when there is one, which is Azure's way, else `n` and
/// `e`. Keys below 2048 bits are left out by [`Jws::verify`].
fn public_key(jwk: &Map<String, Value>) -> Option<RsaPublicKey> {
    let Some(chain) = jwk.get("x5c").and_then(Value::as_array) else {
        return jose::rsa_from_jwk(jwk).ok();
    };
    let leaf = from_b64(chain.first()?.as_str()?).ok()?;
    let leaf = certificate::from_der(&leaf).ok()?;
    let spki = leaf.tbs_certificate.subject_public_key_info.to_der().ok()?;
    RsaPublicKey::from_public_key_der(&spki).ok()
}
