//! What was signed and is not yet in every sink, in order, with a cursor for each sink.
//!
//! It is on disk where `LOG_SPOOL` names a folder, and else in memory; either way it has a bound. It holds ciphertext
//! and signed records only. On disk, what an earlier boot left is delivered first, and the newest item stays until
//! there is a newer one, so that the next boot can name it ([`Previous`]).
//!
//! One task puts items in, in the order of their numbers; one task a sink takes them out. This module must not know
//! what a sink is, or why something was signed.

mod disk;
mod item;
mod name;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::pin::pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attestation::log_record::{self, Previous};
use service::lifecycle;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;

pub(crate) use self::disk::SpoolError;
use self::disk::{Disk, Found};
use self::name::Name;
use crate::sealed::Sealed;
use crate::whole_file::{FileError, failed};

/// The most items.
const ITEMS: usize = 1 << 18;

/// Bytes that segments leave for records without one: a boot must be able to begin, and to end.
const RESERVE: u64 = 1 << 20;

/// The same in items.
const RESERVED_ITEMS: usize = 1 << 12;

/// How long the process before may take to let go of the folder.
const LOCKED: (u32, Duration) = (50, Duration::from_millis(100));

/// `LOG_SPOOL_FULL`: what happens when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Senders keep their records and are told to come back.
    Block,
    /// New batches are dropped, and a record says how much was in them.
    Drop,
}

/// Why a text is no such rule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be block or drop")]
pub(crate) struct NotARule;

impl FromStr for Full {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Self, NotARule> {
        match text {
            "block" => Ok(Self::Block),
            "drop" => Ok(Self::Drop),
            _ => Err(NotARule),
        }
    }
}

/// Where the spool is, and how long it may get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `None`: in memory.
    pub(crate) folder: Option<PathBuf>,
    /// `LOG_SPOOL_BYTES`.
    pub(crate) bytes: u64,
}

/// The newest record that a crash of this process does not lose: on disk, or, of a spool in memory, in a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its number in the boot.
    pub(crate) seq: u64,
    /// SHA-256 of its compact form.
    pub(crate) digest: [u8; 32],
}

/// What a sink is to take next.
pub(crate) struct Portion {
    /// Of one boot, in order; never empty.
    pub(crate) items: Vec<Arc<Sealed>>,
    /// The longest that its lines can be together.
    pub(crate) lines: u64,
    /// Where the sink's cursor is once it has them.
    pub(crate) end: u64,
}

/// The spool.
pub(crate) struct Spool {
    disk: Option<Arc<Disk>>,
    limit: u64,
    /// Of each sink, what its cursor's file is called by.
    keys: Vec<String>,
    /// Whether cursors are kept on disk: all of them or none, since a sink without one counts as new.
    keeps_cursors: bool,
    /// Its form was looked at, nothing else: the disk is the host's.
    previous: Option<Previous>,
    state: Mutex<State>,
    /// Something came in, or a cursor moved on.
    changed: Notify,
    head: watch::Sender<Option<Head>>,
}

#[derive(Default)]
struct State {
    /// By rising positions.
    entries: VecDeque<Entry>,
    next: u64,
    bytes: u64,
    /// Of each sink, the position of what it takes next.
    cursors: Vec<u64>,
}

/// One item.
#[derive(Clone)]
struct Entry {
    name: Name,
    /// What it takes.
    bytes: u64,
    /// Of its record, where this process put it here.
    digest: Option<[u8; 32]>,
    /// In memory; of a spool on disk, nothing.
    sealed: Option<Arc<Sealed>>,
}

impl Spool {
    /// Opens the spool for the sinks of these keys. What is left there of earlier boots is the sinks' to take.
    ///
    /// # Errors
    ///
    /// [`SpoolError`].
    pub(crate) async fn open(settings: Settings, keys: Vec<String>) -> Result<Self, SpoolError> {
        let disk = match settings.folder {
            Some(folder) => Some(Arc::new(lock(folder).await?)),
            None => None,
        };
        let mut found = Found::default();
        if let Some(disk) = &disk {
            let disk = disk.clone();
            found = blocking(move || disk.scan()).await.map_err(SpoolError::Folder)??;
        }
        if found.broken + found.foreign > 0 {
            let (broken, foreign) = (found.broken, found.foreign);
            lifecycle!("foreign files in the spool", broken = broken, foreign = foreign);
        }
        let previous = found.newest.map(|(name, digest)| Previous {
            boot: hex::encode(name.boot),
            seq: name.seq,
            digest,
        });
        let state = State::of(&found, &keys);
        let mut keeps_cursors = false;
        if let Some(disk) = disk.clone() {
            let cursors: Vec<_> = keys.iter().cloned().zip(state.cursors.clone()).collect();
            let begin = move || begin(&disk, &cursors, &found);
            keeps_cursors = blocking(begin).await.map_err(SpoolError::Folder)?;
        }
        let state = Mutex::new(state);
        let head = watch::Sender::new(None);
        let limit = settings.bytes;
        let changed = Notify::new();
        let spool = Self { disk, limit, keys, keeps_cursors, previous, state, changed, head };
        spool.trim().await;
        Ok(spool)
    }

