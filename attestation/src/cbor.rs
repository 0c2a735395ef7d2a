//! CBOR (RFC 8949) as COSE headers use it: one value, no more bytes after it, maps without a label that stands
//! twice.

use ciborium::Value;

/// How deep values may be nested. A COSE header with its claims takes four levels.
const MAX_DEPTH: usize = 16;

/// The most entries that a map may have: each is compared with every other.
const MAX_ENTRIES: usize = 32;

/// Decodes one value; `None` if it is none, nested too deep, or not all there is. The caller bounds the length.
pub(crate) fn decode(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH).ok()?;
    rest.is_empty().then_some(value)
}

/// A map whose labels are integers and texts (RFC 9052, section 1.5), each of them there once.
#[derive(Clone)]
pub(crate) struct Map(Vec<(Value, Value)>);

impl Map {
    /// Takes a map; `None` for another value, other labels, doubles, or too many entries.
    pub(crate) fn new(value: Value) -> Option<Self> {
        let Value::Map(entries) = value else { return None };
        let named = |(label, _): &(Value, Value)| label.is_integer() || label.is_text();
        let once = |(n, (label, _)): (usize, &(Value, Value))| {
            entries.iter().skip(n + 1).all(|(other, _)| other != label)
        };
        let sound = entries.len() <= MAX_ENTRIES
            && entries.iter().all(named)
            && entries.iter().enumerate().all(once);
        sound.then_some(Self(entries))
    }

    /// The value of a label.
    pub(crate) fn get(&self, label: impl Into<Value>) -> Option<&Value> {
        let label = label.into();
        self.0.iter().find(|(other, _)| *other == label).map(|(_, value)| value)
    }

    /// The text of a label; `None` for another value too.
    pub(crate) fn text(&self, label: impl Into<Value>) -> Option<&str> {
        self.get(label)?.as_text()
    }

    /// The unsigned integer of a label, at most 64 bits; `None` for another value too.
    pub(crate) fn unsigned(&self, label: impl Into<Value>) -> Option<u64> {
        unsigned(self.get(label)?)
    }

    /// Whether a label stands in both maps.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|(label, _)| other.get(label.clone()).is_some())
    }
}

/// An unsigned integer of at most 64 bits.
pub(crate) fn unsigned(value: &Value) -> Option<u64> {
    value.as_integer().and_then(|integer| integer.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(hex: &str) -> Option<Map> {
        Map::new(decode(&hex::decode(hex).unwrap())?)
    }

    #[test]
    fn a_label_stands_once_however_it_is_encoded() {
        assert_eq!(map("a2010218210a").unwrap().unsigned(33), Some(10));
        assert!(map("a201020103").is_none(), "1 twice");
        assert!(map("a20102180103").is_none(), "1 twice, once in two bytes");
        assert!(map("a2616101616102").is_none(), "\"a\" twice");
        assert!(map("a1410102").is_none(), "bytes are no label");
        assert!(map("8101").is_none(), "no map");
        let many = |n: u8| {
            let entries = (0..n).flat_map(|label| [0x18, label.saturating_add(24), 0]);
            [0xb8, n].into_iter().chain(entries).collect::<Vec<u8>>()
        };
        assert!(map(&hex::encode(many(32))).is_some());
        assert!(map(&hex::encode(many(33))).is_none());
    }

    #[test]
    fn nothing_follows_and_depth_and_length_have_bounds() {
        assert!(decode(&[0x01]).is_some());
        assert!(decode(&[0x01, 0x01]).is_none(), "bytes after the value");
        assert!(decode(&[]).is_none());
        assert!(decode(&[0x81; 10_000]).is_none(), "nested too deep");
        assert!(decode(&[0x9f; 10_000]).is_none(), "nested too deep, of no stated length");
        assert!(decode(&[0xc1; 10_000]).is_none(), "tags of tags");
        for huge in [0x5b, 0x7b, 0x9b, 0xbb] {
            let mut bytes = vec![huge];
            bytes.extend([0xff; 8]);
            assert!(decode(&bytes).is_none(), "{huge:#x} of 2^64-1 elements that are not there");
        }
    }

    #[test]
    fn numbers_do_not_wrap() {
        assert_eq!(map("a1011bffffffffffffffff").unwrap().unsigned(1), Some(u64::MAX));
        for (value, what) in [("20", "-1"), ("c249010000000000000000", "2^64"), ("f95640", "100.0")]
        {
            assert_eq!(map(&format!("a101{value}")).unwrap().unsigned(1), None, "{what}");
        }
    }
}
