//! One boot's log, from its first record to its last, as far as it is there by now.

use std::io;

use age::DecryptError;
use attestation::crypto::sha256;
use attestation::jws::JwsError;
use attestation::log_record::{Chain, Event, Proof, Readers, Record, RecordError};
use attestation::{Expect, Policy, appraise, verify};

use super::document::Document;
use super::report::{Boot, End, What, with_causes};
use super::segment::{self, SegmentError};
use super::source::{Index, unverified};
use super::{OpenError, Problem, Trusting};

/// Takes one document.
pub(super) type Each<'a> = dyn FnMut(&Document<'_>) -> io::Result<()> + 'a;

/// A sealer that works is never silent for longer than this many heartbeats.
pub(super) const SILENCE: u64 = 3;

/// By how many seconds clocks may differ: a record that is further ahead is of a clock that was set.
const SKEW: u64 = 300;

/// A boot that is being read.
pub(super) struct Reading {
    boot: Boot,
    state: State,
    /// Whether a key opens segments for the readers of now, as far as was tried.
    is_reader: bool,
    /// A record was ahead of the clock here.
    is_ahead: bool,
    /// Problems that were told.
    told: usize,
    /// After which record it was said that nothing follows.
    silent_after: Option<u64>,
}

enum State {
    /// Its first record was not there yet.
    Fresh,
    /// Its chain is followed.
    Following(Following),
    /// Nothing more of it is believed.
    Broken,
}

struct Following {
    chain: Chain,
    heartbeat: u64,
}

/// A boot that was read as far as it goes.
pub(super) struct Done {
    pub(super) boot: Boot,
    /// Its heartbeat, if it was followed to the end of what is there.
    pub(super) heartbeat: Option<u64>,
}

