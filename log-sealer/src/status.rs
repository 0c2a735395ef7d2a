//! Whether the role can do its work: it is ready while nothing is wrong with any part of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use service::health::Health;
use tokio::sync::Mutex;

/// What something can be wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The boot's first record is not made yet.
    Start,
    /// The spool is full, or cannot be written.
    Spool,
    /// The sink of this number takes nothing.
    Sink(usize),
}

/// What is wrong now. Clones speak of the same.
#[derive(Clone)]
pub(crate) struct Status {
    health: Health,
    /// Sinks from this number on may fail: the spool bears with them.
    watched: usize,
    wrong: Arc<Mutex<BTreeSet<Part>>>,
}

impl Status {
    /// The parts that are `wrong` have yet to work. Of the sinks, the first `watched` count.
    pub(crate) fn new(
        health: Health,
        watched: usize,
        wrong: impl IntoIterator<Item = Part>,
    ) -> Self {
        Self { health, watched, wrong: Arc::new(Mutex::new(wrong.into_iter().collect())) }
    }

    /// It does not work.
    pub(crate) async fn fails(&self, part: Part) {
        if matches!(part, Part::Sink(number) if number >= self.watched) {
            return;
        }
        let mut wrong = self.wrong.lock().await;
        wrong.insert(part);
        self.health.not_ready().await;
    }

    /// It works.
    pub(crate) async fn works(&self, part: Part) {
        let mut wrong = self.wrong.lock().await;
        if wrong.remove(&part) && wrong.is_empty() {
            self.health.ready().await;
        }
    }
}
