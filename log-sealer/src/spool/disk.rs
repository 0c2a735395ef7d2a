//! The spool's folder: one file an item, one file a cursor, one lock.
//!
//! The folder belongs to the host. Nothing is opened through a link or unless it is a plain file, what is read has a
//! bound, and what is not as this role writes it is set aside.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::item;
use super::name::{self, Kind, Name};
use crate::sealed::Sealed;
use crate::whole_file::{self, FileError, failed};

/// The file whose lock says that a process uses the folder.
const LOCK: &str = "lock";

/// How files that were set aside end.
const BROKEN: &str = ".broken";

/// The most names that are looked at.
const NAMES: usize = 1 << 20;

/// The most of the newest items that are looked at for the record before this boot.
const NEWEST: usize = 16;

/// A file system gives space in blocks of this many bytes, or fewer.
const BLOCK: u64 = 4096;

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("LOG_SPOOL cannot be used: give a folder that exists, and that this role may write to")]
    Folder(#[source] FileError),
    #[error("another log-sealer uses the folder of LOG_SPOOL: give each its own")]
    Taken,
    #[error("LOG_SPOOL holds more than {NAMES} files: empty the folder, or give another")]
    TooMany,
}

/// The folder, locked.
pub(super) struct Disk {
    folder: PathBuf,
    _lock: File,
}

/// What was in the folder.
#[derive(Default)]
pub(super) struct Found {
    /// Items by position, with what they take.
    pub(super) items: Vec<(Name, u64)>,
    /// Cursors by the sink's key, as they stand there; 0 for what is none.
    pub(super) cursors: BTreeMap<String, u64>,
    /// The newest item whose record can be read, and that record's digest.
    pub(super) newest: Option<(Name, [u8; 32])>,
    /// Files that are not the spool's.
    pub(super) foreign: usize,
    /// Files that have a name of the spool's and cannot be.
    pub(super) broken: usize,
}

/// What an item of that length takes.
pub(super) fn space(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX).saturating_add(BLOCK) / BLOCK * BLOCK
}

