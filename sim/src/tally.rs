//! How often something was asked, for tests that count.
//!
//! Must not know: what.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<AtomicU64>);

impl Tally {
    /// How often so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
