//! A log in a container of Azure Blob Storage, copied to this machine as far as it is there.
//!
//! What an append blob holds is fetched once, piece by piece, into a folder that goes away with [`Copied`]; from there it
//! is read like any other ([`Source`]). What was copied can only become more: a blob that is gone, shorter, or another
//! one under the same name, is a log that was taken away. Everything is ciphertext and signed records, and whoever runs
//! the account can withhold or forge any of it: what it says is bounded here, and believed nowhere.
//!
//! Must not know what a record says.

mod account;
mod code;
mod container;
mod listing;
mod xml;

use std::collections::BTreeMap;
use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use tempfile::TempDir;

pub use self::container::{Container, NotAContainer};
pub use self::listing::NotAListing;

use self::account::Account;
use self::listing::Found;
use super::Source;
use super::source::{MOST_FILES, has_lines};

/// How much of a blob is asked for at once, in bytes.
const PIECE: u64 = 4 << 20;

/// The most that is copied, in bytes: what a small disk holds.
const MOST: u64 = 64 << 30;

/// The most pages of a list; each has 5,000 names, if the account is Azure's.
const MOST_PAGES: usize = 1000;

/// Why a container cannot be read, or not to the end. No text holds a credential.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Not a URL that is asked.
    #[error("the container's URL must be https, or http on this machine")]
    Url,
    /// No certificates in PEM.
    #[error("the file of authorities holds no certificates in PEM")]
    Roots,
    /// The token has characters that no token has.
    #[error("the access token is none")]
    Token,
    /// It cannot be reached.
    #[error("the storage account cannot be reached")]
    Unreachable(#[source] io::Error),
    /// It does not speak HTTP.
    #[error("the storage account broke off")]
    Http(#[source] hyper::Error),
    /// It did not answer.
    #[error("the storage account did not answer in time")]
    TimedOut,
    /// An answer that broke off, or is longer than it can be, in bytes.
    #[error("the storage account's answer broke off, or is longer than {0} bytes")]
    Body(usize),
    /// It cannot answer now; for how long it asks to be left alone.
    #[error("the storage account is busy: status {0}, {1}")]
    Busy(StatusCode, &'static str, Option<Duration>),
    /// It does not answer this.
    #[error("the storage account refuses: status {0}, {1}")]
    Refused(StatusCode, &'static str),
    /// Its list of blobs is none.
    #[error("the storage account's list of blobs cannot be read")]
    Listing(#[source] NotAListing),
    /// It sent other bytes than it was asked for.
    #[error("the storage account did not send the bytes that it was asked for")]
    Range,
    /// More blobs or pages than a reader keeps track of.
    #[error(
        "the container lists more than {0} blobs or pages: read older boots on their own (--boot)"
    )]
    TooMany(usize),
    /// More than is copied.
    #[error("the log is longer than {0} bytes: read its boots on their own (--boot)")]
    TooLong(u64),
    /// A blob that was there is not any more.
    #[error("blob {0} is gone")]
    Missing(String),
    /// A blob became shorter.
    #[error("blob {0} became shorter")]
    Shorter(String),
    /// Another blob has its name.
    #[error("blob {0} was replaced by another one")]
    Replaced(String),
    /// The copy cannot be written.
    #[error("cannot write the copy of the log: set TMPDIR to where there is room")]
    Copy(#[source] io::Error),
}

impl StorageError {
    /// Whether another try may succeed.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Http(_) | Self::TimedOut | Self::Busy(..) => true,
            Self::Body(_) => true,
            Self::Url
            | Self::Roots
            | Self::Token
            | Self::Refused(..)
            | Self::Listing(_)
            | Self::Range
            | Self::TooMany(_)
            | Self::TooLong(_)
            | Self::Missing(_)
            | Self::Shorter(_)
            | Self::Replaced(_)
            | Self::Copy(_) => false,
        }
    }

    /// Whether it says that what was there is not there any more.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Shorter(_) | Self::Replaced(_) => true,
            Self::Refused(status, _) => *status == StatusCode::NOT_FOUND,
            _ => false,
        }
    }
}

/// A container's log on this machine.
pub struct Copied {
    account: Account,
    folder: TempDir,
    /// What was copied, by name.
    blobs: BTreeMap<String, Blob>,
    /// How much that is, in bytes.
    bytes: u64,
}

