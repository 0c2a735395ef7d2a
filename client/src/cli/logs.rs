//! `pmc logs`: the sealed log, for its readers.

mod export;
mod follow;
mod keys;
mod place;
mod proofs;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use attestation::Expect;
use attestation::secrets::Signer;
use clap::{Args, Subcommand, ValueEnum};

use self::place::{Access, Named, Place};
use self::proofs::Proofs;
use super::expectations::Expectations;
use super::verify::time_of;
use super::{Failure, print, runtime, say};
use crate::causes::{printable, printable_json};
use crate::clock;
use crate::logs::{Document, Filter, Identities, Level, Log, Reader, Report};

/// Commands below `pmc logs`.
#[derive(Debug, Subcommand)]
pub(super) enum Logs {
    /// Verify a sealed log and show its records. Records go to stdout, what was verified to stderr.
    Open(Open),
    /// Verify a sealed log: chain, signatures, evidence, readers, gaps, ends. Without an identity, nothing is opened.
    Verify(Verify),
    /// Show the records of a log that grows, verified, as they come. Ends with Ctrl-C, or when the log is taken away.
    Follow(follow::Follow),
    /// Verify a sealed log and send its records to a collector of yours, or write them to a file.
    Export(export::Export),
    /// Make a reader's pair of keys. The public half, for LOG_RECIPIENTS, is printed.
    Keygen(keys::Keygen),
    /// Sign a list of readers, for LOG_RECIPIENTS_FILE.
    Recipients(keys::Recipients),
}

/// Which log, and whom to believe.
#[derive(Debug, Args)]
struct Subject {
    /// A folder that log-sealer wrote, one with the blobs of a container, a file with what it printed, or a container of
    /// Azure Blob Storage: https://ACCOUNT.blob.core.windows.net/CONTAINER[/FOLDER][?SAS].
    log: Named,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    expectations: Expectations,
    #[command(flatten)]
    proofs: Proofs,
    /// Judge certificates and open ends at this time: RFC 3339 or Unix seconds.
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    at: Option<u64>,
    /// The operator's public key that signs lists of readers. Without it, a change of readers is believed because the
    /// attested sealer took it.
    #[arg(long, value_name = "KEY")]
    recipients_signer: Option<Signer>,
    /// Only boots whose id begins with this; may be given several times.
    #[arg(long, value_name = "ID")]
    boot: Vec<String>,
}

impl Subject {
    /// Where the log lies. Nothing is asked yet.
    fn place(&self) -> Result<Place, Failure> {
        Place::find(&self.log, &self.access, &self.boot)
    }

    /// Hands the log at a place to who reads it.
    fn read<T>(
        &self,
        place: &mut Place,
        identities: &Identities,
        read: impl FnOnce(Log<'_>, &mut Place) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let anchors = self.expectations.anchors()?;
        let policy = self.expectations.policy(Expect::Value(Vec::new()))?;
        let at = self.at.unwrap_or_else(clock::unix_now);
        let witnesses = self.proofs.witnesses(&anchors, &policy, at)?;
        let reader = Reader { identities, anchors: &anchors, policy: &policy, at };
        let log = Log::new(&place.source(), &reader)
            .with_signer(self.recipients_signer.as_ref())
            .with_boots(self.boot.clone())
            .with_witnesses(witnesses);
        read(log, place)
    }

    /// Reads the log to its end, and hands every document to `each`.
    fn read_whole(
        &self,
        identities: &Identities,
        each: &mut dyn FnMut(&Document<'_>) -> io::Result<()>,
    ) -> Result<(Report, Place), Failure> {
        let mut place = self.place()?;
        let report = self.read(&mut place, identities, |log, place| {
            let refreshed = runtime()?.block_on(place.refresh());
            refreshed.map_err(|trouble| Failure::Unusable(trouble.text()))?;
            log.finish(each).map_err(|error| Failure::unusable(&error))
        })?;
        Ok((report, place))
    }

    /// What was found there, as text.
    fn text(&self, report: &Report, place: &Place) -> Result<String, Failure> {
        let mut text = Vec::new();
        report.write(&mut text).map_err(|error| Failure::unusable(&error))?;
        let trust = self.expectations.anchors()?.trust();
        let text = String::from_utf8_lossy(&text);
        let log = printable(&place.source().name().display().to_string());
        Ok(format!("{log}\n{text}anchors: {trust}"))
    }

    /// Says what was found.
    fn tell(&self, report: &Report, place: &Place) -> Result<(), Failure> {
        say(Some(&self.text(report, place)?));
        verdict(report)
    }
}

fn verdict(report: &Report) -> Result<(), Failure> {
    if report.is_sound() { Ok(()) } else { Err(Failure::Refused(None)) }
}

/// Whether what was written was taken.
fn shown(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Unusable(format!("cannot write the records: {error}")))
        }
        _ => Ok(()),
    }
}

