//! A file that others change while the proxy runs, and what was read in it last.
//!
//! A request never waits for a disk on the thread that serves it. It goes by what was read, and asks the kernel whether
//! anything was changed since ([`notes`]); if so, it waits, as all others do, until another thread has looked. Changes of
//! other machines on a share leave no note: for those, a thread looks every [`LOOK`].
//!
//! Must not know what is in the file.

mod notes;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::small_file::FileState;

use notes::Notes;

/// How often it is looked where no note can be.
const LOOK: Duration = Duration::from_secs(1);

/// How long a request waits for a file that was changed to be read. Then it goes by what was read before.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of reading a file.
pub(crate) enum Content<T> {
    /// This is in it.
    Is(T),
    /// It cannot be used, until it is changed.
    Unusable,
    /// It could not be read; trying again may help.
    Passing,
}

type Read<T> = Box<dyn Fn(&Path) -> Content<T> + Send + Sync>;

/// See above.
pub(crate) struct Watched<T> {
    path: PathBuf,
    read: Read<T>,
    /// What holds while there is no file.
    absent: Arc<T>,
    /// Locked for a swap only.
    held: RwLock<Arc<T>>,
    /// Locked by who looks.
    looked: Arc<Mutex<Looked>>,
    /// `None`: the kernel gives none.
    notes: Option<Notes>,
    /// Somebody has taken notes away and has not looked yet.
    heeds: AtomicBool,
}

