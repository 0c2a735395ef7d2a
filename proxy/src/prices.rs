//! What tokens and audio cost: lists with a date, exact to a billionth of a euro.
//!
//! Must not know who pays, or how usage is found out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use service::env::{Class, Reader, Var};
use service::plain_file;
use time::Date;
use time::macros::format_description;

use crate::money::Money;
use crate::usage::Usage;

const FILE: &str = "PROXY_PRICES_FILE";

/// The row of the file.
pub(crate) const FILE_VAR: Var = Var {
    name: FILE,
    class: Class::Measured,
    default: None,
    help: "JSON file of price lists, read at the start: {\"prices\":[{\"from\":\"2026-01-01\",\"default\":{\"prompt\":5.0,\
           \"completion\":5.0},\"models\":{\"gpt-oss-120b\":{\"prompt\":5.0,\"completion\":5.0,\"cached\":2.5},\
           \"whisper-large-v3\":{\"audio_mib\":0.096}}}]}, in euros a million tokens, a MiB or a minute. Unset: the list of \
           2025-01-01 that is built in.",
};

/// The longest file.
const MAX_LENGTH: u64 = 1024 * 1024;

/// The list that is built in, of 2025-01-01: what the proxy before this one charged (`proxy.md` case 79).
const BUILT_IN: &str = r#"{"prices":[{"from":"2025-01-01","default":{"prompt":5.0,"completion":5.0},"models":{
    "gpt-oss-120b":{"prompt":5.0,"completion":5.0},
    "llama-3.3-70b":{"prompt":5.0,"completion":5.0},
    "gemma-3-27b":{"prompt":5.0,"completion":5.0},
    "qwen3-coder-30b-a3b":{"prompt":5.0,"completion":5.0},
    "multilingual-e5":{"prompt":0.13,"completion":0.13},
    "qwen3-embedding-4b":{"prompt":0.13,"completion":0.13},
    "whisper-large-v3":{"audio_mib":0.096}}}]}"#;

/// Price lists, by the day from which they are in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prices(BTreeMap<u32, List>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct List {
    default: Price,
    models: BTreeMap<String, Price>,
}

/// In billionths of a euro.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Price {
    /// A million tokens of the prompt.
    prompt: u64,
    /// A million tokens of the answer.
    completion: u64,
    /// A million tokens of the prompt that the server had at hand.
    cached: u64,
    /// A MiB of audio.
    audio_mib: u64,
    /// A minute of audio.
    audio_minute: u64,
}

/// Every problem of a price file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the price file cannot be used: {}", .0.join("; "))]
pub(crate) struct NotPrices(Vec<String>);

impl Default for Prices {
    fn default() -> Self {
        Self::parse(BUILT_IN.as_bytes()).unwrap_or_else(|_| Self(BTreeMap::new()))
    }
}

impl Prices {
    /// Reads the variable and the file that it names.
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let Some(path) = env.optional::<PathBuf>(FILE) else { return Some(Self::default()) };
        match Self::of_file(&path) {
            Ok(prices) => Some(prices),
            Err(error) => {
                env.refuse(FILE, &error);
                None
            }
        }
    }

    fn of_file(path: &Path) -> Result<Self, NotPrices> {
        let text = plain_file::read(path, MAX_LENGTH)
            .map_err(|error| NotPrices(vec![format!("it cannot be read: {error}")]))?;
        Self::parse(&text)
    }

    /// What a call of that model costs on that day. Before the first list's day, the first list holds.
    pub(crate) fn cost(&self, model: Option<&str>, usage: &Usage, day: u32) -> Money {
        let in_force = self.0.range(..=day).next_back().or_else(|| self.0.iter().next());
        let Some((_, list)) = in_force else { return Money::ZERO };
        let price = model.and_then(|model| list.models.get(model)).unwrap_or(&list.default);
        price.of(usage)
    }

    /// The most that a call could cost on that day, whichever model of the list it is for, or of none.
    pub(crate) fn dearest(&self, usage: &Usage, day: u32) -> Money {
        let in_force = self.0.range(..=day).next_back().or_else(|| self.0.iter().next());
        let prices = in_force
            .into_iter()
            .flat_map(|(_, list)| std::iter::once(&list.default).chain(list.models.values()));
        prices.map(|price| price.of(usage)).max().unwrap_or_default()
    }

    /// The models that any of the lists names.
    pub(crate) fn models(&self) -> impl Iterator<Item = &str> {
        self.0.values().flat_map(|list| list.models.keys()).map(String::as_str)
    }

    fn parse(text: &[u8]) -> Result<Self, NotPrices> {
        let document: Value = serde_json::from_slice(text)
            .map_err(|error| NotPrices(vec![format!("it is no JSON: {error}")]))?;
        let mut problems = Problems::default();
        let mut lists = BTreeMap::new();
        let document = problems.object("the file", &document);
        problems.only("the file", &document, &["prices"]);
        let entries = document.get("prices").and_then(Value::as_array).cloned();
        if entries.as_ref().is_none_or(Vec::is_empty) {
            problems.add("\"prices\" must be a list of at least one price list");
        }
        for (place, entry) in entries.unwrap_or_default().iter().enumerate() {
            let name = format!("list {place}");
            let entry = problems.object(&name, entry);
            problems.only(&name, &entry, &["from", "default", "models"]);
            let day = entry.get("from").and_then(Value::as_str).and_then(day);
            let list = problems.list(&name, &entry);
            match day {
                None => problems.add(format!("{name}: \"from\" must be a day such as 2026-01-01")),
                Some(day) if lists.insert(day, list).is_some() => {
                    problems.add(format!("{name}: another list is from the same day"));
                }
                Some(_) => {}
            }
        }
        if problems.0.is_empty() { Ok(Self(lists)) } else { Err(NotPrices(problems.0)) }
    }
}