/// What was found, and whether records went where they should. That a log is wrong is said whatever became of them.
fn both(found: Result<(), Failure>, done: Result<(), Failure>) -> Result<(), Failure> {
    match (found, done) {
        (Err(Failure::Refused(None)), Err(Failure::Unusable(why))) => {
            Err(Failure::Refused(Some(why)))
        }
        (found, done) => done.and(found),
    }
}

/// The reader's key.
#[derive(Debug, Args)]
struct Identity {
    /// The reader's age identity, as age-keygen or `pmc logs keygen` writes it.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
}

impl Identity {
    fn read(&self) -> Result<Identities, Failure> {
        Identities::from_file(&self.identity).map_err(|error| Failure::unusable(&error))
    }
}

/// Which records are shown.
#[derive(Debug, Args)]
struct Chosen {
    /// From this time on, by the clocks of the sources: RFC 3339 or Unix seconds.
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    since: Option<u64>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    until: Option<u64>,
    /// Of this service; may be given several times.
    #[arg(long, value_name = "NAME")]
    service: Vec<String>,
    /// At least this severe: trace, debug, info, warn, error, fatal. Spans and metrics have no severity.
    #[arg(long, value_name = "LEVEL")]
    level: Option<Level>,
    /// Of this trace.
    #[arg(long, value_name = "HEX")]
    trace: Option<String>,
}

impl Chosen {
    fn filter(&self) -> Filter {
        Filter {
            since: self.since,
            until: self.until,
            services: self.service.clone(),
            level: self.level,
            trace: self.trace.clone(),
        }
    }
}

/// How records are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line a record.
    Text,
    /// OTLP/JSON, a document a line.
    Json,
}

/// Shows records on stdout.
struct Screen {
    filter: Filter,
    format: Format,
    out: io::BufWriter<io::Stdout>,
}

impl Screen {
    fn new(chosen: &Chosen, format: Format) -> Self {
        Self { filter: chosen.filter(), format, out: io::BufWriter::new(io::stdout()) }
    }

    fn show(&mut self, document: &Document<'_>) -> io::Result<()> {
        match self.format {
            Format::Text => document.write_text_of(&self.filter, &mut self.out),
            Format::Json => match document.json_of(&self.filter) {
                Some(json) => writeln!(self.out, "{}", printable_json(&json)),
                None => Ok(()),
            },
        }
    }

    /// A reader of ours that went away has seen what it wanted. A disk that is full has not.
    fn flush(&mut self) -> Result<(), Failure> {
        shown(self.out.flush())
    }
}

/// Options of `pmc logs open`.
#[derive(Debug, Args)]
pub(super) struct Open {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    chosen: Chosen,
    /// How records are shown.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Options of `pmc logs verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    subject: Subject,
    /// The reader's age identity: what is in the segments is counted as well.
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(logs: &Logs) -> Result<(), Failure> {
    match logs {
        Logs::Open(options) => open(options),
        Logs::Verify(options) => verify(options),
        Logs::Follow(options) => follow::run(options),
        Logs::Export(options) => export::run(options),
        Logs::Keygen(options) => keys::keygen(options),
        Logs::Recipients(options) => keys::recipients(options),
    }
}

fn open(options: &Open) -> Result<(), Failure> {
    let identities = options.identity.read()?;
    let mut screen = Screen::new(&options.chosen, options.format);
    let (report, place) =
        options.subject.read_whole(&identities, &mut |document| screen.show(document))?;
    let shown = screen.flush();
    both(options.subject.tell(&report, &place), shown)
}

fn verify(options: &Verify) -> Result<(), Failure> {
    let identities = match &options.identity {
        Some(file) => Identities::from_file(file).map_err(|error| Failure::unusable(&error))?,
        None => Identities::none(),
    };
    let (report, place) = options.subject.read_whole(&identities, &mut |_| Ok(()))?;
    let mut text = String::new();
    if options.json {
        let _ = writeln!(text, "{}", printable_json(&format!("{:#}", report.json())));
    } else {
        let _ = writeln!(text, "{}", options.subject.text(&report, &place)?);
    }
    print(&text);
    verdict(&report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reader_that_went_away_is_no_failure() {
        assert!(shown(Ok(())).is_ok());
        assert!(shown(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        let full = shown(Err(io::ErrorKind::StorageFull.into()));
        assert!(matches!(full, Err(Failure::Unusable(_))));
    }

    #[test]
    fn a_wrong_log_stays_wrong_where_its_records_went_nowhere() {
        let wrong = || Err(Failure::Refused(None));
        let failed = || Err(Failure::Unusable("no".to_owned()));
        assert!(both(Ok(()), Ok(())).is_ok());
        assert!(matches!(both(wrong(), Ok(())), Err(Failure::Refused(None))));
        assert!(matches!(both(Ok(()), failed()), Err(Failure::Unusable(_))));
        assert!(matches!(both(wrong(), failed()), Err(Failure::Refused(Some(_)))));
    }
}
