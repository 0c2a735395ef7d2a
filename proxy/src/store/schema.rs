//! The tables, and how older forms of them become the newest: one step a version, each in a transaction of its own.
//!
//! A step that was released is never changed: another one is added. Must not know what the tables are for.

use rusqlite::Connection;

use super::StoreError;

/// From version n to n + 1, by their place.
const STEPS: [&str; 2] = [
    // Days are days since 1970-01-01 (UTC), times Unix seconds, costs billionths of a euro. A call without a model has an
    // empty one. `epochs` has one row a start of the proxy; `batch` is the last one that it wrote to `usage`.
    "CREATE TABLE epochs (
        epoch INTEGER PRIMARY KEY,
        started INTEGER NOT NULL,
        batch INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE keys (
        key_id TEXT NOT NULL PRIMARY KEY,
        key_hash BLOB NOT NULL UNIQUE CHECK (length(key_hash) = 32),
        entry TEXT NOT NULL
    ) STRICT;
    CREATE TABLE usage (
        day INTEGER NOT NULL,
        key_id TEXT NOT NULL,
        model TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        requests INTEGER NOT NULL,
        prompt INTEGER NOT NULL,
        completion INTEGER NOT NULL,
        cached INTEGER NOT NULL,
        total INTEGER NOT NULL,
        audio_bytes INTEGER NOT NULL,
        audio_ms INTEGER NOT NULL,
        cost_nanos INTEGER NOT NULL,
        estimated INTEGER NOT NULL,
        PRIMARY KEY (day, key_id, model, endpoint)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX usage_by_key ON usage (key_id, day);
    CREATE TABLE imports (
        digest BLOB NOT NULL PRIMARY KEY,
        imported INTEGER NOT NULL,
        records INTEGER NOT NULL
    ) STRICT;",
    // What the admin pages changed, by the names of the settings file.
    "CREATE TABLE settings (
        name TEXT NOT NULL PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;",
];

/// The version that this software writes.
pub(super) const NEWEST: usize = STEPS.len();

/// Brings the tables to the newest version.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(version).ok().filter(|done| *done <= NEWEST);
    let done = done.ok_or(StoreError::Newer(version))?;
    for (place, step) in STEPS.iter().enumerate().skip(done) {
        let step_in = connection.transaction_with_behavior(
            // Another process may do it this moment: one of the two waits, and finds it done.
            rusqlite::TransactionBehavior::Immediate,
        )?;
        let now: i64 = step_in.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if usize::try_from(now).is_ok_and(|now| now == place) {
            step_in.execute_batch(step)?;
            step_in.pragma_update(None, "user_version", now + 1)?;
            step_in.commit()?;
        }
    }
    Ok(())
}
