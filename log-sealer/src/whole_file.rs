//! Files that appear under their name whole or not at all.
//!
//! The folder lies on storage that others control. A file is made anew under another name, never opened, so that a
//! link that waits there leads nowhere; then it is renamed. Must not know what is in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

/// What a file that is not whole yet is called beside its name.
pub(crate) const PARTIAL: &str = ".partial";

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{doing} failed")]
pub(crate) struct FileError {
    doing: &'static str,
    source: io::Error,
}

/// Names what was being done when it failed.
pub(crate) fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError { doing, source }
}

/// Writes a file that is still there after the machine lost its power.
///
/// # Errors
///
/// [`FileError`]; the same call may be made again.
pub(crate) fn write(folder: &Path, name: &str, parts: &[&[u8]]) -> Result<(), FileError> {
    let file = begin(folder, name, parts)?;
    file.sync_all().map_err(failed("syncing a file"))?;
    finish(folder, name)?;
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // some network file systems know no sync of a folder
        Err(error) if error.kind() != ErrorKind::InvalidInput => {
            Err(failed("syncing the folder")(error))
        }
        _ => Ok(()),
    }
}

/// Writes a file that may be the one before, or empty, after the machine lost its power.
///
/// # Errors
///
/// [`FileError`]; the same call may be made again.
pub(crate) fn replace(folder: &Path, name: &str, content: &[u8]) -> Result<(), FileError> {
    begin(folder, name, &[content])?;
    finish(folder, name)
}

fn begin(folder: &Path, name: &str, parts: &[&[u8]]) -> Result<File, FileError> {
    let temporary = folder.join(format!("{name}{PARTIAL}"));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failed("removing the rest of an earlier try")(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)
        .map_err(failed("creating a file"))?;
    let written = parts.iter().try_for_each(|part| file.write_all(part));
    written.map_err(failed("writing a file"))?;
    Ok(file)
}

fn finish(folder: &Path, name: &str) -> Result<(), FileError> {
    let temporary = folder.join(format!("{name}{PARTIAL}"));
    fs::rename(temporary, folder.join(name)).map_err(failed("renaming a file"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_its_parts_and_replaces_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let read = || fs::read(folder.path().join("name")).unwrap();
        fs::write(folder.path().join("name.partial"), "of a try that broke off").unwrap();
        write(folder.path(), "name", &[b"one", b"", b"two"]).unwrap();
        assert_eq!(read(), b"onetwo");
        replace(folder.path(), "name", b"three").unwrap();
        assert_eq!(read(), b"three");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_that_waits_under_a_name_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), "precious").unwrap();
        for name in ["a", "a.partial"] {
            symlink(outside.path(), folder.path().join(name)).unwrap();
        }
        write(folder.path(), "a", &[b"mine"]).unwrap();
        assert_eq!(fs::read(outside.path()).unwrap(), b"precious");
        assert!(fs::symlink_metadata(folder.path().join("a")).unwrap().is_file());
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_and_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert!(write(&missing, "a", &[]).is_err());
        assert!(!missing.exists());
    }
}