/// What the last look saw.
#[derive(Default)]
struct Looked {
    /// `None`: no file.
    state: Option<FileState>,
    /// It had just been changed: it is read again, since another change may have left the same times.
    was_fresh: bool,
    /// It could not even be seen whether there is one.
    is_lost: bool,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the file, if there is one. What cannot be used of it leaves what was held before: `absent`, at first.
    pub(crate) fn new(
        path: PathBuf,
        absent: T,
        read: impl Fn(&Path) -> Content<T> + Send + Sync + 'static,
    ) -> Self {
        let absent = Arc::new(absent);
        let watched = Self {
            path,
            read: Box::new(read),
            held: RwLock::new(absent.clone()),
            absent,
            looked: Arc::default(),
            notes: Notes::new(),
            heeds: AtomicBool::new(false),
        };
        let mut looked = Looked::default();
        watched.look(&mut looked);
        Self { looked: Arc::new(Mutex::new(looked)), ..watched }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What was read last. Waits for nothing.
    pub(crate) fn current(&self) -> Arc<T> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns when what was noted up to now is held, or after [`PATIENCE`], with what was held before.
    pub(crate) async fn refresh(self: &Arc<Self>) {
        // In this order: who takes notes away has said so before.
        if !self.is_noted() && !self.heeds.load(Ordering::SeqCst) {
            return;
        }
        let heeded = async {
            let looked = self.looked.clone().lock_owned().await;
            if self.is_noted() {
                let watched = self.clone();
                // Goes on, and keeps the lock, if it takes longer than anybody waits.
                let _ = tokio::task::spawn_blocking(move || watched.heed(looked)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, heeded).await.is_err() {
            tracing::warn!("a changed file is slow to be read; what was read before holds");
        }
    }

    /// Looks now, and waits for the disk. Not for threads that serve anybody.
    pub(crate) fn look_now(&self) {
        self.look(&mut self.looked.blocking_lock());
    }

    /// Looks every [`LOOK`], on a thread of its own, for as long as somebody has the file.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub(crate) fn follow(self: &Arc<Self>) -> std::io::Result<()> {
        let watched = Arc::downgrade(self);
        let follow = move || {
            loop {
                std::thread::sleep(LOOK);
                let Some(watched) = watched.upgrade() else { return };
                watched.look_now();
            }
        };
        std::thread::Builder::new().name("files".to_owned()).spawn(follow).map(drop)
    }

    fn is_noted(&self) -> bool {
        self.notes.as_ref().is_some_and(Notes::are_there)
    }

    fn heed(&self, mut looked: OwnedMutexGuard<Looked>) {
        self.heeds.store(true, Ordering::SeqCst);
        if let Some(notes) = &self.notes {
            notes.forget();
        }
        self.look(&mut looked);
        self.heeds.store(false, Ordering::SeqCst);
    }

    fn look(&self, looked: &mut Looked) {
        // First, so that no change falls between.
        if let Some(notes) = &self.notes {
            notes.watch(&self.path);
        }
        let state = match FileState::of(&self.path) {
            Ok(state) => state,
            Err(error) => {
                // As with one that cannot be read: that nobody sees it does not mean that it was deleted.
                if !std::mem::replace(&mut looked.is_lost, true) {
                    tracing::error!(%error, "a file cannot be looked at; what was read before holds");
                }
                return;
            }
        };
        looked.is_lost = false;
        if looked.state == state && !looked.was_fresh {
            return;
        }
        let is_fresh = state.as_ref().is_some_and(FileState::is_fresh);
        let content = match &state {
            None => Some(self.absent.clone()),
            Some(_) => match (self.read)(&self.path) {
                Content::Is(content) => Some(Arc::new(content)),
                Content::Unusable => None,
                Content::Passing => return,
            },
        };
        (looked.state, looked.was_fresh) = (state, is_fresh);
        if let Some(content) = content {
            let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::replace(&mut *held, content);
            drop(held);
            // A hundred thousand keys take their time.
            drop(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    fn number(path: &Path) -> Content<u32> {
        match std::fs::read_to_string(path) {
            Ok(text) => text.parse().map_or(Content::Unusable, Content::Is),
            Err(_) => Content::Passing,
        }
    }

    /// The same inode, the same length, and a time that was set back.
    #[tokio::test]
    async fn a_change_that_carries_its_time_over_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        std::fs::write(&path, "11").unwrap();
        let watched = Arc::new(Watched::new(path.clone(), 0, number));
        let before = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, "12").unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(before).unwrap();
        watched.refresh().await;
        assert_eq!(*watched.current(), 12);
    }

    #[tokio::test]
    async fn who_asks_after_a_change_gets_what_was_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let watched = Arc::new(Watched::new(path.clone(), 0, number));
        let asked = async || {
            watched.refresh().await;
            *watched.current()
        };
        assert_eq!(asked().await, 0);
        for n in 1..200 {
            // Now in its place, now over it.
            if n % 2 == 0 {
                std::fs::write(&path, n.to_string()).unwrap();
            } else {
                std::fs::write(folder.path().join("next"), n.to_string()).unwrap();
                std::fs::rename(folder.path().join("next"), &path).unwrap();
            }
            assert_eq!(asked().await, n);
        }
        std::fs::write(&path, "no number").unwrap();
        assert_eq!(asked().await, 199, "what cannot be used changes nothing");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(asked().await, 0);
    }

    /// A reader that says when it begins, and goes on when it is told to.
    fn slow() -> (impl Fn(&Path) -> Content<u32> + Send + Sync, Receiver<()>, Sender<()>) {
        let (begins, began) = channel();
        let (go, goes) = channel();
        let goes = std::sync::Mutex::new(goes);
        let read = move |path: &Path| {
            let _ = begins.send(());
            let _ = goes.lock().unwrap().recv_timeout(Duration::from_secs(60));
            number(path)
        };
        (read, began, go)
    }

    /// One thread serves them all: whoever waits for the file, it goes on.
    #[tokio::test]
    async fn a_thread_goes_on_while_a_changed_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let (read, began, go) = slow();
        let watched = Arc::new(Watched::new(path.clone(), 0, read));
        std::fs::write(&path, "1").unwrap();
        let waiting = |watched: &Arc<Watched<u32>>| {
            let watched = watched.clone();
            tokio::spawn(async move {
                watched.refresh().await;
                *watched.current()
            })
        };
        let first = waiting(&watched);
        while began.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*watched.current(), 0, "nothing is locked");
        let second = waiting(&watched);
        tokio::task::yield_now().await;
        assert!(!first.is_finished() && !second.is_finished(), "both ask after the change");
        go.send(()).unwrap();
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 1));
        assert!(began.try_recv().is_err(), "it was read once");
    }

    /// A share that says nothing keeps nobody who has no note of a change, and the others for so long.
    #[tokio::test(start_paused = true)]
    async fn a_file_that_does_not_come_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let (read, began, go) = slow();
        let watched = Arc::new(Watched::new(path.clone(), 0, read));
        std::fs::write(&path, "1").unwrap();
        let waiting = tokio::spawn({
            let watched = watched.clone();
            async move { watched.refresh().await }
        });
        while began.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(PATIENCE).await;
        waiting.await.unwrap();
        assert_eq!(*watched.current(), 0);
        go.send(()).unwrap();
        while *watched.current() == 0 {
            tokio::task::yield_now().await;
        }

        let other = tempfile::tempdir().unwrap();
        let path = other.path().join("later/number");
        let (read, began, go) = slow();
        let watched = Arc::new(Watched::new(path.clone(), 0, read));
        std::fs::create_dir(other.path().join("later")).unwrap();
        std::fs::write(&path, "2").unwrap();
        let looking = tokio::task::spawn_blocking({
            let watched = watched.clone();
            move || watched.look_now()
        });
        began.recv_timeout(Duration::from_secs(60)).unwrap();
        watched.refresh().await;
        assert_eq!(*watched.current(), 0, "its folder was not there: nothing is noted");
        go.send(()).unwrap();
        looking.await.unwrap();
        assert_eq!(*watched.current(), 2);
        std::fs::write(&path, "3").unwrap();
        go.send(()).unwrap();
        watched.refresh().await;
        assert_eq!(*watched.current(), 3, "and now it is watched");
    }

    #[test]
    fn what_cannot_be_seen_is_not_taken_for_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        std::fs::write(&path, "1").unwrap();
        let watched = Watched::new(path.clone(), 0, number);
        // A link that leads to itself: there is a file of that name, and stat(2) fails.
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        watched.look_now();
        assert_eq!(*watched.current(), 1);
        std::fs::remove_file(&path).unwrap();
        watched.look_now();
        assert_eq!(*watched.current(), 0);
    }
}
