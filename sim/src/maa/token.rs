//! The signing key of an attestation service, its published form, and tokens gone wrong.
//!
//! Must not know: evidence. Azure publishes self-signed certificates whose common name is the
//! issuer; members `n` and `e` are absent. A retired RSA-1024 key stands beside the current one,
//! as it did in Azure's own key set in 2023: readers have to mind the size.

use der::Encode as _;
use rsa::RsaPrivateKey;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;

use super::claims::TOKEN_LIFE;
use crate::encoding::b64;
use crate::faults::MaaFault;
use crate::jose::{self, JoseError};
use crate::json;
use crate::pki::{KeyRing, PkiError, tls};

const HOUR: u64 = 3600;

/// Keys and certificates of one service.
#[derive(Debug)]
pub(super) struct Signing {
    key: RsaPrivateKey,
    kid: String,
    foreign: RsaPrivateKey,
    issuer: String,
    jwks: Value,
}

impl Signing {
    pub(super) fn derive(keys: &KeyRing, issuer: &str) -> Result<Self, PkiError> {
        let (key, certificate) = tls::self_signed(keys, "maa/signing", 2048, issuer)?;
        let (_, retired) = tls::self_signed(keys, "maa/retired", 1024, issuer)?;
        let kid = kid(&certificate)?;
        let published = |certificate: &Certificate| -> Result<Value, PkiError> {
            Ok(json!({
                "x5c": [b64(&certificate.to_der()?)],
                "kid": self::kid(certificate)?,
                "kty": "RSA",
            }))
        };
        let jwks = json!({"keys": [published(&certificate)?, published(&retired)?]});
        let foreign = keys.rsa("maa/foreign", 2048)?;
        Ok(Self { key, kid, foreign, issuer: issuer.to_owned(), jwks })
    }

    /// The answer of `GET /certs`.
    pub(super) fn jwks(&self) -> Value {
        self.jwks.clone()
    }

    /// Signs claims, or does what the fault says instead.
    pub(super) fn token(
        &self,
        mut claims: Map<String, Value>,
        fault: Option<&MaaFault>,
    ) -> Result<String, JoseError> {
        let mut header = json!({
            "alg": "RS256",
            "jku": format!("{}/certs", self.issuer),
            "kid": self.kid,
            "typ": "JWT",
        });
        match fault {
            Some(MaaFault::ForeignKey) => return jose::sign(&header, &claims, &self.foreign),
            Some(MaaFault::AlgNone) => {
                json::set(&mut header, "alg", "none");
                return jose::with_empty_signature(&header, &claims);
            }
            Some(MaaFault::WrongIssuer) => {
                claims.insert("iss".to_owned(), json!("https://another-issuer.example"));
            }
            Some(MaaFault::Expired) => {
                for claim in ["iat", "nbf", "exp"] {
                    let time = claims.get(claim).and_then(Value::as_u64).unwrap_or_default();
                    let past = time.saturating_sub(TOKEN_LIFE + HOUR);
                    claims.insert(claim.to_owned(), json!(past));
                }
            }
            Some(MaaFault::OtherRuntimeData) => {
                let other = json!({"keys": [], "other": true});
                let mut hash = Sha256::digest(other.to_string()).to_vec();
                hash.resize(64, 0);
                claims.insert("x-ms-runtime".to_owned(), other);
                claims.insert("x-ms-sevsnpvm-reportdata".to_owned(), json!(hex::encode(hash)));
            }
            None
            | Some(
                MaaFault::BadRequest
                | MaaFault::TooManyRequests { .. }
                | MaaFault::ServerError
                | MaaFault::Stall
                | MaaFault::Truncated
                | MaaFault::Oversized,
            ) => {}
        }
        jose::sign(&header, &claims, &self.key)
    }
}

/// Standard base64 of a SHA-256, here of the public key.
fn kid(certificate: &Certificate) -> Result<String, PkiError> {
    let spki = certificate.tbs_certificate.subject_public_key_info.to_der()?;
    Ok(b64(&Sha256::digest(spki)))
}
