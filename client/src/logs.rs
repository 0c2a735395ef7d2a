//! Reading sealed logs: whose they are, whether they are whole, and what they say.
//!
//! A log is a chain of signed records for every boot of `log-sealer` ([`attestation::log_record`]), and sealed
//! segments that the records name by digest. For each boot [`open`] verifies and appraises the evidence in the
//! first record, follows the chain, holds every segment against its record, and only then decrypts it. What is
//! wrong with a boot is listed, not thrown: the other boots are read all the same, and [`Report::is_sound`]
//! says at the end whether everything was right.
//!
//! Whoever stores a log can withhold its end. A boot that ended in order says so, one that works signs heartbeats,
//! and where the sealer keeps a spool, its first record names the newest record of the boot before, as far as the spool
//! has it. An end that is missing all the same is named; whether a crash or a hand took it, nobody can tell.
//!
//! What was taken away whole shows where saved proofs name it ([`Witness`]).
//!
//! A log in a container of Azure Blob Storage is copied before it is read ([`Copied`]).
//!
//! Without a key nothing is opened, and everything else is verified.
//!
//! This module must not know how a log is written beyond the formats that it reads.

mod boot;
mod capture;
mod document;
mod export;
mod filter;
mod identities;
mod links;
mod problem;
mod readers;
mod report;
mod segment;
mod source;
mod storage;
mod witness;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use attestation::secrets::Signer;
use attestation::{Anchors, Policy};

use self::boot::{Each, Reading};
use self::source::Index;

pub use document::{Document, Signal};
pub use export::{ExportError, Exported, Exporter};
pub use filter::{Filter, Level, NotALevel};
pub use identities::{Identities, IdentitiesError};
pub use problem::{Note, Problem};
pub use readers::{Pair, SignError, pair, sign as sign_readers};
pub use report::{Boot, End, Moment, Report, What};
pub use segment::SegmentError;
pub use source::Source;
pub use storage::{Container, Copied, NotAContainer, NotAListing, StorageError};
pub use witness::{Witness, WitnessError};

/// Whom to believe, what to accept, and with which keys to read.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// The keys; with none, nothing is opened.
    pub identities: &'a Identities,
    /// The roots.
    pub anchors: &'a Anchors,
    /// What the group must look like.
    pub policy: &'a Policy,
    /// The time to judge certificates and open ends at, in Unix seconds.
    pub at: u64,
}

/// A reader, and whose word changes the readers.
struct Trusting<'a> {
    reader: Reader<'a>,
    signer: Option<&'a Signer>,
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
    /// The file is not the one that was read before, or became shorter.
    #[error("{0} was replaced while it was read")]
    Replaced(PathBuf),
    /// More than a reader keeps track of.
    #[error(
        "{path} holds more than {limit} records, files or boots: read older boots on their own"
    )]
    TooMany {
        /// The source.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// A boot that was asked for is not there.
    #[error(
        "no boot of the log begins with {0:?}: pmc logs verify without --boot shows which there are"
    )]
    NoSuchBoot(String),
    /// The storage account, while the log was followed.
    #[error("the container cannot be read")]
    Storage(#[source] StorageError),
    /// The caller could not take a document.
    #[error("the log records could not be passed on")]
    Output(#[source] io::Error),
}

/// A log that is being read, at once or while it grows.
pub struct Log<'a> {
    source: Source,
    index: Index,
    with: Trusting<'a>,
    /// Boots whose id begins with one of these; all, if there is none.
    only: Vec<String>,
    witnesses: Vec<Witness>,
    boots: BTreeMap<String, Reading>,
    /// Their ids, in the order in which they say that they began.
    order: Vec<String>,
}

impl<'a> Log<'a> {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(source: &Source, reader: &Reader<'a>) -> Self {
        Self {
            source: source.clone(),
            index: Index::new(source),
            with: Trusting { reader: *reader, signer: None },
            only: Vec::new(),
            witnesses: Vec::new(),
            boots: BTreeMap::new(),
            order: Vec::new(),
        }
    }

