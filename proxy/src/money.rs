//! Amounts of euros, exact to a billionth: a token of the cheapest model costs 130 of them.
//!
//! Must not know what anything costs.

use std::fmt::{self, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

/// An amount in billionths of a euro. Sums end at 9.2 billion euros rather than wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Money(i64);

/// Of one euro.
const NANOS: i64 = 1_000_000_000;

impl Money {
    /// Nothing.
    pub(crate) const ZERO: Self = Self(0);

    /// So many billionths of a euro.
    pub(crate) const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Billionths of a euro.
    pub(crate) const fn nanos(self) -> i64 {
        self.0
    }

    /// From a decimal number of euros, as files and forms have it. `None` for what is negative, not a number, or more than
    /// a billion.
    pub(crate) fn from_euros(euros: f64) -> Option<Self> {
        if !(0.0..=1e9).contains(&euros) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "at most 1e18, which an i64 holds; rounded to the nearest billionth"
        )]
        let nanos = (euros * NANOS as f64).round() as i64;
        Some(Self(nanos))
    }

    /// As a decimal number of euros, for files and JSON.
    #[expect(clippy::cast_precision_loss, reason = "exact to a billionth below 9 million euros")]
    pub(crate) fn euros(self) -> f64 {
        self.0 as f64 / NANOS as f64
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Money {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl Display for Money {
    /// Euros with two decimals, as bills have them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.euros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn euros_there_and_back() {
        for (euros, nanos) in
            [(0.0, 0), (0.0005, 500_000), (5.0, 5_000_000_000), (0.096, 96_000_000)]
        {
            let money = Money::from_euros(euros).unwrap();
            assert_eq!(money.nanos(), nanos);
            assert!((money.euros() - euros).abs() < 1e-12);
        }
        for wrong in [-0.01, f64::NAN, f64::INFINITY, 1e10] {
            assert_eq!(Money::from_euros(wrong), None);
        }
    }

    #[test]
    fn sums_never_wrap() {
        let most = Money::from_nanos(i64::MAX);
        assert_eq!(most + most, most);
        assert_eq!([most, most].into_iter().sum::<Money>(), most);
        assert_eq!(Money::ZERO - Money::from_nanos(1), Money::from_nanos(-1));
        assert_eq!(Money::from_nanos(1_234_567_890).to_string(), "1.23");
    }
}
