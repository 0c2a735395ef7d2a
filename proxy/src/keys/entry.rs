//! One entry of the keys file: `{key_id, key_hash | key, description, enabled, expires_at, rate_limit, …}` (`proxy.md`
//! part 1.5) and the members that are ours: `owner`, `note`, `tokens_per_minute`, `monthly_budget_eur`, `models`,
//! `attested_client`. The database keeps keys in the same form, so that there is one reading and one writing of it.
//!
//! Must not know where an entry is kept. Members that it does not know are left as they are.

use attestation::crypto::sha256;
use serde_json::{Map, Value};

use super::ApiKey;
use crate::money::Money;

/// An entry as it is written.
pub(super) type Entry = Map<String, Value>;

/// Whose key it is and what they may do. `None` if the entry names no key at all.
///
/// A key that is named and whose conditions cannot be read is refused, wherever else it may stand: the careful meaning of
/// a word that nobody understands.
pub(super) fn read(entry: &Entry) -> Option<([u8; 32], ApiKey)> {
    let digest = digest(entry)?;
    let id = id(entry, &digest);
    let text = |name| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let optional = |name| entry.get(name).and_then(Value::as_str).map(str::to_owned);
    let described = ApiKey {
        id,
        description: text("description"),
        owner: text("owner"),
        note: text("note"),
        created_at: entry.get("created_at").and_then(Value::as_f64),
        revoked_at: entry.get("revoked_at").and_then(Value::as_f64),
        rotated_from: optional("rotated_from"),
        rotated_to: optional("rotated_to"),
        ..ApiKey::default()
    };
    let unusable = ApiKey { enabled: false, attested_client: true, ..described.clone() };
    let key = conditions(entry, described);
    if key.is_none() {
        tracing::warn!("a condition of a key cannot be read: the key is refused");
    }
    Some((digest, key.unwrap_or(unusable)))
}

/// The same entry with its id, and the key's hash where the key itself stands. `None` if it names no key.
pub(super) fn by_hash(mut entry: Entry) -> Option<Entry> {
    let digest = digest(&entry)?;
    entry.insert("key_id".to_owned(), id(&entry, &digest).into());
    entry.remove("key");
    entry.insert("key_hash".to_owned(), hex::encode(digest).into());
    Some(entry)
}

/// SHA-256 of the key: as it stands there, or of the key where that does.
fn digest(entry: &Entry) -> Option<[u8; 32]> {
    match (entry.get("key_hash"), entry.get("key")) {
        (Some(Value::String(text)), _) => {
            let mut digest = [0; 32];
            hex::decode_to_slice(text, &mut digest).ok()?;
            Some(digest)
        }
        (_, Some(Value::String(key))) => Some(sha256(key.as_bytes())),
        _ => None,
    }
}

fn id(entry: &Entry, digest: &[u8; 32]) -> String {
    match entry.get("key_id") {
        Some(Value::String(id)) => id.clone(),
        _ => hex::encode(digest).chars().take(8).collect(),
    }
}

/// `None` if one of them has another form than it may have.
fn conditions(entry: &Entry, described: ApiKey) -> Option<ApiKey> {
    let enabled = match entry.get("enabled") {
        None => true,
        Some(Value::Bool(enabled)) => *enabled,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(_) => return None,
    };
    let attested_client = match entry.get("attested_client") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(demanded)) => *demanded,
        Some(_) => return None,
    };
    let budget = match number(entry, "monthly_budget_eur")? {
        Some(euros) => Some(Money::from_euros(euros.max(0.0))?),
        None => None,
    };
    let models = match entry.get("models") {
        None | Some(Value::Null) => None,
        Some(Value::Array(names)) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            Some(names?.into_iter().map(str::to_owned).collect())
        }
        Some(_) => return None,
    };
    Some(ApiKey {
        enabled,
        expires_at: number(entry, "expires_at")?.filter(|end| *end != 0.0),
        attested_client,
        rate_limit: number(entry, "rate_limit")?.map(count),
        tokens_per_minute: number(entry, "tokens_per_minute")?.map(count),
        monthly_budget: budget,
        models,
        ..described
    })
}

/// `Some(None)` where nothing is said, `None` where no number is.
fn number(entry: &Entry, name: &str) -> Option<Option<f64>> {
    match entry.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(Value::Number(number)) => Some(number.as_f64()),
        Some(_) => None,
    }
}

/// Of a limit: what is not above 0 lets nothing through.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` takes the nearest number that there is, and 0 for none"
)]
fn count(number: f64) -> u64 {
    number as u64
}

/// A new entry for a key with this digest.
pub(super) fn new(digest: &[u8; 32], key: &ApiKey) -> Entry {
    let mut entry = Entry::new();
    entry.insert("key_id".to_owned(), key.id.clone().into());
    entry.insert("key_hash".to_owned(), hex::encode(digest).into());
    entry.insert("description".to_owned(), key.description.clone().into());
    entry.insert("enabled".to_owned(), key.enabled.into());
    entry.insert("expires_at".to_owned(), time(key.expires_at));
    write(&mut entry, &ApiKey::default(), key);
    entry
}

