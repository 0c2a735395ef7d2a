//! What people may write into the fields of forms and of the API, and what each is taken for: the one place of these rules.
//!
//! An API's value is turned into the text that a form would have sent. Nothing wrong is ever half taken: either every field
//! is good, or the list of those that are not comes back. Must not know where keys and settings are kept.

use std::fmt::{self, Display};

use serde_json::{Map, Value};

use super::view;
use crate::keys::{Change, MOST_DAYS, New, Rotation};
use crate::money::Money;
use crate::settings::{LONGEST_WINDOW, MEMBERS, MOST_REQUESTS, Numbers};

/// The highest number of a limit.
const MAX_LIMIT: u64 = 1_000_000_000_000;

/// The longest overlap of a rotation, in hours: 90 days.
const MAX_OVERLAP: u64 = 24 * 90;

const MAX_LINE: usize = 200;
const MAX_NOTE: usize = 2_000;
const MAX_MODELS: usize = 100;
const MAX_MODEL: usize = 128;

/// The fields that are wrong, and what to write instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems(Vec<(&'static str, String)>);

impl Problems {
    /// One of a single field.
    pub(super) fn one(field: &'static str, text: &str) -> Self {
        Self(vec![(field, text.to_owned())])
    }

    fn add(&mut self, field: &'static str, text: impl Into<String>) {
        self.0.push((field, text.into()));
    }

    /// What is wrong with a field; empty if nothing is.
    pub(super) fn of(&self, field: &str) -> &str {
        let found = self.0.iter().find(|(other, _)| *other == field);
        found.map_or("", |(_, text)| text)
    }

    /// The first field that is wrong.
    pub(super) fn first(&self) -> Option<&'static str> {
        self.0.first().map(|(field, _)| *field)
    }

    fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.0.iter().map(|(field, text)| format!("{field}: {text}")).collect();
        f.write_str(&all.join("; "))
    }
}

/// Where fields come from: a form's text, or an API's value as text.
pub(super) trait Fields {
    /// The text of a field; `None` if it is not there.
    fn field(&self, name: &str) -> Option<String>;
}

impl Fields for super::form::Form {
    fn field(&self, name: &str) -> Option<String> {
        self.get(name).map(ToOwned::to_owned)
    }
}

impl Fields for Map<String, Value> {
    fn field(&self, name: &str) -> Option<String> {
        Some(match self.get(name)? {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            // Nothing at all is not everything: null is.
            Value::Array(items) if items.is_empty() => "[]".to_owned(),
            Value::Array(items) => {
                let text = |item: &Value| item.as_str().map_or(item.to_string(), ToOwned::to_owned);
                items.iter().map(text).collect::<Vec<_>>().join("\n")
            }
            other => other.to_string(),
        })
    }
}

/// Every field of a key that can be written.
pub(super) const KEY_FIELDS: [&str; 9] = [
    "description",
    "owner",
    "note",
    "expires_days",
    "rate_limit",
    "tokens_per_minute",
    "monthly_budget_eur",
    "models",
    "attested_client",
];

/// The names of the fields of a key that are there, for the audit log.
pub(super) fn names(fields: &impl Fields) -> String {
    let there = KEY_FIELDS.into_iter().filter(|name| fields.field(name).is_some());
    there.collect::<Vec<_>>().join(" ")
}

/// The names of the four numbers of the settings, in their order.
pub(super) fn limit_names() -> [&'static str; 4] {
    MEMBERS.map(|member| member.name)
}

/// What the fields of a key say. One that is not there is `None`; an empty one takes away what was.
#[derive(Default)]
struct Said {
    description: Option<String>,
    owner: Option<String>,
    note: Option<String>,
    days: Option<Option<u32>>,
    rate_limit: Option<Option<u64>>,
    tokens_per_minute: Option<Option<u64>>,
    monthly_budget: Option<Option<Money>>,
    models: Option<Option<Vec<String>>>,
    attested_client: Option<bool>,
}

impl Said {
    fn read(fields: &impl Fields) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut said = Self::default();
        for (field, place, longest) in [
            ("description", &mut said.description, MAX_LINE),
            ("owner", &mut said.owner, MAX_LINE),
            ("note", &mut said.note, MAX_NOTE),
        ] {
            let text = fields.field(field);
            *place = text.map(|text| line(field, &text, longest, &mut problems));
        }
        let text = fields.field("expires_days");
        said.days = text.map(|text| days("expires_days", &text, &mut problems));
        for (field, place) in [
            ("rate_limit", &mut said.rate_limit),
            ("tokens_per_minute", &mut said.tokens_per_minute),
        ] {
            let text = fields.field(field);
            *place = text.map(|text| number(field, &text, MAX_LIMIT, &mut problems));
        }
        let text = fields.field("monthly_budget_eur");
        said.monthly_budget = text.map(|text| euros("monthly_budget_eur", &text, &mut problems));
        said.models = fields.field("models").map(|text| models(&text, &mut problems));
        said.attested_client = match fields.field("attested_client").as_deref().map(str::trim) {
            None => None,
            Some("" | "false" | "0" | "off") => Some(false),
            Some("true" | "1" | "on") => Some(true),
            Some(_) => {
                problems.add("attested_client", "must be true or false");
                None
            }
        };
        problems.or(said)
    }
}