    /// Takes a change of readers on this operator's word only, and not on that of the attested sealer, which took it.
    #[must_use]
    pub fn with_signer(mut self, signer: Option<&'a Signer>) -> Self {
        self.with.signer = signer;
        self
    }

    /// Reads only boots whose id begins with one of these; all, if there is none.
    #[must_use]
    pub fn with_boots(mut self, only: Vec<String>) -> Self {
        self.only = only;
        self
    }

    /// Holds the log against what saved proofs say of it. A proof does not name its boot: of a log of which only some boots
    /// are read, it shows the others to be missing.
    #[must_use]
    pub fn with_witnesses(mut self, witnesses: Vec<Witness>) -> Self {
        self.witnesses = witnesses;
        self
    }

    /// The time to judge at, in Unix seconds, from now on.
    pub fn set_time(&mut self, at: u64) {
        self.with.reader.at = at;
    }

    /// Reads what is there by now and was not before, and hands every document of verified segments to `each`, boot by
    /// boot, in order.
    ///
    /// # Errors
    ///
    /// [`OpenError`], if it cannot be read any more, or `each` fails.
    pub fn advance(&mut self, each: &mut Each<'_>) -> Result<(), OpenError> {
        self.read(false, each)
    }

    /// Whether the newest boot ended in order.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let newest = self.order.last().and_then(|id| self.boots.get(id));
        newest.is_some_and(Reading::is_stopped)
    }

    /// What turned out to be wrong since this was asked last, and whether the newest boot became silent.
    pub fn news(&mut self) -> Vec<String> {
        let mut news = self.index.news();
        news.extend(self.boots.values_mut().flat_map(Reading::news));
        let newest = self.order.last().and_then(|id| self.boots.get_mut(id));
        news.extend(newest.and_then(|boot| boot.silence(self.with.reader.at)));
        news
    }

    /// Reads the rest: whatever is not there now is missing.
    ///
    /// # Errors
    ///
    /// [`OpenError`], if there is nothing to read or `each` fails. What is wrong with the log itself is in the
    /// [`Report`].
    pub fn finish(mut self, each: &mut Each<'_>) -> Result<Report, OpenError> {
        self.read(true, each)?;
        Ok(self.report())
    }

    /// What was found until the log was taken away, which is wrong, too.
    #[must_use]
    pub fn taken_away(mut self, error: OpenError) -> Report {
        let problem = Problem::TakenAway(Box::new(error));
        report::keep(&mut self.index.problems, &mut self.index.more_problems, problem);
        self.report()
    }

    fn report(mut self) -> Report {
        let mut problems = std::mem::take(&mut self.index.problems);
        let mut more_problems = self.index.more_problems;
        let ordered = self.order.iter().filter_map(|id| self.boots.remove(id));
        let done = ordered.map(|boot| boot.finish(&self.index)).collect();
        let all = self.only.is_empty();
        let mut boots = links::link(done, &self.index, self.with.reader.at, all);
        witness::hold(&self.witnesses, &mut boots, &self.index, &mut problems, &mut more_problems);
        Report { boots, problems, more_problems }
    }

    fn read(&mut self, complete: bool, each: &mut Each<'_>) -> Result<(), OpenError> {
        self.index.refresh(complete)?;
        if complete && self.index.is_empty() {
            return Err(OpenError::Empty(self.source.name()));
        }
        let all = self.index.boots();
        let is_there = |prefix: &&String| all.iter().any(|id| id.starts_with(prefix.as_str()));
        if complete && let Some(prefix) = self.only.iter().find(|prefix| !is_there(prefix)) {
            return Err(OpenError::NoSuchBoot(prefix.clone()));
        }
        let wanted = |id: &String| {
            self.only.is_empty() || self.only.iter().any(|prefix| id.starts_with(prefix.as_str()))
        };
        self.order = all.into_iter().filter(wanted).collect();
        for id in &self.order {
            let boot = self.boots.entry(id.clone()).or_insert_with(|| Reading::new(id));
            boot.advance(&self.index, &self.with, complete, each)?;
        }
        Ok(())
    }
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
    Log::new(source, reader).finish(each)
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod growing;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod witnessed;
