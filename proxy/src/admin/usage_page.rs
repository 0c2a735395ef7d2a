//! What was used, by whom and for how much (`proxy.md` case 106): totals, bars over days, tables.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;
use http::{Response, StatusCode};
use service::clock::unix_now;

use super::asking::{Asking, encode};
use super::chart::{Chart, HEIGHT, WIDTH};
use super::error::AdminError;
use super::session::Open;
use super::shell::Shell;
use super::view;
use super::{Admin, aside, respond};
use crate::body::Body;
use crate::keys::{ApiKey, Keys};
use crate::ledger::{Period, Range, Summary, Totals, day_of};

/// Rows of a table that are shown. All of them are in the download.
const ROWS: usize = 200;

#[derive(Template)]
#[template(path = "admin/usage.html")]
struct UsagePage<'a> {
    shell: Shell<'a>,
    /// The period's name.
    period: &'static str,
    /// The key that everything is of: its id and its name.
    key: Option<(String, String)>,
    totals: Line,
    cards: Vec<Card>,
    tables: Vec<Table>,
    width: f64,
    height: f64,
}

/// A number with its bars.
struct Card {
    title: &'static str,
    value: String,
    unit: &'static str,
    chart: Chart,
}

/// A table of sums.
struct Table {
    id: &'static str,
    title: &'static str,
    of: &'static str,
    lines: Vec<Line>,
    hidden: usize,
}

/// A row of sums, written out.
struct Line {
    name: String,
    /// The key's segment of a path.
    link: Option<String>,
    requests: String,
    prompt: String,
    completion: String,
    cached: String,
    total: String,
    cost: String,
    /// Of the whole cost, in percent.
    share: u32,
    estimated: u64,
}

impl Line {
    fn of(name: String, totals: &Totals, all: &Totals) -> Self {
        let share = totals.cost.nanos().saturating_mul(100).checked_div(all.cost.nanos());
        Self {
            name,
            link: None,
            requests: view::number(totals.requests),
            prompt: view::number(totals.prompt),
            completion: view::number(totals.completion),
            cached: view::number(totals.cached),
            total: view::number(totals.total),
            cost: view::euros(totals.cost),
            share: u32::try_from(share.unwrap_or_default()).unwrap_or_default().min(100),
            estimated: totals.estimated,
        }
    }
}

impl UsagePage<'_> {
    /// The menu: a period's name, and its words.
    fn periods(&self) -> [(&'static str, &'static str); 6] {
        Period::NAMES.map(|(name, period)| (name, words(period)))
    }

    /// The same page with a period of that name.
    fn query(&self, period: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("period", period);
        if let Some((id, _)) = &self.key {
            query.append_pair("key", id);
        }
        query.finish()
    }
}

fn words(period: Period) -> &'static str {
    match period {
        Period::Today => "Today",
        Period::Yesterday => "Yesterday",
        Period::Week => "7 days",
        Period::Month => "30 days",
        Period::Year => "Year",
        Period::All => "All time",
    }
}

/// What is asked for: a period, and maybe one key.
pub(super) struct Asked {
    pub(super) period: Period,
    pub(super) key: Option<String>,
    pub(super) summary: Summary,
}

impl Asked {
    /// As the query says; without a period the month.
    pub(super) async fn of(admin: &Admin, asking: &Asking<'_>) -> Result<Self, AdminError> {
        let period = match asking.query.text("period") {
            "" => Period::default(),
            name => Period::named(name),
        };
        let key = asking.query.get("key").filter(|key| !key.is_empty()).map(ToOwned::to_owned);
        let range = period.range(unix_now());
        let summary = admin.parts.ledger.try_summary(range, key.as_deref()).await?;
        Ok(Self { period, key, summary })
    }

    /// The period's name.
    pub(super) fn name(&self) -> &'static str {
        let found = Period::NAMES.into_iter().find(|(_, period)| *period == self.period);
        found.map_or("all", |(name, _)| name)
    }
}

/// Names of keys by their ids.
pub(super) fn names(keys: &Keys) -> HashMap<String, Arc<ApiKey>> {
    let keys = keys.list().into_iter();
    keys.map(|listed| (listed.key.id.clone(), listed.key)).collect()
}

/// A key's description, or the reference's word for a key without one.
pub(super) fn name_of(names: &HashMap<String, Arc<ApiKey>>, id: &str) -> String {
    let description = names.get(id).map(|key| key.description.clone());
    description.filter(|text| !text.is_empty()).unwrap_or_else(|| "Unknown Key".to_owned())
}