impl Reading {
    pub(super) fn new(id: &str) -> Self {
        Self {
            boot: Boot::new(id),
            state: State::Fresh,
            is_reader: true,
            is_ahead: false,
            told: 0,
            silent_after: None,
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(&self.state, State::Following(following) if following.chain.is_stopped())
    }

    /// What turned out to be wrong since this was asked last.
    pub(super) fn news(&mut self) -> Vec<String> {
        let untold = self.boot.problems.iter().skip(self.told);
        let news = untold.map(|one| format!("boot {}: {}", self.boot.id, with_causes(one)));
        let news = news.collect();
        self.told = self.boot.problems.len();
        news
    }

    /// That nothing followed its newest record for longer than a sealer that works is silent: said once a record.
    pub(super) fn silence(&mut self, at: u64) -> Option<String> {
        let State::Following(Following { chain, heartbeat }) = &self.state else { return None };
        let ((_, time), seq) = (self.boot.times?, self.boot.newest?);
        let is_late = at > time.saturating_add(SILENCE.saturating_mul(*heartbeat));
        let is_silent = is_late && !chain.is_stopped();
        (is_silent && self.silent_after.replace(seq) != Some(seq)).then(|| {
            let boot = &self.boot.id;
            format!("boot {boot}: nothing followed record {seq} within three heartbeats")
        })
    }

    /// Reads what is there, as far as it can be believed. `complete`: nothing will be added, so that what is not
    /// there is missing.
    pub(super) fn advance(
        &mut self,
        index: &Index,
        with: &Trusting<'_>,
        complete: bool,
        each: &mut Each<'_>,
    ) -> Result<(), OpenError> {
        if matches!(self.state, State::Fresh) {
            if !complete && !index.at(&self.boot.id, 0).is_some_and(|entry| entry.has_record()) {
                return Ok(());
            }
            let begun = self.begin(index, with);
            self.state = begun.map_or(State::Broken, State::Following);
        }
        let State::Following(mut following) = std::mem::replace(&mut self.state, State::Broken)
        else {
            return Ok(());
        };
        loop {
            let seq = following.chain.head().0 + 1;
            match index.at(&self.boot.id, seq) {
                Some(entry) if entry.has_record() => {
                    if !complete && !entry.has_segment() && self.awaits_segment(index, seq) {
                        break;
                    }
                }
                _ => break,
            }
            let Some(record) = self.follow(index, seq, &mut following, with) else {
                return Ok(());
            };
            self.account(index, &record, with, each)?;
        }
        self.state = State::Following(following);
        Ok(())
    }

    /// Says what is missing, and what is there that should not be.
    pub(super) fn finish(mut self, index: &Index) -> Done {
        let id = self.boot.id.clone();
        for (seq, entry) in index.entries(&id) {
            if entry.forked {
                self.boot.wrong(Problem::Fork { seq });
            }
            if entry.has_segment() && !entry.has_record() {
                self.boot.wrong(Problem::SegmentWithoutRecord { seq });
            }
            self.boot.duplicates = self.boot.duplicates.saturating_add(entry.duplicates);
        }
        let Following { chain, heartbeat } = match self.state {
            State::Following(following) => following,
            // It was waited for, and will not come.
            State::Fresh => {
                self.boot.wrong(Problem::NoBeginning(None));
                return Done { boot: self.boot, heartbeat: None };
            }
            State::Broken => return Done { boot: self.boot, heartbeat: None },
        };
        let newest = chain.head().0;
        if let Some(later) = index.next_record(&self.boot.id, newest) {
            self.boot.wrong(match later.checked_sub(newest + 2) {
                Some(_) => Problem::Missing { first: newest + 1, last: later - 1 },
                // Its segment was waited for.
                None => Problem::RecordWithoutSegment { seq: later },
            });
            return Done { boot: self.boot, heartbeat: None };
        }
        if chain.is_stopped() {
            self.boot.end = End::Stopped;
        }
        Done { boot: self.boot, heartbeat: Some(heartbeat) }
    }

    /// The chain behind record 0, if its key is a group's that the reader accepts.
    fn begin(&mut self, index: &Index, with: &Trusting<'_>) -> Option<Following> {
        let begun = match index.record(&self.boot.id, 0) {
            Some(Ok(compact)) => {
                Chain::begin(&compact).map_err(|error| Problem::NoBeginning(Some(error)))
            }
            Some(Err(problem)) => Err(problem),
            None => Err(Problem::NoBeginning(None)),
        };
        let (chain, record, proof) = begun.map_err(|problem| self.wrong(problem)).ok()?;
        if record.boot != self.boot.id {
            let error = RecordError::Chain("it begins another boot");
            self.wrong(Problem::NoBeginning(Some(error)));
            return None;
        }
        self.judge(&proof, with)?;
        let Event::Start { previous, heartbeat_seconds, recipients } = record.event else {
            return None;
        };
        self.boot.key = record.identity.map(|identity| identity.public_key);
        self.boot.recipients_sha256 = Some(record.recipients_sha256);
        self.boot.times = Some((record.time, record.time));
        self.boot.newest = Some(0);
        self.hold_against_clock(0, record.time, with);
        self.boot.previous.clone_from(&previous);
        self.boot.moment(0, record.time, What::Start { previous, recipients });
        Some(Following { chain, heartbeat: heartbeat_seconds })
    }

    fn judge(&mut self, proof: &Proof, with: &Trusting<'_>) -> Option<()> {
        let report_data = Expect::Value(proof.report_data);
        // The owner's key signs proofs of connections; a boot's record has no place for its word, and the verdict says so.
        let owner_key = Expect::unchecked("the owner's key signs no records of the log");
        let policy = Policy { owner_key, ..with.reader.policy.clone() };
        let appraised = verify(&proof.evidence, with.reader.anchors, with.reader.at)
            .and_then(|verified| appraise(verified, &policy, &report_data));
        match appraised {
            Ok(appraised) => {
                self.boot.trust = Some(appraised.trust());
                self.boot.findings = appraised.findings().to_vec();
                Some(())
            }
            Err(rejected) => {
                self.boot.findings.clone_from(&rejected.findings);
                self.wrong(Problem::Evidence(rejected));
                None
            }
        }
    }

    /// Whether a record says that it has a segment. Where files are copied, it may come after its record.
    fn awaits_segment(&self, index: &Index, seq: u64) -> bool {
        let claimed = index.record(&self.boot.id, seq).and_then(Result::ok);
        let claimed = claimed.and_then(|compact| unverified(&compact));
        claimed.is_some_and(|record| matches!(record.event, Event::Segment { .. }))
    }

    /// The next record, if it is the chain's.
    fn follow(
        &mut self,
        index: &Index,
        seq: u64,
        following: &mut Following,
        with: &Trusting<'_>,
    ) -> Option<Record> {
        let followed = match index.record(&self.boot.id, seq)? {
            Ok(compact) => following.chain.follow(&compact).map_err(|error| match error {
                RecordError::Jws(JwsError::Signature(_)) => Problem::ForeignSigner { seq },
                source => Problem::BrokenChain { seq, source },
            }),
            Err(problem) => Err(problem),
        };
        let record = followed.map_err(|problem| self.wrong(problem)).ok()?;
        if let (Event::Recipients { signed }, Some(signer)) = (&record.event, with.signer)
            && let Err(source) = Readers::signed_by(signed, signer)
        {
            self.wrong(Problem::ForeignReaders { seq, source });
            return None;
        }
        self.boot.newest = Some(seq);
        self.hold_against_clock(seq, record.time, with);
        if let Some((_, newest)) = &mut self.boot.times {
            let seconds = record.time.saturating_sub(std::mem::replace(newest, record.time));
            if seconds > SILENCE.saturating_mul(following.heartbeat) {
                self.boot.moment(seq, record.time, What::Silence { seconds });
            }
        }
        Some(record)
    }

    /// Whether a record is of a time that has come.
    fn hold_against_clock(&mut self, seq: u64, time: u64, with: &Trusting<'_>) {
        let ahead = time.saturating_sub(with.reader.at);
        if ahead > SKEW && !std::mem::replace(&mut self.is_ahead, true) {
            self.wrong(Problem::ClockAhead { seq, ahead });
        }
    }

    /// Counts what a record says, and reads its segment if it is the right one.
    fn account(
        &mut self,
        index: &Index,
        record: &Record,
        with: &Trusting<'_>,
        each: &mut Each<'_>,
    ) -> Result<(), OpenError> {
        let Record { seq, time, .. } = *record;
        match &record.event {
            Event::Segment { sha256: digest, .. } => {
                if let Some(sealed) = self.sealed(index, seq, digest) {
                    self.open(record, &sealed, with, each)?;
                }
            }
            Event::Loss { records, spans, points, why } => {
                let (records, spans, points, why) = (*records, *spans, *points, *why);
                self.boot.lost = self.boot.lost.saturating_add(records);
                self.boot.lost_spans = self.boot.lost_spans.saturating_add(spans);
                self.boot.lost_points = self.boot.lost_points.saturating_add(points);
                self.boot.moment(seq, time, What::Loss { records, spans, points, why });
            }
            Event::Recipients { signed } => {
                self.is_reader = true;
                self.boot.recipients_sha256 = Some(record.recipients_sha256);
                // the chain has read it before
                if let Ok(Readers { version, recipients, .. }) = Readers::unverified(signed) {
                    let version = version.get();
                    self.boot.moment(seq, time, What::Readers { version, recipients });
                }
            }
            Event::Stop => self.boot.moment(seq, time, What::Stop),
            Event::Start { .. } | Event::Heartbeat => {}
        }
        Ok(())
    }

    /// A record's segment, if it is the one that the record names.
    fn sealed(&mut self, index: &Index, seq: u64, digest: &[u8; 32]) -> Option<Vec<u8>> {
        let read =
            index.segment(&self.boot.id, seq).unwrap_or(Err(Problem::RecordWithoutSegment { seq }));
        let sealed = read.map_err(|problem| self.wrong(problem)).ok()?;
        if sha256(&sealed) != *digest {
            self.wrong(Problem::WrongDigest { seq });
            return None;
        }
        Some(sealed)
    }

    /// Decrypts a segment, where there is a key, and hands its documents on.
    fn open(
        &mut self,
        record: &Record,
        sealed: &[u8],
        with: &Trusting<'_>,
        each: &mut Each<'_>,
    ) -> Result<(), OpenError> {
        let Event::Segment { records, spans, points, .. } = record.event else { return Ok(()) };
        let said = [records, spans, points];
        if with.reader.identities.is_empty() {
            self.count(said);
            return Ok(());
        }
        if !self.is_reader {
            return Ok(());
        }
        let seq = record.seq;
        let mut found = [0_u64; 3];
        let outcome = segment::lines(sealed, with.reader.identities, |line, text| {
            let document = Document::parse(&self.boot.id, seq, text)
                .map_err(|source| SegmentError::Line { line, source })?;
            let counted = [document.records(), document.spans(), document.points()];
            for (sum, counted) in found.iter_mut().zip(counted) {
                *sum = sum.saturating_add(counted);
            }
            each(&document).map_err(Stop::Output)
        });
        match outcome {
            Ok(()) => {}
            Err(Stop::Output(error)) => return Err(OpenError::Output(error)),
            Err(Stop::Segment(SegmentError::Decrypt(DecryptError::NoMatchingKeys))) => {
                // Nor will a key open another one, as long as the readers are the same.
                self.is_reader = false;
                self.wrong(Problem::NotAReader { seq });
                return Ok(());
            }
            Err(Stop::Segment(source)) => {
                self.wrong(Problem::Segment { seq, source });
                return Ok(());
            }
        }
        let names = ["log records", "spans", "data points"];
        for ((what, said), found) in names.into_iter().zip(said).zip(found) {
            if said != found {
                self.wrong(Problem::Count { seq, what, said, found });
            }
        }
        self.count(found);
        Ok(())
    }

    fn count(&mut self, [records, spans, points]: [u64; 3]) {
        let boot = &mut self.boot;
        boot.segments += 1;
        boot.records = boot.records.saturating_add(records);
        boot.spans = boot.spans.saturating_add(spans);
        boot.points = boot.points.saturating_add(points);
    }

    fn wrong(&mut self, problem: Problem) {
        self.boot.wrong(problem);
    }
}

/// Why a segment was not read to its end.
enum Stop {
    Segment(SegmentError),
    Output(io::Error),
}

impl From<SegmentError> for Stop {
    fn from(error: SegmentError) -> Self {
        Self::Segment(error)
    }
}
