//! Carries sums from memory to the disk: each batch in one transaction, once.
//!
//! A commit that seems to fail may have reached the disk all the same. So a batch has a number, which the transaction writes
//! down with it: the same batch is tried again under the same number, and skipped if it is there. Must not know prices.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use super::{Shared, rows};
use crate::store::{Epoch, Resident, StoreError};

/// How often it is said that the disk refuses.
const REMIND: Duration = Duration::from_secs(60);

/// See above.
pub(super) struct Writer {
    shared: Arc<Shared>,
    epoch: Epoch,
    told: Option<Instant>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, epoch: Epoch) -> Self {
        Self { shared, epoch, told: None }
    }

    fn carry(&mut self, connection: &mut Connection) -> Result<bool, StoreError> {
        let carried = self.shared.sums().carry();
        let Some((batch, number)) = carried else { return Ok(true) };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if rows::batch(&transaction, self.epoch)? < number {
            rows::add(&transaction, &batch)?;
            rows::set_batch(&transaction, self.epoch, number)?;
        }
        transaction.commit()?;
        Ok(self.shared.sums().carried())
    }
}

impl Resident for Writer {
    fn tick(&mut self, connection: &mut Connection) -> bool {
        match self.carry(connection) {
            Ok(is_done) => {
                if self.told.take().is_some() {
                    tracing::info!("usage is written again");
                }
                is_done
            }
            Err(error) => {
                let is_new = self.shared.sums().refused();
                if is_new || self.told.is_none_or(|told| told.elapsed() >= REMIND) {
                    self.told = Some(Instant::now());
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "usage cannot be written; it is kept in memory");
                }
                false
            }
        }
    }

    /// Another process brought usage in, or the clock of another start: what was spent is read anew.
    fn changed(&mut self, connection: &mut Connection) -> bool {
        if !self.tick(connection) && self.told.is_some() {
            return false;
        }
        let month = self.shared.sums().month();
        match rows::spent(connection, month) {
            // The sums of memory were all carried, or wait; only this thread carries.
            Ok(spent) => {
                self.shared.sums().spent_before(spent);
                true
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "what was spent this month cannot be read yet");
                false
            }
        }
    }
}
