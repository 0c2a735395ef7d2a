//! What certificates and revocation lists share: `SEQUENCE { what is signed, algorithm, signature }` in DER, and
//! the one algorithm that AMD signs them with.

use std::ops::Range;

use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _, Reader as _, SliceReader};
use x509_cert::spki::AlgorithmIdentifierOwned;

/// RSASSA-PSS (RFC 4055).
pub(crate) const RSASSA_PSS: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

/// Parameters of RSASSA-PSS with SHA-384, MGF1-SHA-384 and salt 48 (RFC 4055), in DER as hexadecimal: first
/// with the default trailer left out, as DER wants it, then written out, as AMD does in its roots.
const PSS_SHA384: [&str; 2] = [
    "3034a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402\
     020500a203020130",
    "3039a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402\
     020500a203020130a303020101",
];

/// Where the signed part stands in the bytes of a whole: the first element's own bytes, with its header.
pub(crate) fn signed_part(whole: &[u8]) -> der::Result<Range<usize>> {
    let mut outer = SliceReader::new(whole)?;
    let header = der::Header::decode(&mut outer)?;
    let start = usize::try_from(outer.position())?;
    header.tag.assert_eq(der::Tag::Sequence)?;
    Ok(start..start + outer.tlv_bytes()?.len())
}

/// The longest SET that is read, in bytes. One holds the attributes of a relative name, nearly always one of them.
const MAX_SET: usize = 512;

/// How deep a SET is looked for. That of a directory name in a name constraint lies twelve levels deep.
const MAX_DEPTH: usize = 16;

/// Whether a longer SET stands in it, also inside an OCTET STRING, as extensions are. The decoder sorts the elements
/// of a SET in quadratic time, before any signature is looked at: one of 60 KiB takes it seconds.
pub(crate) fn has_long_set(whole: &[u8]) -> bool {
    has_long_set_within(whole, MAX_DEPTH)
}

/// What is no DER ends the search among its neighbours: the decoder gets no further either.
fn has_long_set_within(bytes: &[u8], depth: usize) -> bool {
    let Ok(mut reader) = SliceReader::new(bytes) else { return false };
    while !reader.is_finished() {
        let Ok(header) = der::Header::decode(&mut reader) else { return false };
        let Ok(body) = reader.read_slice(header.length) else { return false };
        let opens = header.tag.is_constructed() || header.tag == der::Tag::OctetString;
        let long = header.tag == der::Tag::Set && body.len() > MAX_SET;
        if long || (opens && depth > 0 && has_long_set_within(body, depth - 1)) {
            return true;
        }
    }
    false
}

/// Sees that every element ends within the one that it stands in, before anything is decoded: the decoder sets aside
/// what an owned string says is its length, up to 256 MiB, before it looks whether so much is there. What stands in an
/// OCTET STRING need not be DER, and is looked at when it is decoded itself.
///
/// # Errors
///
/// The decoder's own, of the first header that does not hold; `Failed` for what is deeper than `MAX_DEPTH`.
pub(crate) fn check_lengths(bytes: &[u8]) -> der::Result<()> {
    check_lengths_within(bytes, MAX_DEPTH)
}

fn check_lengths_within(bytes: &[u8], depth: usize) -> der::Result<()> {
    let mut reader = SliceReader::new(bytes)?;
    while !reader.is_finished() {
        let header = der::Header::decode(&mut reader)?;
        let body = reader.read_slice(header.length)?;
        if header.tag.is_constructed() {
            let below = depth.checked_sub(1).ok_or(der::ErrorKind::Failed)?;
            check_lengths_within(body, below)?;
        }
    }
    Ok(())
}

