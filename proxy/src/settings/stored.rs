//! Rate limits in the database. They are in memory, too: a request asks no disk. What another process changes there is seen
//! within a second, what this one changes at once.
//!
//! Must not know what they are for.

use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::{Connection, TransactionBehavior};
use serde_json::{Map, Value};

use super::{MEMBERS, Numbers};
use crate::store::{Resident, Store, StoreError};

/// See above.
pub(super) struct Stored {
    store: Store,
    current: Current,
}

/// What holds where the database says nothing, and what holds now.
#[derive(Clone)]
struct Current {
    defaults: Numbers,
    numbers: Arc<RwLock<Numbers>>,
}

impl Stored {
    /// Reads them.
    pub(super) async fn open(store: Store, defaults: Numbers) -> Result<Self, StoreError> {
        let current = Current { defaults, numbers: Arc::new(RwLock::new(defaults)) };
        let read = current.clone();
        store.run(move |connection| read.renew(connection)).await?;
        store.settle_in(Box::new(current.clone()))?;
        Ok(Self { store, current })
    }

    /// The numbers as they are now.
    pub(super) fn current(&self) -> Numbers {
        *self.current.numbers.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes them, all or none.
    pub(super) async fn change(&self, numbers: Numbers) -> Result<(), StoreError> {
        let current = self.current.clone();
        let changed = move |connection: &mut Connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let insert = "INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)";
            for (member, value) in MEMBERS.into_iter().zip(numbers.values()) {
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                transaction.execute(insert, (member.name, value))?;
            }
            transaction.commit()?;
            current.set(numbers);
            Ok(())
        };
        self.store.run(changed).await
    }
}

impl Current {
    /// Takes what the database says, over the environment's. What cannot be used of it gives way to that.
    fn renew(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let mut select = connection.prepare("SELECT name, value FROM settings")?;
        let rows = select.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, Value::from(row.get::<_, i64>(1)?)))
        })?;
        let changed = rows.collect::<Result<Map<String, Value>, _>>()?;
        let (numbers, wrong) = self.defaults.over(&changed);
        if !wrong.is_empty() {
            let members = wrong.join(", ");
            tracing::error!(
                members,
                "settings of the database cannot be used; those of the environment hold"
            );
        }
        self.set(numbers);
        Ok(())
    }

    fn set(&self, numbers: Numbers) {
        *self.numbers.write().unwrap_or_else(PoisonError::into_inner) = numbers;
    }
}

/// Reads them again when another process changed them.
impl Resident for Current {
    fn tick(&mut self, _: &mut Connection) -> bool {
        true
    }

    fn changed(&mut self, connection: &mut Connection) -> bool {
        let renewed = self.renew(connection);
        if let Err(error) = &renewed {
            let error = error as &dyn std::error::Error;
            tracing::error!(error, "changed settings cannot be read yet; those before hold");
        }
        renewed.is_ok()
    }
}
