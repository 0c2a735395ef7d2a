//! Reading requests: a bounded body, and the JSON in it as callers of the reference implementation may write
//! it (contract `skr.md` part 1.1).
//!
//! Field names match in any case, unknown fields are passed over, of a field that comes twice the last one
//! counts, `null` is as if it was not there, and what follows the first value is not looked at. The texts of
//! errors are those that callers know.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize as _, Deserializer as _};
use serde_json::error::Category;
use serde_json::value::RawValue;
use service::body::{self, BodyError};
use zeroize::Zeroizing;

use crate::secret;

/// The longest body, in bytes.
pub(crate) const LONGEST_BODY: usize = 1 << 20;

/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// What a route expects: an object of texts.
pub(crate) struct Shape<const N: usize> {
    /// The name that errors give it.
    pub(crate) name: &'static str,
    /// Its fields.
    pub(crate) fields: [Field; N],
}

/// A text in an object.
pub(crate) struct Field {
    /// Its name in JSON.
    pub(crate) json: &'static str,
    /// The name that the errors of required fields give it; `None`: it may be missing or empty.
    pub(crate) required: Option<&'static str>,
}

/// Why a request could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// The body is too long.
    #[error("the body is longer than {0} bytes")]
    TooLarge(usize),
    /// The body did not arrive in time.
    #[error("the body did not arrive within {} seconds", ARRIVAL.as_secs())]
    Slow,
    /// The connection broke off.
    #[error("the body broke off")]
    Broken,
    /// The body is not the JSON that the route expects.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Why a body is not the JSON that a route expects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// There is nothing in it.
    #[error("EOF")]
    Empty,
    /// It ends too early.
    #[error("unexpected EOF")]
    CutOff,
    /// A character that cannot stand there.
    #[error("invalid character {} {place}", quoted(*character))]
    Character {
        /// The character.
        character: char,
        /// What was being read.
        place: &'static str,
    },
    /// A text holds half of a surrogate pair.
    #[error("invalid escape in string literal")]
    Escape,
    /// A field, or the whole, is of another type.
    #[error("json: cannot unmarshal {found} into Go {place} of type {expected}")]
    Type {
        /// What is there.
        found: &'static str,
        /// Where.
        place: Place,
        /// What should be there.
        expected: &'static str,
    },
    /// Fields are missing, null or empty.
    #[error("{}", missing(name, fields))]
    Missing {
        /// Of what.
        name: &'static str,
        /// Which.
        fields: Vec<&'static str>,
    },
}

/// Where something of another type stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The whole.
    Value,
    /// One field of an object.
    Field(&'static str, &'static str),
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value => f.write_str("value"),
            Self::Field(of, field) => write!(f, "struct field {of}.{field}"),
        }
    }
}

fn quoted(character: char) -> String {
    match character {
        '"' => "'\"'".to_owned(),
        other => format!("{other:?}"),
    }
}

