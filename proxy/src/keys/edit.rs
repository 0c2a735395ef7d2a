//! Changing keys: what may be asked, and what it does to a book of them, wherever that is kept.
//!
//! Must not know files or databases: a [`Book`] is either.

use std::sync::Arc;

use attestation::crypto::sha256;
use zeroize::Zeroizing;

use super::entry::{self, Entry};
use super::{ApiKey, fresh};
use crate::money::Money;

/// Keys that one book holds at most.
pub(super) const MOST_KEYS: usize = 200_000;

/// The longest life that a key can be given, and the longest overlap: a century.
pub(crate) const MOST_DAYS: u32 = 36_500;

/// The longest description, owner or note, in characters.
const MOST_TEXT: usize = 1000;

/// Models that a key can be restricted to, and the longest name of one.
const MOST_MODELS: usize = 256;
const MOST_MODEL: usize = 128;

/// The highest limit: what is above is no limit.
const MOST_LIMIT: u64 = 1_000_000_000_000;

const DAY: f64 = 86_400.0;

/// A key to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct New {
    /// What it is for.
    pub(crate) description: String,
    /// Whose it is.
    pub(crate) owner: String,
    /// Anything else.
    pub(crate) note: String,
    /// Days until it expires, 1 to [`MOST_DAYS`]; `None`: never.
    pub(crate) lifetime: Option<u32>,
    /// Requests in each window, at least 1.
    pub(crate) rate_limit: Option<u64>,
    /// At least 1.
    pub(crate) tokens_per_minute: Option<u64>,
    /// More than nothing.
    pub(crate) monthly_budget: Option<Money>,
    /// Models that it may use; `None`: all.
    pub(crate) models: Option<Vec<String>>,
    /// Whether it is good only on connections of attested clients.
    pub(crate) attested_client: bool,
}

/// A change of a key. What is `None` stays; of what may be absent, `Some(None)` takes it away.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    /// `false` revokes it, `true` makes it good again.
    pub(crate) enabled: Option<bool>,
    pub(crate) description: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) note: Option<String>,
    /// Unix seconds.
    pub(crate) expires_at: Option<Option<f64>>,
    pub(crate) rate_limit: Option<Option<u64>>,
    pub(crate) tokens_per_minute: Option<Option<u64>>,
    pub(crate) monthly_budget: Option<Option<Money>>,
    pub(crate) models: Option<Option<Vec<String>>>,
    pub(crate) attested_client: Option<bool>,
}

/// A key that another takes the place of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rotation {
    /// Seconds for which the old key stays good; 0: it is revoked at once.
    pub(crate) overlap: u64,
    /// Days that the new key lives; `None`: as long as the old one did.
    pub(crate) lifetime: Option<u32>,
}

/// A key that was made. Its text is nowhere else.
pub(crate) struct Made {
    /// Its holder.
    pub(crate) key: Arc<ApiKey>,
    /// The key itself, to be shown once.
    pub(crate) text: Zeroizing<String>,
}

/// Why a key was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// There is no such key.
    #[error("Key ID '{0}' not found.")]
    Unknown(String),
    /// It comes from where this process does not write.
    #[error(
        "Key '{0}' comes from API_KEYS or from the sealed secrets: change it there, and start again or seal anew"
    )]
    NotEditable(String),
    /// A value cannot be taken: which, and what it may be.
    #[error("{field}: {why}")]
    Invalid {
        /// The member of the keys file that it would have become.
        field: &'static str,
        /// For a person.
        why: &'static str,
    },
    /// There are too many keys.
    #[error("There are {MOST_KEYS} keys already: delete some first")]
    TooMany,
    /// The keys file is not what it should be, or cannot be written.
    #[error("The keys file was not changed")]
    File(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database was not written.
    #[error("The database was not changed")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// As it says.
    #[error("The system has no random numbers")]
    NoRandomNumbers,
}

/// Where entries are kept, while it is changed: either all of a change is kept or nothing.
pub(super) trait Book {
    /// The entry of a key.
    fn get(&self, id: &str) -> Result<Option<Entry>, EditError>;
    /// How many there are.
    fn len(&self) -> Result<usize, EditError>;
    /// A further entry.
    fn add(&mut self, id: &str, digest: &[u8; 32], entry: Entry) -> Result<(), EditError>;
    /// Another entry in an old one's place; the key's own text and id stay.
    fn replace(&mut self, id: &str, entry: Entry) -> Result<(), EditError>;
    /// Takes an entry away.
    fn remove(&mut self, id: &str) -> Result<(), EditError>;
}

