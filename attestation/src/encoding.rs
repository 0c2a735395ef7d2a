//! base64url without padding (RFC 4648, section 5), the only way bytes stand in our JSON.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Encodes.
#[must_use]
pub fn to_b64u(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes; `None` for another alphabet, padding, white space or stray bits.
#[must_use]
pub fn from_b64u(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Decodes exactly `N` bytes.
#[must_use]
pub fn array_from_b64u<const N: usize>(text: &str) -> Option<[u8; N]> {
    from_b64u(text)?.try_into().ok()
}

/// For `#[serde(with = "…")]` on byte fields.
pub(crate) mod b64u {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::to_b64u(bytes))
    }

    pub(crate) fn deserialize<'de, D, T>(from: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: TryFrom<Vec<u8>>,
    {
        let text = String::deserialize(from)?;
        let bytes = super::from_b64u(&text)
            .ok_or_else(|| de::Error::custom("not base64url without padding"))?;
        T::try_from(bytes).map_err(|_| de::Error::custom("wrong number of bytes"))
    }
}

/// The same for fields that may be null.
pub(crate) mod optional_b64u {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => to.serialize_some(&super::to_b64u(bytes)),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| {
                super::from_b64u(&text)
                    .ok_or_else(|| de::Error::custom("not base64url without padding"))
            })
            .transpose()
    }
}
