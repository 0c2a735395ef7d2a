//! Wrapping on the command line: `-infile`, `-keypath`, `-outfile` (contract `skr.md` part 1.3). No server, no network.

use std::io::{self, Read as _};
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::wrap::{KeyFolder, WrapError};
use crate::http::base64;

/// The longest content that is read, in bytes: more than any RSA key takes.
const LONGEST: u64 = 64 * 1024;

/// What is wrapped, with which key, and where the annotation goes. Whoever names the files owns them, so that they may
/// stand anywhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WrapFile {
    /// The content, as it is.
    pub(crate) infile: PathBuf,
    /// `KEYPATH-info.json` describes the key.
    pub(crate) keypath: PathBuf,
    /// Gets the annotation in base64.
    pub(crate) outfile: PathBuf,
}

/// Why nothing was wrapped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WrapFileError {
    /// The input cannot be read.
    #[error("cannot read {0:?}: {1}")]
    Read(PathBuf, io::Error),
    /// It is not wrapped.
    #[error(transparent)]
    Wrap(#[from] WrapError),
    /// The output cannot be written.
    #[error("cannot write {0:?}: {1}")]
    Write(PathBuf, io::Error),
}

impl WrapFile {
    /// Does it.
    pub(crate) fn run(&self) -> Result<(), WrapFileError> {
        let read = || {
            let mut plaintext = Zeroizing::new(Vec::new());
            std::fs::File::open(&self.infile)?.take(LONGEST).read_to_end(&mut plaintext)?;
            // Relative paths are, as everybody writes them, from here.
            Ok((plaintext, std::path::absolute(&self.keypath)?))
        };
        let (plaintext, key) =
            read().map_err(|error| WrapFileError::Read(self.infile.clone(), error))?;
        let annotation =
            KeyFolder::anywhere().annotation(&key.display().to_string(), &plaintext)?;
        let text = base64::encode(&annotation.to_json());
        std::fs::write(&self.outfile, text)
            .map_err(|error| WrapFileError::Write(self.outfile.clone(), error))
    }
}
