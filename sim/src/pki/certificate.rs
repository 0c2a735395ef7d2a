//! X.509 certificates and revocation lists (RFC 5280), assembled field by field.
//!
//! Must not know: who issues to whom. AMD orders its names, its extensions and its algorithm
//! parameters in ways that certificate builders smooth over, hence no builder.

use std::time::Duration;

use der::asn1::{
    Any, BitString, GeneralizedTime, Ia5String, ObjectIdentifier, OctetString, UtcTime,
};
use der::flagset::FlagSet;
use der::pem::LineEnding;
use der::{Decode as _, DecodePem as _, Encode as _, EncodePem as _, Tag};
use sha1::{Digest as _, Sha1};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints, CrlNumber, ExtendedKeyUsage,
    KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate, Version};

use super::PkiError;
use super::signer::Signer;
use crate::seed::Seed;

/// Everything in the simulated world is valid from 2024-01-01T00:00:00Z …
pub const NOT_BEFORE: u64 = 1_704_067_200;
/// … to 2049-12-31T23:59:59Z, the last moment that RFC 5280 writes as UTCTime.
pub const NOT_AFTER: u64 = 2_524_607_999;

/// Attribute types of distinguished names (RFC 5280 appendix A.1).
pub(crate) mod attribute {
    use der::asn1::ObjectIdentifier;

    pub(crate) const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    pub(crate) const COUNTRY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.6");
    pub(crate) const LOCALITY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.7");
    pub(crate) const STATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.8");
    pub(crate) const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
    pub(crate) const UNIT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.11");
}

/// What one certificate says, before it is signed.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Serial number, as AMD's small fixed ones.
    pub serial: u32,
    /// Distinguished name of the signer.
    pub issuer: Name,
    /// Distinguished name of the holder.
    pub subject: Name,
    /// Public key of the holder.
    pub public_key: SubjectPublicKeyInfoOwned,
    /// Extensions in the order in which they are written.
    pub extensions: Vec<Extension>,
}

/// Signs a certificate. `seed` feeds the salt where the algorithm has one.
pub(crate) fn issue(
    profile: Profile,
    signer: &Signer,
    seed: &Seed,
) -> Result<Certificate, PkiError> {
    let tbs_certificate = TbsCertificate {
        version: Version::V3,
        serial_number: SerialNumber::new(&minimal(profile.serial))?,
        signature: signer.algorithm()?,
        issuer: profile.issuer,
        validity: Validity { not_before: time(NOT_BEFORE)?, not_after: time(NOT_AFTER)? },
        subject: profile.subject,
        subject_public_key_info: profile.public_key,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(profile.extensions),
    };
    let message = tbs_certificate.to_der()?;
    let signature = signer.sign(&message, &mut salt(seed, &message))?;
    Ok(Certificate {
        tbs_certificate,
        signature_algorithm: signer.algorithm()?,
        signature: BitString::from_bytes(&signature)?,
    })
}

/// Signs a revocation list (RFC 5280 section 5), current for the whole life of the world.
pub(crate) fn issue_crl(
    issuer: &Name,
    issuer_key_id: Extension,
    number: u32,
    revoked: &[u32],
    next_update: u64,
    signer: &Signer,
    seed: &Seed,
) -> Result<CertificateList, PkiError> {
    let entries = revoked
        .iter()
        .map(|serial| {
            Ok(RevokedCert {
                serial_number: SerialNumber::new(&minimal(*serial))?,
                revocation_date: time(NOT_BEFORE)?,
                crl_entry_extensions: None,
            })
        })
        .collect::<Result<Vec<_>, PkiError>>()?;
    let tbs_cert_list = TbsCertList {
        version: Version::V2,
        signature: signer.algorithm()?,
        issuer: issuer.clone(),
        this_update: time(NOT_BEFORE)?,
        next_update: Some(time(next_update)?),
        revoked_certificates: (!entries.is_empty()).then_some(entries),
        crl_extensions: Some(vec![
            issuer_key_id,
            extension(false, &CrlNumber(der::asn1::Uint::new(&minimal(number))?))?,
        ]),
    };
    let message = tbs_cert_list.to_der()?;
    let signature = signer.sign(&message, &mut salt(seed, &message))?;
    Ok(CertificateList {
        tbs_cert_list,
        signature_algorithm: signer.algorithm()?,
        signature: BitString::from_bytes(&signature)?,
    })
}

fn salt(seed: &Seed, message: &[u8]) -> rand_chacha::ChaCha20Rng {
    seed.rng(&format!("salt/{}", hex::encode(<sha2::Sha256 as sha2::Digest>::digest(message))))
}

/// Big-endian bytes without leading zeros, at least one.
fn minimal(value: u32) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1);
    bytes.get(start..).unwrap_or(&bytes).to_vec()
}

fn time(seconds: u64) -> Result<Time, PkiError> {
    let duration = Duration::from_secs(seconds);
    Ok(match UtcTime::from_unix_duration(duration) {
        Ok(time) => Time::UtcTime(time),
        Err(_) => Time::GeneralTime(GeneralizedTime::from_unix_duration(duration)?),
    })
}

