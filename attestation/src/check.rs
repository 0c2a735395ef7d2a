//! What a check is, and what it finds.
//!
//! A check is a row of one of the tables in [`checks`](crate::checks): an id that documents and people use, a
//! title, the section of the specification it comes from, and what to do when it fails. Appraisal runs every
//! row and reports all of them; it never stops at the first failure.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::anchors::Trust;

/// One check, as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its short name in documents and errors: "C8".
    pub id: &'static str,
    /// What must hold, in a few words.
    pub title: &'static str,
    /// Where that is written.
    pub spec: &'static str,
    /// What to do when it does not.
    pub remedy: &'static str,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// It holds.
    Passed {
        /// What had to be.
        expected: String,
        /// What is.
        actual: String,
    },
    /// It does not hold.
    Failed {
        /// What had to be.
        expected: String,
        /// What is.
        actual: String,
    },
    /// Nobody looked, for a reason that is stated.
    Unchecked {
        /// The reason.
        why: String,
    },
}

impl Outcome {
    pub(crate) fn of(holds: bool, expected: impl Display, actual: impl Display) -> Self {
        let (expected, actual) = (expected.to_string(), actual.to_string());
        if holds { Self::Passed { expected, actual } } else { Self::Failed { expected, actual } }
    }

    pub(crate) fn unchecked(why: impl Display) -> Self {
        Self::Unchecked { why: why.to_string() }
    }

    /// One outcome of several parts, each with its name: a failed part fails it, and nothing but unchecked
    /// parts leave it unchecked. Each part stays visible, also that nobody looked at it: first in what is shown of a
    /// check that passed.
    pub(crate) fn of_parts<const N: usize>(parts: [(&str, Self); N]) -> Self {
        let failed = parts.iter().any(|(_, part)| matches!(part, Self::Failed { .. }));
        let unchecked = parts.iter().all(|(_, part)| matches!(part, Self::Unchecked { .. }));
        let (mut wanted, mut skipped, mut found) = (Vec::new(), Vec::new(), Vec::new());
        for (name, part) in parts {
            match part {
                Self::Unchecked { why } if unchecked => wanted.push(format!("{name}: {why}")),
                Self::Unchecked { why } => {
                    wanted.push(format!("{name}: unchecked, {why}"));
                    skipped.push(format!("{name}: unchecked"));
                }
                Self::Passed { expected, actual } | Self::Failed { expected, actual } => {
                    wanted.push(format!("{name}: {expected}"));
                    found.push(format!("{name}: {actual}"));
                }
            }
        }
        let expected = wanted.join("; ");
        if unchecked {
            return Self::Unchecked { why: expected };
        }
        skipped.append(&mut found);
        Self::of(!failed, expected, skipped.join("; "))
    }
}

/// A check with what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check.
    #[serde(flatten)]
    pub check: Check,
    /// What it found.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A row of a table of checks over subjects of one kind.
pub(crate) struct Row<S> {
    pub(crate) check: Check,
    pub(crate) run: fn(&S) -> Outcome,
}

/// Runs every row.
pub(crate) fn run<S>(rows: &[Row<S>], subject: &S) -> Vec<Finding> {
    rows.iter().map(|row| Finding { check: row.check, outcome: (row.run)(subject) }).collect()
}

/// Refused: at least one check failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Every check that was run, in the order of the tables.
    pub findings: Vec<Finding>,
    /// Whether the verifier held production anchors.
    pub trust: Trust,
}

impl Rejected {
    /// The checks that failed. Never empty.
    pub fn failures(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Failed { .. }))
    }

    /// The same refusal, with what other checks found beside.
    pub(crate) fn and(mut self, findings: impl IntoIterator<Item = Finding>) -> Self {
        self.findings.extend(findings);
        self
    }
}

impl Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the evidence is refused by")?;
        for (n, finding) in self.failures().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma} {} ({})", finding.check.id, finding.check.title)?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejected {}

/// Splits findings into acceptance and refusal: one failure refuses.
pub(crate) fn judge(findings: Vec<Finding>, trust: Trust) -> Result<Vec<Finding>, Rejected> {
    let rejected = Rejected { findings, trust };
    if rejected.failures().next().is_some() { Err(rejected) } else { Ok(rejected.findings) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fail_together_and_hide_nothing() {
        let good = || Outcome::of(true, "1", "1");
        let bad = || Outcome::of(false, "2", "3");
        let open = || Outcome::unchecked("nobody asked");
        assert_eq!(
            Outcome::of_parts([("a", good()), ("b", open())]),
            Outcome::of(true, "a: 1; b: unchecked, nobody asked", "b: unchecked; a: 1")
        );
        assert_eq!(
            Outcome::of_parts([("a", good()), ("b", bad())]),
            Outcome::of(false, "a: 1; b: 2", "a: 1; b: 3")
        );
        assert_eq!(
            Outcome::of_parts([("a", open()), ("b", open())]),
            Outcome::unchecked("a: nobody asked; b: nobody asked")
        );
    }

    #[test]
    fn a_refusal_names_every_check_that_failed() {
        let finding = |id, holds| Finding {
            check: Check { id, title: "title", spec: "", remedy: "" },
            outcome: Outcome::of(holds, "", ""),
        };
        let findings = vec![finding("A", false), finding("B", true), finding("C", false)];
        let trust = Trust::NotProduction;
        let rejected = judge(findings, trust).unwrap_err();
        assert_eq!(rejected.to_string(), "the evidence is refused by A (title), C (title)");
        let more = rejected.and([finding("D", false)]);
        assert_eq!(more.failures().map(|one| one.check.id).collect::<Vec<_>>(), ["A", "C", "D"]);
        assert_eq!(judge(vec![finding("B", true)], trust).map(|all| all.len()), Ok(1));
    }
}
