//! `pmc logs`: the sealed log, for its readers.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use attestation::Expect;
use clap::{Args, Subcommand};

use super::expectations::Expectations;
use super::verify::time_of;
use super::{Failure, say};
use crate::clock;
use crate::logs::{Identities, Reader, Source, open};

/// Commands below `pmc logs`.
#[derive(Debug, Subcommand)]
pub(super) enum Logs {
    /// Verify a sealed log and show its records. Records go to stdout, what was verified to stderr.
    Open(Open),
}

/// Options of `pmc logs open`.
#[derive(Debug, Args)]
pub(super) struct Open {
    /// The folder that log-sealer wrote, or a file with what it printed.
    log: PathBuf,
    /// The reader's age identity, as age-keygen writes it.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    #[command(flatten)]
    expectations: Expectations,
    /// Judge certificates at this time: RFC 3339 or Unix seconds.
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    at: Option<u64>,
    /// Print OTLP/JSON, a document a line, instead of text.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(logs: &Logs) -> Result<(), Failure> {
    let Logs::Open(options) = logs;
    let identities =
        Identities::from_file(&options.identity).map_err(|error| Failure::unusable(&error))?;
    let anchors = options.expectations.anchors()?;
    let policy = options.expectations.policy(Expect::Value(Vec::new()))?;
    let at = options.at.unwrap_or_else(clock::unix_now);
    let reader = Reader { identities: &identities, anchors: &anchors, policy: &policy, at };
    let source = if options.log.is_dir() {
        Source::Folder(options.log.clone())
    } else {
        Source::Captured(options.log.clone())
    };

    let mut out = BufWriter::new(std::io::stdout().lock());
    let report = open(&source, &reader, &mut |document| {
        if options.json {
            writeln!(out, "{}", document.json())
        } else {
            document.write_text(&mut out)
        }
    });
    let report = report.map_err(|error| Failure::unusable(&error))?;
    // A reader of ours that went away has seen what it wanted.
    let _ = out.flush();
    let mut summary = Vec::new();
    report.write(&mut summary).map_err(|error| Failure::unusable(&error))?;
    say(Some(&format!(
        "{}\n{}anchors: {}",
        options.log.display(),
        String::from_utf8_lossy(&summary),
        anchors.trust()
    )));
    if report.is_sound() { Ok(()) } else { Err(Failure::Refused(None)) }
}
