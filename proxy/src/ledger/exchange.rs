//! Usage in the form of the proxy before this one: `{"records":[{timestamp, key_id, model, endpoint, prompt_tokens, …}]}`
//! (`proxy.md` part 1.5), read and written.
//!
//! A file that is brought in is attacker input if the host can write it: it can only add. Must not know who asks.

use std::io::Write;
use std::path::{Path, PathBuf};

use attestation::crypto::sha256;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};
use serde_json::{Value, json};
use service::plain_file;

use super::sums::{OTHER, Rows, is_name};
use super::{Range, Row, Totals, day_of, rows};
use crate::endpoint::Endpoint;
use crate::money::Money;
use crate::store::{Store, StoreError};

/// The longest file: about a million records.
const MAX_LENGTH: u64 = 256 * 1024 * 1024;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Imported {
    /// It was brought in at another time.
    Before,
    /// It is in.
    Now {
        /// Its records.
        records: u64,
        /// Entries that are no records.
        left_out: u64,
    },
}

/// Why a file was not brought in. The database is as before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("it cannot be read")]
    Unreadable(#[from] std::io::Error),
    #[error("it is cut off or no JSON: line {}, column {}", .0.line(), .0.column())]
    Json(serde_json::Error),
    #[error("it is neither {{\"records\":[…]}} nor a list of records")]
    Shape,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ImportError {
    /// Whether the file itself is damaged.
    fn is_damage(&self) -> bool {
        matches!(self, Self::Json(_) | Self::Shape)
    }
}

/// Adds the records of a file to the database, unless that was done before.
pub(crate) async fn import(
    store: &Store,
    file: PathBuf,
    now: u64,
) -> Result<Imported, ImportError> {
    let read = move || {
        let text = plain_file::read(&file, MAX_LENGTH)?;
        let (rows, records, left_out) = parse(&text)?;
        Ok::<_, ImportError>((sha256(&text), rows, records, left_out))
    };
    let read = tokio::task::spawn_blocking(read).await;
    let (digest, added, records, left_out) = read.map_err(|_| StoreError::Closed)??;
    let add = move |connection: &mut Connection| {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(StoreError::from)?;
        let select = "SELECT 1 FROM imports WHERE digest = ?1";
        let before: Option<i64> = transaction
            .query_row(select, [&digest], |row| row.get(0))
            .optional()
            .map_err(StoreError::from)?;
        if before.is_some() {
            return Ok(Imported::Before);
        }
        rows::add(&transaction, &added)?;
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        transaction
            .execute(
                "INSERT INTO imports (digest, imported, records) VALUES (?1, ?2, ?3)",
                (&digest, number(now), number(records)),
            )
            .map_err(StoreError::from)?;
        transaction.commit().map_err(StoreError::from)?;
        Ok::<_, ImportError>(Imported::Now { records, left_out })
    };
    store.run(add).await
}

/// Brings in the file of the proxy before this one, at a start. A damaged one is moved aside, so that it is neither lost nor
/// met again; whatever happens is logged, and no reason not to start.
pub(crate) async fn take_over(store: &Store, file: &Path, now: u64) {
    if !file.exists() {
        return;
    }
    match import(store, file.to_owned(), now).await {
        Ok(Imported::Before) => {}
        Ok(Imported::Now { records, left_out }) => {
            tracing::info!(records, left_out, "the usage file was brought in");
        }
        Err(error) => {
            let kept = error.is_damage().then(|| set_aside(file)).flatten();
            let kept = kept.map(|path| path.display().to_string());
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, kept, "the usage file cannot be used; it is kept aside");
            service::lifecycle!("the usage file is damaged and kept aside");
        }
    }
}

/// Under the first name that is free.
fn set_aside(file: &Path) -> Option<PathBuf> {
    let names = (1..100).map(|n| {
        let mut name = file.as_os_str().to_owned();
        name.push(if n == 1 { ".damaged".to_owned() } else { format!(".damaged.{n}") });
        PathBuf::from(name)
    });
    let free = names.into_iter().find(|name| !name.exists())?;
    std::fs::rename(file, &free).ok().map(|()| free)
}

fn parse(text: &[u8]) -> Result<(Rows, u64, u64), ImportError> {
    let document: Value = serde_json::from_slice(text).map_err(ImportError::Json)?;
    let records = document.get("records").unwrap_or(&document).as_array();
    let (mut rows, mut count, mut left_out) = (Rows::new(), 0, 0);
    for record in records.ok_or(ImportError::Shape)? {
        if let Some((row, totals)) = of_record(record) {
            rows.entry(row).or_default().merge(&totals);
            count += 1;
        } else {
            left_out += 1;
        }
    }
    Ok((rows, count, left_out))
}

