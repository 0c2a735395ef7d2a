//! A new file with a text of ours, whole or not there at all.
//!
//! Half a policy can be a weaker one, and half a token a shorter one, so no name is given to a file before all of it is
//! written. A file that is there is never replaced. This module must not know what is written.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::Builder;

use super::Failure;

/// Writes it, for nobody but its owner to read.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let done = || -> std::io::Result<()> {
        let mut file = Builder::new().prefix(".pmc-").tempfile_in(folder(path))?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map(drop).map_err(|error| error.error)
    };
    done().map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))
}

/// Where the file will be, for a link cannot cross file systems.
fn folder(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_new_and_whole_or_not_there() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("policy.toml");
        write(&path, "one").unwrap();
        assert!(write(&path, "two").is_err(), "it is not replaced");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let names: Vec<_> = std::fs::read_dir(parent.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing else is left");
        assert!(write(&parent.path().join("missing/policy.toml"), "one").is_err());
        assert_eq!(folder(Path::new("policy.toml")), Path::new("."));
    }
}