/// A distinguished name from attribute types and values, in the order in which they are
/// written. The country is a PrintableString (RFC 5280 appendix A.1), the rest are UTF8Strings.
pub(crate) fn name(attributes: &[(ObjectIdentifier, &str)]) -> Result<Name, PkiError> {
    attributes
        .iter()
        .map(|(oid, value)| {
            let tag =
                if *oid == attribute::COUNTRY { Tag::PrintableString } else { Tag::Utf8String };
            let value = Any::new(tag, value.as_bytes())?;
            let attribute = AttributeTypeAndValue { oid: *oid, value };
            Ok(RelativeDistinguishedName(der::asn1::SetOfVec::try_from(vec![attribute])?))
        })
        .collect::<Result<Vec<_>, PkiError>>()
        .map(RdnSequence)
}

/// An extension whose value is the DER of `value`.
pub(crate) fn extension<T>(critical: bool, value: &T) -> Result<Extension, PkiError>
where
    T: der::Encode + der::oid::AssociatedOid,
{
    raw_extension(T::OID, critical, &value.to_der()?)
}

/// A non-critical extension of a type that has no object identifier of its own.
pub(crate) fn extension_of(
    oid: ObjectIdentifier,
    value: &impl der::Encode,
) -> Result<Extension, PkiError> {
    raw_extension(oid, false, &value.to_der()?)
}

/// An extension whose value is exactly `bytes`.
pub(crate) fn raw_extension(
    oid: ObjectIdentifier,
    critical: bool,
    bytes: &[u8],
) -> Result<Extension, PkiError> {
    Ok(Extension { extn_id: oid, critical, extn_value: OctetString::new(bytes)? })
}

/// SHA-1 of the public key's bits (RFC 5280 section 4.2.1.2, method 1).
pub(crate) fn key_id(public_key: &SubjectPublicKeyInfoOwned) -> Vec<u8> {
    Sha1::digest(public_key.subject_public_key.raw_bytes()).to_vec()
}

/// SubjectKeyIdentifier.
pub(crate) fn subject_key_id(
    public_key: &SubjectPublicKeyInfoOwned,
) -> Result<Extension, PkiError> {
    extension(false, &SubjectKeyIdentifier(OctetString::new(key_id(public_key))?))
}

/// AuthorityKeyIdentifier with the key identifier only.
pub(crate) fn authority_key_id(issuer: &SubjectPublicKeyInfoOwned) -> Result<Extension, PkiError> {
    extension(
        false,
        &AuthorityKeyIdentifier {
            key_identifier: Some(OctetString::new(key_id(issuer))?),
            authority_cert_issuer: None,
            authority_cert_serial_number: None,
        },
    )
}

/// Critical BasicConstraints.
pub(crate) fn basic_constraints(ca: bool, path_len: Option<u8>) -> Result<Extension, PkiError> {
    extension(true, &BasicConstraints { ca, path_len_constraint: path_len })
}

/// Critical KeyUsage.
pub(crate) fn key_usage(usages: &[KeyUsages]) -> Result<Extension, PkiError> {
    let all = usages.iter().fold(FlagSet::default(), |all, usage| all | *usage);
    extension(true, &KeyUsage(all))
}

/// ExtendedKeyUsage.
pub(crate) fn extended_key_usage(usages: &[ObjectIdentifier]) -> Result<Extension, PkiError> {
    extension(false, &ExtendedKeyUsage(usages.to_vec()))
}

/// SubjectAltName.
pub(crate) fn subject_alt_name(names: Vec<GeneralName>) -> Result<Extension, PkiError> {
    extension(false, &SubjectAltName(names))
}

/// CRLDistributionPoints with one URI.
pub(crate) fn crl_distribution_point(uri: &str) -> Result<Extension, PkiError> {
    let uri = GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?);
    extension(
        false,
        &CrlDistributionPoints(vec![DistributionPoint {
            distribution_point: Some(DistributionPointName::FullName(vec![uri])),
            reasons: None,
            crl_issuer: None,
        }]),
    )
}

/// One certificate as PEM (RFC 7468).
pub(crate) fn to_pem(certificate: &Certificate) -> Result<String, PkiError> {
    certificate.to_pem(LineEnding::LF).map_err(PkiError::Pem)
}

/// Several certificates as PEM, in their order.
pub(crate) fn to_pem_chain<'a>(
    certificates: impl IntoIterator<Item = &'a Certificate>,
) -> Result<String, PkiError> {
    certificates.into_iter().map(to_pem).collect()
}

/// Every certificate of a PEM text, in its order; an empty text is an error.
pub(crate) fn from_pem_chain(text: &str) -> Result<Vec<Certificate>, PkiError> {
    const END: &str = "-----END CERTIFICATE-----";
    let certificates = text
        .split_inclusive(END)
        .map(str::trim)
        .filter(|block| !block.is_empty())
        .map(|block| Certificate::from_pem(block).map_err(PkiError::Pem))
        .collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() {
        return Err(PkiError::Chain("the PEM text holds no certificate"));
    }
    Ok(certificates)
}

/// One certificate from DER.
pub(crate) fn from_der(der: &[u8]) -> Result<Certificate, PkiError> {
    Ok(Certificate::from_der(der)?)
}
