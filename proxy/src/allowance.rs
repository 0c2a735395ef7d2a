//! How often one connection is proved.
//!
//! Whoever asks again and again costs everybody time: each proof is tens of kilobytes that are encrypted and sent. A
//! client needs one proof when it connects and one every few minutes; the most careful one has each request proved. So
//! a connection has a number of proofs at once, and from then on so many a second: what is beyond that waits, and what
//! would wait for long is refused. This module must not know what a proof is.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Proofs that a connection gets at once.
const BURST: u32 = 16;

/// The time between two of them from then on.
const INTERVAL: Duration = Duration::from_millis(250);

/// The longest that one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// When a connection's next proofs are due.
///
/// It is the generic cell rate algorithm of ITU-T I.371: the time at which a connection that asked evenly would have
/// asked for what it got.
pub(crate) struct Allowance(Mutex<Instant>);

impl Allowance {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(now))
    }

    /// Takes one, and says how long to wait for it; or says how long to wait before asking again.
    pub(crate) fn take(&self, now: Instant) -> Result<Duration, Duration> {
        let mut even = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = even.saturating_duration_since(now);
        let wait = ahead.saturating_sub(INTERVAL * (BURST - 1));
        if wait > PATIENCE {
            return Err(wait - PATIENCE);
        }
        *even = now + ahead + INTERVAL;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_at_once_then_one_at_a_time_then_none() {
        let begin = Instant::now();
        let allowance = Allowance::new(begin);
        for _ in 0..BURST {
            assert_eq!(allowance.take(begin), Ok(Duration::ZERO));
        }
        for n in 1..=20 {
            assert_eq!(allowance.take(begin), Ok(INTERVAL * n));
        }
        assert_eq!(allowance.take(begin), Err(INTERVAL));
        assert_eq!(allowance.take(begin), Err(INTERVAL), "a refusal costs nothing");
        assert_eq!(allowance.take(begin + INTERVAL), Ok(PATIENCE));
    }

    #[test]
    fn a_long_silence_gives_a_burst_and_no_more() {
        let begin = Instant::now();
        let allowance = Allowance::new(begin);
        while allowance.take(begin).is_ok() {}
        let later = begin + Duration::from_secs(3600);
        for _ in 0..BURST {
            assert_eq!(allowance.take(later), Ok(Duration::ZERO));
        }
        assert_eq!(allowance.take(later), Ok(INTERVAL));
    }

    #[test]
    fn who_asks_evenly_never_waits() {
        let begin = Instant::now();
        let allowance = Allowance::new(begin);
        for n in 0..1000 {
            assert_eq!(allowance.take(begin + INTERVAL * n), Ok(Duration::ZERO));
        }
    }
}
