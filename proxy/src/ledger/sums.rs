//! The sums in memory: what was counted and is not on the disk yet, and what each key spent this month.
//!
//! Everything in it has a bound: rows that wait, names of models, keys of one month. Must not know the database.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::{Range, Row, Totals, day_of, month_of};
use crate::money::Money;
use crate::prices::Prices;
use crate::usage::{Call, Usage};

/// Rows that may wait while the disk takes none. What comes then is counted without its key and model; what the key spent
/// this month is still known.
const MOST_WAITING: usize = 100_000;

/// Models that are told apart on one day: their names come from clients and the upstream.
const MOST_MODELS: usize = 256;

/// The longest name of a model, in bytes.
const LONGEST_MODEL: usize = 128;

/// The name of all further models, and of those whose own is no name; and the key of rows that are beyond the bound.
pub(super) const OTHER: &str = "other";

/// Rows, each with its sums.
pub(super) type Rows = HashMap<Row, Totals>;

/// See above.
pub(super) struct Sums {
    prices: Prices,
    /// The latest day that was seen: a clock that is set back does not bring an earlier one again.
    day: u32,
    month: Range,
    spent: HashMap<String, Money>,
    /// Names of models that were seen today.
    models: HashSet<String>,
    waiting: Rows,
    /// The batch that the writer carries to the disk, until it is there.
    carried: Arc<Rows>,
    /// The number of the last batch that is there, of this start.
    committed: i64,
    /// Since when the disk refuses.
    pub(super) refused_since: Option<Instant>,
}

impl Sums {
    pub(super) fn new(prices: Prices, day: u32) -> Self {
        Self {
            prices,
            day,
            month: month_of(day),
            spent: HashMap::new(),
            models: HashSet::new(),
            waiting: Rows::new(),
            carried: Arc::default(),
            committed: 0,
            refused_since: None,
        }
    }

    /// What the disk knows of this month, when nothing is carried. What waits is added.
    pub(super) fn spent_before(&mut self, spent: HashMap<String, Money>) {
        self.spent = spent;
        let month = self.month;
        for (row, totals) in self.waiting.iter().chain(self.carried.iter()) {
            if month.holds(row.day) {
                *self.spent.entry(row.key_id.clone()).or_default() += totals.cost;
            }
        }
    }

    /// The most that a call of this usage could cost.
    pub(super) fn dearest(&self, usage: &Usage) -> Money {
        self.prices.dearest(usage, self.day)
    }

    pub(super) fn month(&self) -> Range {
        self.month
    }

    pub(super) fn settle(&mut self, call: &Call) -> Money {
        self.turn(day_of(call.at));
        let model = call.model.as_deref().map(|model| self.name(model));
        // The price is the model's own, also where its name is not told apart.
        let cost = self.prices.cost(call.model.as_deref(), &call.usage, self.day);
        if let Some(spent) = self.spent.get_mut(&call.key.id) {
            *spent += cost;
        } else if cost > Money::ZERO {
            self.spent.insert(call.key.id.clone(), cost);
        }
        let mut row =
            Row { day: self.day, key_id: call.key.id.clone(), model, endpoint: call.endpoint };
        if self.waiting.len() >= MOST_WAITING && !self.waiting.contains_key(&row) {
            row = Row { key_id: OTHER.to_owned(), model: None, ..row };
        }
        self.waiting.entry(row).or_default().add(&call.usage, cost);
        cost
    }

    pub(super) fn spent(&self, key_id: &str, day: u32) -> Money {
        if day > self.month.last {
            // Nothing was counted in the new month yet.
            return Money::ZERO;
        }
        self.spent.get(key_id).copied().unwrap_or_default()
    }

    /// A new day, if it is one.
    fn turn(&mut self, day: u32) {
        if day <= self.day {
            return;
        }
        self.day = day;
        self.models.clear();
        if day > self.month.last {
            self.month = month_of(day);
            self.spent.clear();
        }
    }

    fn name(&mut self, model: &str) -> String {
        if !is_name(model) {
            return OTHER.to_owned();
        }
        if !self.models.contains(model) {
            if self.models.len() >= MOST_MODELS {
                return OTHER.to_owned();
            }
            self.models.insert(model.to_owned());
        }
        model.to_owned()
    }

    /// The chosen rows that are in no batch up to this one; `None` if another one is the last that is known to be on the
    /// disk.
    pub(super) fn beyond(
        &self,
        batch: i64,
        range: Range,
        key_id: Option<&str>,
    ) -> Option<Vec<(Row, Totals)>> {
        if batch != self.committed {
            return None;
        }
        let rows = self.waiting.iter().chain(self.carried.iter());
        let chosen = rows.filter(|(row, _)| {
            range.holds(row.day) && key_id.is_none_or(|key_id| row.key_id == key_id)
        });
        Some(chosen.map(|(row, totals)| (row.clone(), *totals)).collect())
    }

    /// The batch that is to be carried to the disk, and its number: what was refused before, or else what waits. `None` if
    /// nothing does.
    pub(super) fn carry(&mut self) -> Option<(Arc<Rows>, i64)> {
        if self.carried.is_empty() {
            self.carried = Arc::new(std::mem::take(&mut self.waiting));
        }
        (!self.carried.is_empty()).then(|| (self.carried.clone(), self.committed + 1))
    }

    /// That batch is on the disk; whether nothing waits.
    pub(super) fn carried(&mut self) -> bool {
        self.committed += 1;
        self.carried = Arc::default();
        self.refused_since = None;
        self.waiting.is_empty()
    }

    /// The disk refused it; whether that is new.
    pub(super) fn refused(&mut self) -> bool {
        let is_new = self.refused_since.is_none();
        self.refused_since.get_or_insert_with(Instant::now);
        is_new
    }
}

/// Whether this can be the name of a model or a key: neither long nor unprintable.
pub(super) fn is_name(text: &str) -> bool {
    (1..=LONGEST_MODEL).contains(&text.len())
        && !text.chars().any(|one| one.is_control() || is_format(one))
}

/// Characters that change how their neighbours are shown: a name could look like another one.
fn is_format(one: char) -> bool {
    matches!(one, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
