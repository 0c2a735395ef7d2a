//! A verdict as people read it.

use std::fmt::Write as _;

use attestation::{Finding, Outcome};

use super::{Failure, print};
use crate::causes::printable;
use crate::verdict::Verdict;

impl Verdict<'_> {
    /// Prints it, as one JSON document or as a table, and says how the command ends.
    pub(super) fn show(&self, json: bool) -> Result<(), Failure> {
        print(&if json { self.json() } else { self.text() });
        if self.accepted { Ok(()) } else { Err(Failure::Refused(None)) }
    }

    /// Every check with expected and actual, what to do about failures, and the verdict.
    fn text(&self) -> String {
        let mut out = String::new();
        for finding in self.findings {
            line(&mut out, finding);
        }
        for (name, value) in &self.facts {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = writeln!(out, "{name}: {}", printable(&text));
        }
        let unchecked = self.count(|outcome| matches!(outcome, Outcome::Unchecked { .. }));
        let failed = self.count(|outcome| matches!(outcome, Outcome::Failed { .. }));
        let _ = writeln!(out, "anchors: {}", self.trust);
        let _ = if self.accepted {
            let but =
                if unchecked > 0 { format!(", {unchecked} unchecked") } else { String::new() };
            writeln!(out, "ACCEPTED{but}")
        } else {
            writeln!(out, "REFUSED: {failed} failed, {unchecked} unchecked")
        };
        out
    }

    fn count(&self, of: impl Fn(&Outcome) -> bool) -> usize {
        self.findings.iter().filter(|finding| of(&finding.outcome)).count()
    }
}

fn line(out: &mut String, Finding { check, outcome }: &Finding) {
    let head = format!("{:<4} {}", check.id, check.title);
    let _ = match outcome {
        Outcome::Passed { actual, .. } => {
            writeln!(out, "pass       {head}\n                {}", short(&printable(actual)))
        }
        Outcome::Unchecked { why } => {
            writeln!(out, "unchecked  {head}\n                {}", printable(why))
        }
        Outcome::Failed { expected, actual } => writeln!(
            out,
            "FAIL       {head}\n                expected: {expected}\n                actual:   {actual}\n                \
             source:   {}\n                what to do: {}",
            check.spec,
            check.remedy,
            expected = printable(expected),
            actual = printable(actual),
        ),
    };
}

/// Long values are shown whole where they matter, which is in failures and in JSON.
fn short(value: &str) -> String {
    const LONGEST: usize = 100;
    if value.chars().count() <= LONGEST {
        return value.to_owned();
    }
    let head: String = value.chars().take(LONGEST).collect();
    format!("{head}…")
}
