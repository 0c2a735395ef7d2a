//! `pmc verify`: a server, a saved proof, or evidence in files.

use std::path::PathBuf;

use attestation::bundle::Bundle;
use attestation::connection::{ConnectionError, judge, manifest};
use attestation::policy::Hex;
use attestation::{
    Anchors, Appraised, Evidence, Expect, Finding, Policy, Rejected, appraise, verify,
};
use clap::Args;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Failure;
use super::expectations::Expectations;
use super::subject::{Found, Subject};
use crate::clock;
use crate::verdict::Verdict;

/// Options of `pmc verify`.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    subject: Subject,
    /// What the report must be bound to: 128 hexadecimal digits.
    #[arg(long, value_name = "HEX", requires = "report")]
    report_data: Option<Hex<64>>,
    #[command(flatten)]
    expectations: Expectations,
    /// Judge certificates at this time: RFC 3339 or Unix seconds. Not for a server, which is judged now.
    #[arg(long, value_name = "TIME", value_parser = time_of, conflicts_with = "url")]
    at: Option<u64>,
    /// Write the server's proof to a file, whether it is accepted or not.
    #[arg(long, value_name = "FILE", requires = "url")]
    save: Option<PathBuf>,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

pub(super) fn time_of(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok().or_else(|| {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        u64::try_from(time.unix_timestamp()).ok()
    });
    seconds.ok_or_else(|| "give a time as 2026-11-22T00:00:00Z or in Unix seconds".to_owned())
}

/// Runs the command.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let anchors = options.expectations.anchors()?;
    let policy = options.expectations.policy(options.subject.unnamed())?;
    let at = options.at.unwrap_or_else(clock::unix_now);
    match options.subject.find(&anchors)? {
        Found::Proof(bundle) => {
            if let Some(path) = &options.save {
                std::fs::write(path, bundle.to_json())
                    .map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))?;
            }
            proof(options, &bundle, &anchors, &policy, at)
        }
        Found::Evidence(evidence) => files(options, &evidence, &anchors, &policy, at),
    }
}

fn proof(
    options: &Options,
    bundle: &Bundle,
    anchors: &Anchors,
    policy: &Policy,
    at: u64,
) -> Result<(), Failure> {
    let manifest = manifest(&bundle.answer).ok();
    let mut facts = vec![("endpoint", json!(bundle.endpoint)), ("taken at", json!(bundle.time))];
    facts.extend(options.subject.hearsay().map(|who| ("observed by", json!(who))));
    facts.extend(manifest.map(|manifest| ("manifest", json!(manifest))));
    match judge(&bundle.answer, &bundle.observed(), anchors, policy, at) {
        Ok(proven) => show(options, at, Ok(&proven.appraised), facts),
        Err(ConnectionError::Rejected(rejected)) => show(options, at, Err(&rejected), facts),
        Err(error) => Err(Failure::refused(&error)),
    }
}

fn files(
    options: &Options,
    evidence: &Evidence,
    anchors: &Anchors,
    policy: &Policy,
    at: u64,
) -> Result<(), Failure> {
    let report_data = options.report_data.map_or_else(
        || Expect::unchecked("no --report-data is given: nothing says what it is bound to"),
        |Hex(data)| Expect::Value(data),
    );
    let outcome =
        verify(evidence, anchors, at).and_then(|verified| appraise(verified, policy, &report_data));
    show(options, at, outcome.as_ref(), Vec::new())
}

fn show(
    options: &Options,
    at: u64,
    outcome: Result<&Appraised, &Rejected>,
    facts: Vec<(&'static str, Value)>,
) -> Result<(), Failure> {
    let (accepted, trust, findings): (bool, _, &[Finding]) = match outcome {
        Ok(appraised) => (true, appraised.trust(), appraised.findings()),
        Err(rejected) => (false, rejected.trust, &rejected.findings),
    };
    Verdict { accepted, trust, at, findings, facts }.show(options.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_or_unix_seconds() {
        assert_eq!(time_of("1970-01-02T00:00:00Z"), Ok(86_400));
        assert_eq!(time_of("86400"), Ok(86_400));
        assert!(time_of("yesterday").is_err());
    }
}
