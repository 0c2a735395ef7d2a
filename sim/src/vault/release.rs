//! `POST /keys/{name}[/{version}]/release`: a token in, a wrapped key in a signed answer out.
//!
//! Must not know: HTTP or callers' permissions.

use der::Encode as _;
use rsa::RsaPublicKey;
use rsa::traits::PublicKeyParts as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::error::Refusal;
use super::material::Material;
use super::store::KeyVersion;
use super::wrap::{self, WrapAlgorithm};
use crate::encoding::{b64, b64u};
use crate::faults::VaultFault;
use crate::jose;
use crate::json::set;
use crate::pki::PkiError;
use crate::pki::tls::JwsIdentity;

/// How much of a ciphertext the fault leaves.
const SHORT: usize = 100;

/// The body of a release.
#[derive(Debug, Deserialize)]
pub(super) struct ReleaseRequest {
    pub(super) target: String,
    pub(super) nonce: Option<String>,
    #[serde(default)]
    pub(super) enc: WrapAlgorithm,
}

/// Everything that one answer is made of.
pub(super) struct Release<'a> {
    pub(super) request: &'a ReleaseRequest,
    pub(super) api_version: &'a str,
    pub(super) base_url: &'a str,
    pub(super) name: &'a str,
    /// As the request named it.
    pub(super) version: Option<&'a str>,
    pub(super) key: &'a KeyVersion,
    /// Claims of the verified token.
    pub(super) claims: &'a Map<String, Value>,
    pub(super) signer: &'a JwsIdentity,
    pub(super) fault: Option<&'a VaultFault>,
    /// The material that takes the key's place, for the fault that swaps keys.
    pub(super) swapped: Option<Material>,
}

impl Release<'_> {
    /// The compact JWS: the value of `value` in the answer.
    pub(super) fn answer(&self) -> Result<String, Refusal> {
        let policy = self.key.releasable()?;
        let mut key = self.key.jwk(self.base_url, self.name);
        key.insert("key_hsm".to_owned(), json!(self.wrapped()?));
        let mut released = json!({
            "key": key,
            "attributes": self.key.attributes(),
            "release_policy": policy.show_released(),
        });
        if let Some(tags) = self.key.tags() {
            set(&mut released, "tags", tags.clone());
        }
        let payload = json!({"request": self.echo(), "response": {"key": released}});
        let header = self.header().map_err(|_| Refusal::Internal)?;
        jose::sign(&header, &payload, &self.signer.key).map_err(|_| Refusal::Internal)
    }

    /// The request, as the service understood it.
    fn echo(&self) -> Value {
        let version = self.version.map(|version| format!("/{version}")).unwrap_or_default();
        let name = match self.fault {
            Some(VaultFault::WrongKid) => "another-key",
            _ => self.name,
        };
        let enc = match (self.fault, self.request.enc) {
            (Some(VaultFault::WrongEnc), WrapAlgorithm::RsaAesKeyWrap256) => {
                WrapAlgorithm::RsaAesKeyWrap384
            }
            (Some(VaultFault::WrongEnc), _) => WrapAlgorithm::RsaAesKeyWrap256,
            (_, enc) => enc,
        };
        let mut echo = json!({
            "api-version": self.api_version,
            "enc": enc,
            "kid": format!("{}/keys/{name}{version}", self.base_url),
        });
        if let Some(nonce) = &self.request.nonce {
            set(&mut echo, "nonce", nonce.as_str());
        }
        echo
    }

    /// `key_hsm`: JSON with header and ciphertext, in base64url.
    fn wrapped(&self) -> Result<String, Refusal> {
        let (kid, kek) = wrapping_key(self.claims)?;
        let material = self.swapped.as_ref().unwrap_or(&self.key.material);
        let secret = material.export().map_err(|_| Refusal::Internal)?;
        let enc = self.request.enc;
        let mut ciphertext = wrap::wrap(enc, &kek, &secret, &mut rand::thread_rng())
            .map_err(|_| Refusal::Internal)?;
        if self.fault == Some(&VaultFault::ShortCiphertext) {
            ciphertext.truncate(SHORT);
        }
        let blob = json!({
            "schema_version": "1.0",
            "header": {"kid": kid, "alg": "dir", "enc": enc},
            "ciphertext": b64u(&ciphertext),
        });
        Ok(b64u(blob.to_string().as_bytes()))
    }

    /// The chain goes leaf first and root last, in standard base64 (RFC 7515 section 4.1.6).
    fn header(&self) -> Result<Value, PkiError> {
        let chain = self
            .signer
            .chain
            .iter()
            .map(der::Encode::to_der)
            .collect::<Result<Vec<_>, der::Error>>()?;
        let leaf = self.signer.chain.first().ok_or(PkiError::Chain("empty"))?.to_der()?;
        let x5c: Vec<String> = match self.fault {
            Some(VaultFault::EmptyX5c) => Vec::new(),
            _ => chain.iter().map(|der| b64(der)).collect(),
        };
        let sha1 = Sha1::digest(&leaf);
        Ok(json!({
            "alg": "RS256",
            "kid": hex::encode_upper(sha1),
            "x5t": b64u(&sha1),
            "typ": "JWT",
            "x5t#S256": b64u(&Sha256::digest(&leaf)),
            "x5c": x5c,
        }))
    }
}

/// The first RSA key of the token's runtime claims that is meant for encryption.
fn wrapping_key(claims: &Map<String, Value>) -> Result<(String, RsaPublicKey), Refusal> {
    let keys = claims
        .get("x-ms-runtime")
        .and_then(|runtime| runtime.get("keys"))
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let jwk = keys.iter().filter_map(Value::as_object).find(|jwk| for_encryption(jwk)).ok_or_else(
        || Refusal::bad("the attestation token has no key for encryption in x-ms-runtime.keys"),
    )?;
    let kid = jwk.get("kid").and_then(Value::as_str);
    let kid = kid.ok_or_else(|| Refusal::bad("the key for encryption has no kid"))?;
    let key = jose::rsa_from_jwk(jwk).ok().filter(|key| key.size() <= 512).ok_or_else(|| {
        Refusal::bad("the key for encryption is not an RSA key of 2048 to 4096 bits")
    })?;
    Ok((kid.to_owned(), key))
}

fn for_encryption(jwk: &Map<String, Value>) -> bool {
    let usage =
        ["key_use", "use"].iter().any(|name| jwk.get(*name).and_then(Value::as_str) == Some("enc"));
    let operations = jwk.get("key_ops").and_then(Value::as_array);
    usage || operations.is_some_and(|names| names.iter().any(|name| name == "encrypt"))
}
