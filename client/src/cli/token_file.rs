//! The token of `pmc connect`, in a file that only its owner reads.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use attestation::encoding::to_b64u;
use clap::Args;

use super::{Failure, new_file};
use crate::forwarder::Token;
use crate::offline;

/// Options that say which token.
#[derive(Debug, Args)]
pub(super) struct TokenFile {
    /// Answer only clients that know the token in this file: the first segment of the base URL's path.
    #[arg(long, value_name = "FILE", conflicts_with = "make_token")]
    token_file: Option<PathBuf>,
    /// The same with a new token, which is written to this file. It must not be there yet.
    #[arg(long, value_name = "FILE")]
    make_token: Option<PathBuf>,
}

/// The longest file that is read, in bytes.
const MAX_LENGTH: usize = 1024;

impl TokenFile {
    /// The token, if there shall be one.
    pub(super) fn token(&self) -> Result<Option<Token>, Failure> {
        match (&self.token_file, &self.make_token) {
            (Some(path), _) => read(path).map(Some),
            (None, Some(path)) => make(path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// What stands in the base URL for it. The token itself is not printed: a terminal's text is kept in many places.
    pub(super) fn segment(&self) -> String {
        let path = self.token_file.as_ref().or(self.make_token.as_ref());
        path.map_or_else(String::new, |path| format!("/$(cat {})", path.display()))
    }
}

fn read(path: &Path) -> Result<Token, Failure> {
    let unusable = |why: &str| Failure::Unusable(format!("{}: {why}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| unusable(&error.to_string()))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(unusable(
            "others may read this token; run `chmod 600` on it, or make a new one",
        ));
    }
    let bytes = offline::read(path, MAX_LENGTH).map_err(|error| Failure::unusable(&error))?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    Token::new(text.trim()).map_err(|error| unusable(&error.to_string()))
}

fn make(path: &Path) -> Result<Token, Failure> {
    let unusable = |why: &str| Failure::Unusable(format!("{}: {why}", path.display()));
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| unusable("this machine has no random numbers for a token"))?;
    let text = to_b64u(&bytes);
    new_file::write(path, &format!("{text}\n"))?;
    Token::new(&text).map_err(|error| unusable(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_read_again_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(make(&path).is_ok());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(read(&path).is_ok());
        assert!(make(&path).is_err(), "a token is not overwritten");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(&path).is_err(), "others may read it");
    }
}
