//! The one place where a role reads the clock. The clock belongs to the host: nothing that must hold against
//! the host may rest on it alone.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z. A clock before that reads as 0.
#[expect(clippy::disallowed_methods, reason = "the one place where a role reads the clock")]
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