impl Disk {
    /// Locks the folder.
    ///
    /// # Errors
    ///
    /// [`SpoolError`].
    pub(super) fn open(folder: PathBuf) -> Result<Self, SpoolError> {
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(flags())
            .open(folder.join(LOCK))
            .map_err(|source| SpoolError::Folder(failed("opening its lock")(source)))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err(SpoolError::Taken),
            // some network file systems know no locks
            _ => Ok(Self { folder, _lock: lock }),
        }
    }

    /// Looks at what is there, and tidies up.
    ///
    /// # Errors
    ///
    /// [`SpoolError`].
    pub(super) fn scan(&self) -> Result<Found, SpoolError> {
        let unreadable = |source| SpoolError::Folder(failed("reading it")(source));
        let mut found = Found::default();
        for (number, entry) in fs::read_dir(&self.folder).map_err(unreadable)?.enumerate() {
            if number >= NAMES {
                return Err(SpoolError::TooMany);
            }
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            match name.to_str().map_or(Kind::Foreign, Kind::of) {
                // of the entry itself: a link is none
                Kind::Item(name) => match entry.metadata().ok().and_then(|meta| length(&meta)) {
                    Some(length) => found.items.push((name, space(length))),
                    None => found.broken += self.set_aside(&name),
                },
                Kind::Cursor(key) => {
                    let position = self.read_cursor(&key).unwrap_or_default();
                    found.cursors.insert(key, position);
                }
                Kind::Partial => drop(fs::remove_file(entry.path())),
                Kind::Foreign if name == LOCK || is_broken(&name) => {}
                Kind::Foreign => found.foreign += 1,
            }
        }
        found.items.sort_unstable();
        found.items.dedup_by(|(later, _), (first, _)| {
            let double = later.position == first.position;
            found.broken += if double { self.set_aside(later) } else { 0 };
            double
        });
        self.move_down(&mut found);
        found.newest = found.items.iter().rev().take(NEWEST).find_map(|(name, _)| {
            let beginning = read_at_most(&self.path(name), item::BEGINNING).ok()?;
            Some((*name, item::record_digest(&beginning, name)?))
        });
        Ok(found)
    }

    /// Whoever plants an item at a position that this role never comes to would leave none for what is put after it. All
    /// are then numbered anew, in their order, and offered to every sink again.
    fn move_down(&self, found: &mut Found) {
        if found.items.last().is_none_or(|(name, _)| name.position < name::BEGIN) {
            return;
        }
        let mut position = 0;
        found.items.retain_mut(|(name, _)| {
            // never above where it was, since positions rise: no other is replaced
            let moved = Name { position, ..*name };
            let kept = fs::rename(self.path(name), self.path(&moved)).is_ok();
            if kept {
                *name = moved;
                position += 1;
            }
            kept
        });
        found.cursors.values_mut().for_each(|cursor| *cursor = 0);
    }

    /// Writes an item.
    ///
    /// # Errors
    ///
    /// [`FileError`]; the same call may be made again.
    pub(super) fn write(&self, name: &Name, sealed: &Sealed) -> Result<(), FileError> {
        whole_file::write(&self.folder, &name.to_string(), &item::parts(sealed))
    }

    /// Reads an item. `None`: there is none any more, or something else; it has been set aside.
    ///
    /// # Errors
    ///
    /// [`FileError`]: the file system fails; the same call may be made again.
    pub(super) fn read(
        &self,
        name: &Name,
        digest: Option<&[u8; 32]>,
    ) -> Result<Option<Sealed>, FileError> {
        let path = self.path(name);
        let reading = failed("reading an item of the spool");
        let read = match fs::symlink_metadata(&path) {
            Ok(meta) if length(&meta).is_none() => None,
            Ok(_) => Some(read_at_most(&path, item::LONGEST).map_err(reading)?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(reading(error)),
        };
        let item = read.and_then(|bytes| item::parse(bytes, name, digest));
        if item.is_none() {
            self.set_aside(name);
        }
        Ok(item)
    }

    /// Removes items. One that cannot be removed is found, and delivered again, at the next start.
    pub(super) fn remove(&self, names: &[Name]) {
        for name in names {
            let _ = fs::remove_file(self.path(name));
        }
    }

    /// Keeps where a sink begins, so that it is still there after the machine lost its power: a sink that has no
    /// cursor counts as new.
    ///
    /// # Errors
    ///
    /// [`FileError`].
    pub(super) fn begin_cursor(&self, key: &str, position: u64) -> Result<(), FileError> {
        let content = format!("{position}\n");
        whole_file::write(&self.folder, &name::cursor(key), &[content.as_bytes()])
    }

    /// Keeps how far a sink is. Without it, the sink gets some items twice after the next start.
    pub(super) fn write_cursor(&self, key: &str, position: u64) {
        let _ = whole_file::replace(
            &self.folder,
            &name::cursor(key),
            format!("{position}\n").as_bytes(),
        );
    }

    /// Forgets a sink that is not configured any more.
    pub(super) fn remove_cursor(&self, key: &str) {
        let _ = fs::remove_file(self.folder.join(name::cursor(key)));
    }

    fn read_cursor(&self, key: &str) -> Option<u64> {
        let path = self.folder.join(name::cursor(key));
        let text = read_at_most(&path, 32).ok()?;
        str::from_utf8(&text).ok()?.strip_suffix('\n')?.parse().ok()
    }

    /// Gives a file a name that is not the spool's; how many were renamed. It may be gone.
    fn set_aside(&self, name: &Name) -> usize {
        let path = self.path(name);
        usize::from(fs::rename(&path, self.folder.join(format!("{name}{BROKEN}"))).is_ok())
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.folder.join(name.to_string())
    }
}

fn is_broken(name: &std::ffi::OsStr) -> bool {
    name.to_str()
        .and_then(|name| name.strip_suffix(BROKEN))
        .is_some_and(|stem| matches!(Kind::of(stem), Kind::Item(_)))
}

/// The length of what may be an item.
fn length(meta: &fs::Metadata) -> Option<usize> {
    let length = usize::try_from(meta.len()).ok()?;
    (meta.is_file() && length <= item::LONGEST).then_some(length)
}

/// No links are followed, and nothing waits for the other end of a pipe.
fn flags() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default()
}

/// The beginning of a plain file.
fn read_at_most(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(flags()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut content = Vec::new();
    file.take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut content)?;
    Ok(content)
}
