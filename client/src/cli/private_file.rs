//! A file that nobody but its owner reads, read so that its text is zeroed when it is no longer needed.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::Failure;

/// Reads a file of at most `longest` bytes. Permissions and content are those of one opened file: a name can come to
/// mean another one in between.
pub(super) fn read(path: &Path, longest: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let unusable = |why: &str| Failure::Unusable(format!("{}: {why}", path.display()));
    let io = |error: std::io::Error| unusable(&error.to_string());
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(unusable("others may read this file; run `chmod 600` on it"));
    }
    // One buffer that does not grow: one that did would leave what it held behind.
    let limit = longest + 1;
    let room = usize::try_from(metadata.len()).unwrap_or(limit).saturating_add(1).min(limit);
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    file.take(limit).read_to_end(&mut text).map_err(io)?;
    if text.len() > longest {
        return Err(unusable(&format!("longer than {longest} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_what_its_owner_alone_reads_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "text").unwrap();
        for (mode, is_read) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path, 4).is_ok(), is_read, "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&path, 4).unwrap().as_slice(), b"text");
        assert!(read(&path, 3).is_err(), "too long");
        assert!(read(&folder.path().join("missing"), 4).is_err());
    }
}
