//! Who watches the log live: what is accepted goes to them in the clear, where the measured `LOG_LIVE` allows it.
//!
//! Nobody watches: then nothing is copied and nothing kept. Whoever does sees what comes in from then on, in the memory that the
//! queue has it in; what waits for one watcher has a bound, and one who is slow loses records, and is told how many. The
//! intake waits for nobody.
//!
//! Must not know what a line says, or who may watch.

mod own;
mod shown;
pub(crate) mod views;

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use service::Shutdown;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::lines::Lines;

/// The most bytes of lines that wait for one watcher. An export that is longer is never shown.
const WAITING: usize = 2 << 20;

/// Who may watch (`LOG_LIVE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    Nobody,
    /// Whoever reaches the gRPC port: the proxy shows it to those who are logged in to its admin pages.
    Admin,
}

/// Not one of them.
#[derive(Debug, thiserror::Error)]
#[error("must be off or admin")]
pub(crate) struct NotAllowed;

impl FromStr for Allowed {
    type Err = NotAllowed;

    fn from_str(text: &str) -> Result<Self, NotAllowed> {
        match text {
            "off" => Ok(Self::Nobody),
            "admin" => Ok(Self::Admin),
            _ => Err(NotAllowed),
        }
    }
}

/// Everybody who watches now.
#[derive(Default)]
pub(crate) struct Live {
    watchers: Mutex<Vec<Arc<Watcher>>>,
    ended: Shutdown,
}

/// What waits for one watcher.
#[derive(Default)]
struct Watcher {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Arc<Zeroizing<Vec<u8>>>>,
    bytes: usize,
    missed: u64,
}

/// Lines that will be shown to these, once they are accepted.
pub(crate) struct Offer {
    to: Vec<Arc<Watcher>>,
    text: Arc<Zeroizing<Vec<u8>>>,
    records: u64,
}

/// Somebody watches, until this is dropped.
struct Watch {
    live: Arc<Live>,
    watcher: Arc<Watcher>,
}

/// What a watcher gets next.
struct Piece {
    /// Records that were left out before these lines.
    missed: u64,
    lines: Option<Arc<Zeroizing<Vec<u8>>>>,
}

impl Live {
    /// To whoever watches now; `None` if nobody does, or nothing is there to see.
    pub(crate) fn offer(&self, lines: &Lines) -> Option<Offer> {
        let records = u64::try_from(lines.counts.records).unwrap_or(u64::MAX);
        let watchers = self.watchers();
        (records > 0 && !watchers.is_empty()).then(|| Offer {
            to: watchers.clone(),
            text: lines.text.clone(),
            records,
        })
    }

    /// Ends all watches, and those that begin later.
    pub(crate) fn end(&self) {
        self.ended.fire();
    }

