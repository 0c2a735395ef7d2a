//! The records that `log-sealer` signs, chained to each other: one for each sealed segment, and one for whatever else
//! a reader must know of.
//!
//! A record is a compact JWS (RFC 7515, ES256) over JSON. It names the digest of its segment and of the record
//! before it, so that nothing can be taken out, changed or moved without trace. The first record of a boot
//! carries the public key and the evidence that binds it: `log-key` of `wire.md` part 1.
//!
//! What is inside a segment is not this crate's business: it is encrypted to its readers.

mod chain;
mod readers;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::encoding::{b64u, optional_b64u};
use crate::evidence::EvidenceError;
use crate::jws::JwsError;
use crate::wire::InclusionText;

pub use chain::{Chain, Proof};
pub use readers::{
    Expected, MAX_READERS, MAX_SIGNED, NotReaders, READERS_TYPE, Readers, Refusal, compact_readers,
};

/// `typ` of a record's header.
pub const TYPE: &str = "privatemode-confidential-log+jws";

/// The longest record that is read, in bytes: evidence with its endorsements takes about 30 KiB.
pub const MAX_LENGTH: usize = 512 * 1024;

/// The longest time between two records that a boot may announce, in seconds.
pub const MAX_HEARTBEAT: u64 = 3600;

/// What a record says.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of this form: 1.
    pub v: u8,
    /// This boot of `log-sealer`: 32 hexadecimal digits.
    pub boot: String,
    /// Number of the record in its boot, from 0.
    pub seq: u64,
    /// SHA-256 of the record before it, over its compact form; null in the first one of a boot.
    #[serde(with = "optional_b64u")]
    pub prev: Option<Vec<u8>>,
    /// When it was made, in Unix seconds by the host's clock.
    pub time: u64,
    /// SHA-256 of the list of readers that are in force from this record on: [`Readers::digest`].
    #[serde(with = "b64u")]
    pub recipients_sha256: [u8; 32],
    /// What happened.
    pub event: Event,
    /// Set in the first record of a boot, and only there.
    pub identity: Option<Identity>,
}

/// What a record is about.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Event {
    /// The boot began. The first record, and no other.
    Start {
        /// The newest record of the boot before, where the sealer knows it.
        previous: Option<Previous>,
        /// No more than this many seconds pass between two records while the sealer works: 1 to [`MAX_HEARTBEAT`].
        heartbeat_seconds: u64,
        /// The readers, as age recipients.
        recipients: Vec<String>,
    },
    /// A segment was sealed.
    Segment {
        /// SHA-256 of the sealed segment.
        #[serde(with = "b64u")]
        sha256: [u8; 32],
        /// Its length in bytes.
        bytes: u64,
        /// Log records in it.
        records: u64,
        /// Spans in it.
        spans: u64,
        /// Data points of metrics in it.
        points: u64,
        /// The earliest time in it, in Unix seconds by the clocks of its sources; null if none is said.
        first: Option<u64>,
        /// The latest one; null if the earliest is.
        last: Option<u64>,
    },
    /// The sealer works and had nothing else to sign.
    Heartbeat,
    /// What was accepted and is in no segment.
    Loss {
        /// Log records.
        records: u64,
        /// Spans.
        spans: u64,
        /// Data points of metrics.
        points: u64,
        /// Why.
        why: Why,
    },
    /// The readers change: whatever follows is sealed for these.
    Recipients {
        /// The operator's word: a compact JWS over [`Readers`].
        signed: String,
    },
    /// The boot ended in order; nothing follows.
    Stop,
}

/// The newest record of an earlier boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// That boot.
    pub boot: String,
    /// The record's number.
    pub seq: u64,
    /// SHA-256 of its compact form.
    #[serde(with = "b64u")]
    pub digest: [u8; 32],
}

/// Why something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It could not be compressed or encrypted.
    Sealing,
    /// The spool was full, and the sealer is configured to go on.
    SpoolFull,
}

impl Why {
    /// As it stands in a record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sealing => "sealing",
            Self::SpoolFull => "spool-full",
        }
    }
}

/// The key that signs a boot's records, with its proof.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// SubjectPublicKeyInfo (DER) of a P-256 key.
    #[serde(with = "b64u")]
    pub public_key: Vec<u8>,
    /// CMW collection: evidence for a batch that covers the `log-key` binding.
    pub evidence: Value,
    /// Where the binding stands in that batch.
    pub merkle: InclusionText,
}

/// Why a record is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not a record of ours.
    #[error("not a record of a sealed log")]
    Syntax,
    /// No JWS, or not signed by this boot's key.
    #[error("the record is not signed by the boot's key")]
    Jws(#[from] JwsError),
    /// The evidence in it cannot be read.
    #[error("the record's evidence cannot be read")]
    Evidence(#[from] EvidenceError),
    /// The public key is not one on P-256.
    #[error("the record's public key is not one on P-256")]
    Key,
    /// The change of readers that it carries is none.
    #[error("the record changes the readers by what is no signed list of them")]
    Readers(#[from] Refusal),
    /// The record does not continue the chain.
    #[error("the record does not follow the one before it: {0}")]
    Chain(&'static str),
}

/// A boot id's bytes; `None` if it is not 32 lower-case hexadecimal digits.
fn decode_boot(text: &str) -> Option<[u8; 16]> {
    let mut boot = [0; 16];
    hex::decode_to_slice(text, &mut boot).ok()?;
    (hex::encode(boot) == text).then_some(boot)
}

#[cfg(test)]
mod tests;
