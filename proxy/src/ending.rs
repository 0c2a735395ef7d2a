//! What has to happen when a call to the model ends, however it ends: what was set aside for it is given back, and what it
//! used is counted. Whoever passes the answer on holds one, and drops it with the answer's last byte.
//!
//! Must not know how usage is read from an answer.

use std::sync::Arc;

use crate::limits::Admitted;
use crate::metrics::Metrics;
use crate::money::Money;
use crate::usage::Call;

/// The end of one call. Dropped without being settled, the call used nothing.
pub(crate) struct Ending {
    admitted: Admitted,
    metrics: Arc<Metrics>,
}

impl Ending {
    /// Of a call that was let through.
    pub(crate) fn new(admitted: Admitted, metrics: Arc<Metrics>) -> Self {
        Self { admitted, metrics }
    }

    /// The call is in the ledger, and cost that much.
    pub(crate) fn settled(self, call: &Call, cost: Money) {
        self.metrics.settled(call, cost);
        self.admitted.end(call.usage.total);
    }
}
