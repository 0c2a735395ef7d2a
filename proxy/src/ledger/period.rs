//! Days, months and the periods that people ask for. All of them are of UTC: the proxy before this one had the machine's
//! local time, which a container's host chooses.
//!
//! Must not know what is summed.

use time::Date;

use super::Range;

/// 1970-01-01 as `time` counts days.
const EPOCH: i32 = 2_440_588;

/// 9999-12-31, the last day that has a date. A clock beyond is taken for it.
const LAST: u32 = 2_932_896;

/// The day of a time: days since 1970-01-01.
pub(crate) fn day_of(unix: u64) -> u32 {
    u32::try_from(unix / 86_400).unwrap_or(u32::MAX).min(LAST)
}

/// The date of a day.
pub(crate) fn date_of(day: u32) -> Date {
    let julian = i32::try_from(day.min(LAST)).unwrap_or_default() + EPOCH;
    Date::from_julian_day(julian).unwrap_or(Date::MIN)
}

/// The days of the calendar month that a day is in.
pub(crate) fn month_of(day: u32) -> Range {
    let date = date_of(day);
    let first = Date::from_calendar_date(date.year(), date.month(), 1).unwrap_or(date);
    let length = date.month().length(date.year());
    let first = u32::try_from(first.to_julian_day() - EPOCH).unwrap_or_default();
    Range { first, last: first + u32::from(length) - 1 }
}

/// A period of the usage page (`proxy.md` case 81).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Period {
    Today,
    Yesterday,
    /// Today and the 6 days before.
    Week,
    /// Today and the 29 days before.
    #[default]
    Month,
    /// Today and the 364 days before.
    Year,
    All,
}

impl Period {
    /// Every one, with its name.
    pub(crate) const NAMES: [(&'static str, Self); 6] = [
        ("today", Self::Today),
        ("yesterday", Self::Yesterday),
        ("week", Self::Week),
        ("month", Self::Month),
        ("year", Self::Year),
        ("all", Self::All),
    ];

    /// The one of that name; what is none of them is everything.
    pub(crate) fn named(name: &str) -> Self {
        let found = Self::NAMES.into_iter().find(|(other, _)| *other == name);
        found.map_or(Self::All, |(_, period)| period)
    }

    /// Its days, seen from that time. What a clock that ran ahead wrote into later days counts as today's.
    pub(crate) fn range(self, now: u64) -> Range {
        let today = day_of(now);
        let since = |days: u32| Range { first: today.saturating_sub(days), last: u32::MAX };
        match self {
            Self::Today => since(0),
            Self::Yesterday => {
                let day = today.saturating_sub(1);
                Range { first: day, last: day }
            }
            Self::Week => since(6),
            Self::Month => since(29),
            Self::Year => since(364),
            Self::All => Range::ALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use time::Month;

    use super::*;

    fn is_first_of(day: u32, month: Month) -> bool {
        let date = date_of(day);
        date.day() == 1 && date.month() == month
    }

    const NOON: u64 = 1_800_000_000;

    #[test]
    fn case_81_periods_count_days_of_utc() {
        let today = day_of(NOON);
        for (name, first, last) in [
            ("today", today, u32::MAX),
            ("yesterday", today - 1, today - 1),
            ("week", today - 6, u32::MAX),
            ("month", today - 29, u32::MAX),
            ("year", today - 364, u32::MAX),
            ("all", 0, u32::MAX),
            ("fortnight", 0, u32::MAX),
        ] {
            assert_eq!(Period::named(name).range(NOON), Range { first, last }, "{name}");
        }
        assert_eq!(day_of(86_399), 0);
        assert_eq!(day_of(86_400), 1);
    }

    #[test]
    fn months_have_their_lengths_also_at_the_end_of_time() {
        let february = month_of(day_of(1_709_200_000));
        assert_eq!(february.last - february.first + 1, 29, "2024");
        assert!(is_first_of(february.first, Month::February));
        assert!(is_first_of(february.last + 1, Month::March));
        assert_eq!(month_of(0), Range { first: 0, last: 30 });
        assert_eq!(month_of(u32::MAX).last, LAST);
        assert_eq!(day_of(u64::MAX), LAST);
    }
}
