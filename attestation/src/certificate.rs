//! X.509 certificates (RFC 5280): decoded once, with the exact signed bytes kept.
//!
//! Knows one certificate and the signature on it, not who may issue for whom: for AMD's chain that is fixed by
//! names and keys (`checks::authenticity`), for all others by [`path`](crate::path). There are no host names.

use der::asn1::ObjectIdentifier;
use der::{Decode as _, Encode as _, Reader as _, SliceReader};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::name::Name;

use crate::crypto::{self, BadSignature, CertificateSignature, sha256};
use crate::signed::{RSASSA_PSS, check_lengths, has_long_set, is_pss_sha384, signed_part};

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The other algorithms that certificates are signed with (RFC 3279, 4055, 5758). Those of RSA have NULL as
/// parameters or none, those of ECDSA none.
const SIGNATURES: [(ObjectIdentifier, CertificateSignature); 5] = [
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"), CertificateSignature::RsaSha256),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12"), CertificateSignature::RsaSha384),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13"), CertificateSignature::RsaSha512),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"), CertificateSignature::P256Sha256),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"), CertificateSignature::P384Sha384),
];

/// The longest certificate that is looked at. AMD's have about 1700 bytes.
const MAX_LENGTH: usize = 16 * 1024;

/// The most certificates that are read from one sequence. A chain has two, a file with roots a handful.
const MAX_SEQUENCE: usize = 16;

/// A decoded certificate. Nothing about it is verified.
#[derive(Clone)]
pub struct Certificate {
    der: Vec<u8>,
    signed: std::ops::Range<usize>,
    inner: x509_cert::Certificate,
}

/// The bytes are no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No X.509 certificate in DER.
    #[error("not an X.509 certificate in DER")]
    Syntax(#[from] der::Error),
    /// More bytes than one certificate.
    #[error("{0} bytes after the certificate")]
    Trailing(usize),
    /// Longer than any that is meant here.
    #[error("{0} bytes are too many for a certificate")]
    TooLong(usize),
    /// A relative name with more attributes than any that is meant here.
    #[error("a name has too many parts")]
    LongName,
    /// More certificates than anybody needs at once.
    #[error("more than {MAX_SEQUENCE} certificates")]
    TooMany,
    /// No certificate in PEM (RFC 7468).
    #[error("not certificates in PEM")]
    Pem,
}

impl Certificate {
    /// Decodes exactly one certificate.
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn from_der(bytes: &[u8]) -> Result<Self, CertificateError> {
        let (certificate, rest) = Self::first_of(bytes)?;
        if rest.is_empty() { Ok(certificate) } else { Err(CertificateError::Trailing(rest.len())) }
    }

    /// Decodes one certificate that zeros may follow, as in an index of a TPM's non-volatile memory.
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn from_zero_padded(bytes: &[u8]) -> Result<Self, CertificateError> {
        let (certificate, rest) = Self::first_of(bytes)?;
        let padding = rest.iter().all(|byte| *byte == 0);
        if padding { Ok(certificate) } else { Err(CertificateError::Trailing(rest.len())) }
    }

    /// Decodes certificates that follow each other without anything between them.
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn sequence_from_der(mut bytes: &[u8]) -> Result<Vec<Self>, CertificateError> {
        let mut certificates = Vec::new();
        while !bytes.is_empty() {
            if certificates.len() == MAX_SEQUENCE {
                return Err(CertificateError::TooMany);
            }
            let (certificate, rest) = Self::first_of(bytes)?;
            certificates.push(certificate);
            bytes = rest;
        }
        Ok(certificates)
    }

    /// Decodes all `CERTIFICATE` blocks of a PEM text, in its order. At least one must be there.
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn sequence_from_pem(text: &str) -> Result<Vec<Self>, CertificateError> {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        const END: &str = "-----END CERTIFICATE-----";
        let mut certificates = Vec::new();
        let mut rest = text;
        while let Some(begin) = rest.find(BEGIN) {
            if certificates.len() == MAX_SEQUENCE {
                return Err(CertificateError::TooMany);
            }
            let block = rest.get(begin..).unwrap_or_default();
            let end = block.find(END).ok_or(CertificateError::Pem)? + END.len();
            let (block, after) = block.split_at(end);
            let block = block.replace("\r\n", "\n");
            let (label, der) =
                der::pem::decode_vec(block.as_bytes()).map_err(|_| CertificateError::Pem)?;
            if label != "CERTIFICATE" {
                return Err(CertificateError::Pem);
            }
            certificates.push(Self::from_der(&der)?);
            rest = after;
        }
        if certificates.is_empty() { Err(CertificateError::Pem) } else { Ok(certificates) }
    }

