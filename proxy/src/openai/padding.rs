//! How much a streamed answer is filled up, so that sizes on the wire tell less.
//!
//! The host sees the size and the time of each TLS record. A token is a chunk of its own, and the lengths of tokens betray
//! their text. What remains to be seen: how many chunks there are and when, so how many tokens the answer has.
//!
//! Must not know where one event ends and the next begins.

use std::num::NonZeroUsize;
use std::str::FromStr;

use bytes::{BufMut as _, BytesMut};
use service::env::{Class, Var};

pub(crate) const NAME: &str = "PROXY_STREAM_PADDING";

/// The row of the padding.
pub(crate) const VAR: Var = Var {
    name: NAME,
    class: Class::Measured,
    default: Some("512"),
    help: "What is written to the client of a streamed answer is filled up to multiples of so many bytes, 16 to 16384, \
           with comments of the event stream, so that the lengths of tokens do not show. `off`: as it comes.",
};

/// The shortest comment: a colon and the empty line that ends it.
const SHORTEST: usize = 3;

/// The padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// To multiples of so many bytes.
    To(NonZeroUsize),
    /// None.
    Off,
}

/// Not one of them.
#[derive(Debug, thiserror::Error)]
#[error("must be 16 to 16384 bytes, or off")]
pub(crate) struct NotAPadding;

impl FromStr for Padding {
    type Err = NotAPadding;

    fn from_str(text: &str) -> Result<Self, NotAPadding> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let size =
            text.parse().ok().filter(|size: &NonZeroUsize| (16..=16384).contains(&size.get()));
        size.map(Self::To).ok_or(NotAPadding)
    }
}

impl Padding {
    /// Room for so many bytes and what fills them up.
    pub(crate) fn room(self, bytes: usize) -> usize {
        match self {
            Self::To(size) => (bytes + SHORTEST).next_multiple_of(size.get()),
            Self::Off => bytes,
        }
    }

    /// Fills `out` up with a comment, so that it and `more` bytes after it are a multiple of the size. Nothing stays nothing.
    pub(crate) fn fill(self, out: &mut BytesMut, more: usize) {
        let Self::To(size) = self else { return };
        let length = out.len() + more;
        let over = length % size;
        if over == 0 {
            return;
        }
        let mut missing = size.get() - over;
        if missing < SHORTEST {
            missing += size.get();
        }
        out.reserve(missing + more);
        out.put_u8(b':');
        out.put_bytes(b' ', missing - SHORTEST);
        out.put_slice(b"\n\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_a_multiple_of_the_size() {
        for size in [16, 512, 16384] {
            let padding: Padding = size.to_string().parse().unwrap();
            for length in 0..2 * size + 2 {
                for more in [0, 1, size - 1, size] {
                    let mut out = BytesMut::zeroed(length);
                    padding.fill(&mut out, more);
                    assert_eq!((out.len() + more) % size, 0);
                    assert!(out.len() + more <= padding.room(length + more).max(length + more));
                    let comment = &out[length..];
                    let is_one = comment.starts_with(b":") && comment.ends_with(b"\n\n");
                    assert!(comment.is_empty() || is_one);
                }
            }
        }
    }

    #[test]
    fn sizes_are_sane_or_off() {
        assert_eq!("off".parse::<Padding>().unwrap(), Padding::Off);
        for wrong in ["0", "15", "16385", "-1", "", "on"] {
            assert!(wrong.parse::<Padding>().is_err(), "{wrong}");
        }
        let mut out = BytesMut::from("x");
        Padding::Off.fill(&mut out, 5);
        assert_eq!(out, "x");
    }
}