/// The page.
pub(super) async fn page(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
) -> Result<Response<Body>, AdminError> {
    let asked = Asked::of(admin, asking).await?;
    let (period, keys) = (asked.name(), admin.parts.keys.clone());
    let Sums { key, totals, cards, tables } = aside(move || Sums::of(asked, &keys)).await;
    let page = UsagePage {
        shell: Shell::new(admin, asking, session, "usage"),
        period,
        key,
        totals,
        cards,
        tables,
        width: WIDTH,
        height: HEIGHT,
    };
    Ok(respond::page(StatusCode::OK, &page))
}

/// What is shown of them.
struct Sums {
    key: Option<(String, String)>,
    totals: Line,
    cards: Vec<Card>,
    tables: Vec<Table>,
}

impl Sums {
    fn of(asked: Asked, keys: &Keys) -> Self {
        let Asked { period, key, summary } = asked;
        let (names, now) = (names(keys), unix_now());
        let all = summary.all;
        let days = days(&summary, period.range(now), day_of(now));
        Self {
            key: key.map(|id| (id.clone(), name_of(&names, &id))),
            totals: Line::of(String::new(), &all, &all),
            cards: cards(&all, &days),
            tables: tables(&summary, &names),
        }
    }
}

/// Every day of the range, those without calls too. Of all time, from the first day with one; where the range is open, up
/// to today or to what a clock that ran ahead wrote.
fn days(summary: &Summary, range: Range, today: u32) -> Vec<(u32, Totals)> {
    let first_used = summary.by_day.keys().next().copied().unwrap_or(today);
    let last_used = summary.by_day.keys().next_back().copied().unwrap_or(today);
    let first = if range == Range::ALL { first_used } else { range.first };
    let last = range.last.min(last_used.max(today));
    // A host that sets the clock to any year it likes draws no more than this.
    let first = first.max(last.saturating_sub(3660));
    let of = |day| summary.by_day.get(&day).copied().unwrap_or_default();
    (first..=last).map(|day| (day, of(day))).collect()
}

fn cards(all: &Totals, days: &[(u32, Totals)]) -> Vec<Card> {
    #[expect(clippy::cast_precision_loss, reason = "heights of bars")]
    let chart = |value: fn(&Totals) -> u64| {
        let values: Vec<_> = days.iter().map(|(day, one)| (*day, value(one) as f64)).collect();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "sums of counts"
        )]
        Chart::of(&values, view::day, |value| view::number(value as u64))
    };
    let costs: Vec<_> = days.iter().map(|(day, one)| (*day, one.cost.euros())).collect();
    let euros = |value: f64| {
        let amount = crate::money::Money::from_euros(value).unwrap_or_default();
        format!("{} EUR", view::euros(amount))
    };
    vec![
        Card {
            title: "Cost",
            value: all.cost.to_string(),
            unit: "EUR",
            chart: Chart::of(&costs, view::day, euros),
        },
        Card {
            title: "Tokens",
            value: view::number(all.total),
            unit: "",
            chart: chart(|one| one.total),
        },
        Card {
            title: "Requests",
            value: view::number(all.requests),
            unit: "",
            chart: chart(|one| one.requests),
        },
    ]
}

fn tables(summary: &Summary, names: &HashMap<String, Arc<ApiKey>>) -> Vec<Table> {
    let all = &summary.all;
    let by_cost = |mut rows: Vec<(Line, Totals)>| {
        rows.sort_by_key(|(_, totals)| std::cmp::Reverse((totals.cost, totals.requests)));
        rows.into_iter().map(|(line, _)| line).collect::<Vec<_>>()
    };
    let keys = summary.by_key.iter().map(|(id, totals)| {
        let mut line = Line::of(name_of(names, id), totals, all);
        line.link = names.contains_key(id).then(|| encode(id));
        (line, *totals)
    });
    let models = summary.by_model.iter();
    let models = models.map(|(name, totals)| (Line::of(name.clone(), totals, all), *totals));
    let endpoints = summary.by_endpoint.iter();
    let endpoints = endpoints
        .map(|(endpoint, totals)| (Line::of(endpoint.label().to_owned(), totals, all), *totals));
    let days = summary.by_day.iter().rev();
    let days = days.map(|(day, totals)| Line::of(view::day(*day), totals, all));
    let table = |id, title, of, mut lines: Vec<Line>| {
        let hidden = lines.len().saturating_sub(ROWS);
        lines.truncate(ROWS);
        Table { id, title, of, lines, hidden }
    };
    vec![
        table("keys", "By key", "Key", by_cost(keys.collect())),
        table("models", "By model", "Model", by_cost(models.collect())),
        table("endpoints", "By endpoint", "Endpoint", by_cost(endpoints.collect())),
        table("days", "By day", "Day (UTC)", days.collect()),
    ]
}
