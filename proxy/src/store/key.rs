//! The key of the stored state: 32 bytes, of `skr-sidecar` or of a file beside the database.
//!
//! Beside a database whose key is released stands the version of that key (`.kid`). Whoever owns the disk can write
//! anything into it: it only says which key to try, and the pages' authentication decides. Must not know the cipher.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use service::listen::Local;
use service::plain_file;
use zeroize::Zeroizing;

use super::StoreError;
use super::cipher::sync_folder;
use super::rekey::beside;

pub(crate) mod released;

/// A key. Has no `Debug`; zeroed when dropped.
pub(crate) struct StateKey {
    /// As the vault names it; empty for the key of a file.
    pub(super) version: String,
    bytes: Zeroizing<[u8; 32]>,
}

impl StateKey {
    /// As a literal of a PRAGMA: `"x'…'"`.
    pub(super) fn literal(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(72));
        text.push('"');
        text.push_str(&self.attaching());
        text.push('"');
        text
    }

    /// As the value of ATTACH's KEY: `x'…'`.
    pub(super) fn attaching(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(72));
        text.push_str("x'");
        for byte in self.bytes.iter() {
            for half in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(half), 16));
            }
        }
        text.push('\'');
        text
    }
}

/// Where the key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// A file beside the database, made at the first start.
    File,
    /// The `skr-sidecar` at that address.
    Released(Local),
}

/// Keys that the database may be encrypted with.
pub(super) struct Candidates {
    /// What it is to be encrypted with from now on.
    pub(super) newest: StateKey,
    older: Option<StateKey>,
}

impl Candidates {
    pub(super) fn all(&self) -> impl Iterator<Item = &StateKey> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    /// Writes down which key the database is encrypted with.
    pub(super) fn remember(&self, path: &Path) -> Result<(), StoreError> {
        let version = &self.newest.version;
        if version.is_empty() || noted(path).as_ref() == Some(version) {
            return Ok(());
        }
        let (note, next) = (beside(path, ".kid"), beside(path, ".kid.next"));
        let written = write_new(&next, version.as_bytes(), true);
        let written = written.and_then(|()| std::fs::rename(&next, &note));
        written.and_then(|()| sync_folder(path)).map_err(StoreError::file("cannot write", &note))
    }
}

impl KeySource {
    /// The keys for the database at that path. Waits for `skr-sidecar`, within a bound.
    pub(super) async fn candidates(&self, path: &Path) -> Result<Candidates, StoreError> {
        match self {
            Self::File => {
                let path = path.to_owned();
                let newest = tokio::task::spawn_blocking(move || of_file(&path)).await;
                let newest = newest.map_err(|_| StoreError::Closed)??;
                Ok(Candidates { newest, older: None })
            }
            Self::Released(skr) => {
                let noted = noted(path);
                let newest = released::current(skr).await?;
                let other = noted.filter(|noted| *noted != newest.version);
                let older = match other {
                    Some(version) => released::of_version(skr, &version).await?,
                    None => None,
                };
                Ok(Candidates { newest, older })
            }
        }
    }
}

/// The longest name of a version, as Key Vault has it.
const LONGEST_VERSION: usize = 127;

/// What stands beside the database, if it could be a version.
fn noted(path: &Path) -> Option<String> {
    let text = plain_file::read(&beside(path, ".kid"), LONGEST_VERSION as u64).ok()?;
    let text = String::from_utf8(text).ok()?;
    is_version(&text).then_some(text)
}

fn is_version(text: &str) -> bool {
    (1..=LONGEST_VERSION).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Where the key of a database lies.
pub(super) fn file_of(path: &Path) -> PathBuf {
    beside(path, ".key")
}

/// The key of a file, made if neither it nor the database is there.
fn of_file(path: &Path) -> Result<StateKey, StoreError> {
    let file = file_of(path);
    match plain_file::read(&file, 128) {
        Ok(text) => {
            let text = Zeroizing::new(text);
            let mut bytes = Zeroizing::new([0; 32]);
            hex::decode_to_slice(text.trim_ascii(), bytes.as_mut_slice()).map_err(|_| {
                let why = std::io::Error::new(ErrorKind::InvalidData, "not 64 hexadecimal digits");
                StoreError::file("cannot use", &file)(why)
            })?;
            Ok(StateKey { version: String::new(), bytes })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let used = std::fs::metadata(path).is_ok_and(|meta| meta.len() > 0);
            if used {
                return Err(StoreError::file(
                    "the database has lost its key: put it back, or move the database away to begin anew. Missing is",
                    &file,
                )(error));
            }
            make(&file)
        }
        Err(error) => Err(StoreError::file("cannot read", &file)(error)),
    }
}

fn make(file: &Path) -> Result<StateKey, StoreError> {
    let mut bytes = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice())
        .map_err(|_| StoreError::Refused("the system has no random numbers"))?;
    let key = StateKey { version: String::new(), bytes };
    let literal = key.attaching();
    let digits = literal.trim_start_matches("x'").trim_end_matches('\'');
    let written = write_new(file, digits.as_bytes(), false).and_then(|()| sync_folder(file));
    written.map_err(StoreError::file(
        "there is no key, and its folder does not take one: make it writable, or set PROXY_STATE=memory:",
        file,
    ))?;
    Ok(key)
}

/// A new file for this user alone, on the disk when this returns.
fn write_new(path: &Path, content: &[u8], replace: bool) -> std::io::Result<()> {
    if replace {
        let _ = std::fs::remove_file(path);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The process's mask may have taken more away; never less.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.sync_all()
}
