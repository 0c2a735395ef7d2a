//! API keys: where they come from and who a request's key belongs to.
//!
//! Source: `proxy.md` parts 1.3, 1.5 and cases 5 to 29. Keys are known by their SHA-256 only.

mod edit;
mod editing;
mod entry;
mod file;
mod fresh;
mod stored;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use attestation::crypto::sha256;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::money::Money;
use crate::store::{Store, StoreError};
use crate::watched::{Content, Watched};

pub(crate) use edit::{Change, EditError, MOST_DAYS, Made, New, Rotation};
pub(crate) use editing::{Listed, Place};

use stored::Stored;

/// The holder of a key, and what they may do. Nothing in it is a secret.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ApiKey {
    /// A name for the key.
    pub(crate) id: String,
    /// What it is for.
    pub(crate) description: String,
    /// Whose it is.
    pub(crate) owner: String,
    /// Anything else that the operator wants to remember.
    pub(crate) note: String,
    /// Unix seconds.
    pub(crate) created_at: Option<f64>,
    /// Revoked keys stay listed.
    pub(crate) enabled: bool,
    /// Unix seconds; `None` for never.
    pub(crate) expires_at: Option<f64>,
    /// Whether it is good only on connections of attested clients.
    pub(crate) attested_client: bool,
    /// Requests in each RATE_LIMIT_WINDOW; 0 is none at all.
    pub(crate) rate_limit: Option<u64>,
    /// Tokens in each minute.
    pub(crate) tokens_per_minute: Option<u64>,
    /// What it may spend in a calendar month (UTC).
    pub(crate) monthly_budget: Option<Money>,
    /// Models that it may use; `None`: all.
    pub(crate) models: Option<Vec<String>>,
    /// When it was revoked, Unix seconds.
    pub(crate) revoked_at: Option<f64>,
    /// The key that it replaced.
    pub(crate) rotated_from: Option<String>,
    /// The key that replaced it.
    pub(crate) rotated_to: Option<String>,
}

/// Why a request is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// It brings no key.
    #[error("Missing API key. Use Authorization: Bearer <key> or X-API-Key header")]
    Missing,
    /// The key is unknown, revoked or expired; which, only the operator learns.
    #[error("Invalid or expired API key")]
    Invalid,
}

type Known = HashMap<[u8; 32], Arc<ApiKey>>;

/// A list of keys, comma separated, as one secret holds it.
#[derive(Clone, Copy)]
pub(crate) struct List<'a> {
    /// The keys.
    pub(crate) keys: &'a str,
    /// What their ids begin with.
    pub(crate) ids: &'static str,
}

impl List<'_> {
    /// Empty items count, as the ids that people know are made of the positions.
    fn known(self) -> Known {
        let items = self.keys.split(',').map(str::trim).enumerate();
        let known = items.filter(|(_, key)| !key.is_empty()).map(|(n, key)| {
            let id = format!("{}_{n}", self.ids);
            let description = match self.ids {
                "env_key" => "From API_KEYS environment variable",
                _ => "From the sealed secrets",
            };
            let description = description.to_owned();
            let holder = ApiKey { id, description, enabled: true, ..ApiKey::default() };
            (sha256(key.as_bytes()), Arc::new(holder))
        });
        known.collect()
    }
}

/// Every key that may be used.
pub(crate) struct Keys {
    listed: RwLock<Arc<Known>>,
    file: Arc<Watched<Known>>,
    /// Those of the database, if there is one.
    stored: Option<Stored>,
    /// Where new keys go.
    home: Place,
}

impl Keys {
    /// Keys of a list, and of a file that may be absent.
    pub(crate) fn new(list: List<'_>, file: PathBuf) -> Self {
        let listed = RwLock::new(Arc::new(list.known()));
        let file = Arc::new(Watched::new(file, Known::new(), content));
        Self { listed, file, stored: None, home: Place::File }
    }

