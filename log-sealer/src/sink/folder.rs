//! A folder: `<boot>-<seq>.age` for a segment and `<boot>-<seq>.jws` for its record, seq in eight digits.
//!
//! The segment comes before its record: a record without its segment means that somebody took it away.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{SinkError, blocking};
use crate::sealed::Sealed;
use crate::whole_file;

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
    let name = sealed.name();
    if let Some(segment) = &sealed.segment {
        whole_file::write(folder, &format!("{name}.age"), &[segment])?;
    }
    Ok(whole_file::write(folder, &format!("{name}.jws"), &[sealed.record.as_bytes()])?)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
}
