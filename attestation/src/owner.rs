//! The owner's word that a proof is of a group of theirs (`wire.md` part 2).
//!
//! The same containers under the same enforcement policy in somebody else's subscription give evidence that is just
//! as good: an evil twin. What tells them apart is a key that only this owner's vault releases, and only to this
//! policy. It signs what the report says and the manifest, and clients name it in their policy.

use der::Decode as _;
use der::asn1::ObjectIdentifier;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use crate::binding::{ReportData, owner_message};
use crate::crypto::{self, BadSignature, sha256};
use crate::encoding::{from_b64u, to_b64u};
use crate::wire::OwnerSignature;

/// An owner's public key, on P-256. In a file: its SubjectPublicKeyInfo in base64url, as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerKey {
    spki: Vec<u8>,
    point: Vec<u8>,
}

/// The bytes are no key on P-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be the SubjectPublicKeyInfo of a P-256 key in base64url, as `owner_key` of the manifest"
)]
pub struct NotAnOwnerKey;

impl OwnerKey {
    /// Reads a SubjectPublicKeyInfo (DER).
    ///
    /// # Errors
    ///
    /// [`NotAnOwnerKey`].
    pub fn from_spki(spki: &[u8]) -> Result<Self, NotAnOwnerKey> {
        let point = p256_point(spki).ok_or(NotAnOwnerKey)?;
        Ok(Self { spki: spki.to_vec(), point })
    }

    /// SubjectPublicKeyInfo in base64url.
    #[must_use]
    pub fn to_text(&self) -> String {
        to_b64u(&self.spki)
    }
}

impl Serialize for OwnerKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.to_text())
    }
}

impl<'de> Deserialize<'de> for OwnerKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let spki = from_b64u(&text).ok_or_else(|| de::Error::custom(NotAnOwnerKey))?;
        Self::from_spki(&spki).map_err(de::Error::custom)
    }
}

/// What came with a proof in the owner's name. Nothing about it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerStatement {
    /// The signature.
    pub signature: OwnerSignature,
    /// SHA-256 of the manifest's exact bytes.
    pub manifest_sha256: [u8; 32],
}

impl OwnerStatement {
    /// Whether this key signed it for a report with that content. What the statement says about its key is not
    /// followed.
    ///
    /// # Errors
    ///
    /// [`BadSignature`], also if it names another algorithm than ES256.
    pub fn verify(&self, key: &OwnerKey, report_data: &ReportData) -> Result<(), BadSignature> {
        if self.signature.alg != "ES256" {
            return Err(BadSignature);
        }
        let message = owner_message(report_data, &self.manifest_sha256);
        crypto::verify_p256(&key.point, &message, &self.signature.sig)
    }
}

/// The uncompressed point of a SubjectPublicKeyInfo on P-256.
pub(crate) fn p256_point(spki: &[u8]) -> Option<Vec<u8>> {
    const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
    let info = SubjectPublicKeyInfoRef::from_der(spki).ok()?;
    let curve = info.algorithm.parameters_oid().ok()?;
    let point = info.subject_public_key.as_bytes().filter(|point| point.len() == 65)?;
    (info.algorithm.oid == EC_PUBLIC_KEY && curve == P256).then(|| point.to_vec())
}

/// RFC 7638 section 3, of an uncompressed point on P-256: the members that a JWK needs, in alphabetical order.
#[must_use]
pub fn p256_thumbprint(point: &[u8]) -> Option<String> {
    let [4, coordinates @ ..] = point else { return None };
    let (x, y) = coordinates.split_at_checked(32).filter(|(_, y)| y.len() == 32)?;
    let (x, y) = (to_b64u(x), to_b64u(y));
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    Some(to_b64u(&sha256(members.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7517 appendix A.1 gives the key; the thumbprint is that of another implementation.
    #[test]
    fn the_thumbprint_is_that_of_the_rfc() {
        let x = from_b64u("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4");
        let y = from_b64u("4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM");
        let point = [vec![4], x.unwrap(), y.unwrap()].concat();
        let thumbprint = "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s";
        assert_eq!(p256_thumbprint(&point).as_deref(), Some(thumbprint));
        assert_eq!(p256_thumbprint(&point[..64]), None);
    }

    /// id-ecPublicKey, and id-ecDH, which is for another use (RFC 5480, 2.1).
    const ALGORITHMS: [&str; 2] = ["06072a8648ce3d0201", "06052b8104010c"];
    /// secp256r1, and secp256k1, whose points are as long.
    const CURVES: [&str; 2] = ["06082a8648ce3d030107", "06052b8104000a"];

    fn spki(algorithm: &str, curve: &str) -> Vec<u8> {
        let tlv =
            |tag: u8, body: Vec<u8>| [vec![tag, u8::try_from(body.len()).unwrap()], body].concat();
        let identifier = hex::decode([algorithm, curve].concat()).unwrap();
        let point = [&[0, 4][..], &[7; 64]].concat();
        tlv(0x30, [tlv(0x30, identifier), tlv(3, point)].concat())
    }

    #[test]
    fn a_key_is_one_for_signatures_on_p_256_and_reads_as_it_is_written() {
        let [[signs, agrees], [ours, other]] = [ALGORITHMS, CURVES];
        let key = OwnerKey::from_spki(&spki(signs, ours)).unwrap();
        assert_eq!(from_b64u(&key.to_text()), Some(spki(signs, ours)));
        for (algorithm, curve) in [(signs, other), (agrees, ours), (agrees, other)] {
            assert_eq!(OwnerKey::from_spki(&spki(algorithm, curve)).err(), Some(NotAnOwnerKey));
        }
    }
}
