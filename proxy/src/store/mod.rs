//! What outlives the process: one database, encrypted and authenticated page by page (SQLCipher 4), on storage that is
//! the host's.
//!
//! All work on it runs on one thread of its own, which a bounded queue feeds: a request never waits for a disk. Long
//! readings have a second thread and connection, so that they do not hold writing up. Must not know what is kept:
//! `ledger` and `keys` bring their own statements; only the tables' form is here (`schema`).

mod backup;
mod cipher;
mod epoch;
mod key;
mod place;
mod rekey;
mod schema;
mod serving;
mod thread;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

pub(crate) use backup::{back_up, check, restore};
pub(crate) use epoch::Epoch;
pub(crate) use key::KeySource;
pub(crate) use place::{KEY_VAR, Place, STATE_VAR, Settings};
pub(crate) use thread::Resident;

use crate::store::serving::Serving;
use crate::store::thread::Worker;

/// Why the database did not do what it was asked for. Holds no data of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Too much is asked of it.
    #[error("the database is busy: try again")]
    Busy,
    /// Its thread has ended, as the process does.
    #[error("the database is closed")]
    Closed,
    /// Another process holds it.
    #[error("another process has locked the database: end it, or try again")]
    Locked,
    /// Another process serves from it.
    #[error(
        "another process serves from {0}: end it, or give this one another PROXY_STATE; one proxy at a time keeps its budgets"
    )]
    Served(String),
    /// The disk is full, or another bound is reached.
    #[error("the database cannot grow: the disk is full, or a limit of the file's size is reached")]
    Full,
    /// Its file, or one beside it.
    #[error("{what} {path}")]
    File {
        /// What could not be done.
        what: &'static str,
        /// With which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not open with any key that there is.
    #[error(
        "{0} is no database of this key: another key's, another program's, or damaged at its beginning. It is left as it is. Put the right key or a backup into place, or move it away to begin anew"
    )]
    Foreign(String),
    /// Some page is not what was written.
    #[error(
        "{0} is damaged or was altered: {1} of its pages fail authentication. It is left as it is. Restore a backup (`proxy state restore`), or move it away to begin anew"
    )]
    Altered(String, usize),
    /// A page that was read is not what was written.
    #[error("the database is damaged or was altered: restore a backup (`proxy state restore`)")]
    Damaged,
    /// A later version of this software made it.
    #[error(
        "the database has form {0}, and this version knows forms up to {known}: run the newer version, or restore a backup of before",
        known = schema::NEWEST
    )]
    Newer(i64),
    /// The file system gives it no shared memory.
    #[error(
        "{0} lies on a file system without shared memory or locks, which SQLite's write-ahead log needs: choose another one"
    )]
    NoLog(String),
    /// There is no key.
    #[error("the key of the stored state is missing")]
    NoKey(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is asked for makes no sense with this database.
    #[error("{0}")]
    Refused(&'static str),
    /// Anything else.
    #[error("the database failed")]
    Sqlite(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged,
            _ => Self::Sqlite(error),
        }
    }
}

impl StoreError {
    fn file(what: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::File { what, path, source }
    }
}

/// Before a key is looked for, and perhaps made.
fn must_exist(path: &std::path::Path) -> Result<(), StoreError> {
    path.exists().then_some(()).ok_or(StoreError::Refused(
        "there is no database yet: start the proxy once, or set PROXY_STATE as it is set there",
    ))
}

/// The database, open. Clones share it.
#[derive(Clone)]
pub(crate) struct Store {
    writer: Worker,
    /// `None` in memory: there is no second view of it.
    reader: Option<Worker>,
    /// Which start of a process on this database this is.
    pub(crate) epoch: Epoch,
}

/// The longest database in memory: 256 MiB.
const MEMORY_PAGES: u32 = 65_536;

impl Store {
    /// A database that ends with the process.
    pub(crate) fn in_memory(now: u64) -> Result<Self, StoreError> {
        let mut connection = Connection::open_in_memory()?;
        connection.pragma_update(None, "max_page_count", MEMORY_PAGES)?;
        cipher::harden(&connection)?;
        schema::migrate(&mut connection)?;
        let epoch = Epoch::begin(&mut connection, now)?;
        Ok(Self { writer: Worker::start(connection, "state", None)?, reader: None, epoch })
    }

    /// Opens the database of that path, or makes one, to serve from it. Takes as long as it takes to authenticate every page
    /// of it, and for the process before this one to end.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it is foreign, altered, newer, locked, served from; the file is left as it is then.
    pub(crate) async fn open(path: PathBuf, key: KeySource, now: u64) -> Result<Self, StoreError> {
        let serving = Serving::begin(&path).await?;
        let keys = key.candidates(&path).await?;
        let opened =
            tokio::task::spawn_blocking(move || Self::open_blocking(&path, &keys, now, serving));
        opened.await.map_err(|_| StoreError::Closed)?
    }

    fn open_blocking(
        path: &std::path::Path,
        keys: &key::Candidates,
        now: u64,
        serving: Serving,
    ) -> Result<Self, StoreError> {
        cipher::prepare_file(path)?;
        let (connection, key) = cipher::open_with_any(path, keys)?;
        cipher::authenticate_pages(&connection, path)?;
        let mut connection = rekey::to_newest(connection, path, key, keys)?;
        schema::migrate(&mut connection)?;
        let epoch = Epoch::begin(&mut connection, now)?;
        let reader = cipher::open(path, &keys.newest, cipher::Access::Read)?;
        Ok(Self {
            writer: Worker::start(connection, "state", Some(serving))?,
            reader: Some(Worker::start(reader, "state-reader", None)?),
            epoch,
        })
    }

    /// Opens a database that another process may be serving from, to look into it or to change it: without a word of it in
    /// the list of starts, and without another key.
    pub(crate) async fn visit(path: PathBuf, key: KeySource) -> Result<Self, StoreError> {
        must_exist(&path)?;
        let keys = key.candidates(&path).await?;
        let opened = tokio::task::spawn_blocking(move || {
            let (mut connection, _) = cipher::open_with_any(&path, &keys)?;
            schema::migrate(&mut connection)?;
            let epoch = Epoch::newest(&connection)?;
            Ok(Self { writer: Worker::start(connection, "state", None)?, reader: None, epoch })
        });
        opened.await.map_err(|_| StoreError::Closed)?
    }

    /// Has work done on the database, all of it or nothing if the work says so.
    ///
    /// # Errors
    ///
    /// Those of the work; [`StoreError::Busy`] if too much waits already, [`StoreError::Closed`].
    pub(crate) async fn run<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        Self::on(&self.writer, work).await
    }

    /// The same for what only reads, and may take long.
    pub(crate) async fn read<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        Self::on(self.reader.as_ref().unwrap_or(&self.writer), work).await
    }

    async fn on<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        worker: &Worker,
        work: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let (sender, done) = oneshot::channel();
        worker.give(Box::new(move |connection| {
            // Who asked may have left; the work is done all the same.
            let _ = sender.send(work(connection));
        }))?;
        done.await.map_err(|_| StoreError::Closed)?
    }

    /// Has something live on the database's thread, beside the work that is asked for.
    pub(crate) fn settle_in(&self, resident: Box<dyn Resident>) -> Result<(), StoreError> {
        self.writer.settle_in(resident)
    }

    /// Lets the residents finish and closes the file. Work that comes later is refused.
    pub(crate) async fn close(&self) {
        if let Some(reader) = &self.reader {
            reader.stop().await;
        }
        self.writer.stop().await;
    }
}
