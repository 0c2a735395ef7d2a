//! Files that people and pages change while the proxy runs: whether one is another than before, and putting one in the
//! place of another.
//!
//! Must not know what is in them.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A file is another one if any of these differ; an older time is as new as a newer one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    modified: Option<SystemTime>,
    /// Seconds and nanoseconds. Nobody can set it back, as they can the time above; but it may go in ticks of some
    /// milliseconds.
    changed: (i64, i64),
    length: u64,
    inode: u64,
    device: u64,
}

impl FileState {
    /// `None` if there is no file.
    ///
    /// # Errors
    ///
    /// Those of stat(2), which leave that open.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(meta) => Ok(Some(Self {
                modified: meta.modified().ok(),
                changed: (meta.ctime(), meta.ctime_nsec()),
                length: meta.len(),
                inode: meta.ino(),
                device: meta.dev(),
            })),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether it was changed so lately that another change may leave the same times.
    pub(crate) fn is_fresh(&self) -> bool {
        let now = i64::try_from(service::clock::unix_now()).unwrap_or(i64::MAX);
        self.changed.0.abs_diff(now) <= 1
    }
}

/// Puts a file there, readable for this user alone: whole, or not at all, whenever the machine stops. Two at once are the
/// caller's to prevent.
///
/// # Errors
///
/// Those of open(2), write(2), fsync(2) and rename(2).
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    let next = PathBuf::from(next);
    // A leftover of a process that was killed.
    let _ = std::fs::remove_file(&next);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&next, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
