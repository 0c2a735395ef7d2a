//! An expectation, and the forms of value that a policy file has.

use serde::{Deserialize, Serialize};

/// A value that is expected, or why none is. In a file: the value, or `{ unchecked = "why" }` and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Expect<T> {
    /// Nobody looks, for a reason that every verdict shows.
    Unchecked {
        /// The reason. A file must give one.
        #[serde(rename = "unchecked", deserialize_with = "reason")]
        why: String,
    },
    /// It must be this.
    Value(T),
}

impl<T> Expect<T> {
    /// Nobody looks, because …
    #[must_use]
    pub fn unchecked(why: impl Into<String>) -> Self {
        Self::Unchecked { why: why.into() }
    }
}

fn reason<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let why = String::deserialize(from)?;
    if why.trim().is_empty() {
        return Err(serde::de::Error::custom("`unchecked` needs a reason"));
    }
    Ok(why)
}

/// Something that must not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Never {
    /// It must not be.
    #[default]
    Forbidden,
}

/// Bytes of a fixed length that stand as hexadecimal digits in a policy file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Not that many hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {0} hexadecimal digits")]
pub struct NotHex(usize);

impl<const N: usize> std::str::FromStr for Hex<N> {
    type Err = NotHex;

    fn from_str(text: &str) -> Result<Self, NotHex> {
        let mut out = [0; N];
        hex::decode_to_slice(text, &mut out).map_err(|_| NotHex(2 * N))?;
        Ok(Self(out))
    }
}