    fn first_of(bytes: &[u8]) -> Result<(Self, &[u8]), CertificateError> {
        let mut reader = SliceReader::new(bytes)?;
        let whole = reader.tlv_bytes()?;
        if whole.len() > MAX_LENGTH {
            return Err(CertificateError::TooLong(whole.len()));
        }
        check_lengths(whole)?;
        if has_long_set(whole) {
            return Err(CertificateError::LongName);
        }
        let rest = bytes.get(whole.len()..).unwrap_or_default();

        let signed = signed_part(whole)?;
        let inner = x509_cert::Certificate::from_der(whole)?;
        Ok((Self { der: whole.to_vec(), signed, inner }, rest))
    }

    /// The certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the certificate in DER.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.der)
    }

    /// The one common name of its subject; `None` for none or several.
    #[must_use]
    pub fn subject_cn(&self) -> Option<String> {
        common_name(&self.inner.tbs_certificate.subject)
    }

    /// The one common name of its issuer; `None` for none or several.
    #[must_use]
    pub fn issuer_cn(&self) -> Option<String> {
        common_name(&self.inner.tbs_certificate.issuer)
    }

    /// Whether `issuer`'s subject is this one's issuer, by their exact encodings.
    #[must_use]
    pub fn names_as_issuer(&self, issuer: &Self) -> bool {
        same_name(&self.inner.tbs_certificate.issuer, issuer.subject())
    }

    /// The content of its serial number's INTEGER.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        self.inner.tbs_certificate.serial_number.as_bytes()
    }

    /// First and last second of its life, in Unix time.
    #[must_use]
    pub fn validity(&self) -> (u64, u64) {
        let validity = &self.inner.tbs_certificate.validity;
        (
            validity.not_before.to_unix_duration().as_secs(),
            validity.not_after.to_unix_duration().as_secs(),
        )
    }

    /// Whether it says of itself that it may sign certificates: CA and keyCertSign, both critical.
    #[must_use]
    pub fn is_authority(&self) -> bool {
        let constraints = self.with_criticality::<BasicConstraints>();
        let usage = self.with_criticality::<KeyUsage>();
        matches!((constraints, usage), (Ok(Some((true, constraints))), Ok(Some((true, usage))))
            if constraints.ca && usage.key_cert_sign())
    }

    /// All its extensions.
    pub(crate) fn extensions(&self) -> &[Extension] {
        self.inner.tbs_certificate.extensions.as_deref().unwrap_or_default()
    }

    /// The decoded value of an extension; an error if it stands there twice or is another's.
    pub(crate) fn decoded<'a, T>(&'a self) -> Result<Option<T>, CertificateError>
    where
        T: der::Decode<'a> + der::oid::AssociatedOid,
    {
        Ok(self.with_criticality::<T>()?.map(|(_, value)| value))
    }

    /// As [`decoded`](Self::decoded), with whether it is critical.
    fn with_criticality<'a, T>(&'a self) -> Result<Option<(bool, T)>, CertificateError>
    where
        T: der::Decode<'a> + der::oid::AssociatedOid,
    {
        for extension in self.extensions().iter().filter(|extension| extension.extn_id == T::OID) {
            check_lengths(extension.extn_value.as_bytes())?;
        }
        Ok(self.inner.tbs_certificate.get::<T>()?)
    }

    /// Its subject.
    pub(crate) fn subject(&self) -> &Name {
        &self.inner.tbs_certificate.subject
    }

    /// Whether it says of itself that it may sign revocation lists: cRLSign, critical.
    #[must_use]
    pub fn may_sign_lists(&self) -> bool {
        let usage = self.with_criticality::<KeyUsage>();
        matches!(usage, Ok(Some((true, usage))) if usage.crl_sign())
    }

    /// The value of an extension; `None` for none or several.
    #[must_use]
    pub fn extension(&self, oid: &ObjectIdentifier) -> Option<&[u8]> {
        let mut found = self.extensions().iter().filter(|extension| extension.extn_id == *oid);
        match (found.next(), found.next()) {
            (Some(extension), None) => Some(extension.extn_value.as_bytes()),
            _ => None,
        }
    }

    /// SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Syntax`], if what was decoded cannot be encoded again.
    pub fn spki(&self) -> Result<Vec<u8>, CertificateError> {
        Ok(self.inner.tbs_certificate.subject_public_key_info.to_der()?)
    }

    /// The uncompressed point (97 bytes) if its key is one on P-384.
    #[must_use]
    pub fn p384_key(&self) -> Option<&[u8]> {
        self.point_on(SECP384R1)
    }

    /// The uncompressed point (65 bytes) if its key is one on P-256.
    #[must_use]
    pub fn p256_key(&self) -> Option<&[u8]> {
        self.point_on(SECP256R1)
    }

    fn point_on(&self, wanted: ObjectIdentifier) -> Option<&[u8]> {
        let key = &self.inner.tbs_certificate.subject_public_key_info;
        let curve = key.algorithm.parameters.as_ref()?.decode_as::<ObjectIdentifier>().ok()?;
        (key.algorithm.oid == EC_PUBLIC_KEY && curve == wanted)
            .then(|| key.subject_public_key.as_bytes())?
    }

    /// Its `RSAPublicKey` (PKCS #1, DER) if it has an RSA key.
    #[must_use]
    pub fn rsa_key(&self) -> Option<&[u8]> {
        let key = &self.inner.tbs_certificate.subject_public_key_info;
        (key.algorithm.oid == RSA_ENCRYPTION).then(|| key.subject_public_key.as_bytes())?
    }

    /// The bytes that the signature covers.
    #[must_use]
    pub fn signed_part(&self) -> &[u8] {
        self.der.get(self.signed.clone()).unwrap_or_default()
    }

    /// The signature; empty if it is not of whole bytes.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        self.inner.signature.as_bytes().unwrap_or_default()
    }

    /// Whether `issuer` signed it with RSASSA-PSS, SHA-384 and a salt of 48 bytes, the only way AMD does.
    ///
    /// # Errors
    ///
    /// [`BadSignature`], also for any other algorithm or parameters, inside or outside the signed part.
    pub fn verify_pss_sha384(&self, issuer: &Self) -> Result<(), BadSignature> {
        let outside = &self.inner.signature_algorithm;
        let as_amd_does = is_pss_sha384(outside, &self.inner.tbs_certificate.signature);
        match issuer.rsa_key() {
            Some(key) if as_amd_does => {
                crypto::verify_pss_sha384(key, self.signed_part(), self.signature())
            }
            _ => Err(BadSignature),
        }
    }

    /// Whether `issuer` signed it: RSASSA-PKCS1-v1_5 with SHA-256, 384 or 512, RSASSA-PSS as in
    /// [`verify_pss_sha384`](Self::verify_pss_sha384), ECDSA over P-256 with SHA-256 or over P-384 with SHA-384.
    ///
    /// # Errors
    ///
    /// [`BadSignature`], also for any other algorithm, parameters or key, inside or outside the signed part.
    pub fn verify_signature(&self, issuer: &Self) -> Result<(), BadSignature> {
        let outer = &self.inner.signature_algorithm;
        if outer.oid == RSASSA_PSS {
            return self.verify_pss_sha384(issuer);
        }
        let (_, kind) = SIGNATURES.iter().find(|(oid, _)| *oid == outer.oid).ok_or(BadSignature)?;
        let parameters = outer.parameters.as_ref();
        let (key, plain) = match kind {
            CertificateSignature::RsaSha256
            | CertificateSignature::RsaSha384
            | CertificateSignature::RsaSha512 => {
                (issuer.rsa_key(), parameters.is_none_or(der::Any::is_null))
            }
            CertificateSignature::P256Sha256 => (issuer.p256_key(), parameters.is_none()),
            CertificateSignature::P384Sha384 => (issuer.p384_key(), parameters.is_none()),
        };
        let same = *outer == self.inner.tbs_certificate.signature;
        match (plain && same, key, self.inner.signature.as_bytes()) {
            (true, Some(key), Some(signature)) => {
                let signed = self.der.get(self.signed.clone()).ok_or(BadSignature)?;
                crypto::verify_certificate(*kind, key, signed, signature)
            }
            _ => Err(BadSignature),
        }
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("subject_cn", &self.subject_cn())
            .finish_non_exhaustive()
    }
}

/// Whether two names are the same to the letter: every attribute has the same type, kind of string and bytes.
pub(crate) fn same_name(one: &Name, other: &Name) -> bool {
    one == other
}

fn common_name(name: &Name) -> Option<String> {
    let mut found = name
        .0
        .iter()
        .flat_map(|relative| relative.0.iter())
        .filter(|attribute| attribute.oid == COMMON_NAME);
    match (found.next(), found.next()) {
        (Some(attribute), None) => {
            std::str::from_utf8(attribute.value.value()).ok().map(Into::into)
        }
        _ => None,
    }
}
