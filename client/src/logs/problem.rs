//! Whatever can be wrong with a sealed log, by name; and what is not wrong, but to be looked at.

use std::io;
use std::path::PathBuf;

use attestation::check::Rejected;
use attestation::log_record::{RecordError, Refusal};

use super::OpenError;
use super::segment::SegmentError;

/// Something that is wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The boot has no record 0, or what bears that number begins no chain. Nothing of it can be believed.
    #[error("the boot's first record is missing or unusable")]
    NoBeginning(#[source] Option<RecordError>),
    /// The evidence for the boot's key is refused: somebody else's log, or one that is not acceptable.
    #[error("the evidence for the boot's key is refused; nothing of this boot was read")]
    Evidence(#[source] Rejected),
    /// Records were taken out.
    #[error("records {first} to {last} are missing; nothing after them was read")]
    Missing {
        /// The first one that is missing.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// A record was signed by another key than the boot's, or changed afterwards.
    #[error("record {seq} is not signed by the boot's key; nothing from there on was read")]
    ForeignSigner {
        /// Its number.
        seq: u64,
    },
    /// A record does not continue the chain.
    #[error("record {seq} breaks the chain; nothing from there on was read")]
    BrokenChain {
        /// Its number.
        seq: u64,
        /// How.
        source: RecordError,
    },
    /// Two records that differ bear the same number: the chain forks, and one of them is not to be.
    #[error("there are two different records {seq}")]
    Fork {
        /// Their number.
        seq: u64,
    },
    /// The readers changed, and not by the word of the operator that was named.
    #[error(
        "record {seq} changes the readers, and not by the operator's word; nothing from there on was read"
    )]
    ForeignReaders {
        /// Its number.
        seq: u64,
        /// Why.
        source: Refusal,
    },
    /// A record is of a time that has not come yet: by a clock that is ahead, no end is ever overdue.
    #[error(
        "record {seq} is {ahead} seconds ahead of the clock here: by it, a cut end is not overdue"
    )]
    ClockAhead {
        /// Its number; the first one of the boot.
        seq: u64,
        /// By how much.
        ahead: u64,
    },
    /// The log has no end, and nothing was signed for longer than a sealer that works is silent, or a later boot began.
    /// Nobody can tell whether a crash or a hand took the end.
    #[error(
        "cut off or crashed: record {seq} is the newest, and nothing followed within three heartbeats or before the next boot"
    )]
    CutOff {
        /// The newest record.
        seq: u64,
    },
    /// A later boot names a record of this one that is not there: the end was cut off.
    #[error("its end is missing: boot {later} names record {seq} as its newest")]
    EndMissing {
        /// The record that is named.
        seq: u64,
        /// The boot that names it.
        later: String,
    },
    /// A later boot names another record than the one of that number.
    #[error("boot {later} names another record {seq} than the one that is here")]
    OtherEnd {
        /// The number.
        seq: u64,
        /// The boot that names it.
        later: String,
    },
    /// This boot went on after the record that a later one names as its newest.
    #[error(
        "it went on after record {seq}, which boot {later} names as its newest: two ran at once, or a spool was set back"
    )]
    WentOn {
        /// The number.
        seq: u64,
        /// The boot that names it.
        later: String,
    },
    /// Two boots name the same one as the one before them.
    #[error(
        "boot {other} names the same record of boot {boot} as the one before it: two ran at once, or a spool was set back"
    )]
    BootFork {
        /// The boot that both name.
        boot: String,
        /// The other one that names it.
        other: String,
    },
    /// The boot before this one is not there, though others are that do not come after this one.
    #[error("the boot before it, {boot}, is missing")]
    BootMissing {
        /// Its id.
        boot: String,
    },
    /// A boot that names none before it, though others do: its spool was taken away, or it is of another group.
    #[error("it does not name the boot before it, and other boots do")]
    Unlinked,
    /// A saved proof names a record of this boot that is not there: the log was cut before it.
    #[error(
        "record {seq}, which the saved proof {proof} names, is not there: the log was cut before it, or it was not delivered yet"
    )]
    ProofCut {
        /// The record that is named.
        seq: u64,
        /// What the proof is called.
        proof: String,
    },
    /// A saved proof names another record than the one of that number: the chain forks.
    #[error("the saved proof {proof} names another record {seq} than the one that is here")]
    ProofFork {
        /// The number.
        seq: u64,
        /// What the proof is called.
        proof: String,
    },
    /// A saved proof names a record of this boot, and another key than the one that signed it.
    #[error("record {seq} is signed by another key than the saved proof {proof} names")]
    ProofSigner {
        /// The number.
        seq: u64,
        /// What the proof is called.
        proof: String,
    },
    /// A saved proof names a boot of which nothing is there that can be believed: it was taken away whole.
    #[error(
        "the boot whose record {seq} the saved proof {proof} names was taken away: no boot here is signed by its key"
    )]
    ProofBootMissing {
        /// The number.
        seq: u64,
        /// What the proof is called.
        proof: String,
    },
    /// A segment that no record stands for. A crash between writing the two leaves one, as the last.
    #[error("segment {seq} has no record; it was not read")]
    SegmentWithoutRecord {
        /// Its number.
        seq: u64,
    },
    /// A record whose segment is not there.
    #[error("the segment of record {seq} is missing")]
    RecordWithoutSegment {
        /// Its number.
        seq: u64,
    },
    /// A segment that is not the one its record names.
    #[error("segment {seq} is not the one that its record names; it was not read")]
    WrongDigest {
        /// Its number.
        seq: u64,
    },
    /// The log is not encrypted to any of the keys.
    #[error("none of the given identities can read it from segment {seq} on")]
    NotAReader {
        /// The first segment that cannot be read.
        seq: u64,
    },
    /// A segment that its record vouches for cannot be opened.
    #[error("segment {seq} cannot be opened")]
    Segment {
        /// Its number.
        seq: u64,
        /// Why.
        source: SegmentError,
    },
    /// A segment holds another number of something than its record says.
    #[error("segment {seq} holds {found} {what} instead of {said}")]
    Count {
        /// Its number.
        seq: u64,
        /// Of what.
        what: &'static str,
        /// What the record says.
        said: u64,
        /// What is there.
        found: u64,
    },
    /// A file or line of the log cannot be read.
    #[error("cannot read {name}")]
    Unreadable {
        /// Which one.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// While it was followed, the log became shorter, another one, or none.
    #[error("the log was taken away while it was followed")]
    TakenAway(#[source] Box<OpenError>),
    /// A line that begins like one of a sealed log is none: cut off, or damaged.
    #[error("line {line} of {} begins like one of a sealed log and is none", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: u64,
    },
}

