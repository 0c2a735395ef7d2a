//! Following a boot's records, one after the other. What a chain does not refuse, its boot's key signed, in this
//! order. Must not know where records come from.

use super::readers::{Readers, is_recipient};
use super::{Event, MAX_HEARTBEAT, MAX_LENGTH, Previous, Record, RecordError, TYPE, decode_boot};
use crate::binding::{Binding, ReportData};
use crate::crypto::sha256;
use crate::evidence::Evidence;
use crate::jws::{Algorithm, Jws};
use crate::merkle::Inclusion;
use crate::owner::p256_point;

/// The key of one boot, and how far its chain was followed.
#[derive(Clone)]
pub struct Chain {
    boot: String,
    point: Vec<u8>,
    next_seq: u64,
    head: [u8; 32],
    recipients_sha256: [u8; 32],
    /// Version of the operator's list that is in force; 0 is the one that the boot began with.
    recipients_version: u64,
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
        let boot_id = decode_boot(&record.boot).ok_or(RecordError::Syntax)?;
        let Event::Start { previous, heartbeat_seconds, recipients } = &record.event else {
            return Err(RecordError::Chain("the first of a boot does not begin it"));
        };
        begins(&record, previous.as_ref(), *heartbeat_seconds, recipients)?;
        let identity = record.identity.as_ref().ok_or(RecordError::Syntax)?;
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
            recipients_version: 0,
            stopped: false,
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
        if record.identity.is_some() || matches!(record.event, Event::Start { .. }) {
            return broken("only the first of a boot begins it");
        }
        if self.stopped {
            return broken("the boot had ended");
        }
        if let Event::Segment { first, last, .. } = record.event
            && (first.is_some() != last.is_some() || first > last)
        {
            return broken("its segment ends before it begins");
        }
        let version = self.readers_of(&record)?;
        self.recipients_sha256 = record.recipients_sha256;
        self.recipients_version = version;
        self.next_seq += 1;
        self.head = sha256(compact.as_bytes());
        self.stopped = matches!(record.event, Event::Stop);
        Ok(record)
    }

    /// The version of the list that is in force with this record. Only a newer word of the operator changes it.
    fn readers_of(&self, record: &Record) -> Result<u64, RecordError> {
        let Event::Recipients { signed } = &record.event else {
            if record.recipients_sha256 != self.recipients_sha256 {
                return Err(RecordError::Chain("its readers are others than before"));
            }
            return Ok(self.recipients_version);
        };
        let readers = Readers::unverified(signed)?;
        if readers.digest() != record.recipients_sha256 {
            return Err(RecordError::Chain("its readers are others than the operator's"));
        }
        let version = readers.version.get();
        if version <= self.recipients_version {
            return Err(RecordError::Chain("its readers are of no newer version"));
        }
        Ok(version)
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

/// Whether a first record says what a boot begins with.
fn begins(
    record: &Record,
    previous: Option<&Previous>,
    heartbeat_seconds: u64,
    recipients: &[String],
) -> Result<(), RecordError> {
    let broken = |what| Err(RecordError::Chain(what));
    if !recipients.iter().all(|recipient| is_recipient(recipient))
        || Readers::digest_of(recipients) != record.recipients_sha256
    {
        return broken("the digest of its readers is another list's");
    }
    if !(1..=MAX_HEARTBEAT).contains(&heartbeat_seconds) {
        return broken("its heartbeat is none");
    }
    if previous.is_some_and(|one| decode_boot(&one.boot).is_none() || one.boot == record.boot) {
        return broken("the boot before it is none");
    }
    Ok(())
}

fn open(jws: &Jws<'_>, point: &[u8]) -> Result<Record, RecordError> {
    if jws.header_text("typ") != Some(TYPE) {
        return Err(RecordError::Syntax);
    }
    jws.verify(Algorithm::Es256, point)?;
    let record: Record = jws.unverified().map_err(|_| RecordError::Syntax)?;
    if record.v == 1 { Ok(record) } else { Err(RecordError::Syntax) }
}
