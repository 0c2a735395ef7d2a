//! How long a source that failed is left alone, so that a failure costs it, and whoever waits, little.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::endorsements::Key;
use super::source::SourceError;

/// After a first failure; each further one doubles it.
const FIRST: Duration = Duration::from_secs(1);

/// The longest that a source is left alone on our own account.
const LONGEST: Duration = Duration::from_secs(120);

/// The longest that it is left alone because it asked for that.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// A source that had nothing for a report may soon have it: the host publishes certificates after an update.
const NOTHING_YET: Duration = Duration::from_secs(5);

/// The rest of one source.
#[derive(Default)]
pub(super) struct Rest {
    failures: u32,
    now: Option<Resting>,
}

struct Resting {
    until: Instant,
    /// Only for reports of this key, if it had nothing for them.
    only: Option<Key>,
    why: Arc<SourceError>,
}

impl Rest {
    /// Why the source is not asked now.
    pub(super) fn holds(&self, key: &Key, now: Instant) -> Option<SourceError> {
        let resting = self.now.as_ref()?;
        let concerned = resting.only.is_none_or(|only| only == *key);
        let left = resting.until.saturating_duration_since(now);
        (concerned && !left.is_zero()).then(|| SourceError::Resting {
            seconds: left.as_secs() + 1,
            source: resting.why.clone(),
        })
    }

    /// The source failed.
    pub(super) fn begin(&mut self, why: Arc<SourceError>, key: Key, now: Instant) {
        let about_the_report = why.is_about_the_report();
        self.failures = if about_the_report { 0 } else { self.failures.saturating_add(1) };
        let pause = if about_the_report { NOTHING_YET } else { jittered(doubled(self.failures)) };
        let asked = why.retry_after().unwrap_or_default().min(LONGEST_ASKED);
        let only = about_the_report.then_some(key);
        self.now = Some(Resting { until: now + pause.max(asked), only, why });
    }

    /// The source gave what was wanted.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}

/// `FIRST`, doubled with each failure after the first, up to `LONGEST`.
pub(super) fn doubled(failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
    FIRST.checked_mul(factor).unwrap_or(LONGEST).min(LONGEST)
}

/// Up to a half more, so that the machines of a fleet do not come back together.
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 4];
    aws_lc_rs::rand::fill(&mut random).expect("the system gave random numbers at the start");
    pause + pause.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use attestation::report::SigningKey;

    use super::*;
    use crate::certificates::endorsements::Misfit;

    const KEY: Key = ([1; 64], [2; 8], SigningKey::Vcek);
    const OTHER: Key = ([1; 64], [3; 8], SigningKey::Vcek);

    #[test]
    fn pauses_double_to_a_limit_and_end_with_success() {
        let (mut rest, now) = (Rest::default(), Instant::now());
        assert!(rest.holds(&KEY, now).is_none());
        for (failure, least) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
            rest.begin(Arc::new(SourceError::TimedOut), KEY, now);
            let before = now + Duration::from_secs(least) - Duration::from_millis(1);
            assert!(rest.holds(&OTHER, before).is_some(), "failure {failure}");
            assert!(rest.holds(&KEY, now + Duration::from_secs(2 * least)).is_none());
        }
        assert_eq!(doubled(u32::MAX), LONGEST);
        assert!(jittered(LONGEST) <= LONGEST * 3 / 2);
        rest.end();
        assert!(rest.holds(&KEY, now).is_none());
    }

    #[test]
    fn a_source_without_certificates_for_one_report_is_asked_for_the_next() {
        let (mut rest, now) = (Rest::default(), Instant::now());
        rest.begin(Arc::new(SourceError::Misfit(Misfit::Chip)), KEY, now);
        assert!(rest.holds(&KEY, now).is_some());
        assert!(rest.holds(&OTHER, now).is_none());
        assert!(rest.holds(&KEY, now + NOTHING_YET).is_none());
    }
}
