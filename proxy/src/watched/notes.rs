//! What the kernel notes of changes to a file (inotify(7)), so that no request has to ask the disk.
//!
//! A note is there before the call returns that made the change, whichever process of this machine made it. Changes that
//! another machine makes on a share leave none. Must not know what is in the file.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::{Errno, ioctl_fionread};

/// Everything after which a path may lead to another content.
const CHANGES: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MOVE_SELF);

/// What says that a name leads somewhere else: of the link itself, beside what else is watched there.
const REPLACED: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DONT_FOLLOW)
    .union(WatchFlags::MASK_ADD);

/// No file is watched.
const NONE: i32 = -1;

/// The notes of one file.
pub(super) struct Notes {
    queue: OwnedFd,
    /// The file that is watched beside its folder.
    file: AtomicI32,
}

impl Notes {
    /// `None`: the kernel gives none; it has a bound for each user.
    pub(super) fn new() -> Option<Self> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let queue = inotify::init(flags).ok()?;
        Some(Self { queue, file: AtomicI32::new(NONE) })
    }

    /// Notes changes of that path from now on: of its folder, where another file may take its place, and of what it leads to
    /// now, which may be mounted or linked there. Asks the disk.
    pub(super) fn watch(&self, path: &Path) {
        // A folder on the way may be a link, in whose place another one is put.
        for step in path.ancestors().skip(1).filter(|step| !step.as_os_str().is_empty()) {
            let _ = inotify::add_watch(&self.queue, step, REPLACED);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // What is not there is watched from when it is; until then others look for it.
        let _ = inotify::add_watch(&self.queue, folder.unwrap_or(Path::new(".")), CHANGES);
        let file = inotify::add_watch(&self.queue, path, CHANGES).unwrap_or(NONE);
        let before = self.file.swap(file, Ordering::Relaxed);
        if before != file && before != NONE {
            // It is gone already, unless it was only moved away.
            let _ = inotify::remove_watch(&self.queue, before);
        }
    }

    /// Whether there are any. Asks no disk.
    pub(super) fn are_there(&self) -> bool {
        ioctl_fionread(&self.queue).is_ok_and(|length| length > 0)
    }

    /// Takes them away.
    pub(super) fn forget(&self) {
        let mut notes = [0; 4096];
        loop {
            match rustix::io::read(&self.queue, &mut notes) {
                Ok(1..) | Err(Errno::INTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_changes_the_path_is_noted_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let at = |name: &str| folder.path().join(name);
        let notes = Notes::new().unwrap();
        let noted = |what: &str| {
            assert!(notes.are_there(), "{what}");
            // What the watching itself leaves is not of interest here.
            for _ in 0..2 {
                notes.forget();
                notes.watch(&path);
            }
            notes.forget();
            assert!(!notes.are_there(), "{what}");
        };
        notes.watch(&path);
        assert!(!notes.are_there());
        std::fs::write(&path, "a").unwrap();
        noted("made");
        std::fs::write(&path, "b").unwrap();
        noted("written");
        std::fs::File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        noted("another time");
        std::fs::write(at("next"), "c").unwrap();
        noted("something beside it");
        std::fs::rename(at("next"), &path).unwrap();
        noted("replaced");
        std::fs::read(&path).unwrap();
        std::fs::metadata(&path).unwrap();
        assert!(!notes.are_there(), "reading is no change");
        std::fs::remove_file(&path).unwrap();
        noted("removed");
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("target");
        std::fs::write(&target, "d").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        noted("linked");
        std::fs::write(&target, "e").unwrap();
        noted("what it leads to was written");
    }
}
