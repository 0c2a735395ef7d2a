//! The evidence that a session began under: what the server said of itself at that moment (the seed's "attestation-bound admin
//! access", `wire.md` part 6).
//!
//! It is for people and programs to compare with what they verified. That the connection itself was proved is decided
//! before anything here is asked (`ADMIN_ACCESS`).

use attestation::crypto::sha256;
use attestation::encoding::from_b64u;
use attestation::wire::Manifest;
use serde_json::Value;

/// What to remember of the evidence of a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    /// Of the manifest's exact bytes, in hex.
    pub(super) manifest_sha256: String,
    /// Of the container group.
    pub(super) boot_id: String,
    /// The software's.
    pub(super) version: String,
    /// Whose roots the group believes.
    pub(super) anchors: String,
    /// Whether Azure Attestation had vouched for it.
    pub(super) has_token: bool,
}

impl Bound {
    /// The manifest of the document of `GET /attestation`.
    pub(super) fn manifest(document: &Value) -> Option<Manifest> {
        let bytes = from_b64u(document.get("manifest")?.as_str()?)?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Of the document of `GET /attestation`.
    pub(super) fn of(document: &Value) -> Option<Self> {
        let bytes = from_b64u(document.get("manifest")?.as_str()?)?;
        let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
        Some(Self {
            manifest_sha256: hex::encode(sha256(&bytes)),
            boot_id: manifest.boot_id,
            version: manifest.version,
            anchors: manifest.anchors,
            has_token: document.get("attestation_token").is_some_and(Value::is_string),
        })
    }
}

#[cfg(test)]
mod tests {
    use attestation::encoding::to_b64u;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_remembered_is_of_the_documents_own_manifest() {
        let manifest = json!({
            "v": 1, "service": "s", "version": "1.2.3", "boot_id": "b", "started": 1, "hostnames": [],
            "tls": {"mode": "attested"}, "owner_key": null, "log_key": null, "log_head": null,
            "config": {}, "anchors": "production", "unsealed": [], "admin": null,
        })
        .to_string();
        let document = json!({"manifest": to_b64u(manifest.as_bytes()), "attestation_token": null});
        let bound = Bound::of(&document).unwrap();
        assert_eq!(bound.manifest_sha256, hex::encode(sha256(manifest.as_bytes())));
        assert_eq!((bound.version.as_str(), bound.has_token), ("1.2.3", false));
        assert_eq!(Bound::of(&json!({"manifest": "%"})), None);
    }
}
