//! Reading sealed logs: whose they are, whether they are whole, and what they say.
//!
//! A log is a chain of signed records for every boot of `log-sealer` ([`attestation::log_record`]), and sealed
//! segments that the records name by digest. For each boot [`open`] verifies and appraises the evidence in the
//! first record, follows the chain, holds every segment against its record, and only then decrypts it. What is
//! wrong with a boot is listed, not thrown: the other boots are read all the same, and [`Report::is_sound`]
//! says at the end whether everything was right.
//!
//! Whoever stores a log can withhold its end. Every boot says whether it ended in order; one that did not may
//! have crashed, may still run, or may have lost its tail.
//!
//! This module must not know how a log is written beyond the formats that it reads.

mod boot;
mod document;
mod segment;
mod source;

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use attestation::check::Rejected;
use attestation::log_record::RecordError;
use attestation::{Anchors, Finding, Outcome, Policy, Trust};

use crate::causes::printable;

pub use document::Document;
pub use segment::SegmentError;
pub use source::Source;

/// Whom to believe, what to accept, and with which keys to read.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The keys.
    pub identities: &'a Identities,
    /// The roots.
    pub anchors: &'a Anchors,
    /// What the group must look like.
    pub policy: &'a Policy,
    /// The time to judge certificates at, in Unix seconds.
    pub at: u64,
}

/// The reader's age keys. Without `Debug`.
pub struct Identities(Vec<Box<dyn age::Identity + Send + Sync>>);

/// Why there are no keys to read with.
#[derive(Debug, thiserror::Error)]
pub enum IdentitiesError {
    /// No such file, or not in age's form.
    #[error("{0} is no file of age identities: give what age-keygen wrote")]
    File(PathBuf, #[source] io::Error),
    /// Not in age's form.
    #[error("these are no age identities")]
    Text(#[source] io::Error),
    /// Nothing but comments.
    #[error("there is no identity (AGE-SECRET-KEY-1…) in it")]
    None,
}

impl Identities {
    /// Reads a file in age's own form, as `age-keygen` writes it.
    ///
    /// # Errors
    ///
    /// [`IdentitiesError`]; no text of the file is repeated.
    pub fn from_file(path: &Path) -> Result<Self, IdentitiesError> {
        let unreadable = |error| IdentitiesError::File(path.to_owned(), error);
        let file = std::fs::File::open(path).map_err(unreadable)?;
        Self::parse(io::BufReader::new(file), unreadable)
    }

    /// The same from a text.
    ///
    /// # Errors
    ///
    /// [`IdentitiesError`].
    pub fn from_text(text: &str) -> Result<Self, IdentitiesError> {
        Self::parse(text.as_bytes(), IdentitiesError::Text)
    }

    fn parse(
        text: impl BufRead,
        unreadable: impl FnOnce(io::Error) -> IdentitiesError,
    ) -> Result<Self, IdentitiesError> {
        let read = age::IdentityFile::from_buffer(text)
            .and_then(|file| file.into_identities().map_err(io::Error::other));
        match read {
            Ok(identities) if identities.is_empty() => Err(IdentitiesError::None),
            Ok(identities) => Ok(Self(identities)),
            Err(error) => Err(unreadable(error)),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|identity| &**identity as &dyn age::Identity)
    }
}

/// Why nothing could be read, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or file cannot be read.
    #[error("cannot read {0}")]
    Source(PathBuf, #[source] io::Error),
    /// There is nothing like a sealed log in it. An empty log is not a sound one.
    #[error(
        "{0} holds no sealed log: give the folder, or the captured output, that log-sealer wrote to"
    )]
    Empty(PathBuf),
    /// More than a reader keeps track of.
    #[error("{path} holds more than {limit} records: read older boots on their own")]
    TooMany {
        /// The source.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// The caller could not take a document.
    #[error("the log records could not be passed on")]
    Output(#[source] io::Error),
}

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
    #[error("none of the given identities can read this boot")]
    NotAReader,
    /// A segment that its record vouches for cannot be opened.
    #[error("segment {seq} cannot be opened")]
    Segment {
        /// Its number.
        seq: u64,
        /// Why.
        source: SegmentError,
    },
    /// A segment holds another number of log records than its record says.
    #[error("segment {seq} holds {found} log records instead of {said}")]
    Count {
        /// Its number.
        seq: u64,
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
    /// A line that begins like one of a sealed log is none: cut off, or damaged.
    #[error("line {0} begins like one of a sealed log and is none")]
    Line(u64),
}

/// How a boot's log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order, with a last record.
    Stopped,
    /// Without one: it crashed, still runs, or its tail is missing.
    Open,
}

/// What was found in one boot's log. Everything but `id` and `problems` is verified.
#[derive(Debug)]
pub struct Boot {
    /// The boot id: 32 hexadecimal digits.
    pub id: String,
    /// Which anchors its evidence was judged with; `None` if the evidence was refused or is missing.
    pub trust: Option<Trust>,
    /// Every check of its evidence.
    pub findings: Vec<Finding>,
    /// SHA-256 of the list of those who can read it.
    pub recipients_sha256: Option<[u8; 32]>,
    /// When its first and its newest record were made, in Unix seconds by the host's clock.
    pub times: Option<(u64, u64)>,
    /// Segments that were read whole.
    pub segments: u64,
    /// Log records in them.
    pub records: u64,
    /// Log records that the sealer had accepted and could not keep, as it says itself.
    pub lost: u64,
    /// How it ends.
    pub end: End,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// What was found in a whole log.
#[derive(Debug)]
pub struct Report {
    /// Boots in the order in which they say that they began.
    pub boots: Vec<Boot>,
    /// What is wrong outside of any boot.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether nothing is wrong. A boot whose end is open, and losses that are on record, are not wrong: they
    /// are to be looked at.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty() && self.boots.iter().all(|boot| boot.problems.is_empty())
    }

