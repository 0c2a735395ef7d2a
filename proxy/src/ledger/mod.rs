//! What was used, and what it cost: sums per day, key, model and endpoint, and what each key spent this month.
//!
//! Counting never waits: it adds to sums in memory (`sums`), and the database's thread carries them to the disk, a batch
//! every 100 ms (`writer`). So what was counted is on the disk within [`BOUND`] as long as the disk takes it, and a process
//! that is killed loses no more than that. Must not know how a request is answered, or who may see the sums.

mod exchange;
mod period;
mod rows;
mod summary;
mod sums;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::money::Money;
use crate::prices::Prices;
use crate::store::{Store, StoreError};
use crate::usage::{Call, Usage};

pub(crate) use exchange::{Imported, export, import, take_over};
pub(crate) use period::{Period, date_of, day_of, month_of};
pub(crate) use summary::{Range, Summary, Totals};

use sums::Sums;
use writer::Writer;

/// What was answered longer ago than this is on the disk, unless the disk refuses it or takes long: a batch every 100 ms,
/// and the time that a commit takes.
pub(crate) const BOUND: Duration = Duration::from_secs(1);

/// How often disk and memory are compared until they are at the same batch, and the pause between: longer than a commit.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// A row's identity. Days are days since 1970-01-01, UTC.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) day: u32,
    pub(crate) key_id: String,
    pub(crate) model: Option<String>,
    pub(crate) endpoint: Endpoint,
}

/// The sums.
pub(crate) struct Ledger {
    shared: Arc<Shared>,
    store: Store,
}

/// What the callers and the database's thread have in common. Held for moments only, never while the disk is waited for.
struct Shared(Mutex<Sums>);

impl Shared {
    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// Sums that end with the process.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        let now = service::clock::unix_now();
        let store = Store::in_memory(now).expect("a database in memory opens");
        let shared = Arc::new(Shared(Mutex::new(Sums::new(Prices::default(), day_of(now)))));
        let writer = Writer::new(shared.clone(), store.epoch);
        store.settle_in(Box::new(writer)).expect("its queue is empty");
        Self { shared, store }
    }

    /// The sums of a database.
    ///
    /// # Errors
    ///
    /// What this month's sums say cannot be read.
    pub(crate) async fn open(store: Store, prices: Prices, now: u64) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared(Mutex::new(Sums::new(prices, day_of(now)))));
        let month = month_of(day_of(now));
        let spent = store.run(move |connection| rows::spent(connection, month)).await?;
        shared.sums().spent_before(spent);
        store.settle_in(Box::new(Writer::new(shared.clone(), store.epoch)))?;
        Ok(Self { shared, store })
    }

    /// Counts one call, once, and returns what it cost. Never waits.
    pub(crate) fn settle(&self, call: &Call) -> Money {
        self.shared.sums().settle(call)
    }

    /// The most that a call of this usage could cost today, whichever model it is for. Never waits.
    pub(crate) fn dearest(&self, usage: &Usage) -> Money {
        self.shared.sums().dearest(usage)
    }

    /// What a key spent in the calendar month (UTC) of this time. Never waits, and takes no longer the more there is.
    pub(crate) fn spent_in_month(&self, key_id: &str, now: u64) -> Money {
        self.shared.sums().spent(key_id, day_of(now))
    }

    /// How long the disk has refused what was counted, if that is longer than [`BOUND`].
    pub(crate) fn is_behind(&self) -> Option<Duration> {
        let refused_since = self.shared.sums().refused_since;
        refused_since.map(|since| since.elapsed()).filter(|behind| *behind > BOUND)
    }

    /// The sums of a range of days, of all keys or of one. What is not on the disk yet is in them, too.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub(crate) async fn try_summary(
        &self,
        range: Range,
        key_id: Option<&str>,
    ) -> Result<Summary, StoreError> {
        let key_id = key_id.map(str::to_owned);
        let (shared, epoch) = (self.shared.clone(), self.store.epoch);
        let read = move |connection: &mut rusqlite::Connection| {
            for _ in 0..TRIES {
                // One view of the database, in which the number of the last batch says what memory has beyond it.
                let view = connection.transaction()?;
                let on_disk = rows::batch(&view, epoch)?;
                let beyond = shared.sums().beyond(on_disk, range, key_id.as_deref());
                if let Some(beyond) = beyond {
                    let mut summary = rows::summary(&view, range, key_id.as_deref())?;
                    beyond.iter().for_each(|(row, totals)| summary.add(row, totals));
                    return Ok(summary);
                }
                // A batch was on its way that moment.
                std::thread::sleep(PAUSE);
            }
            Err(StoreError::Busy)
        };
        self.store.read(read).await
    }

    /// As [`Ledger::try_summary`]; empty, and logged, if the database cannot be read.
    pub(crate) async fn summary(&self, range: Range, key_id: Option<&str>) -> Summary {
        self.try_summary(range, key_id).await.unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the sums of usage cannot be read");
            Summary::default()
        })
    }
}
