//! How much is in something, and from when to when: numbers that say nothing about content.

use std::fmt::{self, Display};
use std::ops::{AddAssign, SubAssign};

/// How many items of each signal there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Log records.
    pub(crate) records: usize,
    /// Spans.
    pub(crate) spans: usize,
    /// Data points of metrics.
    pub(crate) points: usize,
}

impl Counts {
    /// All of them.
    pub(crate) fn all(self) -> usize {
        let Self { records, spans, points } = self;
        records.saturating_add(spans).saturating_add(points)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.spans += other.spans;
        self.points += other.points;
    }
}

impl SubAssign for Counts {
    fn sub_assign(&mut self, other: Self) {
        self.records -= other.records;
        self.spans -= other.spans;
        self.points -= other.points;
    }
}

/// For a person: `2 log records, 1 span`.
impl Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, spans, points } = *self;
        let named = [(records, "log record"), (spans, "span"), (points, "data point")].into_iter();
        let mut separator = "";
        for (count, name) in named.filter(|(count, _)| *count > 0) {
            let plural = if count == 1 { "" } else { "s" };
            write!(f, "{separator}{count} {name}{plural}")?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("nothing") } else { Ok(()) }
    }
}

/// The earliest and the latest of two pairs of times.
pub(crate) fn widest(one: Option<(u64, u64)>, other: Option<(u64, u64)>) -> Option<(u64, u64)> {
    let Some((first, last)) = one else { return other };
    let Some((earlier, later)) = other else { return one };
    Some((first.min(earlier), last.max(later)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_said_in_words() {
        let counts = |records, spans, points| Counts { records, spans, points }.to_string();
        assert_eq!(counts(0, 0, 0), "nothing");
        assert_eq!(counts(2, 0, 0), "2 log records");
        assert_eq!(counts(1, 3, 1), "1 log record, 3 spans, 1 data point");
    }

    #[test]
    fn times_widen() {
        assert_eq!(widest(None, None), None);
        assert_eq!(widest(None, Some((1, 2))), Some((1, 2)));
        assert_eq!(widest(Some((5, 5)), None), Some((5, 5)));
        assert_eq!(widest(Some((5, 6)), Some((1, 5))), Some((1, 6)));
    }
}
