//! What was found in a log: for people, and for programs.

use std::fmt::Write as _;
use std::io::{self, Write};

use attestation::log_record::{Previous, Why};
use attestation::{Finding, Outcome, Trust};
use serde_json::{Value, json};

use super::document::date;
use super::problem::{Note, Problem};
use crate::causes::printable;

/// The most moments of one boot that are kept; of others only their number.
const MOST_MOMENTS: usize = 10_000;

/// The most problems that are kept, of one boot and outside of any; of others only their number.
pub(super) const MOST_PROBLEMS: usize = 1000;

/// How a boot's log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order, with a last record.
    Stopped,
    /// Without one: it may still run, it crashed, or its tail is missing. Problems and notes say which, where it shows.
    Open,
}

/// Something that stands out in a boot's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The record's number.
    pub seq: u64,
    /// When, in Unix seconds by the host's clock.
    pub time: u64,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The boot began.
    Start {
        /// The newest record of the boot before.
        previous: Option<Previous>,
        /// Who can read.
        recipients: Vec<String>,
    },
    /// Something that was accepted is in no segment.
    Loss {
        /// Log records.
        records: u64,
        /// Spans.
        spans: u64,
        /// Data points.
        points: u64,
        /// Why.
        why: Why,
    },
    /// Who can read changed.
    Readers {
        /// Version of the operator's list.
        version: u64,
        /// Who can read from here on.
        recipients: Vec<String>,
    },
    /// Nothing was signed for longer than three heartbeats before this record.
    Silence {
        /// How long, in seconds.
        seconds: u64,
    },
    /// The boot ended in order.
    Stop,
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
    /// The key that signs it: SubjectPublicKeyInfo.
    pub key: Option<Vec<u8>>,
    /// SHA-256 of the list of those who can read it: the newest one.
    pub recipients_sha256: Option<[u8; 32]>,
    /// The newest record of the boot before, as this one says.
    pub previous: Option<Previous>,
    /// When its first and its newest record were made, in Unix seconds by the host's clock.
    pub times: Option<(u64, u64)>,
    /// The number of its newest record that was followed.
    pub newest: Option<u64>,
    /// Segments that were verified and, where there is a key, read whole.
    pub segments: u64,
    /// Log records in them: as counted where they were read, or else as their records say.
    pub records: u64,
    /// Spans in them.
    pub spans: u64,
    /// Data points in them.
    pub points: u64,
    /// Log records that the sealer had accepted and could not keep, as it says itself.
    pub lost: u64,
    /// Spans of that kind.
    pub lost_spans: u64,
    /// Data points of that kind.
    pub lost_points: u64,
    /// Records that are there more than once, and are the same.
    pub duplicates: u64,
    /// How it ends.
    pub end: End,
    /// What stands out, in order.
    pub timeline: Vec<Moment>,
    /// How much more stands out.
    pub more_moments: u64,
    /// What is to be looked at.
    pub notes: Vec<Note>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// How much more is wrong with it.
    pub more_problems: u64,
}

/// What was found in a whole log.
#[derive(Debug)]
pub struct Report {
    /// Boots in the order in which they say that they began.
    pub boots: Vec<Boot>,
    /// What is wrong outside of any boot.
    pub problems: Vec<Problem>,
    /// How much more is.
    pub more_problems: u64,
}

impl Report {
    /// Whether nothing is wrong. A boot that may still run, and losses that are on record, are not wrong: they
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
        if self.more_problems > 0 {
            writeln!(out, "PROBLEM … and {} more", self.more_problems)?;
        }
        let verdict = if self.is_sound() { "nothing is wrong" } else { "SOMETHING IS WRONG" };
        writeln!(out, "{} boots: {verdict}", self.boots.len())
    }

    /// The same for programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let boots: Vec<Value> = self.boots.iter().map(Boot::json).collect();
        let problems: Vec<Value> = self.problems.iter().map(problem_json).collect();
        json!({
            "sound": self.is_sound(),
            "boots": boots,
            "problems": problems,
            "more_problems": self.more_problems,
        })
    }
}