    /// Whether what is in here survives the end of the process.
    pub(crate) fn is_durable(&self) -> bool {
        self.disk.is_some()
    }

    /// The newest record that an earlier boot left here, if any.
    pub(crate) fn previous(&self) -> Option<&Previous> {
        self.previous.as_ref()
    }

    /// The newest record of this boot that is safe.
    pub(crate) fn head(&self) -> watch::Receiver<Option<Head>> {
        self.head.subscribe()
    }

    /// Items that some sink has yet to take.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state();
        state.entries.len() - state.taken()
    }

    /// Whether there is room for a segment of that many bytes.
    pub(crate) fn fits(&self, segment: usize) -> bool {
        let state = self.state();
        state.entries.len() < ITEMS - RESERVED_ITEMS
            && state.bytes.saturating_add(disk::space(segment)) <= self.limit - RESERVE
    }

    /// Whether a boot can begin: its first record fits, into what segments leave if need be.
    pub(crate) fn fits_beginning(&self) -> bool {
        let state = self.state();
        state.entries.len() < ITEMS
            && state.bytes.saturating_add(disk::space(log_record::MAX_LENGTH)) <= self.limit
    }

    /// Waits until a boot can begin.
    pub(crate) async fn room_for_beginning(&self) {
        self.wait(|| self.fits_beginning().then_some(())).await;
    }

    /// Waits until there is room for a segment of that many bytes.
    pub(crate) async fn room(&self, segment: usize) {
        self.wait(|| self.fits(segment).then_some(())).await;
    }

    /// Puts the next item in. It is safe when this returns; of a spool in memory, when a sink has it.
    ///
    /// # Errors
    ///
    /// [`FileError`]; the same call may be made again, and must be, before any other.
    pub(crate) async fn put(
        &self,
        sealed: &Arc<Sealed>,
        digest: [u8; 32],
    ) -> Result<(), FileError> {
        let mut boot = [0; 16];
        // a signer's boot id is one
        let _ = hex::decode_to_slice(&sealed.boot, &mut boot);
        let name = Name { position: self.state().next, boot, seq: sealed.seq };
        if let Some(disk) = &self.disk {
            let (disk, sealed) = (disk.clone(), sealed.clone());
            blocking(move || disk.write(&name, &sealed)).await??;
        }
        let mut state = self.state();
        let bytes = disk::space(sealed.length());
        let kept = self.disk.is_none().then(|| sealed.clone());
        state.next += 1;
        state.bytes += bytes;
        state.entries.push_back(Entry { name, bytes, digest: Some(digest), sealed: kept });
        drop(state);
        if self.is_durable() {
            self.head.send_replace(Some(Head { seq: sealed.seq, digest }));
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Waits for what a sink is to take next: one item, or as many of one boot as make `lines` bytes of lines.
    ///
    /// # Errors
    ///
    /// [`FileError`]: the disk fails; the same call may be made again.
    pub(crate) async fn portion(&self, sink: usize, lines: u64) -> Result<Portion, FileError> {
        let mut items: Vec<Arc<Sealed>> = Vec::new();
        let (mut end, mut length, mut boot) = (0, 0_u64, None);
        loop {
            let entry = if items.is_empty() {
                self.wait(|| self.state().at(sink, end)).await
            } else {
                let more = self.state().at(sink, end);
                let fits = |entry: &Entry| length.saturating_add(entry.line()) <= lines;
                match more.filter(|entry| Some(entry.name.boot) == boot && fits(entry)) {
                    Some(entry) => entry,
                    None => return Ok(Portion { items, lines: length, end }),
                }
            };
            end = entry.name.position + 1;
            boot = Some(entry.name.boot);
            length = length.saturating_add(entry.line());
            match self.read(&entry).await {
                Ok(Some(sealed)) => items.push(sealed),
                Ok(None) => self.damaged(&entry.name),
                Err(error) if items.is_empty() => return Err(error),
                // this one is read again when its turn comes
                Err(_) => {
                    return Ok(Portion { items, lines: length, end: entry.name.position });
                }
            }
        }
    }

    /// A sink has everything before this position.
    pub(crate) async fn passed(&self, sink: usize, end: u64) {
        {
            let mut state = self.state();
            if let Some(cursor) = state.cursors.get_mut(sink) {
                *cursor = end;
            }
            if !self.is_durable() {
                self.head.send_if_modified(|head| {
                    let newest = state.newest_taken();
                    let newer = newest.is_some() && newest != *head;
                    *head = newest.or(*head);
                    newer
                });
            }
        }
        let disk = self.disk.clone().filter(|_| self.keeps_cursors);
        if let Some((disk, key)) = disk.zip(self.keys.get(sink).cloned()) {
            let _ = spawn_blocking(move || disk.write_cursor(&key, end)).await;
        }
        self.trim().await;
        self.changed.notify_waiters();
    }

    /// Waits until every sink has everything.
    pub(crate) async fn drained(&self) {
        self.wait(|| (self.waiting() == 0).then_some(())).await;
    }

    /// Takes out what every sink has. On disk, the newest item stays.
    async fn trim(&self) {
        let removed: Vec<Name> = {
            let mut state = self.state();
            let most = state.entries.len().saturating_sub(usize::from(self.is_durable()));
            let taken = state.taken().min(most);
            let removed: Vec<Entry> = state.entries.drain(..taken).collect();
            state.bytes -= removed.iter().map(|entry| entry.bytes).sum::<u64>();
            removed.iter().map(|entry| entry.name).collect()
        };
        if let Some(disk) = self.disk.clone().filter(|_| !removed.is_empty()) {
            let _ = spawn_blocking(move || disk.remove(&removed)).await;
        }
    }

    async fn read(&self, entry: &Entry) -> Result<Option<Arc<Sealed>>, FileError> {
        let Some(disk) = self.disk.clone() else { return Ok(entry.sealed.clone()) };
        let (name, digest) = (entry.name, entry.digest);
        let read = blocking(move || disk.read(&name, digest.as_ref())).await??;
        Ok(read.map(Arc::new))
    }

    /// Forgets an item that is not what it was.
    fn damaged(&self, name: &Name) {
        let mut state = self.state();
        let Ok(place) = state.entries.binary_search_by_key(name, |entry| entry.name) else {
            // another sink found out first
            return;
        };
        if let Some(entry) = state.entries.remove(place) {
            state.bytes -= entry.bytes;
        }
        drop(state);
        lifecycle!(
            "a file of the spool was set aside",
            boot = hex::encode(name.boot),
            seq = name.seq
        );
        self.changed.notify_waiters();
    }

    async fn wait<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = look() {
                return found;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // every change is complete or did not begin: a panic elsewhere leaves it usable
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What was found, with a cursor for each sink: its own, or else that of the one which is furthest behind.
    fn of(found: &Found, keys: &[String]) -> Self {
        let entries: VecDeque<Entry> = found
            .items
            .iter()
            .map(|(name, bytes)| Entry { name: *name, bytes: *bytes, digest: None, sealed: None })
            .collect();
        let oldest = entries.front().map_or(0, |entry| entry.name.position);
        let next = entries.back().map_or(0, |entry| entry.name.position + 1);
        // what lies beyond the spool was not written by this role, or for other items: everything is delivered again
        let cursor = |position: &u64| if *position <= next { *position } else { oldest };
        let behind = found.cursors.values().map(cursor).min().unwrap_or(oldest);
        let cursors =
            keys.iter().map(|key| found.cursors.get(key).map_or(behind, cursor)).collect();
        let bytes = entries.iter().map(|entry| entry.bytes).sum();
        Self { entries, next, bytes, cursors }
    }

    /// How many of the oldest items every sink has.
    fn taken(&self) -> usize {
        let behind = self.cursors.iter().copied().min().unwrap_or(self.next);
        self.entries.partition_point(|entry| entry.name.position < behind)
    }

    /// The newest record of this boot that a sink has.
    fn newest_taken(&self) -> Option<Head> {
        let ahead = self.cursors.iter().copied().max()?;
        let taken = self.entries.partition_point(|entry| entry.name.position < ahead);
        let entry = self.entries.get(taken.checked_sub(1)?)?;
        Some(Head { seq: entry.name.seq, digest: entry.digest? })
    }

    /// What a sink takes next, at its cursor or from `position` on.
    fn at(&self, sink: usize, position: u64) -> Option<Entry> {
        let from = self.cursors.get(sink)?.max(&position);
        let place = self.entries.partition_point(|entry| entry.name.position < *from);
        self.entries.get(place).cloned()
    }
}

impl Entry {
    /// The longest that its line can be.
    fn line(&self) -> u64 {
        self.bytes.saturating_mul(4) / 3 + 64
    }
}

/// Keeps where each sink begins, and forgets those that are not configured any more. Whether cursors can be kept.
fn begin(disk: &Disk, cursors: &[(String, u64)], found: &Found) -> bool {
    let kept = cursors.iter().all(|(key, position)| disk.begin_cursor(key, *position).is_ok());
    let configured = |key: &&String| cursors.iter().any(|(known, _)| known == *key);
    for key in found.cursors.keys().filter(|key| kept && !configured(key)) {
        disk.remove_cursor(key);
    }
    kept
}

async fn lock(folder: PathBuf) -> Result<Disk, SpoolError> {
    let (tries, pause) = LOCKED;
    for _ in 1..tries {
        match Disk::open(folder.clone()) {
            Err(SpoolError::Taken) => tokio::time::sleep(pause).await,
            opened => return opened,
        }
    }
    Disk::open(folder)
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FileError> {
    let broke_off = |error| failed("work on the spool")(std::io::Error::other(error));
    spawn_blocking(work).await.map_err(broke_off)
}

#[cfg(test)]
mod tests;
