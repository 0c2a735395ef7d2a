//! Distributions of times, and lines about them.

use std::time::Duration;

/// Times of one kind of work.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The value that this share of the times does not exceed; zero if there are none.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index into some thousands of values, of a share between 0 and 1"
        )]
        let at = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
        sorted.get(at).copied().unwrap_or_default()
    }

    /// Zero if there are none.
    pub(crate) fn mean(&self) -> Duration {
        let number = u32::try_from(self.0.len()).unwrap_or(u32::MAX).max(1);
        self.0.iter().sum::<Duration>() / number
    }

    pub(crate) fn median(&self) -> Duration {
        self.quantile(0.5)
    }
}

impl From<Vec<Duration>> for Times {
    fn from(times: Vec<Duration>) -> Self {
        Self(times)
    }
}

/// `ours` in units of `theirs`; infinite or not a number where theirs is too short for its clock.
pub(crate) fn ratio(ours: Duration, theirs: Duration) -> f64 {
    ours.as_secs_f64() / theirs.as_secs_f64()
}

/// A time as people read it.
pub(crate) fn shown(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 10_000.0 { format!("{micros:.0} us") } else { format!("{:.1} ms", micros / 1e3) }
}

/// One line about two sides that took turns; each has a name.
pub(crate) fn compared(what: &str, ours: (&str, &Times), theirs: (&str, &Times)) -> String {
    let side = |(name, times): (&str, &Times)| {
        format!("{name} {} (p99 {})", shown(times.median()), shown(times.quantile(0.99)))
    };
    let times = ratio(ours.1.median(), theirs.1.median());
    format!("{what}: {}, {}: {times:.2} x", side(ours), side(theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let times = Times::from((1..=101).rev().map(Duration::from_millis).collect::<Vec<_>>());
        assert_eq!(times.median(), Duration::from_millis(51));
        assert_eq!(times.quantile(0.99), Duration::from_millis(100));
        assert_eq!(times.quantile(1.0), Duration::from_millis(101));
        assert_eq!(Times::default().median(), Duration::ZERO);
        assert_eq!(times.mean(), Duration::from_millis(51));
        assert_eq!(Times::default().mean(), Duration::ZERO);
    }
}