/// How far a blob was copied.
struct Blob {
    length: u64,
    created: Option<String>,
}

impl Copied {
    /// Nothing is asked yet. Believes the public web's authorities, or those in `roots` (PEM) instead.
    ///
    /// # Errors
    ///
    /// [`StorageError::Url`], [`StorageError::Roots`], [`StorageError::Copy`].
    pub fn new(container: Container, roots: Option<&[u8]>) -> Result<Self, StorageError> {
        let account = Account::new(container, roots)?;
        // whatever the umask says: nobody else puts a link there that is followed
        let own = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(own).tempdir();
        let folder = folder.map_err(StorageError::Copy)?;
        Ok(Self { account, folder, blobs: BTreeMap::new(), bytes: 0 })
    }

    /// Asks with this access token from now on.
    ///
    /// # Errors
    ///
    /// [`StorageError::Token`].
    pub fn set_token(&mut self, token: &str) -> Result<(), StorageError> {
        self.account.set_token(token)
    }

    /// Where the copy is read.
    #[must_use]
    pub fn source(&self) -> Source {
        let folder = self.folder.path().to_owned();
        Source::Copied { folder, name: PathBuf::from(self.account.container().name()) }
    }

    /// Copies what was added since, of boots whose id begins with one of `only`; of all, if there is none.
    ///
    /// # Errors
    ///
    /// [`StorageError`]. What was copied stays, and this may be called again.
    pub async fn refresh(&mut self, only: &[String]) -> Result<(), StorageError> {
        let there = self.list().await?;
        // A list of several is no snapshot. What a blob of the first one points to was there when that was made, and is
        // within the lengths of the second.
        let now = if there.len() > 1 { self.list().await? } else { there.clone() };
        if let Some(gone) = self.blobs.keys().find(|name| !now.contains_key(*name)) {
            return Err(StorageError::Missing(gone.clone()));
        }
        let wanted = |name: &String| {
            only.is_empty() || only.iter().any(|prefix| name.starts_with(prefix.as_str()))
        };
        for name in there.into_keys().filter(wanted) {
            let found = now.get(&name).ok_or_else(|| StorageError::Missing(name.clone()))?;
            self.copy(&name, found).await?;
        }
        Ok(())
    }

    /// The log's blobs.
    async fn list(&mut self) -> Result<BTreeMap<String, Found>, StorageError> {
        let mut blobs = BTreeMap::new();
        let mut marker: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let page = self.account.page(marker.as_deref()).await?;
            for found in page.blobs {
                let Some(name) = self.account.container().own(&found.name) else { continue };
                if !has_lines(name) {
                    continue;
                }
                if blobs.len() >= MOST_FILES {
                    return Err(StorageError::TooMany(MOST_FILES));
                }
                blobs.insert(name.to_owned(), found);
            }
            marker = page.next;
            if marker.is_none() {
                return Ok(blobs);
            }
        }
        Err(StorageError::TooMany(MOST_PAGES))
    }

    async fn copy(&mut self, name: &str, found: &Found) -> Result<(), StorageError> {
        let Self { account, folder, blobs, bytes } = self;
        let new = || Blob { length: 0, created: found.created.clone() };
        let blob = blobs.entry(name.to_owned()).or_insert_with(new);
        if blob.created != found.created {
            return Err(StorageError::Replaced(name.to_owned()));
        }
        if found.length < blob.length {
            return Err(StorageError::Shorter(name.to_owned()));
        }
        if bytes.saturating_add(found.length - blob.length) > MOST {
            return Err(StorageError::TooLong(MOST));
        }
        if found.length == blob.length {
            return Ok(());
        }
        let file = OpenOptions::new().append(true).create(true).open(folder.path().join(name));
        let mut file = file.map_err(StorageError::Copy)?;
        while blob.length < found.length {
            let end = found.length.min(blob.length.saturating_add(PIECE));
            let piece = account.bytes(name, (blob.length, end)).await?;
            // Nothing stays of a piece that could not be written whole.
            file.set_len(blob.length).map_err(StorageError::Copy)?;
            file.write_all(&piece).map_err(StorageError::Copy)?;
            *bytes = bytes.saturating_add(end - blob.length);
            blob.length = end;
        }
        Ok(())
    }
}
