//! Where the envelope comes from. All of it is the host's: what is read is copied once, and the copy is judged.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use attestation::secrets::MAX_ENVELOPE;
use service::plain_file;

/// The envelope's place.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A variable's value.
    Text(String),
    /// A file, which others write.
    File(PathBuf),
}

/// Why there is no envelope.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The file cannot be read, or is not there yet.
    #[error("the file of SECRETS_FILE cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The thread that read ended early.
    #[error("the file of SECRETS_FILE was not read to its end")]
    Interrupted,
}

impl Source {
    /// The text, without white space around it. At most a byte more than an envelope may have; what is not UTF-8 is
    /// marked by U+FFFD.
    pub(crate) async fn read(&self) -> Result<String, SourceError> {
        match self {
            Self::Text(text) => Ok(text.trim().to_owned()),
            Self::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read(&path)).await;
                read.unwrap_or(Err(SourceError::Interrupted))
            }
        }
    }
}

fn read(path: &Path) -> Result<String, SourceError> {
    let mut text = Vec::new();
    // A line feed stands at the end of most files, and is none of the envelope.
    plain_file::open(path)?.take(MAX_ENVELOPE as u64 + 2).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(text.trim_ascii()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_file_is_read_and_no_more_than_an_envelope() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("envelope");
        let source = Source::File(path.clone());
        assert!(matches!(source.read().await, Err(SourceError::Unreadable(_))), "not yet");
        std::fs::write(&path, " a.b.c\r\n").unwrap();
        assert_eq!(source.read().await.unwrap(), "a.b.c");
        assert_eq!(Source::Text("a.b.c\n".to_owned()).read().await.unwrap(), "a.b.c");
        std::fs::write(&path, vec![b'a'; 2 * MAX_ENVELOPE]).unwrap();
        assert_eq!(source.read().await.unwrap().len(), MAX_ENVELOPE + 2);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(source.read().await, Err(SourceError::Unreadable(_))));
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(matches!(Source::File(pipe).read().await, Err(SourceError::Unreadable(_))));
        assert!(matches!(
            Source::File("/dev/zero".into()).read().await,
            Err(SourceError::Unreadable(_))
        ));
    }
}
