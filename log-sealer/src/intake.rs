//! The queue between those who export and the one who seals.
//!
//! Where the spool is on disk, an export is answered when its segment is there ([`Stored`]). Else it is answered OK
//! when its lines are in here, and not before; the queue is memory, and what waits in it is lost when the process
//! dies without its last words, at most a segment's time of lines while the sink works. It is bounded in bytes and
//! in what the lines hold; when it is full, the sender keeps its batch and is told to come back.
//!
//! An export that is answered OK is shown to whoever watches the log live ([`Live`]).

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::counts::{Counts, widest};
use crate::error::Refused;
use crate::lines::{self, Lines};
use crate::live::{Live, Offer};

/// The most bytes of lines that wait. The batch that is being sealed comes on top, with [`lines::MAX`] at most.
const BYTES: usize = 32 << 20;

/// The most log records, spans and data points that wait.
const ITEMS: usize = 131_072;

// whatever is accepted at all fits into an empty queue
const _: () = assert!(lines::MAX <= BYTES && lines::ITEMS <= ITEMS);

/// When a batch is closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// At this many bytes of lines, or before the export that would exceed it, …
    pub(crate) bytes: usize,
    /// … unless more has piled up meanwhile: then at this many. Where a batch takes long to store, more goes into one.
    pub(crate) most: usize,
    /// When its oldest export has waited this long.
    pub(crate) wait: Duration,
}

/// What one segment will hold. Wiped when dropped; without `Debug`.
#[derive(Default)]
pub(crate) struct Batch {
    /// Whole lines, in the order in which they came.
    pub(crate) lines: Vec<Arc<Zeroizing<Vec<u8>>>>,
    /// How much is in them.
    pub(crate) counts: Counts,
    /// The earliest and the latest time in them, in Unix seconds.
    pub(crate) times: Option<(u64, u64)>,
    /// To whom to say what became of them.
    pub(crate) senders: Senders,
}

/// What becomes of an export.
type Outcome = Result<(), Refused>;

/// Those who wait to hear what becomes of their exports. Whoever is dropped untold hears that this role is stopping.
#[derive(Default)]
pub(crate) struct Senders(Vec<Sender>);

/// One who waits, and whom the export is shown to if all is well.
struct Sender {
    outcome: oneshot::Sender<Outcome>,
    offer: Option<Offer>,
}

impl Senders {
    /// Tells them. Whoever went away does not hear it; what they sent is kept, and shown, all the same.
    pub(crate) fn tell(self, outcome: Outcome) {
        for sender in self.0 {
            if let (Ok(()), Some(offer)) = (outcome, sender.offer) {
                offer.make();
            }
            let _ = sender.outcome.send(outcome);
        }
    }
}

/// An export that was taken.
#[derive(Debug)]
pub(crate) struct Stored(Option<oneshot::Receiver<Outcome>>);

impl Stored {
    /// Returns once it is as safe as this role promises.
    ///
    /// # Errors
    ///
    /// [`Refused`]: it is in no segment.
    pub(crate) async fn wait(self) -> Outcome {
        match self.0 {
            None => Ok(()),
            Some(outcome) => outcome.await.unwrap_or(Err(Refused::Stopping)),
        }
    }
}

/// The queue.
#[derive(Default)]
pub(crate) struct Intake {
    /// Whether senders wait until their segment is stored.
    durable: bool,
    live: Arc<Live>,
    queue: Mutex<Queue>,
    /// Something came in, or nothing will any more.
    changed: Notify,
}

/// An export that waits.
struct Export {
    came: Instant,
    lines: Lines,
    sender: Option<Sender>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Export>,
    bytes: usize,
    counts: Counts,
    /// What is in the batch that was taken last.
    in_hand: Counts,
    /// Nothing is accepted for now.
    held: bool,
    /// Batches are closed as soon as there is anything.
    hurried: bool,
    closed: bool,
}

