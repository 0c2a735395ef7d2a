//! Sums of the ledger, by what people ask for: in all, by key, by model, by endpoint, by day.

use std::collections::BTreeMap;

use crate::endpoint::Endpoint;
use crate::ledger::Row;
use crate::money::Money;
use crate::usage::Usage;

/// The sums of some calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) requests: u64,
    pub(crate) prompt: u64,
    pub(crate) completion: u64,
    pub(crate) cached: u64,
    pub(crate) total: u64,
    pub(crate) audio_bytes: u64,
    pub(crate) audio_milliseconds: u64,
    pub(crate) cost: Money,
    /// Requests of which something was estimated.
    pub(crate) estimated: u64,
}

impl Totals {
    /// One call more. Where the server says no total, it is prompt and completion (`proxy.md` case 77).
    pub(crate) fn add(&mut self, usage: &Usage, cost: Money) {
        let named = usage.prompt.saturating_add(usage.completion);
        let total = if usage.total == 0 { named } else { usage.total };
        self.merge(&Self {
            requests: 1,
            prompt: usage.prompt,
            completion: usage.completion,
            cached: usage.cached,
            total,
            audio_bytes: usage.audio_bytes,
            audio_milliseconds: usage.audio_milliseconds,
            cost,
            estimated: u64::from(usage.estimated),
        });
    }

    /// Others' calls as well.
    pub(crate) fn merge(&mut self, other: &Self) {
        let sums = [
            (&mut self.requests, other.requests),
            (&mut self.prompt, other.prompt),
            (&mut self.completion, other.completion),
            (&mut self.cached, other.cached),
            (&mut self.total, other.total),
            (&mut self.audio_bytes, other.audio_bytes),
            (&mut self.audio_milliseconds, other.audio_milliseconds),
            (&mut self.estimated, other.estimated),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
        self.cost += other.cost;
    }
}

/// Days since 1970-01-01 UTC, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u32,
    pub(crate) last: u32,
}

impl Range {
    /// Everything.
    pub(crate) const ALL: Self = Self { first: 0, last: u32::MAX };

    /// Whether a day is in it.
    pub(crate) fn holds(self, day: u32) -> bool {
        (self.first..=self.last).contains(&day)
    }
}

/// The sums, by what people ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) all: Totals,
    pub(crate) by_key: BTreeMap<String, Totals>,
    /// Calls that name a model.
    pub(crate) by_model: BTreeMap<String, Totals>,
    pub(crate) by_endpoint: BTreeMap<Endpoint, Totals>,
    pub(crate) by_day: BTreeMap<u32, Totals>,
}

impl Summary {
    /// A row more.
    pub(crate) fn add(&mut self, row: &Row, totals: &Totals) {
        self.all.merge(totals);
        named(&mut self.by_key, &row.key_id, totals);
        if let Some(model) = &row.model {
            named(&mut self.by_model, model, totals);
        }
        self.by_endpoint.entry(row.endpoint).or_default().merge(totals);
        self.by_day.entry(row.day).or_default().merge(totals);
    }
}

/// A name is copied when it is first seen only: there may be millions of rows.
fn named(sums: &mut BTreeMap<String, Totals>, name: &str, totals: &Totals) {
    if let Some(sum) = sums.get_mut(name) {
        sum.merge(totals);
    } else {
        sums.insert(name.to_owned(), *totals);
    }
}
