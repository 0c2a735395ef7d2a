//! What a record claims to be, as far as this role needs it to put records in order.
//!
//! Records come back from disks and accounts of others. Nothing of them is verified here, and records of other versions
//! are read, too: whether a record is genuine, only its reader can tell.

use attestation::jws::Jws;
use attestation::log_record::MAX_LENGTH;
use serde::Deserialize;

/// The claims.
#[derive(Deserialize)]
pub(crate) struct Claims {
    /// The boot id.
    pub(crate) boot: String,
    /// The record's number in it.
    pub(crate) seq: u64,
    event: Event,
}

#[derive(Deserialize)]
struct Event {
    kind: String,
    sha256: Option<String>,
}

impl Claims {
    /// Those of a compact JWS; `None` if it is none of a log.
    pub(crate) fn of(record: &str) -> Option<Self> {
        Jws::parse(record, MAX_LENGTH).ok()?.unverified().ok()
    }

    /// The digest of its segment in base64url, if it has a segment.
    pub(crate) fn segment(&self) -> Option<&str> {
        let Event { kind, sha256 } = &self.event;
        (kind == "segment").then_some(sha256.as_deref().unwrap_or_default())
    }
}
