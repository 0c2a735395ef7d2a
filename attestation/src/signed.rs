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

/// Whether the algorithm is AMD's, the same inside and outside of the signed part.
pub(crate) fn is_pss_sha384(
    outside: &AlgorithmIdentifierOwned,
    inside: &AlgorithmIdentifierOwned,
) -> bool {
    let parameters = outside.parameters.as_ref().and_then(|any| any.to_der().ok());
    let parameters = hex::encode(parameters.unwrap_or_default());
    outside == inside && outside.oid == RSASSA_PSS && PSS_SHA384.contains(&parameters.as_str())
}