impl Problem {
    /// A name that does not change, for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoBeginning(_) => "no-beginning",
            Self::Evidence(_) => "evidence",
            Self::Missing { .. } => "missing",
            Self::ForeignSigner { .. } => "foreign-signer",
            Self::BrokenChain { .. } => "broken-chain",
            Self::Fork { .. } => "fork",
            Self::ForeignReaders { .. } => "foreign-readers",
            Self::ClockAhead { .. } => "clock-ahead",
            Self::CutOff { .. } => "cut-off",
            Self::EndMissing { .. } => "end-missing",
            Self::OtherEnd { .. } => "other-end",
            Self::WentOn { .. } => "went-on",
            Self::BootFork { .. } => "boot-fork",
            Self::BootMissing { .. } => "boot-missing",
            Self::Unlinked => "unlinked",
            Self::ProofCut { .. } => "proof-cut",
            Self::ProofFork { .. } => "proof-fork",
            Self::ProofSigner { .. } => "proof-signer",
            Self::ProofBootMissing { .. } => "proof-boot-missing",
            Self::SegmentWithoutRecord { .. } => "segment-without-record",
            Self::RecordWithoutSegment { .. } => "record-without-segment",
            Self::WrongDigest { .. } => "wrong-digest",
            Self::NotAReader { .. } => "not-a-reader",
            Self::Segment { .. } => "segment",
            Self::Count { .. } => "count",
            Self::Unreadable { .. } => "unreadable",
            Self::TakenAway(_) => "taken-away",
            Self::Line { .. } => "line",
        }
    }
}

/// Something that is not wrong, and that a reader may want to know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// The sealer keeps no spool, as far as this log shows.
    #[error("it does not name the boot before it")]
    Unlinked,
    /// It is the first one here: older ones were left out, or taken away.
    #[error("the boot before it, {0}, is not in this log")]
    Earlier(String),
    /// It ended without its last record, and the boot after it found nothing newer in its spool. The spool is the
    /// host's: this does not show that there was nothing.
    #[error("boot {0} names its newest record: a crash, or a spool that was set back to it")]
    Crashed(String),
    /// A saved proof names one of its records, and it is the one that is here.
    #[error("record {seq} is the one that the saved proof {proof} names")]
    Proved {
        /// The number.
        seq: u64,
        /// What the proof is called.
        proof: String,
    },
}