/// Reads a key that is to be made.
pub(super) fn new_key(fields: &impl Fields) -> Result<New, Problems> {
    let said = Said::read(fields)?;
    Ok(New {
        description: said.description.unwrap_or_default(),
        owner: said.owner.unwrap_or_default(),
        note: said.note.unwrap_or_default(),
        lifetime: said.days.flatten(),
        rate_limit: said.rate_limit.flatten(),
        tokens_per_minute: said.tokens_per_minute.flatten(),
        monthly_budget: said.monthly_budget.flatten(),
        models: said.models.flatten(),
        attested_client: said.attested_client.unwrap_or_default(),
    })
}

/// Reads what is to become of a key, at that time.
pub(super) fn change(fields: &impl Fields, now: u64) -> Result<Change, Problems> {
    let said = Said::read(fields)?;
    #[expect(clippy::cast_precision_loss, reason = "seconds fit a double for 200 million years")]
    let end = |days: u32| now.saturating_add(u64::from(days) * 86_400) as f64;
    Ok(Change {
        enabled: None,
        description: said.description,
        owner: said.owner,
        note: said.note,
        expires_at: said.days.map(|days| days.map(end)),
        rate_limit: said.rate_limit,
        tokens_per_minute: said.tokens_per_minute,
        monthly_budget: said.monthly_budget,
        models: said.models,
        attested_client: said.attested_client,
    })
}

/// The four numbers of the settings.
pub(super) fn limits(fields: &impl Fields) -> Result<Numbers, Problems> {
    let mut problems = Problems::default();
    let mut one = |field, most| {
        let text = fields.field(field).unwrap_or_default();
        let value = number(field, &text, most, &mut problems);
        if value.is_none() && problems.of(field).is_empty() {
            let most = view::number(most);
            problems.add(field, format!("must be a whole number from 1 to {most}"));
        }
        value.unwrap_or_default()
    };
    let [requests, window, ip_requests, ip_window] = limit_names();
    let values = [
        one(requests, MOST_REQUESTS),
        one(window, LONGEST_WINDOW),
        one(ip_requests, MOST_REQUESTS),
        one(ip_window, LONGEST_WINDOW),
    ];
    let numbers = problems.or(values)?;
    Numbers::new(numbers).map_err(|_| Problems::one(requests, "is out of bounds"))
}

/// How a key is replaced.
pub(super) fn rotation(fields: &impl Fields) -> Result<Rotation, Problems> {
    let mut problems = Problems::default();
    let overlap = fields.field("overlap_hours").unwrap_or_default();
    let overlap = match overlap.trim() {
        "" | "0" => 0,
        text => number("overlap_hours", text, MAX_OVERLAP, &mut problems).unwrap_or_default(),
    };
    let text = fields.field("expires_days").unwrap_or_default();
    let lifetime = days("expires_days", &text, &mut problems);
    problems.or(Rotation { overlap: overlap * 3600, lifetime })
}

fn days(field: &'static str, text: &str, problems: &mut Problems) -> Option<u32> {
    let days = number(field, text, u64::from(MOST_DAYS), problems)?;
    u32::try_from(days).ok()
}

/// A whole number above zero; `None` for none.
fn number(field: &'static str, text: &str, most: u64, problems: &mut Problems) -> Option<u64> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let value = digits.then(|| text.parse::<u64>().ok()).flatten();
    let value = value.filter(|value| (1..=most).contains(value));
    if value.is_none() {
        let most = view::number(most);
        problems.add(field, format!("must be a whole number from 1 to {most}, or empty for none"));
    }
    value
}

fn euros(field: &'static str, text: &str, problems: &mut Problems) -> Option<Money> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    // People write decimals as their country does.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b','));
    let value = plain.then(|| text.replace(',', ".").parse().ok()).flatten();
    let value = value.and_then(Money::from_euros).filter(|value| *value > Money::ZERO);
    if value.is_none() {
        problems
            .add(field, "must be an amount of euros above 0, as 25 or 12.50, or empty for none");
    }
    value
}

