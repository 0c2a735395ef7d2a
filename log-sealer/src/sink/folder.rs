//! A folder: `<boot>-<seq>.age` for a segment and `<boot>-<seq>.jws` for its record, seq in eight digits.
//!
//! The folder lies on storage that others control. A file appears under its name whole or not at all, and the
//! segment before its record: a record without its segment means that somebody took it away. Files are made
//! anew, never opened, so that a link that waits under their name leads nowhere.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Sealed, SinkError, blocking, failed};

pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) async fn put(&self, sealed: &Arc<Sealed>) -> Result<(), SinkError> {
        let (folder, sealed) = (self.0.clone(), sealed.clone());
        blocking(move || put(&folder, &sealed)).await
    }
}

fn put(folder: &Path, sealed: &Sealed) -> Result<(), SinkError> {
    let name = format!("{}-{:08}", sealed.boot, sealed.seq);
    if let Some(segment) = &sealed.segment {
        write(folder, &format!("{name}.age"), segment)?;
    }
    write(folder, &format!("{name}.jws"), sealed.record.as_bytes())
}

/// Writes a file under another name, makes it durable, renames it, makes that durable.
fn write(folder: &Path, name: &str, content: &[u8]) -> Result<(), SinkError> {
    let temporary = folder.join(format!("{name}.partial"));
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
        .map_err(failed("creating a file in the log folder"))?;
    file.write_all(content).map_err(failed("writing to the log folder"))?;
    file.sync_all().map_err(failed("syncing a file in the log folder"))?;
    fs::rename(&temporary, folder.join(name)).map_err(failed("renaming in the log folder"))?;
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // some network file systems know no sync of a folder
        Err(error) if error.kind() != ErrorKind::InvalidInput => {
            Err(failed("syncing the log folder")(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const BOOT: &str = "000102030405060708090a0b0c0d0e0f";

    fn sealed(segment: Option<&str>) -> Sealed {
        let segment = segment.map(|text| text.as_bytes().to_vec());
        Sealed { boot: BOOT.to_owned(), seq: 7, record: "a.b.c".to_owned(), segment }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_record_and_its_segment_have_their_names_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let record = format!("{BOOT}-00000007.jws");
        let segment = format!("{BOOT}-00000007.age");
        put(folder.path(), &sealed(None)).unwrap();
        assert_eq!(names(folder.path()), [record.as_str()]);
        put(folder.path(), &sealed(Some("age"))).unwrap();
        assert_eq!(names(folder.path()), [segment.as_str(), &record]);
        assert_eq!(fs::read(folder.path().join(segment)).unwrap(), b"age");
        assert_eq!(fs::read(folder.path().join(record)).unwrap(), b"a.b.c");
    }

    #[test]
    fn the_same_again_is_no_error_even_after_a_try_that_broke_off() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(format!("{BOOT}-00000007.age.partial")), "a").unwrap();
        put(folder.path(), &sealed(Some("age"))).unwrap();
        put(folder.path(), &sealed(Some("age"))).unwrap();
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    fn a_link_that_waits_under_a_name_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), "precious").unwrap();
        for name in ["age", "age.partial", "jws", "jws.partial"] {
            let link = folder.path().join(format!("{BOOT}-00000007.{name}"));
            symlink(outside.path(), link).unwrap();
        }
        put(folder.path(), &sealed(Some("age"))).unwrap();
        assert_eq!(fs::read(outside.path()).unwrap(), b"precious");
        let record = fs::symlink_metadata(folder.path().join(format!("{BOOT}-00000007.jws")));
        assert!(record.unwrap().is_file());
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_and_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert!(matches!(put(&missing, &sealed(None)), Err(SinkError::Io { .. })));
        assert!(!missing.exists());
    }
}
