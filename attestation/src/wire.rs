//! Our JSON on the wire, typed (`wire.md` part 2). Reading is strict about what is there and tolerant of
//! members that a newer version adds; nothing here is verified.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::encoding::{array_from_b64u, b64u, optional_b64u, to_b64u};
use crate::merkle::{Inclusion, MAX_LENGTH_OF_PATH};

/// Body of `POST /attestation/verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// The client's 32 random bytes.
    #[serde(with = "b64u")]
    pub nonce: [u8; 32],
    /// Whether a token of Microsoft Azure Attestation shall come with it.
    #[serde(default)]
    pub token: bool,
    /// Whether the client wants to prove itself in turn and needs a nonce for that.
    #[serde(default)]
    pub client: bool,
}

/// Answer of `POST /attestation/verify`: the proof of the connection it came on.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyAnswer {
    /// Version of this form: 1.
    pub v: u8,
    /// CMW collection.
    pub evidence: Value,
    /// Where this connection's binding stands in the batch that the report covers.
    pub merkle: InclusionText,
    /// The manifest's exact bytes.
    #[serde(with = "b64u")]
    pub manifest: Vec<u8>,
    /// The owner's signature; null where no owner key is configured.
    pub owner: Option<OwnerSignature>,
    /// MAA's JWT, if it was asked for and could be had.
    pub token: Option<String>,
    /// 32 bytes for a client that wants to prove itself.
    #[serde(with = "optional_b64u")]
    pub client_nonce: Option<Vec<u8>>,
}

/// Body of `POST /attestation/client`: an attested client's proof of itself, on its connection, for one API key.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientProof {
    /// Version of this form: 1.
    pub v: u8,
    /// SHA-256 of the id of the API key that it is for.
    #[serde(with = "b64u")]
    pub key_id_sha256: [u8; 32],
    /// CMW collection.
    pub evidence: Value,
    /// Where the binding stands in the batch that the report covers.
    pub merkle: InclusionText,
}

/// The owner's key over evidence and manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerSignature {
    /// The key's RFC 7638 thumbprint.
    pub kid: String,
    /// ES256.
    pub alg: String,
    /// r ‖ s over [`owner_message`](crate::binding::owner_message).
    #[serde(with = "b64u")]
    pub sig: Vec<u8>,
}

/// An inclusion proof as JSON: `{"index","size","path":[b64u]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InclusionText {
    index: u64,
    size: u64,
    path: Vec<String>,
}

/// The hashes of an inclusion proof cannot be read, or are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an inclusion proof")]
pub struct NotAnInclusion;

impl From<&Inclusion> for InclusionText {
    fn from(inclusion: &Inclusion) -> Self {
        let path = inclusion.path.iter().map(|hash| to_b64u(hash)).collect();
        Self { index: inclusion.index, size: inclusion.size, path }
    }
}

impl TryFrom<&InclusionText> for Inclusion {
    type Error = NotAnInclusion;

    fn try_from(text: &InclusionText) -> Result<Self, NotAnInclusion> {
        if text.path.len() > MAX_LENGTH_OF_PATH {
            return Err(NotAnInclusion);
        }
        let hashes: Option<_> = text.path.iter().map(|hash| array_from_b64u(hash)).collect();
        Ok(Self { index: text.index, size: text.size, path: hashes.ok_or(NotAnInclusion)? })
    }
}

/// What the group says about itself; its exact bytes are hashed into every proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form: 1.
    pub v: u8,
    /// "privatemode-confidential".
    pub service: String,
    /// The software's version.
    pub version: String,
    /// This start of the proxy: 32 hexadecimal digits.
    pub boot_id: String,
    /// When that was, in Unix seconds by the host's clock.
    pub started: u64,
    /// Names under which clients may reach it.
    pub hostnames: Vec<String>,
    /// How TLS is done.
    pub tls: ManifestTls,
    /// The owner's public key, SubjectPublicKeyInfo in base64url; null without one.
    pub owner_key: Option<String>,
    /// The key that signs log records, SubjectPublicKeyInfo in base64url; null if logs are not sealed yet.
    pub log_key: Option<String>,
    /// The newest log record; null if there is none yet.
    pub log_head: Option<LogHead>,
    /// Digest of each role's measured variables, in base64url. Null for a role that did not answer.
    pub config: std::collections::BTreeMap<String, Option<String>>,
    /// "production", or "NOT PRODUCTION" if a role of the group believes other roots.
    pub anchors: String,
    /// Secrets that came from the environment instead of the sealed secrets, as `role/VARIABLE`.
    #[serde(default)]
    pub unsealed: Vec<String>,
    /// "public" if admin pages are shown on connections that were not proved; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
}

/// How the proxy does TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestTls {
    /// attested, released, files or off.
    pub mode: String,
}

/// The newest record of the sealed log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// Its number.
    pub seq: u64,
    /// SHA-256 of its compact form.
    #[serde(with = "b64u")]
    pub digest: [u8; 32],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_a_bound() {
        let inclusion = |length| Inclusion { index: 1, size: 2, path: vec![[7; 32]; length] };
        let read = |length| Inclusion::try_from(&InclusionText::from(&inclusion(length)));
        for length in [0, 1, MAX_LENGTH_OF_PATH] {
            assert_eq!(read(length), Ok(inclusion(length)));
        }
        assert_eq!(read(MAX_LENGTH_OF_PATH + 1), Err(NotAnInclusion));
        let short = InclusionText { index: 0, size: 1, path: vec![to_b64u(&[7; 31])] };
        assert_eq!(Inclusion::try_from(&short), Err(NotAnInclusion));
    }
}