/// Names of models, one a line or between commas; `None` for all of them.
fn models(text: &str, problems: &mut Problems) -> Option<Vec<String>> {
    let names = text.split(['\n', ',']).map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(ToOwned::to_owned).collect();
    if text == "[]" {
        problems.add("models", "an empty list would let nothing pass: null is all models, and to revoke a key is to stop it");
        return None;
    }
    let good =
        |name: &String| name.len() <= MAX_MODEL && name.bytes().all(|b| b.is_ascii_graphic());
    if names.len() > MAX_MODELS || !names.iter().all(good) {
        let text = format!(
            "must be at most {MAX_MODELS} names of models, one a line, each of at most {MAX_MODEL} visible ASCII characters"
        );
        problems.add("models", text);
    }
    (!names.is_empty()).then_some(names)
}

fn line(field: &'static str, text: &str, longest: usize, problems: &mut Problems) -> String {
    let text = text.trim().replace("\r\n", "\n");
    let control = |c: char| c.is_control() && !(field == "note" && c == '\n');
    if text.chars().count() > longest {
        problems.add(field, format!("must have at most {longest} characters"));
    } else if text.contains(control) {
        problems.add(field, "must not have control characters");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn read(value: &Value) -> Result<Change, Problems> {
        change(value.as_object().unwrap(), NOW)
    }

    #[test]
    fn case_108_what_would_kill_a_key_or_a_page_is_refused() {
        let huge = "1".repeat(401);
        for (field, value) in [
            ("expires_days", json!(99_999_999)),
            ("expires_days", json!(huge)),
            ("expires_days", json!(-1)),
            ("expires_days", json!(0)),
            ("expires_days", json!("1e3")),
            ("rate_limit", json!(-5)),
            ("rate_limit", json!(0)),
            ("rate_limit", json!(1.5)),
            ("rate_limit", json!("+5")),
            ("monthly_budget_eur", json!("inf")),
            ("monthly_budget_eur", json!("nan")),
            ("monthly_budget_eur", json!(-1)),
            ("monthly_budget_eur", json!("1,000.5")),
            ("models", json!(["with space"])),
            ("description", json!("x".repeat(201))),
            ("owner", json!("a\u{0}b")),
            ("attested_client", json!("maybe")),
            ("models", json!([])),
        ] {
            let problems = read(&json!({field: value})).err().unwrap();
            assert_eq!(problems.first(), Some(field), "{value}");
        }
    }

    #[test]
    fn what_is_not_there_stays_and_what_is_empty_goes() {
        let nothing = read(&json!({})).unwrap();
        assert!(nothing.description.is_none() && nothing.rate_limit.is_none());
        let gone = read(&json!({"rate_limit": null, "expires_days": "", "models": null})).unwrap();
        assert_eq!(
            (gone.rate_limit, gone.expires_at, gone.models),
            (Some(None), Some(None), Some(None))
        );
        let set = read(&json!({
            "rate_limit": 5, "expires_days": "1", "monthly_budget_eur": "12,50", "models": ["a", "b"],
            "note": "two\r\nlines", "attested_client": true,
        }));
        let set = set.unwrap();
        assert_eq!(set.rate_limit, Some(Some(5)));
        assert_eq!(set.expires_at, Some(Some(1_800_086_400.0)));
        assert_eq!(set.monthly_budget.flatten().unwrap().euros(), 12.5);
        assert_eq!(set.models.flatten().unwrap(), ["a", "b"]);
        assert_eq!(set.note.unwrap(), "two\nlines");
        assert_eq!(set.attested_client, Some(true));
    }

    #[test]
    fn every_number_of_the_settings_is_needed_and_above_zero() {
        let good = json!({
            "rate_limit_requests": 1, "rate_limit_window": "60", "ip_rate_limit_requests": 3,
            "ip_rate_limit_window": 4,
        });
        assert_eq!(limits(good.as_object().unwrap()).unwrap().values(), [1, 60, 3, 4]);
        for (field, value) in [
            ("rate_limit_requests", json!(0)),
            ("rate_limit_window", json!(-1)),
            ("ip_rate_limit_requests", json!("")),
            ("ip_rate_limit_window", json!(86_401)),
        ] {
            let mut wrong = good.clone();
            wrong[field] = value;
            assert_eq!(limits(wrong.as_object().unwrap()).err().unwrap().first(), Some(field));
        }
    }

    #[test]
    fn a_rotation_overlaps_for_hours_or_not_at_all() {
        let read = |value: Value| rotation(value.as_object().unwrap());
        let at_once = read(json!({})).unwrap();
        assert_eq!((at_once.overlap, at_once.lifetime), (0, None));
        let a_day = read(json!({"overlap_hours": 24, "expires_days": 1})).unwrap();
        assert_eq!((a_day.overlap, a_day.lifetime), (86_400, Some(1)));
        assert!(read(json!({"overlap_hours": 99_999})).is_err());
    }
}
