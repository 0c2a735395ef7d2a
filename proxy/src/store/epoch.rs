//! Which start on this database this is: a number that only grows.
//!
//! Whoever owns the disk can put an older copy of the file into its place; every page of it is authentic. The number is
//! logged at each start, and the sealed log is signed and chained, so that an older one after a newer one is seen there.
//! Must not know who looks.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::StoreError;

/// Starts that are remembered.
const REMEMBERED: i64 = 1000;

/// A start, by its number: the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch(pub(crate) i64);

impl Epoch {
    /// Counts this start.
    pub(super) fn begin(connection: &mut Connection, now: u64) -> Result<Self, StoreError> {
        let counted = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let epoch = Self::newest(&counted)?.0 + 1;
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        counted.execute("INSERT INTO epochs (epoch, started) VALUES (?1, ?2)", (epoch, now))?;
        counted.execute("DELETE FROM epochs WHERE epoch <= ?1", [epoch - REMEMBERED])?;
        counted.commit()?;
        Ok(Self(epoch))
    }

    /// The last start that was counted; 0 if there was none.
    pub(super) fn newest(connection: &Connection) -> Result<Self, StoreError> {
        let newest = connection
            .query_row("SELECT epoch FROM epochs ORDER BY epoch DESC LIMIT 1", [], |row| row.get(0))
            .optional()?;
        Ok(Self(newest.unwrap_or_default()))
    }
}
