//! Where sealed segments and their records go. One file a sink, and one arm here.
//!
//! A sink gets ciphertext and signatures only. It must take the same record again: delivery is repeated until
//! it succeeds, and a failure may have been a success that nobody heard of.

mod folder;
mod stdout;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use self::folder::Folder;
use self::stdout::Stdout;

/// `LOG_SINK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Stdout,
    Folder(PathBuf),
}

/// Why a text names no sink.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `stdout` or folder:/absolute/path")]
pub(crate) struct NotASink;

impl FromStr for Address {
    type Err = NotASink;

    fn from_str(text: &str) -> Result<Self, NotASink> {
        match text.split_once(':') {
            None if text == "stdout" => Ok(Self::Stdout),
            Some(("folder", path)) if path.starts_with('/') => Ok(Self::Folder(path.into())),
            _ => Err(NotASink),
        }
    }
}

/// One record, and the segment that it is about.
pub(crate) struct Sealed {
    /// The boot id, 32 hexadecimal digits.
    pub(crate) boot: String,
    /// The record's number in its boot.
    pub(crate) seq: u64,
    /// Compact JWS.
    pub(crate) record: String,
    /// The age file; the first and the last record of a boot have none.
    pub(crate) segment: Option<Vec<u8>>,
}

/// A sink did not take a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    /// The system refused.
    #[error("{doing} failed")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The writing task ended without an answer.
    #[error("the writing task broke off")]
    BrokeOff(#[source] tokio::task::JoinError),
}

/// The configured sink.
pub(crate) enum Sink {
    Stdout(Stdout),
    Folder(Folder),
}

impl Sink {
    pub(crate) fn new(address: Address) -> Self {
        match address {
            Address::Stdout => Self::Stdout(Stdout::default()),
            Address::Folder(path) => Self::Folder(Folder::new(path)),
        }
    }

    /// Returns once the record and its segment are safe, as far as the sink can tell.
    ///
    /// # Errors
    ///
    /// [`SinkError`]; the same call may be made again.
    pub(crate) async fn put(&self, sealed: &Arc<Sealed>) -> Result<(), SinkError> {
        match self {
            Self::Stdout(sink) => sink.put(sealed).await,
            Self::Folder(sink) => sink.put(sealed).await,
        }
    }
}

/// Runs what blocks where it may.
async fn blocking(
    work: impl FnOnce() -> Result<(), SinkError> + Send + 'static,
) -> Result<(), SinkError> {
    tokio::task::spawn_blocking(work).await.map_err(SinkError::BrokeOff)?
}

/// Names what was being done when it failed.
fn failed(doing: &'static str) -> impl FnOnce(std::io::Error) -> SinkError {
    move |source| SinkError::Io { doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_sink() {
        assert_eq!("stdout".parse(), Ok(Address::Stdout));
        assert_eq!("folder:/a/b".parse(), Ok(Address::Folder("/a/b".into())));
        for bad in ["", "stdout:", "folder", "folder:", "folder:a", "/a", "file:/a", "Stdout"] {
            assert_eq!(bad.parse::<Address>(), Err(NotASink), "{bad}");
        }
    }
}
