//! Files that somebody outside writes: on a volume, or wherever the host mounts what it likes.
//!
//! A pipe at their place would keep its reader waiting for ever, and a device that never ends would take all memory. So
//! only plain files are opened, and what is read has a bound. Must not know what is in them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a plain file to read it, following links.
///
/// # Errors
///
/// Those of open(2); [`io::ErrorKind::InvalidInput`] if it is a folder, a pipe, a device.
pub fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe would wait for its other end.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file"))
    }
}

/// Reads a plain file of at most `most` bytes, however long it says to be.
///
/// # Errors
///
/// Those of [`open`] and read(2); [`io::ErrorKind::FileTooLarge`].
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let length = open(path)?.take(most.saturating_add(1)).read_to_end(&mut content)?;
    if u64::try_from(length).is_ok_and(|length| length <= most) {
        Ok(content)
    } else {
        Err(io::ErrorKind::FileTooLarge.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_plain_file_is_read_up_to_its_bound_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let refused = |path: &Path| read(path, 4).unwrap_err().kind();
        assert_eq!(refused(&path), ErrorKind::NotFound);
        std::fs::write(&path, "text").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"text");
        assert_eq!(read(&path, u64::MAX).unwrap(), b"text");
        std::fs::write(&path, "texts").unwrap();
        assert_eq!(refused(&path), ErrorKind::FileTooLarge);
        assert_eq!(refused(folder.path()), ErrorKind::InvalidInput);
        assert_eq!(refused(Path::new("/dev/zero")), ErrorKind::InvalidInput);
        let (link, pipe) = (folder.path().join("link"), folder.path().join("pipe"));
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        assert_eq!(refused(&link), ErrorKind::InvalidInput, "nobody writes to it");
    }
}