/// Writes what is different from before, and nothing else.
pub(super) fn write(entry: &mut Entry, before: &ApiKey, after: &ApiKey) {
    let text = |text: &String| if text.is_empty() { Value::Null } else { text.clone().into() };
    let optional = |text: &Option<String>| text.clone().map_or(Value::Null, Value::String);
    let limit = |limit: Option<u64>| limit.map_or(Value::Null, Value::from);
    let models = |models: &Option<Vec<String>>| models.clone().map_or(Value::Null, Value::from);
    let budget = |budget: Option<Money>| budget.map_or(Value::Null, |b| number_of(b.euros()));
    let flag = |flag: bool| if flag { Value::Bool(true) } else { Value::Null };
    let members = |key: &ApiKey| {
        [
            ("description", text(&key.description)),
            ("owner", text(&key.owner)),
            ("note", text(&key.note)),
            ("created_at", time(key.created_at)),
            ("enabled", key.enabled.into()),
            ("expires_at", time(key.expires_at)),
            ("attested_client", flag(key.attested_client)),
            ("rate_limit", limit(key.rate_limit)),
            ("tokens_per_minute", limit(key.tokens_per_minute)),
            ("monthly_budget_eur", budget(key.monthly_budget)),
            ("models", models(&key.models)),
            ("revoked_at", time(key.revoked_at)),
            ("rotated_from", optional(&key.rotated_from)),
            ("rotated_to", optional(&key.rotated_to)),
        ]
    };
    for ((name, old), (_, new)) in members(before).into_iter().zip(members(after)) {
        if old == new {
            continue;
        }
        if new.is_null() {
            entry.remove(name);
        } else {
            entry.insert(name.to_owned(), new);
        }
    }
}

fn time(at: Option<f64>) -> Value {
    at.map_or(Value::Null, number_of)
}

/// A whole number without a point, as people and the reference write it.
fn number_of(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "compared with what it came from")]
    let whole = number as i64;
    #[expect(clippy::cast_precision_loss, reason = "as above")]
    let exact = whole as f64 == number;
    if exact { whole.into() } else { number.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(value: &Value) -> Entry {
        value.as_object().unwrap().clone()
    }

    fn full() -> Value {
        json!({
            "key_id": "k", "key_hash": "ab".repeat(32), "created_at": 1_700_000_000.5, "description": "d",
            "enabled": false, "expires_at": 1_800_000_000, "rate_limit": 5, "revoked_at": 1_750_000_000,
            "rotated_from": "a", "rotated_to": "b", "owner": "o", "note": "n", "tokens_per_minute": 1000,
            "monthly_budget_eur": 12.5, "models": ["gpt-oss-120b"], "attested_client": true,
        })
    }

    #[test]
    fn every_member_there_and_back() {
        let (digest, key) = read(&entry(&full())).unwrap();
        assert_eq!(key.monthly_budget, Money::from_euros(12.5));
        assert_eq!(key.models.as_deref(), Some(&["gpt-oss-120b".to_owned()][..]));
        assert_eq!((key.rate_limit, key.tokens_per_minute), (Some(5), Some(1000)));
        assert_eq!((key.owner.as_str(), key.note.as_str()), ("o", "n"));
        assert_eq!(Value::Object(new(&digest, &key)), full());
    }

    #[test]
    fn only_what_changes_is_written() {
        let mut held = entry(&full());
        held.insert("of_somebody_else".to_owned(), json!([1]));
        let (_, before) = read(&held).unwrap();
        let after = ApiKey { enabled: true, revoked_at: None, rate_limit: None, ..before.clone() };
        write(&mut held, &before, &after);
        assert_eq!(held["of_somebody_else"], json!([1]));
        assert!(held.get("revoked_at").is_none() && held.get("rate_limit").is_none());
        assert_eq!(read(&held).unwrap().1, after);
    }

    #[test]
    fn a_limit_below_1_blocks_and_one_that_is_no_number_refuses_the_key() {
        let with = |name: &str, value: Value| {
            let mut held = entry(&full());
            held.insert("enabled".to_owned(), json!(true));
            held.insert(name.to_owned(), value);
            read(&held).unwrap().1
        };
        for none in [json!(0), json!(-3), json!(0.5), json!(-1e300)] {
            assert_eq!(with("rate_limit", none.clone()).rate_limit, Some(0), "{none}");
            assert_eq!(with("tokens_per_minute", none).tokens_per_minute, Some(0));
        }
        assert_eq!(with("monthly_budget_eur", json!(-1)).monthly_budget, Some(Money::ZERO));
        for name in ["rate_limit", "tokens_per_minute", "monthly_budget_eur", "models"] {
            for wrong in [json!("5"), json!({}), json!(true)] {
                assert!(!with(name, wrong.clone()).enabled, "{name} {wrong}");
            }
            assert!(with(name, Value::Null).enabled, "{name}");
        }
        assert!(!with("models", json!([1])).enabled);
        assert!(!with("monthly_budget_eur", json!(1e12)).enabled);
    }
}
