//! A signed record with the segment that it is about: what the spool keeps, and what every sink takes.
//!
//! Ciphertext and signatures only. Must not know where it goes.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a line holds beside its record and its segment.
const FRAME: usize = 32;

/// One record, and its segment if it has one.
pub(crate) struct Sealed {
    /// The boot id, 32 hexadecimal digits.
    pub(crate) boot: String,
    /// The record's number in its boot.
    pub(crate) seq: u64,
    /// Compact JWS.
    pub(crate) record: String,
    /// The age file; the first and the last record of a boot have none.
    pub(crate) segment: Option<Vec<u8>>,
}

impl Sealed {
    /// What its files are called, without their ending: `<boot>-<seq>`, seq in eight digits.
    pub(crate) fn name(&self) -> String {
        format!("{}-{:08}", self.boot, self.seq)
    }

    /// Bytes of record and segment.
    pub(crate) fn length(&self) -> usize {
        self.record.len() + self.segment.as_ref().map_or(0, Vec::len)
    }

    /// As one line of JSON with its end: `{"record":"<JWS>","segment":"<base64>"}`, `segment` null where there is
    /// none. The same bytes every time.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = String::with_capacity(self.length() / 3 * 4 + FRAME);
        line.push_str("{\"record\":\"");
        // a compact JWS has no character that JSON would escape: it is base64url with two dots
        line.push_str(&self.record);
        line.push_str("\",\"segment\":");
        match &self.segment {
            Some(segment) => {
                line.push('"');
                STANDARD.encode_string(segment, &mut line);
                line.push('"');
            }
            None => line.push_str("null"),
        }
        line.push_str("}\n");
        line.into_bytes()
    }
}

/// The lines of several, one after the other.
pub(crate) fn lines<'a>(items: impl IntoIterator<Item = &'a Arc<Sealed>>) -> Vec<u8> {
    let mut lines = Vec::new();
    for item in items {
        lines.extend_from_slice(&item.line());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(segment: Option<Vec<u8>>) -> Sealed {
        Sealed { boot: "b".to_owned(), seq: 7, record: "a.b.c".to_owned(), segment }
    }

    #[test]
    fn a_record_is_one_line() {
        let with = sealed(Some(vec![0xfb, 0xff])).line();
        assert_eq!(with, b"{\"record\":\"a.b.c\",\"segment\":\"+/8=\"}\n");
        let without = sealed(None).line();
        assert_eq!(without, b"{\"record\":\"a.b.c\",\"segment\":null}\n");
        assert_eq!(sealed(None).name(), "b-00000007");
    }
}
