//! The keys file that today's users have: `{"keys":[{…}, …]}` (`proxy.md` part 1.5), read and changed.
//!
//! It is written as a whole, beside its place, and moved there when it is on the disk: who reads it meets the old one or
//! the new one, never a part. Who changes it holds a lock, so that the admin pages and the command line do not undo each
//! other's changes. Must not know what an entry says.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use serde_json::{Map, Value, json};
use service::plain_file;

use crate::small_file;

use super::Known;
use super::edit::{Book, EditError};
use super::entry::{self, Entry};

/// The longest file that is read: about 300,000 keys.
const MAX_LENGTH: u64 = 64 * 1024 * 1024;

/// How long a change waits for another one to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// The file as a whole cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysFileError {
    #[error("the keys file cannot be read")]
    Unreadable(#[from] io::Error),
    #[error("the keys file is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("the keys file is no JSON: line {}, column {}", .0.line(), .0.column())]
    Json(serde_json::Error),
    #[error("the keys file is not {{\"keys\":[{{…}}, …]}}")]
    Shape,
    #[error(
        "the keys file cannot be written: its folder must be writable, and mounted as a folder, since a new file takes the old one's place"
    )]
    Unwritable(#[source] io::Error),
    #[error("another process has been changing the keys file for {} s", PATIENCE.as_secs())]
    Locked,
    #[error("several entries of the keys file are named '{0}': give each its own key_id")]
    Ambiguous(String),
}

impl KeysFileError {
    /// Whether trying again may help although the file stays the same.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreadable(_) | Self::Unwritable(_) | Self::Locked => true,
            Self::TooLong | Self::Json(_) | Self::Shape | Self::Ambiguous(_) => false,
        }
    }
}

impl From<KeysFileError> for EditError {
    fn from(error: KeysFileError) -> Self {
        Self::File(Box::new(error))
    }
}

/// Reads every entry. One that cannot be used is left out and logged by its place; its text never is.
pub(super) fn read(path: &Path) -> Result<Known, KeysFileError> {
    let document = Document::read(path)?;
    let mut known = Known::default();
    for (place, entry) in document.entries.iter().enumerate() {
        match entry::read(entry) {
            Some((digest, key)) => {
                known.insert(digest, Arc::new(key));
            }
            None => tracing::warn!(place, "an entry of the keys file cannot be used"),
        }
    }
    Ok(known)
}

/// Changes the file, or leaves it as it is. Waits for the disk, and for others who change it.
pub(super) fn change<T>(
    path: &Path,
    change: impl FnOnce(&mut dyn Book) -> Result<T, EditError>,
) -> Result<T, EditError> {
    let _held = lock(path)?;
    let mut document = match Document::read(path) {
        Err(KeysFileError::Unreadable(error)) if error.kind() == ErrorKind::NotFound => {
            Document::default()
        }
        document => document?,
    };
    let done = change(&mut document)?;
    document.write(path).map_err(KeysFileError::Unwritable)?;
    Ok(done)
}

/// Every entry as it is written, for an export.
pub(super) fn entries(path: &Path) -> Result<Vec<Entry>, KeysFileError> {
    Document::read(path).map(|document| document.entries)
}

/// Every entry of such a text.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Entry>, KeysFileError> {
    Document::parse(text).map(|document| document.entries)
}

/// The lock of a file: another one beside it, as the file itself is replaced. Given back when it is closed.
fn lock(path: &Path) -> Result<File, KeysFileError> {
    let mut open = OpenOptions::new();
    // The folder may be others', too: no link is followed, and nothing waits for the other end of a pipe.
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    open.write(true).create(true).truncate(false).mode(0o600);
    open.custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let file = open.open(beside).map_err(KeysFileError::Unwritable)?;
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if begin.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(std::fs::TryLockError::WouldBlock) => return Err(KeysFileError::Locked),
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(KeysFileError::Unwritable(error));
            }
        }
    }
}

/// The file as it is written. What stands beside `keys`, or in an entry and means nothing here, stays.
#[derive(Default)]
struct Document {
    rest: Map<String, Value>,
    entries: Vec<Entry>,
}

impl Document {
    fn read(path: &Path) -> Result<Self, KeysFileError> {
        let content = plain_file::read(path, MAX_LENGTH).map_err(|error| match error.kind() {
            ErrorKind::FileTooLarge => KeysFileError::TooLong,
            _ => KeysFileError::Unreadable(error),
        })?;
        Self::parse(&content)
    }

    fn parse(content: &[u8]) -> Result<Self, KeysFileError> {
        let document: Value = serde_json::from_slice(content).map_err(KeysFileError::Json)?;
        let Value::Object(mut rest) = document else { return Err(KeysFileError::Shape) };
        let Some(Value::Array(entries)) = rest.remove("keys") else {
            return Err(KeysFileError::Shape);
        };
        let entries = entries.into_iter().map(|entry| match entry {
            Value::Object(entry) => Ok(entry),
            _ => Err(KeysFileError::Shape),
        });
        Ok(Self { entries: entries.collect::<Result<_, _>>()?, rest })
    }

    /// Readable for this user alone.
    fn write(self, path: &Path) -> io::Result<()> {
        let mut document = self.rest;
        document.insert("keys".to_owned(), json!(self.entries));
        let text = serde_json::to_vec_pretty(&document)?;
        // There is one at a time: who writes it holds the lock.
        small_file::replace(path, &text)
    }

    /// Where the entry of that id is.
    fn place(&self, id: &str) -> Result<Option<usize>, KeysFileError> {
        let is_it = |entry: &Entry| entry::read(entry).is_some_and(|(_, key)| key.id == id);
        let mut places = self.entries.iter().enumerate().filter(|(_, entry)| is_it(entry));
        let place = places.next().map(|(place, _)| place);
        if places.next().is_some() {
            return Err(KeysFileError::Ambiguous(id.to_owned()));
        }
        Ok(place)
    }

    fn at(&self, id: &str) -> Result<usize, EditError> {
        self.place(id)?.ok_or_else(|| EditError::Unknown(id.to_owned()))
    }
}

impl Book for Document {
    fn get(&self, id: &str) -> Result<Option<Entry>, EditError> {
        let place = self.place(id)?;
        Ok(place.and_then(|place| self.entries.get(place)).cloned())
    }

    fn len(&self) -> Result<usize, EditError> {
        Ok(self.entries.len())
    }

    fn add(&mut self, _: &str, _: &[u8; 32], entry: Entry) -> Result<(), EditError> {
        self.entries.push(entry);
        Ok(())
    }

    fn replace(&mut self, id: &str, entry: Entry) -> Result<(), EditError> {
        let place = self.at(id)?;
        if let Some(held) = self.entries.get_mut(place) {
            *held = entry;
        }
        Ok(())
    }

    fn remove(&mut self, id: &str) -> Result<(), EditError> {
        let place = self.at(id)?;
        self.entries.remove(place);
        Ok(())
    }
}