impl Price {
    /// Each part is rounded to the nearest billionth on its own.
    fn of(&self, usage: &Usage) -> Money {
        let cached = usage.cached.min(usage.prompt);
        let named = usage.prompt.saturating_add(usage.completion);
        // Some servers say a total only: what it holds beyond the two is taken for prompt.
        let fresh = (usage.prompt - cached).saturating_add(usage.total.saturating_sub(named));
        let parts = [
            (fresh, self.prompt, 1_000_000),
            (cached, self.cached, 1_000_000),
            (usage.completion, self.completion, 1_000_000),
            (usage.audio_bytes, self.audio_mib, 1_048_576),
            (usage.audio_milliseconds, self.audio_minute, 60_000),
        ];
        let part = |(amount, price, of): (u64, u64, u128)| {
            let nanos = (u128::from(amount) * u128::from(price) + of / 2) / of;
            Money::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
        };
        parts.into_iter().map(part).sum()
    }
}

/// Days since 1970-01-01 of `2026-01-01`.
fn day(text: &str) -> Option<u32> {
    let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
    u32::try_from(date.to_julian_day() - Date::from_ordinal_date(1970, 1).ok()?.to_julian_day())
        .ok()
}

/// What is wrong, collected.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: impl Into<String>) {
        // A file that is wrong from end to end has nothing to say after that.
        if self.0.len() < 50 {
            self.0.push(problem.into());
        }
    }

    fn object(&mut self, name: &str, value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_else(|| {
            self.add(format!("{name} must be an object"));
            Map::new()
        })
    }

    fn only(&mut self, name: &str, object: &Map<String, Value>, members: &[&str]) {
        for other in object.keys().filter(|other| !members.contains(&other.as_str())) {
            self.add(format!("{name}: {other:?} is none of {}", members.join(", ")));
        }
    }

    fn list(&mut self, name: &str, entry: &Map<String, Value>) -> List {
        let default = match entry.get("default") {
            Some(price) => self.price(&format!("{name}, default"), price),
            None => {
                self.add(format!(
                    "{name}: \"default\" is missing, for models that it does not name"
                ));
                Price::default()
            }
        };
        let models = match entry.get("models") {
            Some(models) => self.object(&format!("{name}, models"), models),
            None => Map::new(),
        };
        let price = |(model, price): (&String, &Value)| {
            (model.clone(), self.price(&format!("{name}, {model:?}"), price))
        };
        List { default, models: models.iter().map(price).collect() }
    }

    fn price(&mut self, name: &str, value: &Value) -> Price {
        let price = self.object(name, value);
        let members = ["prompt", "completion", "cached", "audio_mib", "audio_minute"];
        self.only(name, &price, &members);
        let mut euros = |member: &str| {
            let value = price.get(member)?;
            let nanos = value.as_f64().and_then(Money::from_euros).map(Money::nanos);
            let nanos = nanos.and_then(|nanos| u64::try_from(nanos).ok());
            if nanos.is_none() {
                self.add(format!("{name}: {member:?} must be euros, 0 to 1000000000"));
            }
            nanos
        };
        let [prompt, completion, cached, audio_mib, audio_minute] = members.map(&mut euros);
        if price.is_empty() {
            self.add(format!("{name} names no price: at least one of {}", members.join(", ")));
        }
        if prompt.is_some() != completion.is_some() {
            self.add(format!("{name}: \"prompt\" and \"completion\" go together: name both"));
        }
        if audio_mib.is_some() && audio_minute.is_some() {
            self.add(format!("{name}: name one of \"audio_mib\" and \"audio_minute\", not both"));
        }
        let prompt = prompt.unwrap_or_default();
        Price {
            prompt,
            completion: completion.unwrap_or_default(),
            cached: cached.unwrap_or(prompt),
            audio_mib: audio_mib.unwrap_or_default(),
            audio_minute: audio_minute.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(prompt: u64, completion: u64) -> Usage {
        Usage { prompt, completion, total: prompt + completion, ..Usage::default() }
    }

    fn euros(prices: &Prices, model: &str, usage: &Usage) -> f64 {
        prices.cost(Some(model), usage, 20_000).euros()
    }

    #[test]
    fn case_79_what_the_proxy_before_this_one_charged() {
        let prices = Prices::default();
        for model in ["gpt-oss-120b", "llama-3.3-70b", "gemma-3-27b", "qwen3-coder-30b-a3b"] {
            assert_eq!(euros(&prices, model, &tokens(400_000, 600_000)), 5.0, "{model}");
        }
        for model in ["qwen3-embedding-4b", "multilingual-e5"] {
            assert_eq!(euros(&prices, model, &tokens(1_000_000, 0)), 0.13, "{model}");
        }
        let audio = Usage { audio_bytes: 1_048_576, ..Usage::default() };
        assert_eq!(euros(&prices, "whisper-large-v3", &audio), 0.096);
        assert_eq!(euros(&prices, "unheard of", &tokens(1_000_000, 0)), 5.0);
        assert_eq!(euros(&prices, "gpt-oss-120b", &tokens(0, 0)), 0.0);
        assert_eq!(euros(&prices, "gpt-oss-120b", &tokens(40, 60)), 0.0005);
        let total_only = Usage { total: 50, ..Usage::default() };
        assert_eq!(prices.cost(None, &total_only, 20_000), Money::from_nanos(250_000));
    }

    #[test]
    fn parts_have_prices_of_their_own_and_lists_their_day() {
        let prices = Prices::parse(
            br#"{"prices":[
                {"from":"2026-01-01","default":{"prompt":1,"completion":1}},
                {"from":"2026-02-01","default":{"prompt":2,"completion":4,"cached":0.5},
                 "models":{"w":{"audio_minute":0.006}}}]}"#,
        )
        .unwrap();
        let (january, february) = (day("2026-01-31").unwrap(), day("2026-02-01").unwrap());
        assert_eq!(february - january, 1);
        let usage =
            Usage { prompt: 1_000_000, completion: 500_000, cached: 400_000, ..Usage::default() };
        assert_eq!(prices.cost(None, &usage, january).euros(), 1.5);
        assert_eq!(prices.cost(None, &usage, 0).euros(), 1.5, "before the first day");
        assert_eq!(prices.cost(None, &usage, february).euros(), 1.2 + 0.2 + 2.0);
        let audio = Usage { audio_milliseconds: 90_000, audio_bytes: 9, ..Usage::default() };
        assert_eq!(prices.cost(Some("w"), &audio, u32::MAX).euros(), 0.009);
    }

    #[test]
    fn no_amount_overflows() {
        let most = Usage {
            prompt: u64::MAX,
            completion: u64::MAX,
            cached: u64::MAX,
            total: u64::MAX,
            audio_bytes: u64::MAX,
            audio_milliseconds: u64::MAX,
            estimated: false,
        };
        let prices = Prices::default();
        assert!(prices.cost(None, &most, u32::MAX) > Money::ZERO);
        assert!(prices.cost(Some("whisper-large-v3"), &most, 0) > Money::ZERO);
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let refused = Prices::parse(
            br#"{"x":1,"prices":[{"from":"2026-13-01","models":{"m":{"prompt":-1,"completion":"2","y":0},"n":{},
                "o":{"audio_mib":1,"audio_minute":1},"p":{"prompt":1}}},
                {"from":"2026-01-01","default":{"prompt":1,"completion":1}},
                {"from":"2026-01-01","default":7}]}"#,
        );
        let refused = refused.unwrap_err().to_string();
        for named in [
            "\"x\" is none of",
            "list 0: \"from\"",
            "list 0: \"default\" is missing",
            "\"m\": \"prompt\" must be",
            "\"m\": \"completion\" must be",
            "\"m\": \"y\" is none of",
            "\"n\" names no price",
            "not both",
            "\"p\": \"prompt\" and \"completion\"",
            "another list is from the same day",
            "list 2, default must be an object",
        ] {
            assert!(refused.contains(named), "{named}: {refused}");
        }
        for text in ["", "[]", "{}", r#"{"prices":[]}"#, r#"{"prices":{}}"#] {
            assert!(Prices::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_a_problem_of_the_environment() {
        let read = |path: &str| {
            let env = [(FILE, path)].into_iter().collect();
            let mut reader = Reader::new(&env, &[FILE_VAR]);
            let prices = Prices::read(&mut reader);
            reader.finish(prices).map(|(prices, _)| prices).map_err(|error| error.to_string())
        };
        assert_eq!(read("").unwrap(), Prices::default());
        assert!(read("/no/such/file").unwrap_err().contains("PROXY_PRICES_FILE: "));
        assert!(!Prices::default().0.is_empty(), "the built-in list is one");
    }
}
