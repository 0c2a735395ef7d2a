//! The keys file that today's users have: `{"keys":[{key_id, key_hash | key, enabled, expires_at, …}]}`
//! (`proxy.md` part 1.5), and beside them `attested_client` for a key that is good only for clients in a TEE. Members that
//! are not needed here are left alone.

use std::io::ErrorKind;
use std::path::Path;

use attestation::crypto::sha256;
use serde_json::{Map, Value};
use service::plain_file;

use super::{ApiKey, Known};

/// The longest file that is read: about 300,000 keys.
const MAX_LENGTH: u64 = 64 * 1024 * 1024;

/// The file as a whole cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysFileError {
    #[error("the keys file cannot be read")]
    Unreadable(#[from] std::io::Error),
    #[error("the keys file is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("the keys file is no JSON: line {}, column {}", .0.line(), .0.column())]
    Json(serde_json::Error),
    #[error("the keys file is not {{\"keys\":[{{…}}, …]}}")]
    Shape,
}

impl KeysFileError {
    /// Whether trying again may help although the file stays the same.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreadable(_) => true,
            Self::TooLong | Self::Json(_) | Self::Shape => false,
        }
    }
}

/// Reads every entry. One that cannot be used is left out and logged by its place; its text never is.
pub(super) fn read(path: &Path) -> Result<Known, KeysFileError> {
    let content = plain_file::read(path, MAX_LENGTH).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => KeysFileError::TooLong,
        _ => KeysFileError::Unreadable(error),
    })?;
    let document: Value = serde_json::from_slice(&content).map_err(KeysFileError::Json)?;
    let entries = document.get("keys").and_then(Value::as_array).ok_or(KeysFileError::Shape)?;
    let entries: Option<Vec<&Map<String, Value>>> = entries.iter().map(Value::as_object).collect();
    let mut known = Known::new();
    for (place, entry) in entries.ok_or(KeysFileError::Shape)?.into_iter().enumerate() {
        match api_key(entry) {
            Some((digest, key)) => {
                known.insert(digest, key);
            }
            None => tracing::warn!(place, "an entry of the keys file cannot be used"),
        }
    }
    Ok(known)
}

fn api_key(entry: &Map<String, Value>) -> Option<([u8; 32], ApiKey)> {
    let digest = match (entry.get("key_hash"), entry.get("key")) {
        (Some(Value::String(text)), _) => {
            let mut digest = [0; 32];
            hex::decode_to_slice(text, &mut digest).ok()?;
            digest
        }
        (_, Some(Value::String(key))) => sha256(key.as_bytes()),
        _ => return None,
    };
    let id = match entry.get("key_id") {
        Some(Value::String(id)) => id.clone(),
        _ => hex::encode(digest).chars().take(8).collect(),
    };
    // A key that is named here and cannot be understood is of no use, wherever else it may stand.
    let unusable = ApiKey { id, enabled: false, expires_at: None, attested_client: true };
    let key = conditions(entry).map(|(enabled, expires_at, attested_client)| ApiKey {
        id: unusable.id.clone(),
        enabled,
        expires_at,
        attested_client,
    });
    if key.is_none() {
        tracing::warn!("a condition of the keys file cannot be read: its key is refused");
    }
    Some((digest, key.unwrap_or(unusable)))
}

/// Whether the key may be used, until when, and whether by attested clients only. `None` if one of them has another form
/// than it may have.
fn conditions(entry: &Map<String, Value>) -> Option<(bool, Option<f64>, bool)> {
    let enabled = match entry.get("enabled") {
        None => true,
        Some(Value::Bool(enabled)) => *enabled,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(_) => return None,
    };
    let expires_at = match entry.get("expires_at") {
        None | Some(Value::Null) => None,
        Some(Value::Number(number)) => number.as_f64().filter(|end| *end != 0.0),
        Some(_) => return None,
    };
    let attested_client = match entry.get("attested_client") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(demanded)) => *demanded,
        Some(_) => return None,
    };
    Some((enabled, expires_at, attested_client))
}
