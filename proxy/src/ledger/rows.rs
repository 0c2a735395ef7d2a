//! The ledger's statements.
//!
//! Must not know when they run.

use std::collections::HashMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Transaction};

use super::sums::Rows;
use super::{Range, Row, Summary, Totals};
use crate::endpoint::Endpoint;
use crate::money::Money;
use crate::store::{Epoch, StoreError};

/// Sums end at the highest integer rather than become inexact.
const ADD: &str = "INSERT INTO usage
    (day, key_id, model, endpoint, requests, prompt, completion, cached, total, audio_bytes, audio_ms, cost_nanos, estimated)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
    ON CONFLICT DO UPDATE SET
    requests = min(9223372036854775807, requests + excluded.requests),
    prompt = min(9223372036854775807, prompt + excluded.prompt),
    completion = min(9223372036854775807, completion + excluded.completion),
    cached = min(9223372036854775807, cached + excluded.cached),
    total = min(9223372036854775807, total + excluded.total),
    audio_bytes = min(9223372036854775807, audio_bytes + excluded.audio_bytes),
    audio_ms = min(9223372036854775807, audio_ms + excluded.audio_ms),
    cost_nanos = min(9223372036854775807, cost_nanos + excluded.cost_nanos),
    estimated = min(9223372036854775807, estimated + excluded.estimated)";

/// Adds to every row.
pub(super) fn add(transaction: &Transaction<'_>, rows: &Rows) -> Result<(), StoreError> {
    let mut add = transaction.prepare(ADD)?;
    for (row, totals) in rows {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        add.execute((
            row.day,
            &row.key_id,
            row.model.as_deref().unwrap_or_default(),
            row.endpoint.label(),
            number(totals.requests),
            number(totals.prompt),
            number(totals.completion),
            number(totals.cached),
            number(totals.total),
            number(totals.audio_bytes),
            number(totals.audio_milliseconds),
            totals.cost.nanos(),
            number(totals.estimated),
        ))?;
    }
    Ok(())
}

/// The number of the last batch of that start that is on the disk.
pub(super) fn batch(connection: &Connection, epoch: Epoch) -> Result<i64, StoreError> {
    let select = "SELECT batch FROM epochs WHERE epoch = ?1";
    let batch = connection.query_row(select, [epoch.0], |row| row.get(0)).optional()?;
    Ok(batch.unwrap_or_default())
}

/// Writes the number of a batch down. The start's own row may be gone, if a backup was put into place.
pub(super) fn set_batch(
    transaction: &Transaction<'_>,
    epoch: Epoch,
    batch: i64,
) -> Result<(), StoreError> {
    transaction.execute(
        "INSERT INTO epochs (epoch, started, batch) VALUES (?1, 0, ?2)
         ON CONFLICT DO UPDATE SET batch = excluded.batch",
        (epoch.0, batch),
    )?;
    Ok(())
}

/// What each key spent on these days.
pub(super) fn spent(
    connection: &Connection,
    days: Range,
) -> Result<HashMap<String, Money>, StoreError> {
    let mut select = connection.prepare(
        "SELECT key_id, cost_nanos FROM usage WHERE day BETWEEN ?1 AND ?2 AND cost_nanos > 0",
    )?;
    let mut rows = select.query((days.first, days.last))?;
    let mut spent: HashMap<String, Money> = HashMap::new();
    while let Some(row) = rows.next()? {
        let cost = Money::from_nanos(row.get(1)?);
        let key_id = text(row.get_ref(0)?);
        if let Some(sum) = spent.get_mut(key_id) {
            *sum += cost;
        } else {
            spent.insert(key_id.to_owned(), cost);
        }
    }
    Ok(spent)
}

/// The sums of a range of days, of all keys or of one. Takes time with the number of rows in it.
pub(super) fn summary(
    connection: &Connection,
    range: Range,
    key_id: Option<&str>,
) -> Result<Summary, StoreError> {
    let mut summary = Summary::default();
    each(connection, range, key_id, |row, totals| {
        summary.add(row, totals);
        Ok(())
    })?;
    Ok(summary)
}

/// Shows every row of a range of days, of all keys or of one, in the order of days.
pub(super) fn each(
    connection: &Connection,
    range: Range,
    key_id: Option<&str>,
    mut show: impl FnMut(&Row, &Totals) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    const COLUMNS: &str = "SELECT day, key_id, model, endpoint, requests, prompt, completion, cached, total, audio_bytes, \
                           audio_ms, cost_nanos, estimated FROM usage WHERE day BETWEEN ?1 AND ?2";
    let sql = match key_id {
        None => format!("{COLUMNS} ORDER BY day"),
        Some(_) => format!("{COLUMNS} AND key_id = ?3 ORDER BY day"),
    };
    let mut select = connection.prepare(&sql)?;
    let mut rows = match key_id {
        None => select.query((range.first, range.last))?,
        Some(key_id) => select.query((range.first, range.last, key_id))?,
    };
    let mut held = Row { day: 0, key_id: String::new(), model: None, endpoint: Endpoint::Other };
    while let Some(row) = rows.next()? {
        held.day = row.get(0)?;
        // Most rows have the key of the row before: its text is taken over where it stands.
        let key_id = text(row.get_ref(1)?);
        if held.key_id != key_id {
            key_id.clone_into(&mut held.key_id);
        }
        let model = text(row.get_ref(2)?);
        held.model = (!model.is_empty()).then(|| model.to_owned());
        held.endpoint = Endpoint::from_label(text(row.get_ref(3)?)).unwrap_or(Endpoint::Other);
        let number = |at: usize| {
            row.get::<_, i64>(at).map(|number| u64::try_from(number).unwrap_or_default())
        };
        let totals = Totals {
            requests: number(4)?,
            prompt: number(5)?,
            completion: number(6)?,
            cached: number(7)?,
            total: number(8)?,
            audio_bytes: number(9)?,
            audio_milliseconds: number(10)?,
            cost: Money::from_nanos(row.get(11)?),
            estimated: number(12)?,
        };
        show(&held, &totals)?;
    }
    Ok(())
}

/// The tables are strict: what is declared a text is one.
fn text(value: ValueRef<'_>) -> &str {
    value.as_str().unwrap_or_default()
}