/// Whether the algorithm is AMD's, the same inside and outside of the signed part.
pub(crate) fn is_pss_sha384(
    outside: &AlgorithmIdentifierOwned,
    inside: &AlgorithmIdentifierOwned,
) -> bool {
    let parameters = outside.parameters.as_ref().and_then(|any| any.to_der().ok());
    let parameters = hex::encode(parameters.unwrap_or_default());
    outside == inside && outside.oid == RSASSA_PSS && PSS_SHA384.contains(&parameters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::{Certificate, CertificateError};
    use crate::crl::{Crl, CrlError};
    use crate::testing::Draft;

    fn tlv(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        let form: &[u8] = match length {
            [0, short] if short < 0x80 => &[short],
            [0, long] => &[0x81, long],
            [high, low] => &[0x82, high, low],
        };
        [&[tag], form, body].concat()
    }

    #[test]
    fn a_long_set_is_found_wherever_a_name_may_stand() {
        let (good, long) = (tlv(0x31, &[0; MAX_SET]), tlv(0x31, &[0; MAX_SET + 1]));
        assert!(!has_long_set(&good) && has_long_set(&long));
        let followed = [&[2, 1, 7], long.as_slice()].concat();
        // In a SEQUENCE, a context-specific tag, an OCTET STRING; not in a string of another type.
        for (tag, found) in [(0x30, true), (0xa3, true), (0x04, true), (0x0c, false)] {
            assert_eq!(has_long_set(&tlv(tag, &followed)), found, "{tag:#x}");
        }
        let twelve_down = (0..12).fold(long, |inner, _| tlv(0x30, &inner));
        assert!(has_long_set(&twelve_down));
        for none in [&b""[..], b"\x31", b"\x31\x82\xff\xff\x00", &[0xff; 600]] {
            assert!(!has_long_set(none));
        }
    }

    #[test]
    fn an_element_ends_within_the_one_it_stands_in() {
        let good = [&[2, 1, 7], tlv(0x30, &tlv(0x04, b"text")).as_slice()].concat();
        // `[0]` and a SEQUENCE hold elements, an OCTET STRING and a context-specific string any bytes.
        let long = [0x04, 0x84, 0x0f, 0xff, 0xff, 0xff, 0];
        assert!(check_lengths(&good).is_ok() && check_lengths(b"").is_ok());
        for (tag, holds) in [(0x30, false), (0xa0, false), (0x04, true), (0x80, true)] {
            assert!(check_lengths(&tlv(tag, &good)).is_ok(), "{tag:#x}");
            assert_eq!(check_lengths(&tlv(tag, &long)).is_ok(), holds, "{tag:#x}");
            assert_eq!(check_lengths(&tlv(tag, &[0x04, 3, 0, 0])).is_ok(), holds, "{tag:#x}");
        }
        let down = |levels: usize| (0..levels).fold(Vec::new(), |inner, _| tlv(0x30, &inner));
        assert!(check_lengths(&down(MAX_DEPTH)).is_ok());
        assert!(check_lengths(&down(MAX_DEPTH + 1)).is_err());
    }

    /// A name of one relative name with so many attributes, in the order that takes longest to sort.
    fn name(attributes: u16) -> Vec<u8> {
        let attribute = |n: u16| {
            let value = tlv(0x0c, format!("{n:04}").as_bytes());
            tlv(0x30, &[&[6, 3, 0x55, 4, 3], value.as_slice()].concat())
        };
        let all: Vec<u8> = (0..attributes).rev().flat_map(attribute).collect();
        tlv(0x30, &tlv(0x31, &all))
    }

    const ALGORITHM: [u8; 15] = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 11, 5, 0];

    /// A version 1 structure that is signed by nobody.
    fn whole(parts: &[&[u8]]) -> Vec<u8> {
        let tbs = tlv(0x30, &parts.concat());
        tlv(0x30, &[tbs.as_slice(), &ALGORITHM, &[3, 2, 0, 1]].concat())
    }

    #[test]
    fn what_would_take_seconds_to_decode_is_refused_before() {
        let times = [&[0x17, 13], b"250101000000Z".as_slice()].concat().repeat(2);
        let list = |names: u16| whole(&[&[2, 1, 1], &ALGORITHM, &name(names), &times]);
        assert!(Crl::from_der(&list(1)).is_ok());
        assert_eq!(Crl::from_der(&list(3000)).err(), Some(CrlError::LongName));

        let key = Draft::leaf("leaf").self_signed().spki().unwrap();
        let validity = tlv(0x30, &times);
        let certificate =
            |names: u16| whole(&[&[2, 1, 1], &ALGORITHM, &name(1), &validity, &name(names), &key]);
        assert!(Certificate::from_der(&certificate(1)).is_ok());
        let refused = Certificate::from_der(&certificate(700)).err();
        assert_eq!(refused, Some(CertificateError::LongName));
    }
}