fn missing(name: &str, fields: &[&str]) -> String {
    let line = |field: &&str| {
        format!(
            "Key: '{name}.{field}' Error:Field validation for '{field}' failed on the 'required' tag"
        )
    };
    fields.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The texts of a request, in the order of its shape. Some are secrets.
pub(crate) type Texts<const N: usize> = [Zeroizing<String>; N];

impl<const N: usize> Shape<N> {
    /// Reads a body of this shape.
    pub(crate) async fn read<B: Body<Data = Bytes>>(
        &self,
        body: B,
    ) -> Result<Texts<N>, RequestError> {
        let body = tokio::time::timeout(ARRIVAL, body::read(body, LONGEST_BODY)).await;
        let body = body.map_err(|_| RequestError::Slow)?.map_err(|error| match error {
            BodyError::TooLarge(limit) => RequestError::TooLarge(limit),
            BodyError::Broken(_) => RequestError::Broken,
        })?;
        let texts = self.parse(&body);
        secret::wipe(body);
        Ok(texts?)
    }

    fn parse(&self, body: &[u8]) -> Result<Texts<N>, Malformed> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let whole = <&RawValue>::deserialize(&mut json).map_err(|error| explain(&error, body))?;
        let members = match kind(whole) {
            Kind::Object => members(whole).map_err(|_| Malformed::Escape)?,
            Kind::Null => Vec::new(),
            Kind::Text => return Err(self.whole_is("string")),
            Kind::Other(found) => return Err(self.whole_is(found)),
        };
        let texts = self.texts(&members)?;
        let pairs = self.fields.iter().zip(&texts);
        let missing = pairs.filter_map(|(field, text)| field.required.filter(|_| text.is_empty()));
        let fields: Vec<_> = missing.collect();
        if fields.is_empty() {
            Ok(texts)
        } else {
            Err(Malformed::Missing { name: self.name, fields })
        }
    }

    fn texts(&self, members: &[Member<'_>]) -> Result<Texts<N>, Malformed> {
        let mut texts = std::array::from_fn(|_| Zeroizing::default());
        for (name, value) in members {
            let mut pairs = self.fields.iter().zip(&mut texts);
            let of_name = pairs.find(|(field, _)| field.json.eq_ignore_ascii_case(name));
            let Some((field, text)) = of_name else { continue };
            match kind(value) {
                Kind::Null => {}
                Kind::Text => {
                    let value = serde_json::from_str::<String>(value.get());
                    *text = Zeroizing::new(value.map_err(|_| Malformed::Escape)?);
                }
                Kind::Object => return Err(self.field_is("object", field)),
                Kind::Other(found) => return Err(self.field_is(found, field)),
            }
        }
        Ok(texts)
    }

    fn whole_is(&self, found: &'static str) -> Malformed {
        Malformed::Type { found, place: Place::Value, expected: self.name }
    }

    fn field_is(&self, found: &'static str, field: &Field) -> Malformed {
        let place = Place::Field(self.name, field.json);
        Malformed::Type { found, place, expected: "string" }
    }
}

/// Says what is wrong with a text that is no JSON.
fn explain(error: &serde_json::Error, body: &[u8]) -> Malformed {
    if error.classify() == Category::Eof {
        let empty = body.iter().all(u8::is_ascii_whitespace);
        return if empty { Malformed::Empty } else { Malformed::CutOff };
    }
    let text = error.to_string();
    let known = PLACES.iter().find(|(begin, _, _)| text.starts_with(begin));
    let (_, place, consumed) = known.copied().unwrap_or(("", "in a value", 1));
    // Lines count from one; a column is the number of characters that were consumed of its line.
    let line = body.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1));
    let byte = error.column().checked_sub(consumed).and_then(|at| line?.get(at));
    Malformed::Character { character: byte.map_or('\n', |byte| char::from(*byte)), place }
}

/// What the parser says about a character that cannot stand where it is, what it was reading then, and how many
/// characters it has consumed with it.
const PLACES: [(&str, &str, usize); 7] = [
    ("expected value", "looking for beginning of value", 1),
    ("key must be a string", "looking for beginning of object key string", 1),
    ("expected `:`", "after object key", 1),
    ("expected `,` or `}`", "after object key:value pair", 1),
    ("expected `,` or `]`", "after array element", 1),
    ("invalid escape", "in string escape code", 1),
    ("control character", "in string literal", 0),
];

/// The type of a JSON value.
enum Kind {
    Object,
    Text,
    Null,
    Other(&'static str),
}

/// The first character of a value that is JSON tells its type.
fn kind(value: &RawValue) -> Kind {
    match value.get().as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'"') => Kind::Text,
        Some(b'n') => Kind::Null,
        Some(b'[') => Kind::Other("array"),
        Some(b't' | b'f') => Kind::Other("bool"),
        Some(_) | None => Kind::Other("number"),
    }
}

/// A member of an object, its value not yet read.
type Member<'a> = (Cow<'a, str>, &'a RawValue);

/// The members of an object in their order, also of those that come twice.
fn members(object: &RawValue) -> serde_json::Result<Vec<Member<'_>>> {
    struct Members;

    impl<'de> Visitor<'de> for Members {
        type Value = Vec<Member<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }

    serde_json::Deserializer::from_str(object.get()).deserialize_map(Members)
}

#[cfg(test)]
mod tests {
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    const MAA: Shape<2> = Shape {
        name: "MAAAttestData",
        fields: [
            Field { json: "maa_endpoint", required: Some("MAAEndpoint") },
            Field { json: "runtime_data", required: Some("RuntimeData") },
        ],
    };

    const LAX: Shape<2> = Shape {
        name: "Lax",
        fields: [Field { json: "a", required: Some("A") }, Field { json: "b", required: None }],
    };

    fn read(body: &[u8]) -> Result<[String; 2], String> {
        let texts = LAX.parse(body).map_err(|error| error.to_string())?;
        Ok(texts.map(|text| text.to_string()))
    }

