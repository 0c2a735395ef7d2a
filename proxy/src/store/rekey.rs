//! Another key for the same state: everything is written into a new file, which takes the old one's place.
//!
//! At every moment there is one good file at that place: the old one until the new one is whole and on the disk, then the
//! new one. Must not know why the key is another.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::cipher::{self, Access};
use super::key::{Candidates, StateKey};
use super::{StoreError, schema};

/// Where the new file grows.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Encrypts the file with the newest key, unless it is already.
pub(super) fn to_newest(
    connection: Connection,
    path: &Path,
    key: &StateKey,
    keys: &Candidates,
) -> Result<Connection, StoreError> {
    if key.version == keys.newest.version {
        keys.remember(path)?;
        return Ok(connection);
    }
    let next = beside(path, ".rekeyed");
    copy(&connection, &next, &keys.newest)?;
    // With the last connection SQLite moves the log into the old file and takes it away.
    connection.close().map_err(|(_, error)| StoreError::from(error))?;
    let renamed = std::fs::rename(&next, path).and_then(|()| cipher::sync_folder(path));
    renamed.map_err(StoreError::file("cannot replace", path))?;
    keys.remember(path)?;
    tracing::info!(version = keys.newest.version, "the state is encrypted with a newer key");
    cipher::open(path, &keys.newest, Access::Write)
}

/// A whole, consistent copy in a new file, on the disk when this returns.
pub(super) fn copy(connection: &Connection, to: &Path, key: &StateKey) -> Result<(), StoreError> {
    // A leftover of a copy that was cut off.
    let _ = std::fs::remove_file(to);
    cipher::prepare_file(to)?;
    let name = to.to_str().ok_or(StoreError::Refused("the path must be UTF-8"))?;
    connection.execute("ATTACH DATABASE ?1 AS copy KEY ?2", (name, key.attaching().as_str()))?;
    let copied = copy_attached(connection);
    let detached = connection.execute_batch("DETACH DATABASE copy");
    copied?;
    detached?;
    let synced = std::fs::File::open(to).and_then(|file| file.sync_all());
    synced.map_err(StoreError::file("cannot write", to))
}

fn copy_attached(connection: &Connection) -> Result<(), StoreError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if usize::try_from(version).is_ok_and(|version| version > schema::NEWEST) {
        return Err(StoreError::Newer(version));
    }
    // One transaction: what others write meanwhile is in it or is not.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let copied = connection
        .query_row("SELECT sqlcipher_export('copy')", [], |_| Ok(()))
        .and_then(|()| connection.pragma_update(Some("copy"), "user_version", version));
    let end = if copied.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = connection.execute_batch(end);
    copied?;
    ended?;
    Ok(())
}
