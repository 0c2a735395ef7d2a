//! Opening the file: the key, the cipher's settings, and whether every page is what was written.
//!
//! Each page is encrypted with AES-256-CBC under a random initialisation vector, and HMAC-SHA-512 over ciphertext, vector
//! and page number stands beside it; the write-ahead log holds the same pages. So what is altered is refused when it is
//! read. What HMAC cannot see is an *older* page, or file, in a newer one's place (LIMITATIONS). Must not know where a key
//! comes from, or what the pages hold.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use service::plain_file;
use zeroize::Zeroizing;

use super::StoreError;
use super::key::{Candidates, StateKey};

/// How long another process is waited for. All that waits here is a thread of its own.
const BUSY: Duration = Duration::from_secs(2);

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Those of SQLCipher 4, written down so that another version's defaults change nothing. It says nothing of its own on
/// standard error, which the cloud's operator reads: its refusals come back as errors.
const SETTINGS: &str = "
    PRAGMA cipher_log_level = NONE;
    PRAGMA cipher_page_size = 4096;
    PRAGMA cipher_use_hmac = ON;
    PRAGMA cipher_hmac_algorithm = HMAC_SHA512;
    PRAGMA cipher_kdf_algorithm = PBKDF2_HMAC_SHA512;
    PRAGMA cipher_plaintext_header_size = 0;
";

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It changes things.
    Write,
    /// It only reads.
    Read,
}

/// Makes the file if there is none, for this user alone: SQLite gives its log the same rights.
pub(super) fn prepare_file(path: &Path) -> Result<(), StoreError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(file) => {
            let synced = file.sync_all().and_then(|()| sync_folder(path));
            synced.map_err(StoreError::file("cannot write", path))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => check_file(path),
        Err(error) => Err(StoreError::file(
            "there is no database, and its folder does not take one: make it writable, or set PROXY_STATE=memory:",
            path,
        )(error)),
    }
}

/// Whether the file is one at all, and of whole pages.
fn check_file(path: &Path) -> Result<(), StoreError> {
    // A pipe in its place would keep SQLite waiting.
    let opened = plain_file::open(path).and_then(|file| file.metadata());
    let length = opened.map_err(StoreError::file("cannot open", path))?.len();
    // SQLite takes a file of less than a page for an empty one, and would begin anew in it.
    if length % PAGE == 0 {
        Ok(())
    } else {
        Err(StoreError::Altered(path.display().to_string(), 1))
    }
}

/// Makes a file's name last.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Opens the file with the first key that fits.
pub(super) fn open_with_any<'a>(
    path: &Path,
    keys: &'a Candidates,
) -> Result<(Connection, &'a StateKey), StoreError> {
    check_file(path)?;
    for key in keys.all() {
        match open(path, key, Access::Write) {
            Ok(connection) => return Ok((connection, key)),
            Err(StoreError::Foreign(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Foreign(path.display().to_string()))
}

/// Opens a file that is there with a key.
pub(super) fn open(path: &Path, key: &StateKey, access: Access) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch(&keying(key))?;
    connection.execute_batch(SETTINGS)?;
    // The first page that is read tells whether the key fits.
    let foreign = |error: rusqlite::Error| match StoreError::from(error) {
        StoreError::Damaged => StoreError::Foreign(path.display().to_string()),
        error => error,
    };
    connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
        .map_err(foreign)?;
    harden(&connection)?;
    let journal: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if journal != "wal" {
        return Err(StoreError::NoLog(path.display().to_string()));
    }
    if access == Access::Read {
        connection.pragma_update(None, "query_only", true)?;
    }
    Ok(connection)
}

/// The statement that hands a key over: 32 bytes as they are, so that nothing is derived of a password.
pub(super) fn keying(key: &StateKey) -> Zeroizing<String> {
    // One piece of memory, so that nothing is left behind as it grows.
    let mut statement = Zeroizing::new(String::with_capacity(128));
    statement.push_str("PRAGMA key = ");
    statement.push_str(&key.literal());
    statement.push(';');
    statement
}

/// What holds for every connection, encrypted or not. Nothing of a query is ever put into a file of its own, no
/// statement can change the tables' description by hand, and a commit is on the disk when it is said to be.
pub(super) fn harden(connection: &Connection) -> Result<(), StoreError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "synchronous", "full")?;
    // A long reading lets the log grow; afterwards it is cut again.
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    Ok(())
}

/// Reads every page of the file, with its log moved into it, and refuses it if one is not what was written.
pub(super) fn authenticate_pages(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    // Another process that reads may keep a part of the log from being moved; it is authenticated as it is read.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    let mut check = connection.prepare("PRAGMA cipher_integrity_check")?;
    let mut problems = check.query([])?;
    let mut altered = 0;
    while problems.next()?.is_some() {
        altered += 1;
    }
    if altered == 0 {
        Ok(())
    } else {
        Err(StoreError::Altered(path.display().to_string(), altered))
    }
}
