//! The records that `log-sealer` signs, one a sealed segment, chained to each other.
//!
//! A record is a compact JWS (RFC 7515, ES256) over JSON. It names the digest of its segment and of the record
//! before it, so that nothing can be taken out, changed or moved without trace. The first record of a boot
//! carries the public key and the evidence that binds it: `log-key` of `wire.md` part 1.
//!
//! What is inside a segment is not this crate's business: it is encrypted to its readers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::binding::{Binding, ReportData};
use crate::crypto::sha256;
use crate::encoding::{b64u, optional_b64u};
use crate::evidence::{Evidence, EvidenceError};
use crate::jws::{Algorithm, Jws, JwsError};
use crate::merkle::Inclusion;
use crate::owner::p256_point;
use crate::wire::InclusionText;

/// `typ` of a record's header.
pub const TYPE: &str = "privatemode-confidential-log+jws";

/// The longest record that is read, in bytes: evidence with its endorsements takes about 30 KiB.
pub const MAX_LENGTH: usize = 512 * 1024;

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
    /// SHA-256 of the list of readers: their age recipients, one a line, each line ended by `\n`.
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
    /// The boot began. No segment belongs to it.
    Start,
    /// A segment was sealed.
    Segment {
        /// SHA-256 of the sealed segment.
        #[serde(with = "b64u")]
        sha256: [u8; 32],
        /// Its length in bytes.
        bytes: u64,
        /// Log records in it.
        records: u64,
        /// Log records that came in since the record before and are in no segment.
        lost: u64,
    },
    /// The boot ended in order; nothing follows.
    Stop {
        /// As in a segment.
        lost: u64,
    },
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
    /// The record does not continue the chain.
    #[error("the record does not follow the one before it: {0}")]
    Chain(&'static str),
}

/// The key of one boot, and how far its chain was followed.
#[derive(Clone)]
pub struct Chain {
    boot: String,
    point: Vec<u8>,
    next_seq: u64,
    head: [u8; 32],
    recipients_sha256: [u8; 32],
    stopped: bool,
}

/// What a boot's first record brings for the verifier to judge.
#[derive(Clone)]
pub struct Proof {
    /// To be verified and appraised.
    pub evidence: Evidence,
    /// What the evidence's report must say for the key to be the group's.
    pub report_data: ReportData,
}

impl Chain {
    /// Begins with the first record of a boot. The chain holds together from here on; *whose* it is, only the
    /// [`Proof`] tells.
    ///
    /// # Errors
    ///
    /// [`RecordError`].
    pub fn begin(compact: &str) -> Result<(Self, Record, Proof), RecordError> {
        let jws = Jws::parse(compact, MAX_LENGTH)?;
        let claimed: Record = jws.unverified()?;
        let identity =
            claimed.identity.as_ref().ok_or(RecordError::Chain("no key in the first"))?;
        let point = p256_point(&identity.public_key).ok_or(RecordError::Key)?;
        let record = open(&jws, &point)?;
        if record.seq != 0 || record.prev.is_some() {
            return Err(RecordError::Chain("the first of a boot is not number 0"));
        }
        let identity = record.identity.as_ref().ok_or(RecordError::Syntax)?;
        let boot_id = decode_boot(&record.boot).ok_or(RecordError::Syntax)?;
        let binding = Binding::LogKey {
            public_key: identity.public_key.clone(),
            boot_id,
            recipients_sha256: record.recipients_sha256,
        };
        let inclusion = Inclusion::try_from(&identity.merkle).map_err(|_| RecordError::Syntax)?;
        let proof = Proof {
            evidence: Evidence::from_json(&identity.evidence)?,
            report_data: binding
                .report_data(&inclusion)
                .ok_or(RecordError::Chain("the evidence does not cover its key"))?,
        };
        let chain = Self {
            boot: record.boot.clone(),
            point,
            next_seq: 1,
            head: sha256(compact.as_bytes()),
            recipients_sha256: record.recipients_sha256,
            stopped: matches!(record.event, Event::Stop { .. }),
        };
        Ok((chain, record, proof))
    }

    /// Follows the next record of the boot.
    ///
    /// # Errors
    ///
    /// [`RecordError`]; the chain stays where it was.
    pub fn follow(&mut self, compact: &str) -> Result<Record, RecordError> {
        let record = open(&Jws::parse(compact, MAX_LENGTH)?, &self.point)?;
        let broken = |what| Err(RecordError::Chain(what));
        if record.boot != self.boot {
            return broken("it is of another boot");
        }
        if record.seq != self.next_seq {
            return broken("a number is missing or double");
        }
        if record.prev.as_deref() != Some(self.head.as_slice()) {
            return broken("it names another predecessor");
        }
        if record.identity.is_some() || matches!(record.event, Event::Start) {
            return broken("only the first of a boot begins it");
        }
        if record.recipients_sha256 != self.recipients_sha256 {
            return broken("its readers are others than the boot's");
        }
        if self.stopped {
            return broken("the boot had ended");
        }
        self.next_seq += 1;
        self.head = sha256(compact.as_bytes());
        self.stopped = matches!(record.event, Event::Stop { .. });
        Ok(record)
    }

    /// Number and digest of the newest record.
    #[must_use]
    pub fn head(&self) -> (u64, [u8; 32]) {
        (self.next_seq - 1, self.head)
    }

    /// Whether the boot ended in order. If not, its tail may be missing.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }
}

fn open(jws: &Jws<'_>, point: &[u8]) -> Result<Record, RecordError> {
    if jws.header_text("typ") != Some(TYPE) {
        return Err(RecordError::Syntax);
    }
    jws.verify(Algorithm::Es256, point)?;
    let record: Record = jws.unverified().map_err(|_| RecordError::Syntax)?;
    if record.v == 1 { Ok(record) } else { Err(RecordError::Syntax) }
}

fn decode_boot(text: &str) -> Option<[u8; 16]> {
    let mut boot = [0; 16];
    hex::decode_to_slice(text, &mut boot).ok()?;
    Some(boot)
}
