//! What to do while something outside fails: when to try again, and what to say about it.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::time::Instant;

/// The shortest and, apart from jitter, the longest pause between two tries.
pub(crate) const PAUSES: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(10));

/// How long no second outage is announced. An announcement is a log record: it comes back here in a segment of
/// its own, and if every failure of that segment were announced again, a sink that fails now and then would
/// keep the log busy with itself for ever.
const SILENCE: Duration = Duration::from_secs(600);

/// Pauses between tries. They grow, and never end.
pub(crate) struct Pauses(backon::ExponentialBackoff);

impl Default for Pauses {
    fn default() -> Self {
        let (shortest, longest) = PAUSES;
        let pauses = ExponentialBuilder::new()
            .with_min_delay(shortest)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter();
        Self(pauses.build())
    }
}

impl Pauses {
    /// The next one.
    pub(crate) fn next(&mut self) -> Duration {
        self.0.next().unwrap_or(PAUSES.1)
    }
}

/// Which outages were announced.
#[derive(Default)]
pub(crate) struct Announced {
    last: Option<Instant>,
    ongoing: bool,
}

impl Announced {
    /// Whether to announce a failure now.
    pub(crate) fn outage(&mut self, now: Instant) -> bool {
        let silent = self.last.is_some_and(|last| now < last + SILENCE);
        if self.ongoing || silent {
            return false;
        }
        self.last = Some(now);
        self.ongoing = true;
        true
    }

    /// Whether to announce that it works: only if the outage was announced.
    pub(crate) fn recovery(&mut self) -> bool {
        std::mem::take(&mut self.ongoing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_now_and_then_is_announced_once() {
        let mut announced = Announced::default();
        let now = Instant::now();
        assert!(!announced.recovery(), "nothing was wrong");
        assert!(announced.outage(now));
        assert!(!announced.outage(now), "still the same one");
        assert!(announced.recovery());
        for second in 1..SILENCE.as_secs() {
            assert!(!announced.outage(now + Duration::from_secs(second)));
            assert!(!announced.recovery());
        }
        assert!(announced.outage(now + SILENCE));
        assert!(announced.recovery());
    }

    #[test]
    fn pauses_grow_to_a_bound_and_never_end() {
        let mut pauses = Pauses::default();
        let all: Vec<Duration> = (0..100).map(|_| pauses.next()).collect();
        assert!(all[0] < 2 * PAUSES.0);
        assert!(all.iter().all(|pause| *pause <= 2 * PAUSES.1));
        assert!(all[99] >= PAUSES.1);
    }
}
