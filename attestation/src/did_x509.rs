//! did:x509, version 0: an identifier that names a certification authority by its digest, and what the leaf below
//! it must say (specification at github.com/microsoft/did-x509).
//!
//! Resolving judges the chain as [`path`](crate::path) does, but for certificates' lives, which the specification
//! leaves to its user. Whether anybody believes the identifier is not known here.

use std::str::FromStr;

use der::asn1::{Ia5StringRef, ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use der::{Tag, Tagged as _};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage, SubjectAltName};

use crate::certificate::{Certificate, CertificateError};
use crate::crypto::{sha256, sha384, sha512};
use crate::encoding::from_b64u;
use crate::path::{self, PathError};

/// The longest identifier that is read, in bytes.
pub const MAX_LENGTH: usize = 2048;

const PREFIX: &str = "did:x509:0:";
const FULCIO_ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");

/// Attribute types that identifiers write as labels (RFC 4514, section 3); all others stand as dotted numbers.
const LABELS: [(&str, ObjectIdentifier); 7] = [
    ("CN", ObjectIdentifier::new_unwrap("2.5.4.3")),
    ("L", ObjectIdentifier::new_unwrap("2.5.4.7")),
    ("ST", ObjectIdentifier::new_unwrap("2.5.4.8")),
    ("O", ObjectIdentifier::new_unwrap("2.5.4.10")),
    ("OU", ObjectIdentifier::new_unwrap("2.5.4.11")),
    ("C", ObjectIdentifier::new_unwrap("2.5.4.6")),
    ("STREET", ObjectIdentifier::new_unwrap("2.5.4.9")),
];