    /// Resolves when all watches are to end.
    fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.ended.fired()
    }

    /// Begins to watch.
    fn watch(self: &Arc<Self>) -> Watch {
        let watcher = Arc::<Watcher>::default();
        self.watchers().push(watcher.clone());
        Watch { live: self.clone(), watcher }
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Arc<Watcher>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Offer {
    /// Shows it: it was accepted.
    pub(crate) fn make(self) {
        for watcher in &self.to {
            watcher.take(&self.text, self.records);
        }
    }
}

impl Watcher {
    fn take(&self, text: &Arc<Zeroizing<Vec<u8>>>, records: u64) {
        let mut waiting = self.waiting();
        let bytes = waiting.bytes + text.len();
        if bytes > WAITING {
            waiting.missed = waiting.missed.saturating_add(records);
        } else {
            waiting.bytes = bytes;
            waiting.lines.push_back(text.clone());
        }
        drop(waiting);
        self.changed.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// The next lines, and how many records are missing: what is missed comes before what still waits. `None` when all
    /// watches end.
    async fn next(&self) -> Option<Piece> {
        loop {
            if let Some(piece) = self.waits() {
                return Some(piece);
            }
            // one takes, and a permit that was left is kept: nothing is overlooked between the two
            tokio::select! {
                () = self.watcher.changed.notified() => {}
                () = self.live.ended() => return None,
            }
        }
    }

    fn waits(&self) -> Option<Piece> {
        let mut waiting = self.watcher.waiting();
        let missed = std::mem::take(&mut waiting.missed);
        let lines = waiting.lines.pop_front();
        waiting.bytes -= lines.as_ref().map_or(0, |lines| lines.len());
        (missed > 0 || lines.is_some()).then_some(Piece { missed, lines })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.live.watchers().retain(|other| !Arc::ptr_eq(other, &self.watcher));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Counts;

    fn lines(length: usize, records: usize) -> Lines {
        let counts = Counts { records, ..Counts::default() };
        Lines { text: Zeroizing::new(vec![b'x'; length]).into(), counts, times: None }
    }

    fn show(live: &Live, length: usize, records: usize) {
        if let Some(offer) = live.offer(&lines(length, records)) {
            offer.make();
        }
    }

    fn next(watch: &Watch) -> Option<(u64, usize)> {
        let piece = watch.waits()?;
        Some((piece.missed, piece.lines.map_or(0, |lines| lines.len())))
    }

    #[test]
    fn without_a_watcher_nothing_is_kept() {
        let live = Arc::new(Live::default());
        let before = lines(7, 1);
        assert!(live.offer(&before).is_none());
        let watch = live.watch();
        assert!(live.offer(&lines(7, 0)).is_none(), "spans and points are not shown");
        let offer = live.offer(&before).unwrap();
        assert_eq!(Arc::strong_count(&before.text), 2, "shared, not copied");
        assert!(next(&watch).is_none(), "not before it is accepted");
        drop(offer);
        assert!(next(&watch).is_none());
        drop(watch);
        assert!(live.offer(&before).is_none());
        assert_eq!(Arc::strong_count(&before.text), 1);
    }

    #[test]
    fn each_sees_what_comes_after_it_began() {
        let live = Arc::new(Live::default());
        let first = live.watch();
        let offered = live.offer(&lines(1, 1)).unwrap();
        let second = live.watch();
        offered.make();
        show(&live, 2, 1);
        assert_eq!((next(&first), next(&first)), (Some((0, 1)), Some((0, 2))));
        assert_eq!((next(&second), next(&second)), (Some((0, 2)), None));
    }

    #[test]
    fn who_is_slow_loses_records_and_is_told_how_many() {
        let live = Arc::new(Live::default());
        let (slow, fast) = (live.watch(), live.watch());
        for records in 1..=4 {
            show(&live, WAITING / 2, records);
            assert_eq!(next(&fast), Some((0, WAITING / 2)));
        }
        assert_eq!(next(&slow), Some((7, WAITING / 2)));
        assert_eq!(next(&slow), Some((0, WAITING / 2)));
        assert_eq!(next(&slow), None);
        show(&live, WAITING + 1, 5);
        assert_eq!(next(&slow), Some((5, 0)), "what never fits is told as well");
        show(&live, WAITING, 1);
        assert_eq!(next(&slow), Some((0, WAITING)), "there is room again");
    }

    #[tokio::test]
    async fn a_watch_is_woken_and_ends_with_all() {
        let live = Arc::new(Live::default());
        let watch = live.watch();
        let later = async {
            tokio::task::yield_now().await;
            show(&live, 3, 1);
        };
        let (piece, ()) = tokio::join!(watch.next(), later);
        assert_eq!(piece.unwrap().lines.unwrap().len(), 3);
        live.end();
        assert!(watch.next().await.is_none());
    }

    #[test]
    fn who_may_watch_has_two_words() {
        assert_eq!("off".parse::<Allowed>().ok(), Some(Allowed::Nobody));
        assert_eq!("admin".parse::<Allowed>().ok(), Some(Allowed::Admin));
        assert!("on".parse::<Allowed>().is_err());
    }
}
