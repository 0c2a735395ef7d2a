//! What the admin pages and the command line do with keys. A change is on the disk, and in force, when it returns.
//!
//! Must not know who asks, or whether they may.

use std::sync::Arc;

use serde_json::{Value, json};

use super::edit::{self, Book, Change, EditError, Made, New, Rotation};
use super::{ApiKey, Keys, entry, file};

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `API_KEYS`, or the sealed secrets: it is changed there, by their owner.
    List,
    /// The keys file.
    File,
    /// The database.
    Database,
}

/// A key, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) key: Arc<ApiKey>,
    pub(crate) place: Place,
}

impl Listed {
    /// Whether it can be changed here.
    pub(crate) fn is_editable(&self) -> bool {
        self.place != Place::List
    }
}

impl Keys {
    /// Every key, the oldest first; those without a time of creation before all others. Computes for long where there are
    /// many: not for threads that serve clients.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let mut all: Vec<Listed> = Vec::new();
        self.each(|place, key| all.push(Listed { key: key.clone(), place }));
        all.sort_by(|one, other| {
            let order = |key: &ApiKey| key.created_at.unwrap_or(f64::NEG_INFINITY);
            let (one, other) = (&one.key, &other.key);
            order(one).total_cmp(&order(other)).then_with(|| one.id.cmp(&other.id))
        });
        all
    }

    /// The key with that id. Looks at every key.
    pub(crate) fn find(&self, id: &str) -> Option<Listed> {
        let mut found = None;
        self.each(|place, key| {
            if key.id == id && found.is_none() {
                found = Some(Listed { key: key.clone(), place });
            }
        });
        found
    }

    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`EditError::Invalid`], [`EditError::TooMany`], or it cannot be kept.
    pub(crate) async fn create(self: &Arc<Self>, new: New, now: u64) -> Result<Made, EditError> {
        self.change(self.home, move |book, taken| edit::create(book, new, now, taken)).await
    }

    /// Changes a key: revokes it, makes it good again, gives it other limits.
    ///
    /// # Errors
    ///
    /// [`EditError::Unknown`], [`EditError::NotEditable`], [`EditError::Invalid`], or it cannot be kept.
    pub(crate) async fn update(
        self: &Arc<Self>,
        id: &str,
        change: Change,
        now: u64,
    ) -> Result<Arc<ApiKey>, EditError> {
        let (place, id) = self.to_change(id).await?;
        self.change(place, move |book, _| edit::update(book, &id, change, now)).await
    }

    /// Makes a new key in a key's place.
    ///
    /// # Errors
    ///
    /// As [`Keys::update`].
    pub(crate) async fn rotate(
        self: &Arc<Self>,
        id: &str,
        rotation: Rotation,
        now: u64,
    ) -> Result<Made, EditError> {
        let (place, id) = self.to_change(id).await?;
        self.change(place, move |book, taken| edit::rotate(book, &id, rotation, now, taken)).await
    }

    /// Takes a key away for good.
    ///
    /// # Errors
    ///
    /// [`EditError::Unknown`], [`EditError::NotEditable`], or that cannot be kept.
    pub(crate) async fn delete(self: &Arc<Self>, id: &str) -> Result<(), EditError> {
        let (place, id) = self.to_change(id).await?;
        self.change(place, move |book, _| edit::delete(book, &id)).await
    }

    /// Brings in the entries of a keys file; how many, and how many were left out, since their id or key is there already, or
    /// they name no key.
    ///
    /// # Errors
    ///
    /// It is no keys file, or they cannot be kept.
    pub(crate) async fn import(self: &Arc<Self>, text: &[u8]) -> Result<(usize, usize), EditError> {
        let entries = file::parse(text)?;
        let keys = self.clone();
        let import = move |book: &mut dyn Book, taken: &dyn Fn(&str) -> bool| {
            let (mut added, mut left_out) = (0, 0);
            for entry in entries {
                let is_new = |id: &str, digest: &[u8; 32]| !taken(id) && !keys.knows(digest);
                if edit::import(book, entry, &is_new)? {
                    added += 1;
                } else {
                    left_out += 1;
                }
            }
            Ok((added, left_out))
        };
        self.change(self.home, import).await
    }

    /// Every key of file and database in the form of the keys file, by its hash.
    ///
    /// # Errors
    ///
    /// The file is none, or the database cannot be read.
    pub(crate) async fn export(&self) -> Result<Value, EditError> {
        let path = self.file.path();
        let mut entries = if path.exists() { file::entries(path)? } else { Vec::new() };
        if let Some(stored) = &self.stored {
            entries.extend(stored.entries().await?);
        }
        let by_hash = entries.into_iter().filter_map(entry::by_hash);
        Ok(json!({"keys": by_hash.collect::<Vec<_>>()}))
    }

    async fn to_change(self: &Arc<Self>, id: &str) -> Result<(Place, String), EditError> {
        let (keys, id) = (self.clone(), id.to_owned());
        let find = move || match keys.find(&id) {
            Some(Listed { place: Place::List, .. }) => Err(EditError::NotEditable(id)),
            Some(Listed { place, .. }) => Ok((place, id)),
            // Another process may have made it this moment: where keys are kept, it is looked for again.
            None => Ok((keys.home, id)),
        };
        let found = tokio::task::spawn_blocking(find).await;
        found.map_err(|error| EditError::File(Box::new(error)))?
    }

    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        place: Place,
        change: impl FnOnce(&mut dyn Book, &dyn Fn(&str) -> bool) -> Result<T, EditError>
        + Send
        + 'static,
    ) -> Result<T, EditError> {
        let keys = self.clone();
        match (place, &self.stored) {
            (Place::Database, Some(stored)) => {
                let changed =
                    move |book: &mut dyn Book| change(book, &|id: &str| keys.find(id).is_some());
                stored.change(changed).await
            }
            _ => {
                let changed = move || {
                    let taken = |id: &str| keys.find(id).is_some();
                    let done = file::change(keys.file.path(), |book| change(book, &taken))?;
                    keys.file.look_now();
                    Ok(done)
                };
                let changed = tokio::task::spawn_blocking(changed).await;
                changed.map_err(|error| EditError::File(Box::new(error)))?
            }
        }
    }
}