    /// Writes it for people.
    ///
    /// # Errors
    ///
    /// What the writer says.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for boot in &self.boots {
            boot.write(out)?;
        }
        for problem in &self.problems {
            writeln!(out, "PROBLEM {}", with_causes(problem))?;
        }
        let verdict = if self.is_sound() { "nothing is wrong" } else { "SOMETHING IS WRONG" };
        writeln!(out, "{} boots: {verdict}", self.boots.len())
    }
}

impl Boot {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "boot {}", self.id)?;
        if let Some((first, newest)) = self.times {
            writeln!(out, "  from {} to {}", document::date(first), document::date(newest))?;
        }
        match self.trust {
            Some(trust) => writeln!(out, "  evidence accepted, anchors: {trust}")?,
            None => writeln!(out, "  evidence NOT accepted")?,
        }
        for Finding { check, outcome } in &self.findings {
            if let Outcome::Unchecked { why } = outcome {
                let line = format!("{} {}: {why}", check.id, check.title);
                writeln!(out, "  unchecked: {}", printable(&line))?;
            }
        }
        let Self { records, segments, lost, .. } = self;
        writeln!(out, "  {records} log records in {segments} segments, {lost} lost by the sealer")?;
        let end = match self.end {
            End::Stopped => "stopped in order",
            End::Open => "OPEN END: it crashed, still runs, or its tail is missing",
        };
        writeln!(out, "  {end}")?;
        for problem in &self.problems {
            writeln!(out, "  PROBLEM {}", with_causes(problem))?;
        }
        Ok(())
    }
}

fn with_causes(problem: &Problem) -> String {
    let mut text = problem.to_string();
    let mut cause = std::error::Error::source(problem);
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// Reads a log and hands every document of verified segments to `each`, boot by boot, in order.
///
/// # Errors
///
/// [`OpenError`], if there is nothing to read or `each` fails. What is wrong with the log itself is in the
/// [`Report`].
pub fn open(
    source: &Source,
    reader: &Reader<'_>,
    each: &mut dyn FnMut(&Document<'_>) -> io::Result<()>,
) -> Result<Report, OpenError> {
    let mut index = source::Index::read(source)?;
    let mut report = Report { boots: Vec::new(), problems: Vec::new() };
    for id in index.boots() {
        report.boots.push(boot::read(&index, &id, reader, each)?);
    }
    report.problems.append(&mut index.problems);
    Ok(report)
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
