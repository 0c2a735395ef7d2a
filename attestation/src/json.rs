//! JSON (RFC 8259) from outside, read so that it can mean one thing only.
//!
//! RFC 8259 leaves open what a member that stands twice means, and readers differ: one keeps the first, one the
//! last. A signed document that two parties read differently is an attack (RFC 8725, 3.12 says so of tokens),
//! so doubles are refused here, at every level. Depth is bounded; length is the caller's to bound.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The deepest nesting that is read. Tokens and records have up to 6 levels.
pub const MAX_DEPTH: usize = 16;

/// Not one JSON document, or one that could be read in two ways, or a too deep one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON, or with a member that stands twice, or deeper than {MAX_DEPTH} levels")]
pub struct NotStrict;

/// Reads one document and nothing after it.
///
/// # Errors
///
/// [`NotStrict`].
pub fn parse(bytes: &[u8]) -> Result<Value, NotStrict> {
    let mut from = serde_json::Deserializer::from_slice(bytes);
    let value = Level(MAX_DEPTH).deserialize(&mut from).map_err(|_| NotStrict)?;
    from.end().map_err(|_| NotStrict)?;
    Ok(value)
}

/// Reads a value that may nest this many levels.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn inner<E: de::Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = from.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut members = Map::new();
        while let Some(name) = from.next_key::<String>()? {
            let value = from.next_value_seed(inner)?;
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("a member stands twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_documents_are_read_as_serde_json_reads_them() {
        for text in [
            r#"{"a":[1,-2,3.5,true,false,null,"x\u0041\n"],"b":{"c":{}},"d":18446744073709551615}"#,
            "[]",
            " \"\" ",
            "-0.0",
            "1e300",
        ] {
            let usual: Value = serde_json::from_str(text).unwrap();
            assert_eq!(parse(text.as_bytes()), Ok(usual), "{text}");
        }
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_at_every_level_and_in_every_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"[{"a":1},{"a":[{"b":1,"b":1}]}]"#,
        ] {
            assert!(serde_json::from_str::<Value>(text).is_ok());
            assert_eq!(parse(text.as_bytes()), Err(NotStrict), "{text}");
        }
        assert!(parse(br#"[{"a":1},{"a":1}]"#).is_ok(), "two objects may share a name");
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse(nested(MAX_DEPTH + 1).as_bytes()), Err(NotStrict));
        assert_eq!(parse("[".repeat(1 << 20).as_bytes()), Err(NotStrict));
        assert_eq!(parse(r#"{"a":"#.repeat(1 << 18).as_bytes()), Err(NotStrict));
    }

    #[test]
    fn nothing_may_follow_and_nothing_may_be_missing() {
        for text in ["", "{", "{}{}", "{} x", "1 2", "{'a':1}", "{\"a\":01}", "NaN", "[1,]"] {
            assert_eq!(parse(text.as_bytes()), Err(NotStrict), "{text}");
        }
        assert_eq!(parse(b"\"\xff\""), Err(NotStrict));
        assert_eq!(parse(b"1e999"), Err(NotStrict));
    }
}