/// Makes a key. `is_taken` knows the ids of other books as well.
pub(super) fn create(
    book: &mut dyn Book,
    new: New,
    now: u64,
    is_taken: &dyn Fn(&str) -> bool,
) -> Result<Made, EditError> {
    let key = ApiKey {
        description: new.description,
        owner: new.owner,
        note: new.note,
        created_at: Some(seconds(now)),
        enabled: true,
        expires_at: end(now, new.lifetime)?,
        attested_client: new.attested_client,
        rate_limit: new.rate_limit,
        tokens_per_minute: new.tokens_per_minute,
        monthly_budget: new.monthly_budget,
        models: new.models,
        ..ApiKey::default()
    };
    add(book, &ApiKey::default(), key, is_taken)
}

fn add(
    book: &mut dyn Book,
    before: &ApiKey,
    key: ApiKey,
    is_taken: &dyn Fn(&str) -> bool,
) -> Result<Made, EditError> {
    check(before, &key)?;
    if book.len()? >= MOST_KEYS {
        return Err(EditError::TooMany);
    }
    let text = fresh::text()?;
    let digest = sha256(text.as_bytes());
    let id = fresh::id(is_taken)?;
    let key = ApiKey { id, ..key };
    book.add(&key.id, &digest, entry::new(&digest, &key))?;
    Ok(Made { key: Arc::new(key), text })
}

/// Adds an entry of another book, by its hash; whether it was one, and new.
pub(super) fn import(
    book: &mut dyn Book,
    entry: Entry,
    is_new: &dyn Fn(&str, &[u8; 32]) -> bool,
) -> Result<bool, EditError> {
    let Some((digest, key)) = entry::read(&entry) else { return Ok(false) };
    if !is_new(&key.id, &digest) || book.get(&key.id)?.is_some() {
        return Ok(false);
    }
    if book.len()? >= MOST_KEYS {
        return Err(EditError::TooMany);
    }
    let Some(entry) = entry::by_hash(entry) else { return Ok(false) };
    book.add(&key.id, &digest, entry)?;
    Ok(true)
}

/// Changes a key.
pub(super) fn update(
    book: &mut dyn Book,
    id: &str,
    change: Change,
    now: u64,
) -> Result<Arc<ApiKey>, EditError> {
    let (held, before) = find(book, id)?;
    let mut after = before.clone();
    match change.enabled {
        Some(true) => (after.enabled, after.revoked_at) = (true, None),
        Some(false) => {
            after.enabled = false;
            after.revoked_at = before.revoked_at.or(Some(seconds(now)));
        }
        None => {}
    }
    after.description = change.description.unwrap_or(after.description);
    after.owner = change.owner.unwrap_or(after.owner);
    after.note = change.note.unwrap_or(after.note);
    after.expires_at = change.expires_at.unwrap_or(after.expires_at);
    after.rate_limit = change.rate_limit.unwrap_or(after.rate_limit);
    after.tokens_per_minute = change.tokens_per_minute.unwrap_or(after.tokens_per_minute);
    after.monthly_budget = change.monthly_budget.unwrap_or(after.monthly_budget);
    after.models = change.models.unwrap_or(after.models);
    after.attested_client = change.attested_client.unwrap_or(after.attested_client);
    replace(book, held, &before, after)
}

/// Makes another key in a key's place, with what it may do.
pub(super) fn rotate(
    book: &mut dyn Book,
    id: &str,
    rotation: Rotation,
    now: u64,
    is_taken: &dyn Fn(&str) -> bool,
) -> Result<Made, EditError> {
    let (held, before) = find(book, id)?;
    if rotation.overlap > u64::from(MOST_DAYS) * 86_400 {
        return Err(EditError::Invalid { field: "overlap", why: "must be at most 36500 days" });
    }
    let expires_at = match (rotation.lifetime, before.expires_at) {
        (None, Some(expiry)) => {
            let lived = expiry - before.created_at.unwrap_or_else(|| seconds(now));
            if lived.is_nan() || lived <= 0.0 {
                let why = "the old key's is not known: say how many days the new one lives";
                return Err(EditError::Invalid { field: "lifetime", why });
            }
            Some(seconds(now) + lived.min(f64::from(MOST_DAYS) * DAY))
        }
        (days, _) => end(now, days)?,
    };
    let new = ApiKey {
        description: format!("{} (rotated)", before.description).trim_start().to_owned(),
        created_at: Some(seconds(now)),
        enabled: true,
        expires_at,
        revoked_at: None,
        rotated_from: Some(id.to_owned()),
        rotated_to: None,
        ..before.clone()
    };
    let made = add(book, &before, new, is_taken)?;
    let mut after = before.clone();
    after.rotated_to = Some(made.key.id.clone());
    if rotation.overlap == 0 {
        after.enabled = false;
        after.revoked_at = before.revoked_at.or(Some(seconds(now)));
    } else {
        let end = seconds(now.saturating_add(rotation.overlap));
        after.expires_at = Some(before.expires_at.map_or(end, |expiry| expiry.min(end)));
    }
    replace(book, held, &before, after)?;
    Ok(made)
}

