//! Events in a file, one line each, in the clear: for people who read the log of the reference's sidecar that way
//! (contract `skr.md` part 1.3: `level=info msg=…`). Only roles whose table has the variable write one.
//!
//! A request never waits for the file: lines go through a bounded queue to a thread of their own, and what does not fit
//! is counted. Must not know what may stand in an event: the events are those of the sealed log, which hold no secret.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rustix::fs::OFlags;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// The name of the variable.
pub(crate) const VARIABLE: &str = "LogFile";

/// Lines that wait for the thread.
const QUEUE: usize = 1024;

/// The longest line, in bytes; the rest of it is cut off.
const LINE: usize = 4096;

/// The most that one process writes. What comes after goes to the sealed log alone.
const WHOLE: u64 = 64 * 1024 * 1024;

/// How long the last lines may take to be written.
const FLUSH: Duration = Duration::from_secs(1);

/// Where the file is, or will be.
#[derive(Clone, Debug)]
pub(crate) struct Place(PathBuf);

/// Why there can be no file.
#[derive(Debug, thiserror::Error)]
#[error("must be a file in a folder that exists")]
pub(crate) struct NotAPlace;

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let path = PathBuf::from(text);
        let folder = path.parent().map(|folder| match folder.as_os_str().is_empty() {
            true => ".".into(),
            false => folder.to_owned(),
        });
        let there = path.file_name().is_some() && folder.is_some_and(|folder| folder.is_dir());
        if there { Ok(Self(path)) } else { Err(NotAPlace) }
    }
}

/// The file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be written to {path}")]
pub(crate) struct LogFileError {
    path: PathBuf,
    source: io::Error,
}

enum Order {
    Write(String),
    /// Everything before this is written when the answer comes.
    Flush(SyncSender<()>),
}

/// The way to the file. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct LogFile {
    orders: SyncSender<Order>,
    dropped: Arc<AtomicU64>,
}

impl LogFile {
    /// Opens the file, readable by everybody and only ever appended to, and starts the thread that writes it.
    pub(crate) fn open(Place(path): &Place) -> Result<Self, LogFileError> {
        let failed = |source| LogFileError { path: path.clone(), source };
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o644).custom_flags(flags);
        let file = options.open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        Self::start(file).map_err(failed)
    }

    fn start(file: File) -> io::Result<Self> {
        let (orders, waiting) = sync_channel(QUEUE);
        let dropped = Arc::<AtomicU64>::default();
        let writer = Writer { file, written: 0, dropped: dropped.clone() };
        let thread = std::thread::Builder::new().name("log-file".to_owned());
        thread.spawn(move || writer.write(&waiting))?;
        Ok(Self { orders, dropped })
    }

    /// Waits until what was written before is in the file, within a bound. Blocks.
    pub(crate) fn flush(&self) {
        let (answer, answered) = sync_channel(1);
        if self.orders.send(Order::Flush(answer)).is_ok() {
            let _ = answered.recv_timeout(FLUSH);
        }
    }
}

/// The thread's state.
struct Writer {
    file: File,
    written: u64,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn write(mut self, waiting: &Receiver<Order>) {
        for order in waiting {
            match order {
                Order::Write(line) => {
                    let dropped = self.dropped.swap(0, Ordering::Relaxed);
                    if dropped > 0 {
                        self.line(&format!(
                            "level=warning msg=events were dropped count={dropped}\n"
                        ));
                    }
                    self.line(&line);
                }
                Order::Flush(answer) => {
                    let _ = answer.try_send(());
                }
            }
        }
    }

    /// A disk that is full is no reason to stop serving.
    fn line(&mut self, line: &str) {
        self.written = self.written.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
        if self.written <= WHOLE {
            let _ = self.file.write_all(line.as_bytes());
        }
    }
}

impl<S: Subscriber> Layer<S> for LogFile {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let line = line.finish(*event.metadata().level());
        if self.orders.try_send(Order::Write(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One event as text: its message, then its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn finish(self, level: Level) -> String {
        let level = match level {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let mut line = format!("level={level} msg={}{}", self.message, self.fields);
        line.truncate(line.floor_char_boundary(LINE));
        // What an outside party said may be in it: a line of the file is an event, whatever that is.
        let mut line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        line.push('\n');
        line
    }

    fn field(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a text cannot fail.
        let _ = match field.name() {
            "message" => self.message.write_fmt(value),
            name => self.fields.write_fmt(format_args!(" {name}={value}")),
        };
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.field(field, format_args!("{}", crate::chain(value)));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn place(text: &str) -> Place {
        text.parse().unwrap()
    }

    #[test]
    fn an_event_is_one_line_as_the_reference_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("skr.log");
        std::fs::write(&path, "before\n").unwrap();
        let file = LogFile::open(&place(path.to_str().unwrap())).unwrap();
        let subscriber = tracing_subscriber::registry().with(file.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("Starting");
            let error: &dyn std::error::Error = &std::fmt::Error;
            tracing::warn!(error, code = 7, said = "a\nlevel=fatal msg=b\u{1b}[31m", "it failed");
            tracing::debug!("{}", "x".repeat(2 * LINE));
        });
        file.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["before", "level=info msg=Starting"]);
        let error = "error=an error occurred when formatting an argument";
        let said = "said=a level=fatal msg=b [31m";
        assert_eq!(lines[2], format!("level=warning msg=it failed {error} code=7 {said}"));
        assert_eq!((lines[3].len(), lines.len()), (LINE, 4));
    }

    #[test]
    fn a_full_queue_delays_nobody_and_is_told() {
        let (orders, waiting) = sync_channel(1);
        let dropped = Arc::<AtomicU64>::default();
        let file = LogFile { orders, dropped: dropped.clone() };
        let subscriber = tracing_subscriber::registry().with(file);
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..5 {
                tracing::info!("event");
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = File::create(&path).unwrap();
        Writer { file, written: 0, dropped }.write(&waiting);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "level=warning msg=events were dropped count=4\nlevel=info msg=event\n");
    }

    #[test]
    fn it_ends_at_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = File::create(&path).unwrap();
        let mut writer = Writer { file, written: WHOLE - 4, dropped: Arc::default() };
        writer.line("1234");
        writer.line("5");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1234");
    }

    #[test]
    fn only_a_plain_file_in_a_folder_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        assert!(path("nowhere/log").parse::<Place>().is_err());
        assert!("/".parse::<Place>().is_err());
        let target = folder.path().join("target");
        std::fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, path("link")).unwrap();
        assert!(LogFile::open(&place(&path("link"))).is_err(), "what is linked to is not written");
        std::fs::create_dir(path("folder")).unwrap();
        assert!(LogFile::open(&place(&path("folder"))).is_err());
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        assert!(LogFile::open(&place(&path("socket"))).is_err());
        use std::os::unix::fs::PermissionsExt as _;
        LogFile::open(&place(&path("log"))).unwrap();
        let mode = std::fs::metadata(path("log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o133, 0, "{mode:o}");
    }
}
