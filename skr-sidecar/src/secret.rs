//! Secrets in memory: what zeroes them, and what keeps copies from being made on the way.
//!
//! None of these types has `Debug`. Copies that the HTTP, gRPC and TLS libraries make in their own buffers are
//! beyond them.

use std::io::{self, Write};

use bytes::Bytes;
use http::HeaderValue;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use zeroize::{Zeroize as _, Zeroizing};

/// The longest bearer token that is passed on. Azure's have two to four thousand characters.
const LONGEST_BEARER: usize = 32 * 1024;

/// A bearer token (RFC 6750).
pub(crate) struct Bearer(Zeroizing<String>);

/// The text is no bearer token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access token is not a bearer token of at most 32768 visible ASCII characters")]
pub(crate) struct NotABearer;

impl Bearer {
    /// Takes a token over.
    ///
    /// # Errors
    ///
    /// [`NotABearer`] for a text that cannot stand in a header.
    pub(crate) fn new(token: Zeroizing<String>) -> Result<Self, NotABearer> {
        let fits = (1..=LONGEST_BEARER).contains(&token.len());
        let visible = token.bytes().all(|byte| byte.is_ascii_graphic());
        if fits && visible { Ok(Self(token)) } else { Err(NotABearer) }
    }

    /// The value of `Authorization`, marked so that nobody prints it.
    pub(crate) fn header(&self) -> HeaderValue {
        let value = Zeroizing::new([b"Bearer ", self.0.as_bytes()].concat());
        let mut value = HeaderValue::from_bytes(&value)
            .expect("visible ASCII characters can stand in a header");
        value.set_sensitive(true);
        value
    }
}

/// JSON of a value that holds secrets, written into one buffer of the right size: a buffer that grew would
/// leave what it held behind.
///
/// # Panics
///
/// The value's own `Serialize` fails, which none of this crate's does.
pub(crate) fn json<T: Serialize>(value: &T) -> Zeroizing<Vec<u8>> {
    json_with(value, || CompactFormatter)
}

/// [`json`] in a form of one's own.
pub(crate) fn json_with<T: Serialize, F: Formatter>(
    value: &T,
    formatter: impl Fn() -> F,
) -> Zeroizing<Vec<u8>> {
    const INFALLIBLE: &str = "structs of strings serialise, and the writers do not fail";
    let mut length = Length(0);
    value.serialize(&mut Serializer::with_formatter(&mut length, formatter())).expect(INFALLIBLE);
    let mut json = Zeroizing::new(Vec::with_capacity(length.0));
    value.serialize(&mut Serializer::with_formatter(&mut *json, formatter())).expect(INFALLIBLE);
    json
}

/// Counts what is written.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Zeroes a body that held secrets, if nobody else holds on to it.
pub(crate) fn wipe(body: Bytes) {
    if let Ok(mut body) = body.try_into_mut() {
        body.as_mut().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(text: &str) -> Result<Bearer, NotABearer> {
        Bearer::new(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn a_bearer_becomes_a_header_that_is_not_printed() {
        let header = bearer("a.b-c_d").ok().unwrap().header();
        assert_eq!(header.to_str().unwrap(), "Bearer a.b-c_d");
        assert!(!format!("{header:?}").contains("a.b"), "{header:?}");
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_no_bearer() {
        for text in ["", "a b", "a\r\nx: y", "ä", &"a".repeat(32 * 1024 + 1)] {
            assert_eq!(bearer(text).err(), Some(NotABearer));
        }
    }

    #[test]
    fn json_is_written_into_a_buffer_of_its_size() {
        let json = json(&serde_json::json!({"a": "\u{1}<\"", "b": [1, 2]}));
        assert_eq!(json.as_slice(), br#"{"a":"\u0001<\"","b":[1,2]}"#);
        assert_eq!(json.len(), json.capacity());
    }
}
