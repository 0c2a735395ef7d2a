//! How much was counted in the last so many seconds: a sliding window log of bounded length.
//!
//! Nothing leaves the window early, so that in no stretch of time of its length more is counted than the limit. Must not
//! know what is counted, or what the limit is.

use std::collections::VecDeque;
use std::time::Duration;

/// Microseconds since the process began, by the monotonic clock. The host owns the wall clock: a jump of it frees nobody.
pub(super) type Age = u64;

/// What was counted from one time to another.
#[derive(Clone, Copy, Debug)]
struct Entry {
    begin: Age,
    /// When the last of it was counted. All of it leaves with that.
    end: Age,
    amount: u64,
}

/// A window. Its length is an argument everywhere, since settings change.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Oldest first.
    entries: VecDeque<Entry>,
    counted: u64,
}

/// A length in microseconds.
fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

impl Window {
    /// How much is counted now.
    pub(super) fn counted(&mut self, now: Age, length: Duration) -> u64 {
        let length = micros(length);
        while let Some(oldest) = self.entries.front()
            && oldest.end.saturating_add(length) <= now
        {
            self.counted = self.counted.saturating_sub(oldest.amount);
            self.entries.pop_front();
        }
        self.counted
    }

    /// Counts an amount.
    ///
    /// The first `exact` amounts have entries of their own. Beyond them, what comes within `length / exact` of an entry's
    /// begin joins it: the log has at most `2 * exact + 1` entries, and nothing leaves later than by that part of the
    /// length.
    pub(super) fn add(&mut self, now: Age, length: Duration, amount: u64, exact: u32) {
        if amount == 0 {
            return;
        }
        self.counted(now, length);
        self.counted = self.counted.saturating_add(amount);
        let is_long = self.entries.len() >= exact as usize;
        let tick = micros(length / exact.max(1));
        match self.entries.back_mut() {
            Some(newest) if is_long && now.saturating_sub(newest.begin) < tick => {
                // Who waited for a lock comes with an older time.
                newest.begin = newest.begin.min(now);
                newest.end = newest.end.max(now);
                newest.amount = newest.amount.saturating_add(amount);
            }
            _ => self.entries.push_back(Entry { begin: now, end: now, amount }),
        }
    }

    /// Takes one back of what was counted at this time, if it has not left.
    pub(super) fn take_back(&mut self, at: Age) {
        let holds = |entry: &Entry| (entry.begin..=entry.end).contains(&at);
        let Some(place) = self.entries.iter().rposition(holds) else { return };
        let Some(entry) = self.entries.get_mut(place) else { return };
        entry.amount = entry.amount.saturating_sub(1);
        self.counted = self.counted.saturating_sub(1);
        if entry.amount == 0 {
            self.entries.remove(place);
        }
    }

    /// How long until the oldest amount leaves; zero if nothing is counted.
    pub(super) fn until_less(&mut self, now: Age, length: Duration) -> Duration {
        let counted = self.counted(now, length);
        self.until_at_most(counted.saturating_sub(1), now, length)
    }

    /// How long until no more than `most` is counted; zero if that is so.
    pub(super) fn until_at_most(&mut self, most: u64, now: Age, length: Duration) -> Duration {
        let mut left = self.counted(now, length);
        let mut last = now;
        for entry in &self.entries {
            if left <= most {
                break;
            }
            left = left.saturating_sub(entry.amount);
            last = entry.end.saturating_add(micros(length));
        }
        Duration::from_micros(last.saturating_sub(now))
    }

    /// When the window is empty of what it holds now.
    pub(super) fn empty_at(&self, length: Duration) -> Age {
        self.entries.back().map_or(0, |newest| newest.end.saturating_add(micros(length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_older_than_the_window_has_left() {
        let mut window = Window::default();
        for n in 0..5 {
            window.add(n * SECOND, MINUTE, 1, 16);
        }
        assert_eq!(window.counted(4 * SECOND, MINUTE), 5);
        assert_eq!(window.until_less(4 * SECOND, MINUTE), Duration::from_secs(56));
        assert_eq!(window.until_at_most(2, 4 * SECOND, MINUTE), Duration::from_secs(58));
        assert_eq!(window.until_at_most(5, 4 * SECOND, MINUTE), Duration::ZERO);
        assert_eq!(window.counted(60 * SECOND - 1, MINUTE), 5);
        assert_eq!(window.counted(60 * SECOND, MINUTE), 4);
        assert_eq!(window.empty_at(MINUTE), 64 * SECOND);
        assert_eq!(window.counted(64 * SECOND, MINUTE), 0);
        assert_eq!(window.until_less(64 * SECOND, MINUTE), Duration::ZERO);
    }

    #[test]
    fn what_is_taken_back_was_never_counted() {
        let mut window = Window::default();
        for n in 0..8 {
            window.add(n * SECOND, MINUTE, 1, 2);
        }
        let length = window.entries.len();
        window.take_back(0);
        assert_eq!((window.counted(8 * SECOND, MINUTE), window.entries.len()), (7, length - 1));
        // This one shares its entry with others.
        window.take_back(7 * SECOND);
        assert_eq!((window.counted(8 * SECOND, MINUTE), window.entries.len()), (6, length - 1));
        window.take_back(20 * SECOND);
        assert_eq!(window.counted(66 * SECOND, MINUTE), 6, "the others leave when they would have");
        window.counted(600 * SECOND, MINUTE);
        window.take_back(7 * SECOND);
        assert_eq!(window.counted(600 * SECOND, MINUTE), 0, "what has left is not there");
    }

    #[test]
    fn a_shorter_window_counts_less_at_once() {
        let mut window = Window::default();
        window.add(0, MINUTE, 7, 16);
        assert_eq!(window.counted(10 * SECOND, Duration::from_secs(11)), 7);
        assert_eq!(window.counted(10 * SECOND, Duration::from_secs(10)), 0);
    }

    /// Against a log that forgets nothing: never less is counted than happened, and what is counted too long is so by
    /// one tick at most.
    #[test]
    fn a_long_log_is_short_strict_and_nearly_exact() {
        let (exact, length) = (16, Duration::from_secs(4));
        let tick = 4 * SECOND / u64::from(exact);
        let mut window = Window::default();
        let mut all: Vec<u64> = Vec::new();
        let mut state: u64 = 7;
        let mut now = 0;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            now += (state >> 33) % 20_000;
            window.add(now, length, 1, exact);
            all.push(now);
            let within = |stretch: u64| {
                let later = all.iter().rev().take_while(|at| **at + stretch > now);
                u64::try_from(later.count()).unwrap()
            };
            let counted = window.counted(now, length);
            assert!(counted >= within(4 * SECOND), "never too few at {now}");
            assert!(counted <= within(4 * SECOND + tick), "not long too many at {now}");
            assert!(window.entries.len() <= 2 * exact as usize + 1);
        }
    }

    #[test]
    fn steady_traffic_leaves_too() {
        let mut window = Window::default();
        for n in 0..100_000 {
            window.add(n * 1000, Duration::from_secs(1), 1, 16);
        }
        let counted = window.counted(100_000 * 1000, Duration::from_secs(1));
        assert!((1000..=1070).contains(&counted), "{counted}");
    }
}