impl Boot {
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            trust: None,
            findings: Vec::new(),
            key: None,
            recipients_sha256: None,
            previous: None,
            times: None,
            newest: None,
            segments: 0,
            records: 0,
            spans: 0,
            points: 0,
            lost: 0,
            lost_spans: 0,
            lost_points: 0,
            duplicates: 0,
            end: End::Open,
            timeline: Vec::new(),
            more_moments: 0,
            notes: Vec::new(),
            problems: Vec::new(),
            more_problems: 0,
        }
    }

    pub(super) fn wrong(&mut self, problem: Problem) {
        keep(&mut self.problems, &mut self.more_problems, problem);
    }

    pub(super) fn moment(&mut self, seq: u64, time: u64, what: What) {
        if self.timeline.len() < MOST_MOMENTS {
            self.timeline.push(Moment { seq, time, what });
        } else {
            self.more_moments += 1;
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "boot {}", self.id)?;
        if let Some((first, newest)) = self.times {
            writeln!(out, "  from {} to {}", date(first), date(newest))?;
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
        let Self { records, spans, points, segments, lost, lost_spans, lost_points, .. } = self;
        writeln!(out, "  {records} log records in {segments} segments, {lost} lost by the sealer")?;
        if *spans + *points + *lost_spans + *lost_points > 0 {
            writeln!(
                out,
                "  {spans} spans, {lost_spans} lost; {points} points, {lost_points} lost"
            )?;
        }
        if self.duplicates > 0 {
            writeln!(out, "  {} records are there more than once", self.duplicates)?;
        }
        for Moment { seq, time, what } in &self.timeline {
            writeln!(out, "  {} record {seq}: {}", date(*time), printable(&what.text()))?;
        }
        if self.more_moments > 0 {
            writeln!(out, "  … and {} more", self.more_moments)?;
        }
        let end = match self.end {
            End::Stopped => "stopped in order",
            End::Open => "OPEN END: it crashed, still runs, or its tail is missing",
        };
        writeln!(out, "  {end}")?;
        for note in &self.notes {
            writeln!(out, "  note: {}", printable(&note.to_string()))?;
        }
        for problem in &self.problems {
            writeln!(out, "  PROBLEM {}", with_causes(problem))?;
        }
        if self.more_problems > 0 {
            writeln!(out, "  PROBLEM … and {} more", self.more_problems)?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let moment = |Moment { seq, time, what }: &Moment| {
            let mut moment = json!({"seq": seq, "time": time});
            if let (Some(moment), Value::Object(what)) = (moment.as_object_mut(), what.json()) {
                moment.extend(what);
            }
            moment
        };
        json!({
            "boot": self.id,
            "trust": self.trust.map(|trust| trust.to_string()),
            "previous": self.previous,
            "first_time": self.times.map(|(first, _)| first),
            "newest_time": self.times.map(|(_, newest)| newest),
            "newest": self.newest,
            "recipients_sha256": self.recipients_sha256.map(hex::encode),
            "segments": self.segments,
            "records": self.records,
            "spans": self.spans,
            "points": self.points,
            "lost": {"records": self.lost, "spans": self.lost_spans, "points": self.lost_points},
            "duplicates": self.duplicates,
            "stopped": self.end == End::Stopped,
            "timeline": self.timeline.iter().map(moment).collect::<Vec<_>>(),
            "more_moments": self.more_moments,
            "notes": self.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "problems": self.problems.iter().map(problem_json).collect::<Vec<_>>(),
            "more_problems": self.more_problems,
        })
    }
}

impl What {
    fn text(&self) -> String {
        match self {
            Self::Start { previous, recipients } => {
                let after =
                    previous.as_ref().map_or_else(String::new, |Previous { boot, seq, .. }| {
                        format!(" after record {seq} of boot {boot}")
                    });
                format!("it began{after}, sealed for {}", recipients.join(", "))
            }
            Self::Loss { records, spans, points, why } => {
                let why = why.name();
                format!("LOST {records} log records, {spans} spans, {points} points ({why})")
            }
            Self::Readers { version, recipients } => {
                format!("sealed for {} (version {version})", recipients.join(", "))
            }
            Self::Silence { seconds } => format!("nothing was signed for {seconds} seconds"),
            Self::Stop => "it stopped".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Start { previous, recipients } => {
                json!({"kind": "start", "previous": previous, "recipients": recipients})
            }
            Self::Loss { records, spans, points, why } => json!({
                "kind": "loss", "records": records, "spans": spans, "points": points, "why": why,
            }),
            Self::Readers { version, recipients } => {
                json!({"kind": "recipients", "version": version, "recipients": recipients})
            }
            Self::Silence { seconds } => json!({"kind": "silence", "seconds": seconds}),
            Self::Stop => json!({"kind": "stop"}),
        }
    }
}

/// Keeps a problem, or counts it.
pub(super) fn keep(problems: &mut Vec<Problem>, more: &mut u64, problem: Problem) {
    if problems.len() < MOST_PROBLEMS {
        problems.push(problem);
    } else {
        *more += 1;
    }
}

fn problem_json(problem: &Problem) -> Value {
    json!({"name": problem.name(), "text": with_causes(problem)})
}

/// A problem with its causes, in a line. Names of files stand in it, and whoever stores a log chose them.
pub(super) fn with_causes(problem: &Problem) -> String {
    let mut text = problem.to_string();
    let mut cause = std::error::Error::source(problem);
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    printable(&text)
}
