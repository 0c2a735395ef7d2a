//! COSE_Sign1 (RFC 9052, section 4.2) by the leaf of a certificate chain that stands in its protected header
//! (RFC 9360), with PS384 (RFC 8230) and nothing else.
//!
//! What the unprotected header says is never followed; a label that stands in both headers is refused. Whether
//! anybody believes the chain is not known here.

use ciborium::Value;

use crate::cbor::{self, Map};
use crate::certificate::{Certificate, CertificateError};
use crate::crypto::{self, BadSignature, sha256, sha384};
use crate::path;

/// The longest message that is read, in bytes. Microsoft's endorsements have about 11,000.
pub const MAX_LENGTH: usize = 64 * 1024;

const TAG: u64 = 18;
const PS384: i64 = -38;
const SHA_256: i64 = -16;
const SHA_384: i64 = -43;

/// Labels of header parameters.
mod label {
    pub(super) const ALG: i64 = 1;
    pub(super) const CRIT: i64 = 2;
    pub(super) const X5CHAIN: i64 = 33;
    pub(super) const X5T: i64 = 34;
}

/// Why a message is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoseError {
    /// Longer than [`MAX_LENGTH`].
    #[error("{0} bytes are too many for a COSE_Sign1")]
    TooLong(usize),
    /// Not a COSE_Sign1, tagged or not, with its payload inside.
    #[error("not a COSE_Sign1 with its payload inside")]
    Syntax,
    /// A header is no map, or says something twice.
    #[error("a header is no map, or a label stands there twice")]
    Header,
    /// Another algorithm.
    #[error("the algorithm is not PS384")]
    Algorithm,
    /// It asks for extensions to be understood.
    #[error("the header must not have crit")]
    Critical,
    /// No chain of certificates in the protected header, or too many.
    #[error("the protected header has no x5chain of at most {most} certificates", most = path::MAX_LENGTH)]
    Chain,
    /// A certificate of the chain cannot be read.
    #[error("a certificate of x5chain cannot be read")]
    Certificate(#[from] CertificateError),
    /// x5t names another certificate than the leaf.
    #[error("x5t is not the digest of the first certificate of x5chain")]
    Thumbprint,
}

/// A COSE_Sign1, taken apart. Nothing about it is verified.
#[derive(Clone)]
pub struct Sign1 {
    signed: Vec<u8>,
    signature: Vec<u8>,
    /// The protected header.
    pub(crate) protected: Map,
    /// The payload.
    pub(crate) payload: Vec<u8>,
    /// x5chain, the leaf first; at least one.
    chain: Vec<Certificate>,
}

impl Sign1 {
    /// Takes apart exactly one message.
    ///
    /// # Errors
    ///
    /// [`CoseError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CoseError> {
        if bytes.len() > MAX_LENGTH {
            return Err(CoseError::TooLong(bytes.len()));
        }
        let (protected, unprotected, payload, signature) = parts(bytes).ok_or(CoseError::Syntax)?;
        let header = cbor::decode(&protected).and_then(Map::new).ok_or(CoseError::Header)?;
        let beside = Map::new(unprotected).ok_or(CoseError::Header)?;
        if header.overlaps(&beside) {
            return Err(CoseError::Header);
        }
        if header.get(label::ALG) != Some(&PS384.into()) {
            return Err(CoseError::Algorithm);
        }
        if header.get(label::CRIT).is_some() || beside.get(label::CRIT).is_some() {
            return Err(CoseError::Critical);
        }
        let chain = chain(&header)?;
        thumbprint(&header, &chain)?;
        let signed = sig_structure(&protected, &payload);
        Ok(Self { signed, signature, protected: header, payload, chain })
    }

    /// x5chain, the leaf first.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// Whether the leaf's key signed the protected header and the payload. Says nothing about the leaf.
    ///
    /// # Errors
    ///
    /// [`BadSignature`], also if the leaf's key is no RSA key.
    pub fn verify(&self) -> Result<(), BadSignature> {
        let key = self.chain.first().and_then(Certificate::rsa_key).ok_or(BadSignature)?;
        crypto::verify_pss_sha384(key, &self.signed, &self.signature)
    }
}

type Parts = (Vec<u8>, Value, Vec<u8>, Vec<u8>);

fn parts(bytes: &[u8]) -> Option<Parts> {
    let message = match cbor::decode(bytes)? {
        Value::Tag(TAG, message) => *message,
        untagged => untagged,
    };
    let parts: [Value; 4] = message.into_array().ok()?.try_into().ok()?;
    let [protected, unprotected, payload, signature] = parts;
    let bytes = |value: Value| value.into_bytes().ok();
    Some((bytes(protected)?, unprotected, bytes(payload)?, bytes(signature)?))
}

fn chain(header: &Map) -> Result<Vec<Certificate>, CoseError> {
    let entries = match header.get(label::X5CHAIN) {
        Some(one @ Value::Bytes(_)) => std::slice::from_ref(one),
        Some(Value::Array(entries)) => entries.as_slice(),
        _ => return Err(CoseError::Chain),
    };
    if !(1..=path::MAX_LENGTH).contains(&entries.len()) {
        return Err(CoseError::Chain);
    }
    entries
        .iter()
        .map(|entry| Ok(Certificate::from_der(entry.as_bytes().ok_or(CoseError::Chain)?)?))
        .collect()
}

/// x5t may be left out (RFC 9360, section 2); a digest that is not judged here is refused.
fn thumbprint(header: &Map, chain: &[Certificate]) -> Result<(), CoseError> {
    let Some(given) = header.get(label::X5T) else { return Ok(()) };
    let leaf = chain.first().map(Certificate::der).unwrap_or_default();
    let expected: [(i64, &[u8]); 2] = [(SHA_256, &sha256(leaf)), (SHA_384, &sha384(leaf))];
    let matches = expected.iter().any(|(algorithm, digest)| {
        *given == Value::Array(vec![(*algorithm).into(), Value::Bytes(digest.to_vec())])
    });
    if matches { Ok(()) } else { Err(CoseError::Thumbprint) }
}

/// What is signed (RFC 9052, section 4.4), without external data.
fn sig_structure(protected: &[u8], payload: &[u8]) -> Vec<u8> {
    let structure = Value::Array(vec![
        "Signature1".into(),
        Value::Bytes(protected.to_vec()),
        Value::Bytes(Vec::new()),
        Value::Bytes(payload.to_vec()),
    ]);
    let mut out = Vec::new();
    ciborium::into_writer(&structure, &mut out).expect("writing bytes to memory cannot fail");
    out
}