/// Why an identifier is none, or does not resolve with a chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DidError {
    /// Not a did:x509 of version 0, or too long.
    #[error("not a did:x509 of version 0")]
    Prefix,
    /// A DID URL with a path or a query.
    #[error("a DID URL with a path or a query")]
    Url,
    /// Another digest than SHA-256, SHA-384 or SHA-512.
    #[error("the authority's fingerprint is of an unknown kind")]
    Algorithm,
    /// Not base64url without padding, or of the wrong length; a policy's value is not percent-encoded.
    #[error("the identifier is malformed")]
    Syntax,
    /// It says nothing about the leaf.
    #[error("the identifier has no policy")]
    NoPolicy,
    /// A policy that this version does not have.
    #[error("the identifier has an unknown policy")]
    UnknownPolicy,
    /// A subject policy that is not made of keys and values.
    #[error("a subject policy needs keys with values")]
    SubjectPairs,
    /// A subject policy that names an attribute twice.
    #[error("a subject policy names an attribute twice")]
    SubjectTwice,
    /// A subject policy with a key that is neither a label nor an object identifier.
    #[error("a subject policy has an unknown key")]
    SubjectKey,
    /// A SAN policy that is not a type and a value.
    #[error("a SAN policy needs one type, email, dns or uri, and one value")]
    San,
    /// The chain does not hold together.
    #[error("the chain does not hold together")]
    Path(#[from] PathError),
    /// No authority of the chain has the digest.
    #[error("no authority of the chain has the fingerprint")]
    Fingerprint,
    /// A name of the chain has an attribute twice, or one that is no text.
    #[error("a certificate's subject has an attribute twice, or one that is not text")]
    Name,
    /// A certificate has an alternative name of a type that did:x509 does not know.
    #[error("a certificate has an alternative name of an unknown type")]
    AlternativeName,
    /// An extension of a certificate cannot be read.
    #[error("an extension cannot be read")]
    Extension,
    /// The leaf has not got the extension that a policy is about.
    #[error("the leaf has no {0} extension")]
    Missing(&'static str),
    /// The leaf says something else than a policy.
    #[error("the leaf does not meet the {0} policy")]
    Unmet(&'static str),
    /// The leaf's key is neither for signatures nor for key agreement.
    #[error("the leaf's key is neither for signatures nor for key agreement")]
    KeyUsage,
}

impl From<CertificateError> for DidError {
    fn from(_: CertificateError) -> Self {
        Self::Extension
    }
}

/// An identifier, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Did {
    id: String,
    authority: Fingerprint,
    policies: Vec<Policy>,
}

/// What an identifier resolves to, with one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The leaf's key signs for the identifier (`assertionMethod`).
    pub signs: bool,
    /// The leaf's key agrees on keys for the identifier (`keyAgreement`).
    pub agrees: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fingerprint {
    Sha256(Vec<u8>),
    Sha384(Vec<u8>),
    Sha512(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Policy {
    /// Attributes, by label or dotted number.
    Subject(Vec<(String, String)>),
    San(SanType, String),
    Eku(String),
    FulcioIssuer(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SanType {
    Email,
    Dns,
    Uri,
    Directory,
}

impl FromStr for Did {
    type Err = DidError;

    /// Reads an identifier. A fragment, as DID URLs have it, is left away.
    fn from_str(text: &str) -> Result<Self, DidError> {
        let id = text.split_once('#').map_or(text, |(id, _)| id);
        let rest = id.strip_prefix(PREFIX).filter(|_| id.len() <= MAX_LENGTH);
        let rest = rest.ok_or(DidError::Prefix)?;
        if rest.contains(['/', '?']) {
            return Err(DidError::Url);
        }
        let mut parts = rest.split("::");
        let authority = parts.next().unwrap_or_default().parse()?;
        let policies = parts.map(str::parse).collect::<Result<Vec<Policy>, _>>()?;
        if policies.is_empty() {
            return Err(DidError::NoPolicy);
        }
        Ok(Self { id: id.to_owned(), authority, policies })
    }
}

impl Did {
    /// The identifier, without a fragment.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the chain, leaf first, is one of this identifier, and what its leaf's key may be used for.
    ///
    /// # Errors
    ///
    /// [`DidError`].
    pub fn resolve(&self, chain: &[Certificate]) -> Result<Resolved, DidError> {
        path::verify_at_any_time(chain)?;
        self.resolve_verified(chain)
    }

    /// As [`resolve`](Self::resolve), of a chain that was found to hold together before.
    pub(crate) fn resolve_verified(&self, chain: &[Certificate]) -> Result<Resolved, DidError> {
        let [leaf, authorities @ ..] = chain else {
            return Err(PathError::Length(chain.len()).into());
        };
        if !authorities.iter().any(|authority| self.authority.is_of(authority)) {
            return Err(DidError::Fingerprint);
        }
        for authority in authorities {
            Names::of(authority)?;
        }
        let names = Names::of(leaf)?;
        self.policies.iter().try_for_each(|policy| policy.hold(leaf, &names))?;
        key_usage(leaf)
    }
}

impl FromStr for Fingerprint {
    type Err = DidError;

    fn from_str(text: &str) -> Result<Self, DidError> {
        let (algorithm, digest) = text.split_once(':').ok_or(DidError::Syntax)?;
        let digest = from_b64u(digest).ok_or(DidError::Syntax);
        let (length, kind): (usize, fn(Vec<u8>) -> Self) = match algorithm {
            "sha256" => (32, Self::Sha256),
            "sha384" => (48, Self::Sha384),
            "sha512" => (64, Self::Sha512),
            _ => return Err(DidError::Algorithm),
        };
        let digest = digest?;
        if digest.len() == length { Ok(kind(digest)) } else { Err(DidError::Syntax) }
    }
}

impl Fingerprint {
    fn is_of(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Sha256(digest) => digest.as_slice() == sha256(certificate.der()),
            Self::Sha384(digest) => digest.as_slice() == sha384(certificate.der()),
            Self::Sha512(digest) => digest.as_slice() == sha512(certificate.der()),
        }
    }
}

impl FromStr for Policy {
    type Err = DidError;

    fn from_str(text: &str) -> Result<Self, DidError> {
        let (name, value) = text.split_once(':').ok_or(DidError::Syntax)?;
        match name {
            "subject" => subject_policy(value),
            "san" => san_policy(value),
            "eku" if is_oid(value) => Ok(Self::Eku(value.to_owned())),
            "eku" => Err(DidError::Syntax),
            "fulcio-issuer" => Ok(Self::FulcioIssuer(percent_decoded(value)?)),
            _ => Err(DidError::UnknownPolicy),
        }
    }
}

fn subject_policy(value: &str) -> Result<Policy, DidError> {
    let mut attributes: Vec<(String, String)> = Vec::new();
    let mut items = value.split(':');
    while let Some(key) = items.next() {
        let value = percent_decoded(items.next().ok_or(DidError::SubjectPairs)?)?;
        if !is_oid(key) && !LABELS.iter().any(|(label, _)| *label == key) {
            return Err(DidError::SubjectKey);
        }
        if attributes.iter().any(|(other, _)| other == key) {
            return Err(DidError::SubjectTwice);
        }
        attributes.push((key.to_owned(), value));
    }
    Ok(Policy::Subject(attributes))
}

fn san_policy(value: &str) -> Result<Policy, DidError> {
    let (kind, value) = value.split_once(':').ok_or(DidError::San)?;
    let kind = match kind {
        "email" => SanType::Email,
        "dns" => SanType::Dns,
        "uri" => SanType::Uri,
        _ => return Err(DidError::San),
    };
    if value.contains(':') {
        return Err(DidError::San);
    }
    Ok(Policy::San(kind, percent_decoded(value)?))
}

fn is_oid(text: &str) -> bool {
    text.split('.').all(|arc| !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A value in percent-encoding (RFC 3986, section 2.1); anything but letters, digits, `-`, `.` and `_` must be.
fn percent_decoded(text: &str) -> Result<String, DidError> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let pair = [bytes.next(), bytes.next()].map(Option::unwrap_or_default);
                let mut decoded = [0];
                hex::decode_to_slice(pair, &mut decoded).map_err(|_| DidError::Syntax)?;
                let [byte] = decoded;
                byte
            }
            plain if plain.is_ascii_alphanumeric() || b"-._".contains(&plain) => plain,
            _ => return Err(DidError::Syntax),
        });
    }
    let text = String::from_utf8(out).map_err(|_| DidError::Syntax)?;
    if text.is_empty() { Err(DidError::Syntax) } else { Ok(text) }
}

impl Policy {
    fn hold(&self, leaf: &Certificate, names: &Names) -> Result<(), DidError> {
        let (met, name) = match self {
            Self::Subject(wanted) => {
                (wanted.iter().all(|one| names.subject.contains(one)), "subject")
            }
            Self::San(kind, value) => {
                let mut all = names.alternative.iter();
                (all.any(|(of, name)| of == kind && name == value), "SAN")
            }
            Self::Eku(wanted) => {
                let usages = leaf.decoded::<ExtendedKeyUsage>()?.ok_or(DidError::Missing("EKU"))?;
                (usages.0.iter().any(|usage| usage.to_string() == *wanted), "EKU")
            }
            Self::FulcioIssuer(wanted) => {
                let mut all = leaf.extensions().iter();
                let found = all.find(|extension| extension.extn_id == FULCIO_ISSUER);
                let issuer = found.ok_or(DidError::Missing("Fulcio issuer"))?.extn_value.as_bytes();
                (issuer == format!("https://{wanted}").as_bytes(), "Fulcio issuer")
            }
        };
        if met { Ok(()) } else { Err(DidError::Unmet(name)) }
    }
}

/// The names of a certificate in the specification's data model.
struct Names {
    subject: Vec<(String, String)>,
    alternative: Vec<(SanType, String)>,
}

impl Names {
    fn of(certificate: &Certificate) -> Result<Self, DidError> {
        let mut subject: Vec<(String, String)> = Vec::new();
        for attribute in certificate.subject().0.iter().flat_map(|relative| relative.0.iter()) {
            let label = LABELS.iter().find(|(_, of)| *of == attribute.oid).map(|(label, _)| *label);
            let key = label.map_or_else(|| attribute.oid.to_string(), str::to_owned);
            let value = text(&attribute.value).ok_or(DidError::Name)?;
            if subject.iter().any(|(other, _)| *other == key) {
                return Err(DidError::Name);
            }
            subject.push((key, value));
        }
        let names = certificate.decoded::<SubjectAltName>()?.map(|names| names.0);
        let alternative =
            names.unwrap_or_default().iter().map(alternative).collect::<Result<_, _>>()?;
        Ok(Self { subject, alternative })
    }
}

/// Directory names exist in the model, and no policy asks for them.
fn alternative(name: &GeneralName) -> Result<(SanType, String), DidError> {
    Ok(match name {
        GeneralName::Rfc822Name(name) => (SanType::Email, name.as_str().to_owned()),
        GeneralName::DnsName(name) => (SanType::Dns, name.as_str().to_owned()),
        GeneralName::UniformResourceIdentifier(name) => (SanType::Uri, name.as_str().to_owned()),
        GeneralName::DirectoryName(name) => (SanType::Directory, name.to_string()),
        _ => return Err(DidError::AlternativeName),
    })
}

fn text(value: &der::Any) -> Option<String> {
    let text = match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok()?.as_str().to_owned(),
        Tag::PrintableString => {
            value.decode_as::<PrintableStringRef<'_>>().ok()?.as_str().to_owned()
        }
        Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().ok()?.as_str().to_owned(),
        _ => return None,
    };
    Some(text)
}

fn key_usage(leaf: &Certificate) -> Result<Resolved, DidError> {
    let usage = leaf.decoded::<KeyUsage>()?;
    let signs = usage.as_ref().is_none_or(KeyUsage::digital_signature);
    let agrees = usage.as_ref().is_none_or(KeyUsage::key_agreement);
    if signs || agrees { Ok(Resolved { signs, agrees }) } else { Err(DidError::KeyUsage) }
}