    #[test]
    fn requests_are_read_as_callers_write_them() {
        for (body, a, b) in [
            (r#"{"a":"1","b":"2"}"#, "1", "2"),
            (r#" {"A":"1"} "#, "1", ""),
            (r#"{"a":"1","c":{"a":[1,{"a":"9"}]},"d":1e999}"#, "1", ""),
            (r#"{"a":"1"}{"a":"2"}"#, "1", ""),
            (r#"{"a":"1"} trailing"#, "1", ""),
            (r#"{"a":"1","a":"2"}"#, "2", ""),
            (r#"{"a":"1","A":"2"}"#, "2", ""),
            (r#"{"A":"1","a":"2"}"#, "2", ""),
            (r#"{"a":"1","a":null,"b":null}"#, "1", ""),
            (r#"{"\u0061":"\u00e4\n"}"#, "ä\n", ""),
        ] {
            assert_eq!(read(body.as_bytes()), Ok([a.to_owned(), b.to_owned()]), "{body}");
        }
    }

    #[test]
    fn errors_have_the_texts_that_callers_know() {
        let beginning = "looking for beginning of value";
        for (body, text) in [
            ("", "EOF".to_owned()),
            (" \r\n\t", "EOF".to_owned()),
            ("{", "unexpected EOF".to_owned()),
            (r#"{"a":"1"#, "unexpected EOF".to_owned()),
            ("x", format!("invalid character 'x' {beginning}")),
            ("\n\n {\"a\":\n  x}", format!("invalid character 'x' {beginning}")),
            ("'", format!(r"invalid character '\'' {beginning}")),
            ("{x", "invalid character 'x' looking for beginning of object key string".to_owned()),
            (r#"{"a"x"#, "invalid character 'x' after object key".to_owned()),
            (r#"{"a":"1"x"#, "invalid character 'x' after object key:value pair".to_owned()),
            (r#"{"b":[1 x"#, "invalid character 'x' after array element".to_owned()),
            ("{\"a\":\"\n\"}", r"invalid character '\n' in string literal".to_owned()),
            ("{\"a\":\"b\tc\"}", r"invalid character '\t' in string literal".to_owned()),
            (r#"{"a":"\x"}"#, "invalid character 'x' in string escape code".to_owned()),
            (r#"{"a":"\ud800"}"#, "invalid escape in string literal".to_owned()),
        ] {
            assert_eq!(read(body.as_bytes()), Err(text), "{body}");
        }
        assert!(read(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn values_of_another_type_and_missing_ones_are_named() {
        let field = |found: &str| {
            format!("json: cannot unmarshal {found} into Go struct field Lax.a of type string")
        };
        let value =
            |found: &str| format!("json: cannot unmarshal {found} into Go value of type Lax");
        let missing = "Key: 'Lax.A' Error:Field validation for 'A' failed on the 'required' tag";
        for (body, text) in [
            (r#"{"a":1}"#, field("number")),
            (r#"{"A":-1}"#, field("number")),
            (r#"{"a":true}"#, field("bool")),
            (r#"{"a":[]}"#, field("array")),
            (r#"{"a":{}}"#, field("object")),
            ("[]", value("array")),
            ("7 {}", value("number")),
            (r#""a""#, value("string")),
            ("{}", missing.to_owned()),
            ("null", missing.to_owned()),
            (r#"{"a":""}"#, missing.to_owned()),
            (r#"{"a":null,"b":"2"}"#, missing.to_owned()),
        ] {
            assert_eq!(read(body.as_bytes()), Err(text), "{body}");
        }
    }

    #[test]
    fn every_missing_field_is_named_on_its_line() {
        let line = |field: &str| {
            format!(
                "Key: 'MAAAttestData.{field}' Error:Field validation for '{field}' failed on the 'required' tag"
            )
        };
        let text = MAA.parse(b"{}").err().unwrap().to_string();
        assert_eq!(text, format!("{}\n{}", line("MAAEndpoint"), line("RuntimeData")));
    }

    #[test]
    fn deep_nesting_ends_nothing() {
        let deep = format!(r#"{{"c":{}{},"a":"1"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(read(deep.as_bytes()).is_ok());
    }

    #[tokio::test]
    async fn a_body_has_a_bound() {
        let body = |length: usize| {
            let mut body = br#"{"a":"1"}"#.to_vec();
            body.resize(length, b' ');
            Full::new(Bytes::from(body))
        };
        assert!(LAX.read(body(LONGEST_BODY)).await.is_ok());
        let refused = LAX.read(body(LONGEST_BODY + 1)).await.err();
        assert_eq!(refused, Some(RequestError::TooLarge(LONGEST_BODY)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let never = futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
        let refused = LAX.read(StreamBody::new(never)).await.err();
        assert_eq!(refused, Some(RequestError::Slow));
    }
}
