//! Numbers, times and keys as people read them.

use time::OffsetDateTime;
use time::macros::format_description;

use crate::keys::ApiKey;
use crate::money::Money;

/// `2023-11-14 22:13`, UTC, of Unix seconds.
pub(super) fn moment(at: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "what is out of range is no date either")]
    let time = OffsetDateTime::from_unix_timestamp(at as i64).ok();
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]");
    time.and_then(|time| time.format(format).ok()).unwrap_or_else(|| "unknown".to_owned())
}

/// The same of whole seconds.
#[expect(clippy::cast_precision_loss, reason = "seconds fit a double for 200 million years")]
pub(super) fn moment_of(at: u64) -> String {
    moment(at as f64)
}

/// `2023-11-14` of days since 1970.
pub(super) fn day(days: u32) -> String {
    moment_of(u64::from(days) * 86_400).chars().take(10).collect()
}

/// `1 234 567`, with narrow spaces that do not break.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Euros with as many decimals as it takes to tell small amounts from none.
pub(super) fn euros(amount: Money) -> String {
    let euros = amount.euros();
    if euros != 0.0 && euros.abs() < 0.01 { format!("{euros:.4}") } else { format!("{euros:.2}") }
}

/// Whether a key can be used, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Active,
    Revoked,
    Expired,
}

impl Status {
    /// At that time.
    #[expect(clippy::cast_precision_loss, reason = "seconds fit a double for 200 million years")]
    pub(super) fn of(key: &ApiKey, now: u64) -> Self {
        if !key.enabled {
            Self::Revoked
        } else if key.expires_at.is_some_and(|end| end <= now as f64) {
            Self::Expired
        } else {
            Self::Active
        }
    }

    /// For people.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Revoked => "Revoked",
            Self::Expired => "Expired",
        }
    }

    /// For programs, and for the stylesheet.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// What a key may do, in short.
pub(super) fn limits(key: &ApiKey) -> Vec<String> {
    let mut all = Vec::new();
    all.extend(key.rate_limit.map(|limit| format!("{} requests per window", number(limit))));
    all.extend(key.tokens_per_minute.map(|limit| format!("{} tokens per minute", number(limit))));
    all.extend(key.monthly_budget.map(|budget| format!("{budget} EUR per month")));
    match key.models.as_deref() {
        Some([one]) => all.push(format!("only {one}")),
        Some(models) => all.push(format!("{} models", models.len())),
        None => {}
    }
    if key.attested_client {
        all.push("attested clients only".to_owned());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_104_times_and_status() {
        assert_eq!(moment(1_700_000_000.0), "2023-11-14 22:13");
        assert_eq!(moment(f64::MAX), "unknown");
        assert_eq!(day(19_675), "2023-11-14");
        let key = |enabled, expires_at| ApiKey { enabled, expires_at, ..ApiKey::default() };
        assert_eq!(Status::of(&key(true, None), 100), Status::Active);
        assert_eq!(Status::of(&key(true, Some(101.0)), 100), Status::Active);
        assert_eq!(Status::of(&key(true, Some(100.0)), 100), Status::Expired);
        assert_eq!(Status::of(&key(false, Some(100.0)), 100), Status::Revoked);
    }

    #[test]
    fn numbers_are_grouped_and_small_amounts_are_not_nothing() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(euros(Money::from_nanos(500_000)), "0.0005");
        assert_eq!(euros(Money::ZERO), "0.00");
        assert_eq!(euros(Money::from_nanos(12_346_000_000)), "12.35");
    }
}