fn of_record(record: &Value) -> Option<(Row, Totals)> {
    let record = record.as_object()?;
    let number = |name: &str| record.get(name).and_then(Value::as_f64).unwrap_or_default();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` takes the nearest number that there is, and 0 for none"
    )]
    let count = |name: &str| number(name) as u64;
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let model = text("model").filter(|model| !model.is_empty() && *model != "unknown");
    let named = |name: &str| if is_name(name) { name.to_owned() } else { OTHER.to_owned() };
    let row = Row {
        day: day_of(
            record
                .get("timestamp")?
                .as_f64()
                .filter(|at| *at >= 0.0)
                .map(|_| count("timestamp"))?,
        ),
        key_id: named(text("key_id")?),
        model: model.map(named),
        endpoint: text("endpoint").and_then(Endpoint::from_label).unwrap_or(Endpoint::Other),
    };
    let (prompt, completion) = (count("prompt_tokens"), count("completion_tokens"));
    let total = count("total_tokens");
    let totals = Totals {
        requests: 1,
        prompt,
        completion,
        total: if total == 0 { prompt.saturating_add(completion) } else { total },
        audio_bytes: count("audio_bytes"),
        cost: Money::from_euros(number("cost_eur").max(0.0)).unwrap_or_default(),
        ..Totals::default()
    };
    Some((row, totals))
}

/// Writes everything, one record a request. A row's sums are shared out among its requests, the rest to the first.
pub(crate) fn export(connection: &Connection, out: &mut dyn Write) -> Result<(), StoreError> {
    let unwritten =
        |source| StoreError::File { what: "cannot write", path: "the records".to_owned(), source };
    out.write_all(b"{\"records\":[").map_err(unwritten)?;
    let mut separator = "";
    rows::each(connection, Range::ALL, None, |row, totals| {
        for n in 0..totals.requests {
            write!(out, "{separator}{}", record(row, totals, n)).map_err(unwritten)?;
            separator = ",\n";
        }
        Ok(())
    })?;
    out.write_all(b"]}\n").and_then(|()| out.flush()).map_err(unwritten)
}

/// The record of the nth request of a row.
fn record(row: &Row, totals: &Totals, n: u64) -> Value {
    let share = |sum: u64| {
        let rest = if n == 0 { sum % totals.requests } else { 0 };
        sum / totals.requests + rest
    };
    let nanos = u64::try_from(totals.cost.nanos()).unwrap_or_default();
    let cost = Money::from_nanos(i64::try_from(share(nanos)).unwrap_or(i64::MAX));
    json!({
        "timestamp": u64::from(row.day) * 86_400 + 43_200,
        "key_id": row.key_id,
        "model": row.model.as_deref().unwrap_or("unknown"),
        "endpoint": row.endpoint.label(),
        "prompt_tokens": share(totals.prompt),
        "completion_tokens": share(totals.completion),
        "total_tokens": share(totals.total),
        "audio_bytes": share(totals.audio_bytes),
        "cost_eur": cost.euros(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn records(text: &[u8]) -> Vec<Value> {
        let document: Value = serde_json::from_slice(text).unwrap();
        document["records"].as_array().unwrap().clone()
    }

    async fn exported(store: &Store) -> Vec<u8> {
        let export = |connection: &mut Connection| {
            let mut text = Vec::new();
            export(connection, &mut text)?;
            Ok::<_, StoreError>(text)
        };
        store.run(export).await.unwrap()
    }

    fn sum(records: &[Value], name: &str) -> f64 {
        records.iter().map(|record| record[name].as_f64().unwrap()).sum()
    }

    #[tokio::test]
    async fn a_file_is_brought_in_once_and_goes_out_with_the_same_sums() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("usage.json");
        let record = |n: u64| {
            json!({"timestamp": 1_790_000_000.5 + n as f64, "key_id": "k1", "model": "gpt-oss-120b", "endpoint": "chat",
                   "prompt_tokens": 10 + n, "completion_tokens": 20, "total_tokens": 30 + n, "audio_bytes": 0,
                   "cost_eur": 0.00015})
        };
        let mut all: Vec<Value> = (0..7).map(record).collect();
        all.push(json!({"timestamp": 1_790_000_000, "key_id": "k2", "model": "unknown", "endpoint": "other",
                        "prompt_tokens": null, "total_tokens": -5}));
        let bad = [json!(null), json!({"key_id": "k"}), json!({"timestamp": "x", "key_id": "k"})];
        let mixed = [all.clone(), bad.to_vec()].concat();
        let text = json!({"records": mixed}).to_string();
        std::fs::write(&file, &text).unwrap();

        let store = Store::in_memory(NOW).unwrap();
        let imported = import(&store, file.clone(), NOW).await.unwrap();
        assert_eq!(imported, Imported::Now { records: 8, left_out: 3 });
        assert_eq!(import(&store, file.clone(), NOW).await.unwrap(), Imported::Before);
        let out = records(&exported(&store).await);
        assert_eq!(out.len(), 8);
        for name in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            let before: f64 =
                all.iter().map(|record| record[name].as_f64().unwrap_or_default().max(0.0)).sum();
            assert_eq!(sum(&out, name), before, "{name}");
        }
        assert!((sum(&out, "cost_eur") - 7.0 * 0.00015).abs() < 1e-9);

        std::fs::write(&file, json!(all).to_string()).unwrap();
        let list = import(&store, file, NOW).await.unwrap();
        assert_eq!(list, Imported::Now { records: 8, left_out: 0 }, "a list is one, too");
    }

    #[tokio::test]
    async fn case_84_a_truncated_file_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("usage.json");
        let store = Store::in_memory(NOW).unwrap();
        for name in ["usage.json.damaged", "usage.json.damaged.2"] {
            let cut = format!(r#"{{"records":[{{"timestamp":1,"key_id":"{name}"#);
            std::fs::write(&file, &cut).unwrap();
            take_over(&store, &file, NOW).await;
            assert!(!file.exists());
            assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), cut);
        }
        assert_eq!(records(&exported(&store).await).len(), 0);
    }
}
