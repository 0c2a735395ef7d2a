//! One boot's log, from its first record to its last.

use std::io;

use age::DecryptError;
use attestation::crypto::sha256;
use attestation::jws::JwsError;
use attestation::log_record::{Chain, Event, Proof, Record, RecordError};
use attestation::{Expect, Policy, appraise, verify};

use super::document::Document;
use super::segment::{self, SegmentError};
use super::source::Index;
use super::{Boot, End, OpenError, Problem, Reader};

/// Takes one document.
type Each<'a> = dyn FnMut(&Document<'_>) -> io::Result<()> + 'a;

/// Reads a boot as far as it can be believed.
pub(super) fn read(
    index: &Index,
    id: &str,
    reader: &Reader<'_>,
    each: &mut Each<'_>,
) -> Result<Boot, OpenError> {
    let mut boot = Boot::new(id);
    for (seq, entry) in index.entries(id) {
        if entry.forked {
            boot.problems.push(Problem::Fork { seq });
        }
        if entry.has_segment() && !entry.has_record() {
            boot.problems.push(Problem::SegmentWithoutRecord { seq });
        }
    }
    let Some(mut chain) = boot.begin(index, reader) else { return Ok(boot) };
    let mut is_reader = true;
    for (seq, _) in index.entries(id).filter(|(seq, entry)| *seq > 0 && entry.has_record()) {
        let Some(record) = boot.follow(index, seq, &mut chain) else { break };
        let Some(sealed) = boot.account(index, &record) else { continue };
        if is_reader {
            is_reader = boot.open(&record, &sealed, reader, each)?;
        }
    }
    if chain.is_stopped() {
        boot.end = End::Stopped;
    }
    Ok(boot)
}

impl Boot {
    fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            trust: None,
            findings: Vec::new(),
            recipients_sha256: None,
            times: None,
            segments: 0,
            records: 0,
            lost: 0,
            end: End::Open,
            problems: Vec::new(),
        }
    }

    /// The chain behind record 0, if its key is a group's that the reader accepts.
    fn begin(&mut self, index: &Index, reader: &Reader<'_>) -> Option<Chain> {
        let begun = match index.record(&self.id, 0) {
            Some(Ok(compact)) => {
                Chain::begin(&compact).map_err(|error| Problem::NoBeginning(Some(error)))
            }
            Some(Err(problem)) => Err(problem),
            None => Err(Problem::NoBeginning(None)),
        };
        let (chain, record, proof) = begun.map_err(|problem| self.problems.push(problem)).ok()?;
        if record.boot != self.id || record.event != Event::Start {
            let error = RecordError::Chain("it begins another boot, or none");
            self.problems.push(Problem::NoBeginning(Some(error)));
            return None;
        }
        self.judge(&proof, reader)?;
        self.recipients_sha256 = Some(record.recipients_sha256);
        self.times = Some((record.time, record.time));
        Some(chain)
    }

    fn judge(&mut self, proof: &Proof, reader: &Reader<'_>) -> Option<()> {
        let report_data = Expect::Value(proof.report_data);
        // The owner's key signs proofs of connections; a boot's record has no place for its word, and the verdict says so.
        let owner_key = Expect::unchecked("the owner's key signs no records of the log");
        let policy = Policy { owner_key, ..reader.policy.clone() };
        let appraised = verify(&proof.evidence, reader.anchors, reader.at)
            .and_then(|verified| appraise(verified, &policy, &report_data));
        match appraised {
            Ok(appraised) => {
                self.trust = Some(appraised.trust());
                self.findings = appraised.findings().to_vec();
                Some(())
            }
            Err(rejected) => {
                self.findings.clone_from(&rejected.findings);
                self.problems.push(Problem::Evidence(rejected));
                None
            }
        }
    }

    /// The next record, if it is the chain's.
    fn follow(&mut self, index: &Index, seq: u64, chain: &mut Chain) -> Option<Record> {
        let expected = chain.head().0 + 1;
        if seq != expected {
            self.problems.push(Problem::Missing { first: expected, last: seq - 1 });
            return None;
        }
        let followed = match index.record(&self.id, seq)? {
            Ok(compact) => chain.follow(&compact).map_err(|error| match error {
                RecordError::Jws(JwsError::Signature(_)) => Problem::ForeignSigner { seq },
                source => Problem::BrokenChain { seq, source },
            }),
            Err(problem) => Err(problem),
        };
        let record = followed.map_err(|problem| self.problems.push(problem)).ok()?;
        if let Some((_, newest)) = &mut self.times {
            *newest = record.time;
        }
        Some(record)
    }

    /// Counts what a record says, and gives its segment if it is the right one.
    fn account(&mut self, index: &Index, record: &Record) -> Option<Vec<u8>> {
        let seq = record.seq;
        let digest = match record.event {
            Event::Segment { sha256, lost, .. } => {
                self.lost = self.lost.saturating_add(lost);
                sha256
            }
            Event::Stop { lost } => {
                self.lost = self.lost.saturating_add(lost);
                return None;
            }
            Event::Start => return None,
        };
        let read =
            index.segment(&self.id, seq).unwrap_or(Err(Problem::RecordWithoutSegment { seq }));
        let sealed = read.map_err(|problem| self.problems.push(problem)).ok()?;
        if sha256(&sealed) != digest {
            self.problems.push(Problem::WrongDigest { seq });
            return None;
        }
        Some(sealed)
    }

    /// Decrypts a segment and hands its documents on. `false`: none of the keys opens it, nor will they open
    /// another of this boot, whose readers are the same throughout.
    fn open(
        &mut self,
        record: &Record,
        sealed: &[u8],
        reader: &Reader<'_>,
        each: &mut Each<'_>,
    ) -> Result<bool, OpenError> {
        let seq = record.seq;
        let mut found = 0;
        let outcome = segment::lines(sealed, reader.identities, |line, text| {
            let document = Document::parse(&self.id, seq, text)
                .map_err(|source| SegmentError::Line { line, source })?;
            found += document.records();
            each(&document).map_err(Stop::Output)
        });
        match outcome {
            Ok(()) => {}
            Err(Stop::Output(error)) => return Err(OpenError::Output(error)),
            Err(Stop::Segment(SegmentError::Decrypt(DecryptError::NoMatchingKeys))) => {
                self.problems.push(Problem::NotAReader);
                return Ok(false);
            }
            Err(Stop::Segment(source)) => {
                self.problems.push(Problem::Segment { seq, source });
                return Ok(true);
            }
        }
        if let Event::Segment { records: said, .. } = record.event
            && said != found
        {
            self.problems.push(Problem::Count { seq, said, found });
        }
        self.segments += 1;
        self.records += found;
        Ok(true)
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
