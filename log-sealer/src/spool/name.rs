//! What the spool's files are called. Exactly these names are the spool's; all others are left alone.

use std::fmt::{self, Display};

use crate::whole_file::PARTIAL;

/// How files of items end.
const ITEM: &str = ".sealed";

/// How files of cursors end.
const CURSOR: &str = ".cursor";

/// Positions from here on are nobody's.
const LAST: u64 = u64::MAX / 2;

/// Where a process begins at the latest, so that there is always a position left after the last.
pub(super) const BEGIN: u64 = LAST / 2;

/// An item's place in the spool, and what it claims to be: `<position>-<boot>-<seq>.sealed`, the numbers in as many
/// digits as they can have, so that names sort as positions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) position: u64,
    pub(super) boot: [u8; 16],
    pub(super) seq: u64,
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, boot, seq } = self;
        write!(f, "{position:020}-{}-{seq:020}{ITEM}", hex::encode(boot))
    }
}

/// What a name in the folder is of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Item(Name),
    /// Of a sink with this key.
    Cursor(String),
    /// What was not finished, of an item or a cursor.
    Partial,
    /// Somebody else's.
    Foreign,
}

impl Kind {
    pub(super) fn of(text: &str) -> Self {
        if let Some(stem) = text.strip_suffix(PARTIAL) {
            return match Self::of(stem) {
                Self::Item(_) | Self::Cursor(_) => Self::Partial,
                Self::Partial | Self::Foreign => Self::Foreign,
            };
        }
        if let Some(key) = text.strip_suffix(CURSOR).filter(|key| is_key(key)) {
            return Self::Cursor(key.to_owned());
        }
        item(text).map_or(Self::Foreign, Self::Item)
    }
}

/// The file of a sink's cursor.
pub(super) fn cursor(key: &str) -> String {
    format!("{key}{CURSOR}")
}

fn item(text: &str) -> Option<Name> {
    let mut parts = text.strip_suffix(ITEM)?.split('-');
    let (position, boot, seq) = (parts.next()?, parts.next()?, parts.next()?);
    let mut name = Name { position: position.parse().ok()?, boot: [0; 16], seq: seq.parse().ok()? };
    hex::decode_to_slice(boot, &mut name.boot).ok()?;
    (name.position < LAST && name.to_string() == text).then_some(name)
}

fn is_key(text: &str) -> bool {
    let plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=40).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_names_are_of_the_spool() {
        let name = Name { position: 12, boot: [0xab; 16], seq: 3 };
        let text = name.to_string();
        assert_eq!(Kind::of(&text), Kind::Item(name));
        assert_eq!(Kind::of(&format!("{text}.partial")), Kind::Partial);
        assert_eq!(Kind::of("stdout.cursor"), Kind::Cursor("stdout".to_owned()));
        assert_eq!(Kind::of("stdout.cursor.partial"), Kind::Partial);
        for foreign in [
            "",
            ".cursor",
            "Stdout.cursor",
            "a/b.cursor",
            "lock",
            "x.partial",
            &format!("{text}.broken"),
            &format!("{text}.partial.partial"),
            &text.to_uppercase(),
            &text.replacen('0', "+", 1),
            &text[1..],
            &text.replacen("0000", "9999", 1),
            &text.replace("-", "--"),
            &format!("-{text}"),
        ] {
            assert_eq!(Kind::of(foreign), Kind::Foreign, "{foreign}");
        }
    }

    #[test]
    fn names_sort_as_positions_do() {
        let at = |position| Name { position, boot: [0; 16], seq: 0 }.to_string();
        assert!(at(9) < at(10) && at(99_999) < at(100_000));
    }
}
