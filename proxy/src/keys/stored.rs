//! Keys in the database. Every one is in memory, too, so that a request asks no disk; what another process changes there is
//! seen within a second, what this one changes at once.
//!
//! Must not know what an entry says.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::edit::{Book, EditError};
use super::entry::{self, Entry};
use super::{ApiKey, Known};
use crate::store::{Resident, Store, StoreError};

/// See above.
pub(super) struct Stored {
    store: Store,
    known: Arc<RwLock<Known>>,
}

impl From<StoreError> for EditError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl Stored {
    /// Reads every key.
    pub(super) async fn open(store: Store) -> Result<Self, StoreError> {
        let known = Arc::new(RwLock::new(store.run(|connection| all(connection)).await?));
        store.settle_in(Box::new(Watch(known.clone())))?;
        Ok(Self { store, known })
    }

    pub(super) fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of that digest.
    pub(super) fn get(&self, digest: &[u8; 32]) -> Option<Arc<ApiKey>> {
        self.known().get(digest).cloned()
    }

    /// Changes the keys, or leaves them as they are.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut dyn Book) -> Result<T, EditError> + Send + 'static,
    ) -> Result<T, EditError> {
        let known = self.known.clone();
        let changed = move |connection: &mut Connection| {
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(StoreError::from)?;
            let mut table = Table { transaction: &transaction, touched: Vec::new() };
            let done = change(&mut table)?;
            let touched = table.touched;
            transaction.commit().map_err(StoreError::from)?;
            for digest in touched {
                let key = one(connection, &digest)?;
                let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
                match key {
                    Some(key) => known.insert(digest, Arc::new(key)),
                    None => known.remove(&digest),
                };
            }
            Ok(done)
        };
        self.store.run(changed).await
    }

    /// Every entry as it is written, for an export.
    pub(super) async fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let entries = |connection: &mut Connection| {
            let mut select = connection.prepare("SELECT entry FROM keys ORDER BY rowid")?;
            let mut rows = select.query([])?;
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                let text: String = row.get(0)?;
                entries.extend(serde_json::from_str::<Entry>(&text).ok());
            }
            Ok::<_, StoreError>(entries)
        };
        self.store.run(entries).await
    }
}

/// Reads the keys again when another process changed them.
struct Watch(Arc<RwLock<Known>>);

impl Resident for Watch {
    fn tick(&mut self, _: &mut Connection) -> bool {
        true
    }

    fn changed(&mut self, connection: &mut Connection) -> bool {
        match all(connection) {
            Ok(known) => {
                let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
                let before = std::mem::replace(&mut *held, known);
                drop(held);
                // A hundred thousand take their time, and requests would wait for the lock.
                drop(before);
                true
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "changed keys cannot be read yet; those before stay");
                false
            }
        }
    }
}

fn all(connection: &Connection) -> Result<Known, StoreError> {
    let mut select = connection.prepare("SELECT key_hash, entry FROM keys")?;
    let mut rows = select.query([])?;
    let mut known = Known::new();
    while let Some(row) = rows.next()? {
        let digest: [u8; 32] = row.get(0)?;
        match key(&row.get::<_, String>(1)?) {
            Some(key) => {
                known.insert(digest, Arc::new(key));
            }
            None => tracing::warn!("an entry of the database's keys cannot be used"),
        }
    }
    Ok(known)
}

fn one(connection: &Connection, digest: &[u8; 32]) -> Result<Option<ApiKey>, StoreError> {
    let select = "SELECT entry FROM keys WHERE key_hash = ?1";
    let text: Option<String> =
        connection.query_row(select, [digest], |row| row.get(0)).optional()?;
    Ok(text.and_then(|text| key(&text)))
}

fn key(text: &str) -> Option<ApiKey> {
    let entry: Entry = serde_json::from_str(text).ok()?;
    entry::read(&entry).map(|(_, key)| key)
}

struct Table<'a> {
    transaction: &'a Transaction<'a>,
    /// Digests of the keys that were changed.
    touched: Vec<[u8; 32]>,
}

impl Table<'_> {
    fn touch(&mut self, id: &str) -> Result<(), StoreError> {
        let select = "SELECT key_hash FROM keys WHERE key_id = ?1";
        let digest: Option<[u8; 32]> =
            self.transaction.query_row(select, [id], |row| row.get(0)).optional()?;
        self.touched.extend(digest);
        Ok(())
    }
}

fn text(entry: &Entry) -> String {
    serde_json::Value::Object(entry.clone()).to_string()
}

impl Book for Table<'_> {
    fn get(&self, id: &str) -> Result<Option<Entry>, EditError> {
        let select = "SELECT entry FROM keys WHERE key_id = ?1";
        let text: Option<String> = self
            .transaction
            .query_row(select, [id], |row| row.get(0))
            .optional()
            .map_err(StoreError::from)?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    fn len(&self) -> Result<usize, EditError> {
        let count = "SELECT count(*) FROM keys";
        let count: i64 =
            self.transaction.query_row(count, [], |row| row.get(0)).map_err(StoreError::from)?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    fn add(&mut self, id: &str, digest: &[u8; 32], entry: Entry) -> Result<(), EditError> {
        let insert = "INSERT INTO keys (key_id, key_hash, entry) VALUES (?1, ?2, ?3)";
        let values = (id, digest, text(&entry));
        self.transaction.execute(insert, values).map_err(StoreError::from)?;
        self.touched.push(*digest);
        Ok(())
    }

    fn replace(&mut self, id: &str, entry: Entry) -> Result<(), EditError> {
        self.touch(id)?;
        let update = "UPDATE keys SET entry = ?2 WHERE key_id = ?1";
        self.transaction.execute(update, (id, text(&entry))).map_err(StoreError::from)?;
        Ok(())
    }

    fn remove(&mut self, id: &str) -> Result<(), EditError> {
        self.touch(id)?;
        let delete = "DELETE FROM keys WHERE key_id = ?1";
        self.transaction.execute(delete, [id]).map_err(StoreError::from)?;
        Ok(())
    }
}
