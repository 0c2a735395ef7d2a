//! How long a client's connection lives: no new request past its certificate, and it is given notice long before.
//!
//! A connection that just ended with its certificate would cut what its client is about to send. So it takes no new
//! request on in the last part of its life (HTTP/2: GOAWAY; HTTP/1: `Connection: close` with the next answer) and what
//! runs has the rest of it to end. When that begins is chosen for each connection, so that those which came together do
//! not leave together. This module must not know HTTP.

use std::time::Duration;

/// Per mille of a life after which notice is given, at the earliest and at the latest.
const NOTICE: (u64, u64) = (700, 900);

/// The longest life of a connection, in seconds: some certificates end after a century.
const LONGEST: u64 = 366 * 86_400;

/// The life of one connection, from its handshake on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// When it is given notice.
    pub(crate) notice: Duration,
    /// When it is over, with its certificate.
    pub(crate) end: Duration,
}

impl Life {
    /// A life of so many seconds. `chance` picks the time of the notice.
    pub(crate) fn of(seconds: u64, chance: u16) -> Self {
        let seconds = seconds.min(LONGEST);
        let end = Duration::from_secs(seconds);
        let (earliest, latest) = NOTICE;
        let share = earliest + (latest - earliest) * u64::from(chance) / u64::from(u16::MAX);
        let notice = Duration::from_millis(seconds * share);
        Self { notice, end }
    }

    /// The same, with a chance of its own.
    pub(crate) fn by_chance(seconds: u64) -> Self {
        let mut chance = [0; 2];
        // Without random numbers they leave together, which is no reason to refuse anybody.
        let _ = aws_lc_rs::rand::fill(&mut chance);
        Self::of(seconds, u16::from_be_bytes(chance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notice_is_given_in_time_and_not_to_all_at_once() {
        let day = Life::of(86_400, 0);
        assert_eq!(day.notice, Duration::from_secs(60_480));
        assert_eq!(Life::of(86_400, u16::MAX).notice, Duration::from_secs(77_760));
        for chance in [0, 1, 30_000, u16::MAX] {
            let Life { notice, end } = Life::of(86_400, chance);
            assert!(notice >= day.notice && notice < end, "{chance}");
        }
        assert_eq!(Life::of(u64::MAX, 7).end, Duration::from_secs(LONGEST));
        assert_eq!(Life::of(0, 7), Life { notice: Duration::ZERO, end: Duration::ZERO });
    }
}
