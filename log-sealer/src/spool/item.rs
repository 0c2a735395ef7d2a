//! An item of the spool as bytes: the record, a line end, the segment if there is one.
//!
//! The bytes come back from a disk that others control. They are held against their name, and the segment against
//! its record; whether a record is genuine, only its reader can tell.

use attestation::crypto::sha256;
use attestation::encoding::from_b64u;
use attestation::log_record;

use super::name::Name;
use crate::claims::Claims;
use crate::sealed::Sealed;

/// The longest segment that a reader takes.
const SEGMENT: usize = 18 << 20;

/// The longest item.
pub(super) const LONGEST: usize = log_record::MAX_LENGTH + 1 + SEGMENT;

/// The longest beginning that a record can be in.
pub(super) const BEGINNING: usize = log_record::MAX_LENGTH + 1;

/// The bytes of an item are these, one after the other.
pub(super) fn parts(sealed: &Sealed) -> [&[u8]; 3] {
    [sealed.record.as_bytes(), b"\n", sealed.segment.as_deref().unwrap_or_default()]
}

/// The item of that name; `None` if the bytes are none. `digest`: that of its record, where it is known.
pub(super) fn parse(mut bytes: Vec<u8>, name: &Name, digest: Option<&[u8; 32]>) -> Option<Sealed> {
    let end = bytes.iter().take(BEGINNING).position(|byte| *byte == b'\n')?;
    let segment = bytes.split_off(end + 1);
    bytes.pop();
    let record = String::from_utf8(bytes).ok()?;
    let claimed = claimed(&record, name)?;
    if digest.is_some_and(|digest| sha256(record.as_bytes()) != *digest) {
        return None;
    }
    let segment = match claimed.segment() {
        Some(digest) => (from_b64u(digest)? == sha256(&segment)).then_some(Some(segment))?,
        None => segment.is_empty().then_some(None)?,
    };
    Some(Sealed { boot: claimed.boot, seq: claimed.seq, record, segment })
}

/// The digest of an item's record, from its beginning; `None` if it is not of that name.
pub(super) fn record_digest(beginning: &[u8], name: &Name) -> Option<[u8; 32]> {
    let end = beginning.iter().position(|byte| *byte == b'\n')?;
    let record = beginning.get(..end)?;
    claimed(str::from_utf8(record).ok()?, name)?;
    Some(sha256(record))
}

fn claimed(record: &str, name: &Name) -> Option<Claims> {
    let claims = Claims::of(record)?;
    (claims.boot == hex::encode(name.boot) && claims.seq == name.seq).then_some(claims)
}

#[cfg(test)]
pub(super) mod tests {
    use attestation::encoding::to_b64u;
    use serde_json::json;

    use super::*;

    /// A record that nobody signed, with a segment or without.
    pub(in crate::spool) fn sealed(boot: u8, seq: u64, segment: Option<&[u8]>) -> Sealed {
        let boot = hex::encode([boot; 16]);
        let event = match segment {
            Some(segment) => {
                json!({"kind": "segment", "sha256": to_b64u(&sha256(segment)), "new": 1})
            }
            None => json!({"kind": "start"}),
        };
        let payload = json!({"v": 9, "boot": boot, "seq": seq, "event": event}).to_string();
        let record =
            format!("{}.{}.c2ln", to_b64u(b"{\"alg\":\"ES256\"}"), to_b64u(payload.as_bytes()));
        Sealed { boot, seq, record, segment: segment.map(Vec::from) }
    }

    fn name(boot: u8, seq: u64) -> Name {
        Name { position: 1, boot: [boot; 16], seq }
    }

    #[test]
    fn what_was_written_is_read() {
        for segment in [None, Some(b"age\nfile".as_slice())] {
            let sealed = sealed(1, 2, segment);
            let bytes = parts(&sealed).concat();
            let digest = sha256(sealed.record.as_bytes());
            assert_eq!(record_digest(&bytes, &name(1, 2)), Some(digest));
            let read = parse(bytes, &name(1, 2), Some(&digest)).unwrap();
            assert_eq!((&read.record, &read.segment), (&sealed.record, &sealed.segment));
            assert_eq!((&read.boot, read.seq), (&sealed.boot, 2));
        }
    }

    #[test]
    fn what_is_not_of_its_name_or_not_whole_is_no_item() {
        let whole = parts(&sealed(1, 2, Some(b"age"))).concat();
        let none = |bytes: &[u8], name: Name, digest: Option<&[u8; 32]>| {
            assert!(parse(bytes.to_vec(), &name, digest).is_none());
        };
        none(&whole, name(1, 3), None);
        none(&whole, name(2, 2), None);
        none(&whole, name(1, 2), Some(&[0; 32]));
        none(&whole[..whole.len() - 1], name(1, 2), None);
        none(&[&whole[..], b"x"].concat(), name(1, 2), None);
        none(&[&parts(&sealed(1, 2, None)).concat()[..], b"x"].concat(), name(1, 2), None);
        none(b"", name(1, 2), None);
        none(b"\n", name(1, 2), None);
        none(b"a.b.c\n", name(1, 2), None);
        none(&vec![b'x'; BEGINNING + 10], name(1, 2), None);
        assert!(record_digest(&whole, &name(1, 3)).is_none());
    }
}
