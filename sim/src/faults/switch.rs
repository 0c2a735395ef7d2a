//! The schedule of one simulator's faults.
//!
//! Must not know: which faults there are. A schedule is a queue: its first entry applies to the
//! next N calls, or until it is cleared, and then the next entry's turn comes.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Longest schedule that is kept.
const MAX_SCHEDULED: usize = 64;
/// Longest that a stalled call is held.
const MAX_STALL: Duration = Duration::from_secs(600);

/// A fault and how often it strikes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduled<F> {
    /// What happens.
    pub fault: F,
    /// To how many calls; without a number, to all until the schedule is replaced.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

/// The faults of one simulator; clones share the schedule.
#[derive(Debug, Clone)]
pub struct Switch<F> {
    queue: Arc<Mutex<VecDeque<Scheduled<F>>>>,
    cleared: watch::Sender<()>,
}

impl<F> Default for Switch<F> {
    fn default() -> Self {
        Self { queue: Arc::default(), cleared: watch::Sender::new(()) }
    }
}

impl<F: Clone> Switch<F> {
    /// Replaces the schedule by one fault that strikes the next `times` calls.
    pub fn next_calls(&self, fault: F, times: NonZeroU32) {
        self.replace(vec![Scheduled { fault, times: Some(times) }]);
    }

    /// Replaces the schedule by one fault that strikes the next call.
    pub fn once(&self, fault: F) {
        self.next_calls(fault, NonZeroU32::MIN);
    }

    /// Replaces the schedule by one fault that strikes every call until it is cleared.
    pub fn until_cleared(&self, fault: F) {
        self.replace(vec![Scheduled { fault, times: None }]);
    }

    /// Replaces the schedule; entries past the 64th are dropped. Calls that stall go on.
    pub fn replace(&self, schedule: Vec<Scheduled<F>>) {
        *self.lock() = schedule.into_iter().take(MAX_SCHEDULED).collect();
        self.cleared.send_replace(());
    }

    /// Ends all faults, also for the calls that stall.
    pub fn clear(&self) {
        self.replace(Vec::new());
    }

    /// What is still scheduled.
    #[must_use]
    pub fn scheduled(&self) -> Vec<Scheduled<F>> {
        self.lock().iter().cloned().collect()
    }

    /// The fault of this call, if any, counted as one strike.
    pub(crate) fn strike(&self) -> Option<Active<F>> {
        let mut queue = self.lock();
        let first = queue.front_mut()?;
        let fault = first.fault.clone();
        if let Some(times) = first.times {
            match NonZeroU32::new(times.get() - 1) {
                Some(rest) => first.times = Some(rest),
                None => {
                    queue.pop_front();
                }
            }
        }
        Some(Active { fault, cleared: self.cleared.subscribe() })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Scheduled<F>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fault that strikes one call.
#[derive(Debug)]
pub struct Active<F> {
    /// What happens.
    pub fault: F,
    cleared: watch::Receiver<()>,
}

impl<F> Active<F> {
    /// Holds the call until the schedule changes, ten minutes at most.
    pub(crate) async fn stall(&mut self) {
        // Both outcomes end the stall: a new schedule, or the time that is enough.
        let _ = tokio::time::timeout(MAX_STALL, self.cleared.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_strikes_in_order_and_as_often_as_it_says() {
        let switch = Switch::default();
        assert!(switch.strike().is_none());
        switch.replace(vec![
            Scheduled { fault: 'a', times: NonZeroU32::new(2) },
            Scheduled { fault: 'b', times: None },
        ]);
        let struck: String =
            std::iter::from_fn(|| switch.strike().map(|active| active.fault)).take(5).collect();
        assert_eq!(struck, "aabbb");
        switch.clear();
        assert!(switch.strike().is_none());
    }

    #[tokio::test]
    async fn a_stall_ends_when_the_schedule_is_cleared() {
        let switch = Switch::default();
        switch.once('s');
        let mut active = switch.strike().unwrap();
        let stalled = tokio::spawn(async move { active.stall().await });
        tokio::task::yield_now().await;
        assert!(!stalled.is_finished());
        switch.clear();
        stalled.await.unwrap();
    }
}