/// What the sealer is to do.
enum Next {
    Take(Batch),
    Wait(Option<Instant>),
    End,
}

impl Intake {
    /// A queue whose senders wait until their segment is stored, or not.
    pub(crate) fn new(durable: bool) -> Self {
        Self { durable, ..Self::default() }
    }

    /// Accepts an export.
    ///
    /// # Errors
    ///
    /// [`Refused::Full`], [`Refused::Stopping`]: nothing of it was kept.
    pub(crate) fn push(&self, lines: Lines) -> Result<Stored, Refused> {
        if lines.counts.all() == 0 {
            // it may hold what leaves in the clear, which is not taken at the end either
            self.queue().open()?;
            self.changed.notify_waiters();
            return Ok(Stored(None));
        }
        // before it is in the queue: who begins to watch afterwards does not see it
        let offer = self.live.offer(&lines);
        if self.durable {
            let (outcome, stored) = oneshot::channel();
            self.queue().push(lines, Some(Sender { outcome, offer }))?;
            self.changed.notify_waiters();
            return Ok(Stored(Some(stored)));
        }
        self.queue().push(lines, None)?;
        self.changed.notify_waiters();
        if let Some(offer) = offer {
            offer.make();
        }
        Ok(Stored(None))
    }

    /// Whoever watches what is accepted here.
    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The next batch; `None` when the queue is closed and empty. One task calls this, and has dealt with a
    /// batch when it asks for the next.
    pub(crate) async fn batch(&self, limits: &Limits) -> Option<Batch> {
        self.queue().in_hand = Counts::default();
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let next = self.queue().next(limits);
            match next {
                Next::Take(batch) => return Some(batch),
                Next::End => return None,
                Next::Wait(None) => changed.await,
                // whether it was time or another export: the queue is looked at again
                Next::Wait(Some(due)) => drop(timeout_at(due, changed).await),
            }
        }
    }

    /// Accepts nothing for now, or again.
    pub(crate) fn hold(&self, held: bool) {
        self.queue().held = held;
    }

    /// From now on nothing waits for its batch to fill.
    pub(crate) fn hurry(&self) {
        self.queue().hurried = true;
        self.changed.notify_waiters();
    }

    /// Accepts nothing any more. What is in the queue is still to be taken.
    pub(crate) fn close(&self) {
        self.queue().closed = true;
        self.changed.notify_waiters();
    }

    /// Ends all who watch, and waits until nothing came for `quiet`, `at_most` in all: that they end is on record, too.
    pub(crate) async fn quiet(&self, quiet: Duration, at_most: Duration) {
        self.live.end();
        let end = Instant::now() + at_most;
        while Instant::now() < end {
            let until = end.min(Instant::now() + quiet);
            if timeout_at(until, self.changed.notified()).await.is_err() {
                return;
            }
        }
    }

    /// How much waits or is being dealt with.
    pub(crate) fn counts(&self) -> Counts {
        let queue = self.queue();
        let mut counts = queue.counts;
        counts += queue.in_hand;
        counts
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // every change below is complete or did not begin: a panic elsewhere leaves it usable
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn open(&self) -> Result<(), Refused> {
        if self.closed { Err(Refused::Stopping) } else { Ok(()) }
    }

    fn push(&mut self, lines: Lines, sender: Option<Sender>) -> Result<(), Refused> {
        self.open()?;
        if self.held {
            return Err(Refused::Full);
        }
        let bytes = self.bytes + lines.text.len();
        let mut counts = self.counts;
        counts += lines.counts;
        if bytes > BYTES || counts.all() > ITEMS {
            return Err(Refused::Full);
        }
        (self.bytes, self.counts) = (bytes, counts);
        self.waiting.push_back(Export { came: Instant::now(), lines, sender });
        Ok(())
    }

    fn next(&mut self, limits: &Limits) -> Next {
        let Some(oldest) = self.waiting.front() else {
            return if self.closed { Next::End } else { Next::Wait(None) };
        };
        let due = oldest.came + limits.wait;
        if self.closed || self.hurried || self.bytes >= limits.bytes || due <= Instant::now() {
            Next::Take(self.take(limits.bytes.max(self.bytes.min(limits.most))))
        } else {
            Next::Wait(Some(due))
        }
    }

    /// The oldest exports, as many as fit into `bytes`, and at least one.
    fn take(&mut self, bytes: usize) -> Batch {
        let mut batch = Batch::default();
        let mut room = bytes;
        while let Some(Export { lines, sender, .. }) =
            self.waiting.pop_front_if(|one| batch.lines.is_empty() || one.lines.text.len() <= room)
        {
            room = room.saturating_sub(lines.text.len());
            self.bytes -= lines.text.len();
            self.counts -= lines.counts;
            batch.counts += lines.counts;
            batch.times = widest(batch.times, lines.times);
            batch.lines.push(lines.text);
            batch.senders.0.extend(sender);
        }
        self.in_hand = batch.counts;
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 100, most: 100, wait: Duration::from_secs(10) };

    fn lines(length: usize, records: usize) -> Lines {
        let counts = Counts { records, ..Counts::default() };
        Lines { text: Zeroizing::new(vec![b'x'; length]).into(), counts, times: None }
    }

    fn sizes(batch: Option<Batch>) -> Vec<usize> {
        batch.unwrap().lines.iter().map(|lines| lines.len()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_closed_by_its_size() {
        let intake = Intake::default();
        let began = Instant::now();
        for length in [60, 30, 20, 300, 10] {
            intake.push(lines(length, 1)).unwrap();
        }
        assert_eq!(sizes(intake.batch(&LIMITS).await), [60, 30]);
        assert_eq!(sizes(intake.batch(&LIMITS).await), [20]);
        assert_eq!(sizes(intake.batch(&LIMITS).await), [300]);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(sizes(intake.batch(&LIMITS).await), [10]);
        assert_eq!(began.elapsed(), LIMITS.wait);
    }

    #[tokio::test]
    async fn what_piled_up_goes_into_one_batch_up_to_a_bound() {
        let intake = Intake::default();
        for length in [60, 60, 60, 60, 10] {
            intake.push(lines(length, 1)).unwrap();
        }
        let limits = Limits { most: 200, ..LIMITS };
        assert_eq!(sizes(intake.batch(&limits).await), [60, 60, 60]);
        intake.close();
        assert_eq!(sizes(intake.batch(&limits).await), [60, 10]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_export_decides_when_a_batch_is_due() {
        let intake = Intake::default();
        let began = Instant::now();
        intake.push(lines(1, 1)).unwrap();
        let later = async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            intake.push(lines(2, 1)).unwrap();
        };
        let (batch, ()) = tokio::join!(intake.batch(&LIMITS), later);
        assert_eq!(sizes(batch), [1, 2]);
        assert_eq!(began.elapsed(), LIMITS.wait);
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_wakes_the_sealer() {
        let intake = Intake::default();
        let late = async {
            tokio::task::yield_now().await;
            intake.push(lines(100, 7)).unwrap();
        };
        let (batch, ()) = tokio::join!(intake.batch(&LIMITS), late);
        assert_eq!(batch.unwrap().counts.records, 7);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_has_room_again_once_something_was_taken() {
        let intake = Intake::default();
        intake.push(lines(lines::MAX, 1)).unwrap();
        intake.push(lines(BYTES - lines::MAX, 1)).unwrap();
        assert_eq!(intake.push(lines(1, 1)).err(), Some(Refused::Full));
        assert_eq!(sizes(intake.batch(&LIMITS).await), [lines::MAX]);
        assert!(intake.push(lines(1, 1)).is_ok());

        let intake = Intake::default();
        intake.push(lines(1, ITEMS)).unwrap();
        assert_eq!(intake.push(lines(1, 1)).err(), Some(Refused::Full));
        assert_eq!(intake.counts().records, ITEMS);
    }

    #[tokio::test]
    async fn a_closed_queue_gives_what_it_has_at_once_and_takes_nothing() {
        let intake = Intake::default();
        intake.push(lines(1, 1)).unwrap();
        intake.close();
        assert_eq!(intake.push(lines(1, 1)).err(), Some(Refused::Stopping));
        assert_eq!(sizes(intake.batch(&LIMITS).await), [1]);
        assert_eq!(intake.counts().records, 1, "in hand");
        assert!(intake.batch(&LIMITS).await.is_none());
        assert_eq!(intake.counts(), Counts::default());
    }

    #[tokio::test]
    async fn a_batch_knows_how_much_is_in_it_and_from_when() {
        let intake = Intake::default();
        let of = |records, spans, times| {
            let counts = Counts { records, spans, points: 0 };
            Lines { text: Zeroizing::new(vec![b'x']).into(), counts, times }
        };
        intake.push(of(1, 0, Some((20, 30)))).unwrap();
        intake.push(of(0, 5, Some((10, 21)))).unwrap();
        intake.push(of(2, 0, None)).unwrap();
        intake.close();
        let batch = intake.batch(&LIMITS).await.unwrap();
        assert_eq!(batch.counts, Counts { records: 3, spans: 5, points: 0 });
        assert_eq!(batch.times, Some((10, 30)));
    }

    #[tokio::test]
    async fn a_queue_that_is_held_refuses_and_a_hurried_one_waits_for_nothing() {
        let intake = Intake::default();
        intake.hold(true);
        assert_eq!(intake.push(lines(1, 1)).err(), Some(Refused::Full));
        intake.hold(false);
        intake.push(lines(1, 1)).unwrap();
        intake.hurry();
        let (began, slow) = (Instant::now(), Limits { wait: Duration::from_secs(3600), ..LIMITS });
        assert_eq!(sizes(intake.batch(&slow).await), [1]);
        assert!(began.elapsed() < slow.wait);
    }

    #[tokio::test]
    async fn senders_hear_what_became_of_their_exports() {
        let taken = |intake: &Intake| intake.push(lines(60, 1)).unwrap();
        assert_eq!(taken(&Intake::default()).wait().await, Ok(()), "nobody waits");

        let intake = Intake::new(true);
        let [one, two, three] = [0; 3].map(|_| taken(&intake));
        let batch = intake.batch(&LIMITS).await.unwrap();
        batch.senders.tell(Ok(()));
        assert_eq!(one.wait().await, Ok(()));
        let batch = intake.batch(&LIMITS).await.unwrap();
        batch.senders.tell(Err(Refused::Dropped));
        assert_eq!(two.wait().await, Err(Refused::Dropped));
        drop(intake);
        assert_eq!(three.wait().await, Err(Refused::Stopping));
    }

    #[tokio::test]
    async fn an_export_without_records_is_no_batch() {
        let intake = Intake::default();
        intake.push(lines(0, 0)).unwrap();
        intake.close();
        // what it held besides lines would be lost unseen
        assert_eq!(intake.push(lines(0, 0)).err(), Some(Refused::Stopping));
        assert!(intake.batch(&LIMITS).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn quiet_is_waited_for_but_not_for_ever() {
        let [second, most] = [1, 4].map(Duration::from_secs);
        let intake = Intake::default();
        let began = Instant::now();
        intake.quiet(second, most).await;
        assert_eq!(began.elapsed(), second);

        let began = Instant::now();
        let chatter = async {
            loop {
                tokio::time::sleep(second / 2).await;
                intake.push(lines(1, 1)).unwrap();
                tokio::time::sleep(second / 2).await;
                intake.push(lines(0, 0)).unwrap();
            }
        };
        tokio::select! {
            () = intake.quiet(second, most) => {}
            () = chatter => {}
        }
        assert_eq!(began.elapsed(), most);
    }
}
