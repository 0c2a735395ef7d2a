//! What each key asked for lately and has in flight, for keys that have a limit of their own.
//!
//! Bounded by the keys that there are: only an authenticated one gets here. One that has nothing counted and nothing in
//! flight is forgotten. Must not know which limits a key has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::demand::Demand;
use super::window::{Age, Window};
use crate::money::Money;

/// How many may be remembered before those with nothing are looked for the first time.
const FIRST_SWEEP: usize = 1024;

/// What a key did.
#[derive(Debug, Default)]
pub(super) struct Doings {
    /// Requests.
    pub(super) requests: Window,
    /// Tokens of calls that have ended.
    pub(super) tokens: Window,
    /// Tokens that are set aside for calls in flight.
    pub(super) reserved_tokens: u64,
    /// Money that is set aside for calls in flight.
    pub(super) reserved_money: Money,
    /// From when on nothing is counted.
    pub(super) empty_at: Age,
}

impl Doings {
    /// For a call that begins.
    pub(super) fn set_aside(&mut self, demand: Demand) {
        self.reserved_tokens = self.reserved_tokens.saturating_add(demand.tokens());
        self.reserved_money += demand.money;
    }

    /// Of a call that has ended.
    pub(super) fn give_back(&mut self, demand: Demand) {
        self.reserved_tokens = self.reserved_tokens.saturating_sub(demand.tokens());
        self.reserved_money = self.reserved_money - demand.money;
    }
}

/// One key.
#[derive(Debug, Default)]
pub(super) struct Holder(Mutex<Doings>);

impl Holder {
    pub(super) fn lock(&self) -> MutexGuard<'_, Doings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of them, by the id of the key.
#[derive(Debug, Default)]
pub(super) struct Holders {
    known: HashMap<String, Arc<Holder>>,
    /// How many there may be before the next sweep.
    sweep_at: usize,
}

impl Holders {
    /// The one of this key. The cost of a sweep is spread over as many keys as were added since the last.
    pub(super) fn of(&mut self, key_id: &str, now: Age) -> Arc<Holder> {
        if let Some(holder) = self.known.get(key_id) {
            return holder.clone();
        }
        if self.known.len() >= self.sweep_at.max(FIRST_SWEEP) {
            // Nobody else can get hold of one meanwhile: they are all handed out here. Who has one may still count.
            self.known
                .retain(|_, holder| Arc::strong_count(holder) > 1 || holder.lock().empty_at > now);
            self.sweep_at = self.known.len() * 2;
        }
        self.known.entry(key_id.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_nothing_is_forgotten_and_who_has_something_is_not() {
        let mut holders = Holders::default();
        holders.of("counted", 0).lock().empty_at = 100;
        let in_flight = holders.of("in flight", 0);
        in_flight.lock().reserved_tokens = 7;
        for n in 0..10_000 {
            holders.of(&n.to_string(), 50);
            assert!(holders.known.len() <= FIRST_SWEEP, "{n}");
        }
        assert_eq!(holders.of("counted", 50).lock().empty_at, 100);
        assert_eq!(holders.of("in flight", 50).lock().reserved_tokens, 7);
        drop(in_flight);
        for n in 0..10_000 {
            holders.of(&n.to_string(), 100);
        }
        assert_eq!(holders.of("counted", 100).lock().empty_at, 0);
    }
}
