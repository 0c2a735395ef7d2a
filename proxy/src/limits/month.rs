//! The calendar month (UTC) that budgets are for.
//!
//! The host owns the wall clock: one that jumps ahead gives a key the next month's budget early, as the ledger has it, too.
//! Must not know what a budget is.

use std::time::Duration;

use time::{Date, OffsetDateTime};

/// A month, seen from a time in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Month {
    now: OffsetDateTime,
}

impl Month {
    /// The month of this time, Unix seconds.
    pub(crate) fn of(now: u64) -> Self {
        let now =
            i64::try_from(now).ok().and_then(|now| OffsetDateTime::from_unix_timestamp(now).ok());
        Self { now: now.unwrap_or(OffsetDateTime::UNIX_EPOCH) }
    }

    /// The first day and today, as days since 1970-01-01.
    pub(crate) fn days(self) -> (u32, u32) {
        let today = u32::try_from(self.now.unix_timestamp() / 86_400).unwrap_or_default();
        (today.saturating_sub(u32::from(self.now.day()) - 1), today)
    }

    /// When it ends, Unix seconds.
    pub(crate) fn end(self) -> u64 {
        let (year, month) = (self.now.year(), self.now.month());
        let year = if month == time::Month::December { year + 1 } else { year };
        let next = Date::from_calendar_date(year, month.next(), 1);
        let next = next.map_or(self.now, |next| next.midnight().assume_utc());
        u64::try_from(next.unix_timestamp()).unwrap_or_default()
    }

    /// How much of it is left.
    pub(super) fn left(self) -> Duration {
        let now = u64::try_from(self.now.unix_timestamp()).unwrap_or_default();
        Duration::from_secs(self.end().saturating_sub(now))
    }

    /// `2026-11`.
    pub(crate) fn name(self) -> String {
        format!("{:04}-{:02}", self.now.year(), u8::from(self.now.month()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_and_end_at_midnight_of_utc() {
        for (now, name, days, end) in [
            // 2026-11-23T12:00:00Z
            (1_795_435_200, "2026-11", (20_758, 20_780), 1_796_083_200),
            // 2026-12-31T23:59:59Z
            (1_798_761_599, "2026-12", (20_788, 20_818), 1_798_761_600),
            // 2028-02-29T00:00:00Z
            (1_835_395_200, "2028-02", (21_215, 21_243), 1_835_481_600),
            (0, "1970-01", (0, 0), 2_678_400),
        ] {
            let month = Month::of(now);
            assert_eq!(
                (month.name().as_str(), month.days(), month.end()),
                (name, days, end),
                "{now}"
            );
            assert_eq!(month.left(), Duration::from_secs(end - now));
        }
        assert_eq!(Month::of(u64::MAX).name(), "1970-01", "a clock that says nonsense");
    }
}
