//! Copies of the database in other files, encrypted with the same key, and back.
//!
//! Must not know what is in it.

use std::path::{Path, PathBuf};

use super::cipher;
use super::key::Candidates;
use super::rekey::{self, beside};
use super::serving::Serving;
use super::{KeySource, StoreError, must_exist, schema};

/// Writes a consistent copy, encrypted with the newest key, while others go on. The file must not exist.
pub(crate) async fn back_up(path: PathBuf, key: KeySource, to: PathBuf) -> Result<(), StoreError> {
    must_exist(&path)?;
    with_keys(path, key, move |path, keys| {
        if to.exists() {
            return Err(StoreError::Refused("there is a file of that name: name another one"));
        }
        let (connection, _) = cipher::open_with_any(path, keys)?;
        let next = beside(&to, ".part");
        rekey::copy(&connection, &next, &keys.newest)?;
        let renamed = std::fs::rename(&next, &to).and_then(|()| cipher::sync_folder(&to));
        renamed.map_err(StoreError::file("cannot write", &to))
    })
    .await
}

/// Puts a copy into the database's place, after every page of it was authenticated. The database that was there is kept
/// beside it, as `.replaced`. The proxy must not run.
pub(crate) async fn restore(
    path: PathBuf,
    key: KeySource,
    from: PathBuf,
) -> Result<(), StoreError> {
    with_keys(path, key, move |path, keys| {
        if !from.is_file() {
            return Err(StoreError::Refused("there is no such backup"));
        }
        let _serving = Serving::at_once(path)?;
        // Into a file of its own first: the backup itself is only read.
        let next = beside(path, ".restored");
        let _ = std::fs::remove_file(&next);
        let copied = cipher::prepare_file(&next).and_then(|()| {
            let copied = std::fs::copy(&from, &next).map(drop);
            copied.map_err(StoreError::file("cannot read", &from))
        });
        copied?;
        let (mut connection, _) = cipher::open_with_any(&next, keys)?;
        verify(&connection, &next)?;
        schema::migrate(&mut connection)?;
        connection.close().map_err(|(_, error)| StoreError::from(error))?;
        if path.exists() {
            retire(path, keys)?;
        }
        let renamed = std::fs::rename(&next, path).and_then(|()| cipher::sync_folder(path));
        renamed.map_err(StoreError::file("cannot replace", path))
    })
    .await
}

/// Moves the database away, with its log in it. What cannot be opened is moved as it is.
fn retire(path: &Path, keys: &Candidates) -> Result<(), StoreError> {
    if let Ok((connection, _)) = cipher::open_with_any(path, keys) {
        // Alone, or not at all: a proxy that runs would go on writing to the old file. SQLite leaves its write-ahead log only
        // when nobody else has the database open.
        let journal: String =
            connection.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get(0))?;
        if journal != "delete" {
            return Err(StoreError::Locked);
        }
        connection.close().map_err(|(_, error)| StoreError::from(error))?;
    }
    for ending in ["", "-wal", "-shm"] {
        let old = beside(path, ending);
        if old.exists() {
            let kept = beside(path, &format!(".replaced{ending}"));
            std::fs::rename(&old, &kept).map_err(StoreError::file("cannot move away", &old))?;
        }
    }
    Ok(())
}

/// Authenticates every page and checks that they make a database.
pub(crate) async fn check(path: PathBuf, key: KeySource) -> Result<(), StoreError> {
    must_exist(&path)?;
    with_keys(path, key, |path, keys| {
        let (connection, _) = cipher::open_with_any(path, keys)?;
        verify(&connection, path)
    })
    .await
}

fn verify(connection: &rusqlite::Connection, path: &Path) -> Result<(), StoreError> {
    cipher::authenticate_pages(connection, path)?;
    let sound: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if sound == "ok" { Ok(()) } else { Err(StoreError::Damaged) }
}

async fn with_keys<T: Send + 'static>(
    path: PathBuf,
    key: KeySource,
    work: impl FnOnce(&Path, &Candidates) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let keys = key.candidates(&path).await?;
    let done = tokio::task::spawn_blocking(move || work(&path, &keys)).await;
    done.map_err(|_| StoreError::Closed)?
}
