//! Which process serves from the database: one at a time.
//!
//! A lock on a file beside it, which the kernel gives back whatever ends the process, and which is a matter of all machines
//! where a share's locks are. SQLite's own locks do not say it: commands look into the database while it is served from.
//! Must not know what is served.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use service::lifecycle;
use tokio::time::Instant;

use super::StoreError;
use super::rekey::beside;

/// How long a start waits for the process before it: as long as that one may take to stop, open requests included.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How often it looks.
const AGAIN: Duration = Duration::from_millis(100);

/// Held by the process that serves, until its last connection to the database is closed.
pub(super) struct Serving(#[expect(dead_code, reason = "closing it gives the lock back")] File);

impl Serving {
    /// Waits for the process before this one to end.
    ///
    /// # Errors
    ///
    /// It does not, or there can be no such lock.
    pub(super) async fn begin(path: &Path) -> Result<Self, StoreError> {
        let begin = Instant::now();
        let mut is_told = false;
        loop {
            let path = PathBuf::from(path);
            let tried = tokio::task::spawn_blocking(move || Self::at_once(&path)).await;
            match tried.map_err(|_| StoreError::Closed)? {
                Err(StoreError::Served(_)) if begin.elapsed() < PATIENCE => {}
                done => return done,
            }
            if !std::mem::replace(&mut is_told, true) {
                lifecycle!("waiting for another proxy to let go of the state");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The same, now or not at all. Waits for the disk.
    pub(super) fn at_once(path: &Path) -> Result<Self, StoreError> {
        let mut open = OpenOptions::new();
        // The folder may be others', too: no link is followed, and nothing waits for the other end of a pipe.
        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
        open.write(true).create(true).truncate(false).mode(0o600);
        open.custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
        let file = open.open(beside(path, ".serving")).map_err(StoreError::file(
            "the database's folder is not there or not writable: make it so, or set PROXY_STATE=memory:",
            path,
        ))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::Served(path.display().to_string())),
            Err(TryLockError::Error(error)) => Err(StoreError::file("cannot lock", path)(error)),
        }
    }
}
