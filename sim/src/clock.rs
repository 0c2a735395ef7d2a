//! The one place where the simulated world reads the time.
//!
//! Must not know: who asks. Tokens, logs and validity checks call [`now`], so a search for
//! `SystemTime` in this crate finds one line.

use std::time::{Duration, UNIX_EPOCH};

/// Seconds since the Unix epoch. A clock set before 1970 reads as 0.
#[must_use]
pub fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the simulated world has its own clock, here")]
    let time = std::time::SystemTime::now();
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
