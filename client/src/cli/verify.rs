//! `pmc verify`: a server, a saved proof, or evidence in files.

use std::path::PathBuf;

use attestation::bundle::Bundle;
use attestation::connection::{ConnectionError, judge};
use attestation::policy::Hex;
use attestation::wire::Manifest;
use attestation::{Anchors, Appraised, Expect, Finding, Policy, Rejected, appraise, verify};
use clap::Args;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::expectations::Expectations;
use super::table::Verdict;
use super::{Failure, print, runtime};
use crate::connection::{Connector, Target};
use crate::offline::Parts;
use crate::{clock, offline};

/// Options of `pmc verify`.
#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["url", "evidence", "report"])]
pub(super) struct Options {
    /// The server: https://host[:port].
    url: Option<Target>,
    /// A saved proof, as --save writes it.
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// A report: raw, hexadecimal or base64. Needs --certs.
    #[arg(long, value_name = "FILE", requires = "certs")]
    report: Option<PathBuf>,
    /// Its certificates: PEM, DER, or THIM's JSON; plain or base64.
    #[arg(long, value_name = "FILE", requires = "report")]
    certs: Option<PathBuf>,
    /// The utility VM's endorsement (COSE_Sign1), raw or base64.
    #[arg(long, value_name = "FILE", requires = "report")]
    uvm: Option<PathBuf>,
    /// The enforcement policy, as Rego or base64.
    #[arg(long, value_name = "FILE", requires = "report")]
    cce_policy: Option<PathBuf>,
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
    match (&options.url, &options.evidence, &options.report, &options.certs) {
        (Some(target), ..) => server(options, target, &anchors),
        (None, Some(file), ..) => {
            let bytes = std::fs::read(file)
                .map_err(|error| Failure::Unusable(format!("{}: {error}", file.display())))?;
            let bundle = Bundle::parse(&bytes).map_err(|error| Failure::unusable(&error))?;
            proof(options, &bundle, &anchors, options.at.unwrap_or_else(clock::unix_now))
        }
        (None, None, Some(report), Some(certificates)) => {
            let parts = Parts {
                report: report.clone(),
                certificates: certificates.clone(),
                uvm: options.uvm.clone(),
                cce_policy: options.cce_policy.clone(),
            };
            files(options, &parts, &anchors)
        }
        _ => Err(Failure::Unusable("give a URL, --evidence, or --report with --certs".to_owned())),
    }
}

fn server(options: &Options, target: &Target, anchors: &Anchors) -> Result<(), Failure> {
    let policy = nobody_unless_named(options)?;
    let connector = Connector::new(target.clone(), anchors.clone(), policy);
    let bundle = runtime()?.block_on(connector.record());
    let bundle = bundle.map_err(|error| Failure::refused(&error))?;
    if let Some(path) = &options.save {
        std::fs::write(path, bundle.to_json())
            .map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))?;
    }
    proof(options, &bundle, anchors, bundle.time)
}

/// Who is allowed must be said by name: there is no group that everybody means.
fn nobody_unless_named(options: &Options) -> Result<Policy, Failure> {
    options.expectations.policy(Expect::Value(Vec::new()))
}

fn proof(options: &Options, bundle: &Bundle, anchors: &Anchors, at: u64) -> Result<(), Failure> {
    let policy = nobody_unless_named(options)?;
    let manifest: Option<Manifest> = serde_json::from_slice(&bundle.answer.manifest).ok();
    let mut facts = vec![("endpoint", json!(bundle.endpoint)), ("taken at", json!(bundle.time))];
    facts.extend(manifest.map(|manifest| ("manifest", json!(manifest))));
    match judge(&bundle.answer, &bundle.observed(), anchors, &policy, at) {
        Ok(proven) => show(options, at, Ok(&proven.appraised), facts),
        Err(ConnectionError::Rejected(rejected)) => show(options, at, Err(&rejected), facts),
        Err(error) => Err(Failure::refused(&error)),
    }
}

/// An auditor who gives no expectation wants to see what is there: that is shown as unchecked, with the reason.
fn files(options: &Options, parts: &offline::Parts, anchors: &Anchors) -> Result<(), Failure> {
    let evidence = parts.read().map_err(|error| Failure::unusable(&error))?;
    let policy = options
        .expectations
        .policy(Expect::unchecked("neither --host-data nor --policy is given"))?;
    let report_data = options.report_data.map_or_else(
        || Expect::unchecked("no --report-data is given: nothing says what it is bound to"),
        |Hex(data)| Expect::Value(data),
    );
    let at = options.at.unwrap_or_else(clock::unix_now);
    let outcome = verify(&evidence, anchors, at)
        .and_then(|verified| appraise(verified, &policy, &report_data));
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
    let verdict = Verdict { accepted, trust, at, findings, facts };
    print(&if options.json { verdict.json() } else { verdict.text() });
    if accepted { Ok(()) } else { Err(Failure::Refused(None)) }
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