    /// Sees what other machines change in the file as well; [`Keys::refresh`] sees what is changed on this one.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub(crate) fn follow(&self) -> std::io::Result<()> {
        self.file.follow()
    }

    /// Returns when what was changed in the file up to now is in force.
    pub(crate) async fn refresh(&self) {
        self.file.refresh().await;
    }

    /// The same with the keys of a database. New ones go to `home`.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    pub(crate) async fn stored_in(self, store: Store, home: Place) -> Result<Self, StoreError> {
        Ok(Self { stored: Some(Stored::open(store).await?), home, ..self })
    }

    /// Takes another list instead; what is not in it is good no longer.
    pub(crate) fn renew(&self, list: List<'_>) {
        let known = Arc::new(list.known());
        *self.listed.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Who sent this request, at that time, as far as is known: see [`Keys::refresh`].
    pub(crate) fn authenticate(
        &self,
        headers: &HeaderMap,
        now: u64,
    ) -> Result<Arc<ApiKey>, KeyError> {
        let key = presented(headers)?;
        let digest = sha256(key);
        let file = self.file.current();
        // The file is asked first, and the list last: what one revokes, the next must not revive.
        let stored = || self.stored.as_ref().and_then(|stored| stored.get(&digest));
        let listed = || {
            let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner);
            listed.get(&digest).cloned()
        };
        let known = file.get(&digest).cloned().or_else(stored).or_else(listed);
        let known = known.ok_or(KeyError::Invalid)?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds fit a double for 200 million years"
        )]
        let alive = known.expires_at.is_none_or(|end| (now as f64) < end);
        if known.enabled && alive { Ok(known) } else { Err(KeyError::Invalid) }
    }

    /// Whether a key of that digest is there, good or not.
    fn knows(&self, digest: &[u8; 32]) -> bool {
        self.file.current().contains_key(digest)
            || self.stored.as_ref().is_some_and(|stored| stored.get(digest).is_some())
    }

    /// Shows every key, those first that count first.
    fn each(&self, mut show: impl FnMut(Place, &Arc<ApiKey>)) {
        let file = self.file.current();
        let listed = self.listed.read().unwrap_or_else(PoisonError::into_inner).clone();
        file.values().for_each(|key| show(Place::File, key));
        if let Some(stored) = &self.stored {
            stored.known().values().for_each(|key| show(Place::Database, key));
        }
        listed.values().for_each(|key| show(Place::List, key));
    }
}

/// The keys in the file. One that cannot be used leaves the last good ones in force.
fn content(path: &Path) -> Content<Known> {
    match file::read(path) {
        Ok(keys) => {
            tracing::info!(keys = keys.len(), "the keys file was read");
            Content::Is(keys)
        }
        Err(error) => {
            let is_passing = error.is_passing();
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the keys file cannot be used; the keys before stay");
            if is_passing { Content::Passing } else { Content::Unusable }
        }
    }
}

/// The key that a request brings: a bearer token, else X-API-Key. The scheme's name is compared without regard
/// to case (RFC 9110, 11.1). A bearer token that is there decides, even an empty one.
fn presented(headers: &HeaderMap) -> Result<&[u8], KeyError> {
    let authorization = headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
    // White space at the end is no part of a value (RFC 9110, 5.5): an empty token arrives as the scheme alone.
    let bearer = authorization.and_then(|value| {
        let (scheme, token) = value.split_at_checked("bearer".len())?;
        let token = if token.is_empty() { token } else { token.strip_prefix(b" ")? };
        scheme.eq_ignore_ascii_case(b"bearer").then_some(token)
    });
    let key = match bearer {
        Some(token) => token,
        None => headers.get("x-api-key").map(http::HeaderValue::as_bytes).unwrap_or_default(),
    };
    if key.is_empty() { Err(KeyError::Missing) } else { Ok(key) }
}

#[cfg(test)]
mod editing_tests;
#[cfg(test)]
mod tests;
