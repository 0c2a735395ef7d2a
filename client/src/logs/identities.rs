//! The reader's age keys, in age's own files.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The reader's age keys. Without `Debug`.
#[derive(Default)]
pub struct Identities(Vec<Box<dyn age::Identity + Send + Sync>>);

/// Why there are no keys to read with.
#[derive(Debug, thiserror::Error)]
pub enum IdentitiesError {
    /// No such file, or not in age's form.
    #[error("{0} is no file of age identities: give what age-keygen wrote")]
    File(PathBuf, #[source] io::Error),
    /// Not in age's form.
    #[error("these are no age identities")]
    Text(#[source] io::Error),
    /// Nothing but comments.
    #[error("there is no identity (AGE-SECRET-KEY-1…) in it")]
    None,
}

impl Identities {
    /// No keys: what is sealed stays sealed, and everything around it is verified.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads a file in age's own form, as `age-keygen` writes it.
    ///
    /// # Errors
    ///
    /// [`IdentitiesError`]; no text of the file is repeated.
    pub fn from_file(path: &Path) -> Result<Self, IdentitiesError> {
        let unreadable = |error| IdentitiesError::File(path.to_owned(), error);
        let file = std::fs::File::open(path).map_err(unreadable)?;
        Self::parse(BufReader::new(file), unreadable)
    }

    /// The same from a text.
    ///
    /// # Errors
    ///
    /// [`IdentitiesError`].
    pub fn from_text(text: &str) -> Result<Self, IdentitiesError> {
        Self::parse(text.as_bytes(), IdentitiesError::Text)
    }

    fn parse(
        text: impl BufRead,
        unreadable: impl FnOnce(io::Error) -> IdentitiesError,
    ) -> Result<Self, IdentitiesError> {
        let read = age::IdentityFile::from_buffer(text)
            .and_then(|file| file.into_identities().map_err(io::Error::other));
        match read {
            Ok(identities) if identities.is_empty() => Err(IdentitiesError::None),
            Ok(identities) => Ok(Self(identities)),
            Err(error) => Err(unreadable(error)),
        }
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|identity| &**identity as &dyn age::Identity)
    }
}
