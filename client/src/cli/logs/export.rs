//! `pmc logs export`: verified records, to where the reader wants them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::runtime::Runtime;

use super::{Chosen, Identity, Subject, both};
use crate::cli::{Failure, private_file, runtime, say};
use crate::logs::{Document, Exporter, Filter};
use crate::offline;

/// The longest file of certificates that is read, in bytes.
const MAX_ROOTS: usize = 1024 * 1024;

/// The longest file of headers that is read, in bytes.
const MAX_HEADERS: usize = 64 * 1024;

/// Options of `pmc logs export`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Export {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    chosen: Chosen,
    /// Send to this collector by OTLP/HTTP with JSON: https://host[:port][/path], or http:// on this machine.
    #[arg(long, value_name = "URL", required_unless_present = "out")]
    to: Option<String>,
    /// The collector's authorities (PEM) instead of the public web's.
    #[arg(long, value_name = "FILE", requires = "to")]
    to_roots: Option<PathBuf>,
    /// Headers for the collector, a line each (`name: value`): a credential, say. Only its owner may be able to read it.
    #[arg(long, value_name = "FILE", requires = "to")]
    to_headers: Option<PathBuf>,
    /// Write OTLP/JSON, a document a line, to this file, which must not be there yet. Only its owner can read it.
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    out: Option<PathBuf>,
}

/// Where documents go.
enum Goal {
    Collector(Runtime, Box<Exporter>),
    File(PathBuf, BufWriter<File>),
}

/// Runs the command.
pub(super) fn run(options: &Export) -> Result<(), Failure> {
    let identities = options.identity.read()?;
    let filter = options.chosen.filter();
    let mut goal = options.goal()?;
    let (report, place) =
        options.subject.read_whole(&identities, &mut |document| goal.take(document, &filter))?;
    let found = options.subject.tell(&report, &place);
    both(found, goal.finish())
}

impl Export {
    fn goal(&self) -> Result<Goal, Failure> {
        if let Some(path) = &self.out {
            return create(path)
                .map(|file| Goal::File(path.clone(), BufWriter::new(file)))
                .map_err(|error| named(path, &error));
        }
        let url = self.to.as_deref().unwrap_or_default();
        let roots = match &self.to_roots {
            Some(path) => {
                Some(offline::read(path, MAX_ROOTS).map_err(|error| Failure::unusable(&error))?)
            }
            None => None,
        };
        let mut exporter = Exporter::new(url, roots.as_deref())
            .map_err(|error| Failure::Unusable(format!("--to: {error}")))?;
        if let Some(path) = &self.to_headers {
            let text = private_file::read(path, MAX_HEADERS)?;
            let text = std::str::from_utf8(&text).map_err(|error| Failure::unusable(&error))?;
            exporter = exporter
                .with_headers(text)
                .map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))?;
        }
        Ok(Goal::Collector(runtime()?, Box::new(exporter)))
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn named(path: &Path, error: &io::Error) -> Failure {
    Failure::Unusable(format!("{}: {error}", path.display()))
}

impl Goal {
    fn take(&mut self, document: &Document<'_>, filter: &Filter) -> io::Result<()> {
        let Some(json) = document.json_of(filter) else { return Ok(()) };
        match self {
            Self::Collector(runtime, exporter) => {
                runtime.block_on(exporter.take(document.signal(), &json)).map_err(io::Error::other)
            }
            Self::File(_, file) => writeln!(file, "{json}"),
        }
    }

    fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Collector(runtime, mut exporter) => {
                let exported = runtime.block_on(exporter.finish());
                let exported = exported.map_err(|error| Failure::unusable(&error))?;
                say(Some(&format!("{} requests were taken", exported.requests)));
                if exported.rejected > 0 {
                    let rejected = exported.rejected;
                    return Err(Failure::Refused(Some(format!(
                        "the collector did not keep {rejected} records, spans or points"
                    ))));
                }
                Ok(())
            }
            Self::File(path, file) => file
                .into_inner()
                .map_err(io::IntoInnerError::into_error)
                .and_then(|file| file.sync_all())
                .map_err(|error| named(&path, &error)),
        }
    }
}
