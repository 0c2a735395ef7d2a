//! A stream of server-sent events (WHATWG HTML, 9.2) on its way to the client: cut into events, so that each is looked at
//! whole, and padded, so that sizes on the wire do not tell the lengths of tokens.
//!
//! What of the upstream arrives together leaves together: its whole events, and then a comment that fills up to a multiple
//! of the padding. The beginning of an event waits for its end. An event of more than [`LONGEST`] bytes is not kept: it
//! passes as it comes, unread and unpadded.
//!
//! Must not know what an event says.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use crate::openai::padding::Padding;

/// The longest event that is kept until its end, in bytes.
const LONGEST: usize = 256 * 1024;

/// Where events end: at an empty line. A line ends with LF, CR or both.
struct Splitter {
    line_is_empty: bool,
    /// The last byte was a CR: an LF after it ends no further line.
    after_cr: bool,
}

impl Splitter {
    /// How many bytes lead to the end of an event, if they do.
    fn end(&mut self, input: &[u8]) -> Option<usize> {
        let mut at = 0;
        if self.after_cr && !input.is_empty() {
            self.after_cr = false;
            at = usize::from(input.first() == Some(&b'\n'));
        }
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let Some(length) = memchr2(b'\n', b'\r', rest) else {
                self.line_is_empty &= rest.is_empty();
                return None;
            };
            let is_empty = self.line_is_empty && length == 0;
            self.line_is_empty = true;
            at += length + 1;
            if rest.get(length) == Some(&b'\r') {
                match input.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if is_empty {
                return Some(at);
            }
        }
    }
}

/// What looks at events.
pub(crate) trait Reader {
    /// Sees one event, with the empty line that ends it. `false` drops it.
    fn event(&mut self, event: &[u8]) -> bool;

    /// Learns that so many bytes pass unread.
    fn unread(&mut self, bytes: usize);
}

/// The stream.
pub(crate) struct Events<R> {
    splitter: Splitter,
    /// The beginning of an event.
    held: BytesMut,
    /// Within an event that is too long to be kept.
    passes: bool,
    padding: Padding,
    reader: R,
}

impl<R: Reader> Events<R> {
    pub(crate) fn new(padding: Padding, reader: R) -> Self {
        let splitter = Splitter { line_is_empty: true, after_cr: false };
        Self { splitter, held: BytesMut::new(), passes: false, padding, reader }
    }

    pub(crate) fn reader(&self) -> &R {
        &self.reader
    }

    /// Takes what came together; returns what leaves together.
    pub(crate) fn push(&mut self, bytes: Bytes) -> Bytes {
        let read = self.held.len();
        let bytes = if read == 0 {
            bytes
        } else {
            self.held.extend_from_slice(&bytes);
            self.held.split().freeze()
        };
        let mut out = BytesMut::with_capacity(self.padding.room(bytes.len()));
        let (mut begin, mut at) = (0, read);
        while let Some(taken) = self.splitter.end(bytes.get(at..).unwrap_or_default()) {
            at += taken;
            let event = bytes.get(begin..at).unwrap_or_default();
            begin = at;
            if std::mem::take(&mut self.passes) {
                self.reader.unread(event.len());
                out.extend_from_slice(event);
            } else if self.reader.event(event) {
                out.extend_from_slice(event);
            }
        }
        let rest = bytes.get(begin..).unwrap_or_default();
        self.passes |= rest.len() > LONGEST;
        if self.passes && !rest.is_empty() {
            self.reader.unread(rest.len());
            out.extend_from_slice(rest);
        } else {
            self.held.extend_from_slice(rest);
            self.padding.fill(&mut out, 0);
        }
        out.freeze()
    }

    /// What is left when nothing follows: an event without its empty line, which nothing may stand behind.
    pub(crate) fn end(&mut self) -> Bytes {
        let held = self.held.split();
        if held.is_empty() {
            return Bytes::new();
        }
        self.reader.event(&held);
        let mut out = BytesMut::with_capacity(self.padding.room(held.len()));
        self.padding.fill(&mut out, held.len());
        out.extend_from_slice(&held);
        out.freeze()
    }
}