/// Takes a key away for good.
pub(super) fn delete(book: &mut dyn Book, id: &str) -> Result<(), EditError> {
    find(book, id)?;
    book.remove(id)
}

fn find(book: &dyn Book, id: &str) -> Result<(Entry, ApiKey), EditError> {
    let unknown = || EditError::Unknown(id.to_owned());
    let held = book.get(id)?.ok_or_else(unknown)?;
    let (_, key) = entry::read(&held).ok_or_else(unknown)?;
    Ok((held, key))
}

fn replace(
    book: &mut dyn Book,
    mut held: Entry,
    before: &ApiKey,
    after: ApiKey,
) -> Result<Arc<ApiKey>, EditError> {
    check(before, &after)?;
    entry::write(&mut held, before, &after);
    book.replace(&after.id, held)?;
    Ok(Arc::new(after))
}

/// Whether everything that is new may be so.
fn check(before: &ApiKey, after: &ApiKey) -> Result<(), EditError> {
    let invalid = |field, why| Err(EditError::Invalid { field, why });
    for (field, old, new) in [
        ("description", &before.description, &after.description),
        ("owner", &before.owner, &after.owner),
        ("note", &before.note, &after.note),
    ] {
        if new == old {
            continue;
        }
        if new.chars().count() > MOST_TEXT {
            return invalid(field, "must have at most 1000 characters");
        }
        if new.chars().any(|one| one.is_control() && !(field == "note" && "\r\n\t".contains(one))) {
            return invalid(field, "must be one line of text, without control characters");
        }
    }
    for (field, old, new) in [
        ("rate_limit", before.rate_limit, after.rate_limit),
        ("tokens_per_minute", before.tokens_per_minute, after.tokens_per_minute),
    ] {
        if new != old && new.is_some_and(|limit| !(1..=MOST_LIMIT).contains(&limit)) {
            return invalid(field, "must be 1 to 1000000000000; to take the limit away, clear it");
        }
    }
    if after.monthly_budget != before.monthly_budget
        && after.monthly_budget.is_some_and(|budget| budget <= Money::ZERO)
    {
        return invalid("monthly_budget_eur", "must be more than 0; to take it away, clear it");
    }
    if after.expires_at != before.expires_at
        && after.expires_at.is_some_and(|end| !(1.0..=253_402_300_799.0).contains(&end))
    {
        return invalid("expires_at", "must be Unix seconds of the years 1970 to 9999");
    }
    if after.models != before.models {
        let names = after.models.as_deref().unwrap_or_default();
        if after.models.is_some() && names.is_empty() {
            return invalid("models", "must name at least one model; to allow all, clear it");
        }
        let printable = |name: &String| {
            (1..=MOST_MODEL).contains(&name.len()) && !name.chars().any(char::is_control)
        };
        if names.len() > MOST_MODELS || !names.iter().all(printable) {
            return invalid("models", "must be at most 256 names of 1 to 128 bytes each");
        }
    }
    Ok(())
}

/// When a key of so many days that is made now ends.
fn end(now: u64, days: Option<u32>) -> Result<Option<f64>, EditError> {
    match days {
        None => Ok(None),
        Some(days @ 1..=MOST_DAYS) => Ok(Some(seconds(now) + f64::from(days) * DAY)),
        Some(_) => Err(EditError::Invalid { field: "expires_days", why: "must be 1 to 36500" }),
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds fit a double for 200 million years")]
fn seconds(at: u64) -> f64 {
    at as f64
}
