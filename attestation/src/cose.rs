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
    let digest = match given.as_array().and_then(|parts| parts.first()?.as_integer()) {
        Some(algorithm) if algorithm == SHA_256.into() => sha256(leaf).to_vec(),
        Some(algorithm) if algorithm == SHA_384.into() => sha384(leaf).to_vec(),
        _ => return Err(CoseError::Thumbprint),
    };
    let matches = matches!(given.as_array().map(Vec::as_slice),
        Some([_, Value::Bytes(given)]) if *given == digest);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Form, Maker, cbor};

    fn refused(bytes: &[u8]) -> CoseError {
        Sign1::decode(bytes).err().unwrap()
    }

    #[test]
    fn a_message_is_read_with_and_without_its_tag_and_verifies() {
        let maker = Maker::new();
        let tagged = maker.sign(&maker.says(Form::Json));
        let untagged = &tagged[1..];
        for bytes in [tagged.as_slice(), untagged] {
            let message = Sign1::decode(bytes).unwrap();
            assert_eq!(message.verify(), Ok(()));
            assert_eq!(message.chain().len(), 3);
        }
        let twice = cbor(&Value::Tag(18, Box::new(cbor::decode(&tagged).unwrap())));
        assert_eq!(refused(&twice), CoseError::Syntax, "tagged twice");
        assert_eq!(refused(&[&[0xd1], untagged].concat()), CoseError::Syntax, "COSE_Mac0's tag");
    }

    #[test]
    fn one_changed_bit_anywhere_is_noticed() {
        let maker = Maker::new();
        let message = maker.sign(&maker.says(Form::Claims));
        for at in (0..message.len()).step_by(7).chain([message.len() - 1]) {
            let mut changed = message.clone();
            changed[at] ^= 1;
            let verdict = Sign1::decode(&changed).map(|message| message.verify());
            assert!(!matches!(verdict, Ok(Ok(()))), "byte {at}");
        }
        for length in 0..message.len() {
            assert!(Sign1::decode(&message[..length]).is_err(), "cut to {length} bytes");
        }
        let longer = [message.as_slice(), &[0]].concat();
        assert_eq!(refused(&longer), CoseError::Syntax, "a byte after the message");
        assert_eq!(refused(&vec![0; MAX_LENGTH + 1]), CoseError::TooLong(MAX_LENGTH + 1));
    }

    #[test]
    fn another_leaf_does_not_verify() {
        let (maker, other) = (Maker::new(), Maker::new());
        let theirs = other.sign(&maker.says(Form::Json));
        assert_eq!(Sign1::decode(&theirs).unwrap().verify(), Err(BadSignature));
    }

    #[test]
    fn a_leaf_on_a_curve_does_not_verify() {
        let maker = Maker::new();
        let rotated: Vec<Value> =
            maker.chain[1..].iter().map(|one| Value::Bytes(one.der().to_vec())).collect();
        let says = maker.says(Form::Json).set(33, Value::Array(rotated)).without(34);
        assert_eq!(Sign1::decode(&maker.sign(&says)).unwrap().verify(), Err(BadSignature));
    }

    #[test]
    fn the_algorithm_is_ps384_and_protected() {
        let maker = Maker::new();
        let says = || maker.says(Form::Json);
        for other in [-37, -39, -35, -257, -258, -259, 5] {
            assert_eq!(
                refused(&maker.sign(&says().set(1, other))),
                CoseError::Algorithm,
                "{other}"
            );
        }
        for named in [says().set(1, "PS384"), says().without(1), says().unprotect(1)] {
            assert_eq!(refused(&maker.sign(&named)), CoseError::Algorithm);
        }
    }

    #[test]
    fn critical_headers_are_refused() {
        let maker = Maker::new();
        let critical = maker.says(Form::Json).set(2, Value::Array(vec![1.into()]));
        assert_eq!(refused(&maker.sign(&critical)), CoseError::Critical);
        assert_eq!(refused(&maker.sign(&critical.unprotect(2))), CoseError::Critical);
    }

    #[test]
    fn a_label_stands_once_in_both_headers_together() {
        let maker = Maker::new();
        let mut double = maker.says(Form::Json);
        double.protected.push((1.into(), (-38).into()));
        assert_eq!(refused(&maker.sign(&double)), CoseError::Header);

        let mut beside = maker.says(Form::Json);
        beside.unprotected.push((1.into(), (-38).into()));
        assert_eq!(refused(&maker.sign(&beside)), CoseError::Header, "alg in both");

        let mut beside = maker.says(Form::Json);
        beside.unprotected = vec![("timestamp".into(), 1.into()), ("timestamp".into(), 2.into())];
        assert_eq!(
            refused(&maker.sign(&beside)),
            CoseError::Header,
            "twice in the unprotected one"
        );
    }

    #[test]
    fn headers_that_are_not_maps_are_refused() {
        let maker = Maker::new();
        let says = maker.says(Form::Json);
        for raw in [&b""[..], &[0x80], &[0xa0, 0xa0], &[0xff], &[0xa1, 0x01]] {
            assert_eq!(refused(&maker.sign_raw(raw.to_vec(), &says)), CoseError::Header, "{raw:?}");
        }
        assert_eq!(refused(&maker.sign_raw(vec![0xa0], &says)), CoseError::Algorithm, "empty");
    }

    #[test]
    fn the_chain_is_protected_and_bounded() {
        let maker = Maker::new();
        let says = || maker.says(Form::Json);
        let leaf = Value::Bytes(maker.chain[0].der().to_vec());
        for without in [
            says().without(33),
            says().unprotect(33),
            says().set(33, Value::Array(vec![])),
            says().set(33, Value::Array(vec![leaf.clone(); 9])),
            says().set(33, Value::Array(vec![1.into()])),
            says().set(33, "chain"),
        ] {
            assert_eq!(refused(&maker.sign(&without)), CoseError::Chain);
        }
        let broken = says().set(33, Value::Array(vec![leaf.clone(), Value::Bytes(vec![0x30])]));
        assert!(matches!(refused(&maker.sign(&broken)), CoseError::Certificate(_)));
        let alone = Sign1::decode(&maker.sign(&says().set(33, leaf))).unwrap();
        assert_eq!((alone.chain().len(), alone.verify()), (1, Ok(())), "RFC 9360: one, bare");
    }

    #[test]
    fn a_thumbprint_is_the_leafs_or_absent() {
        let maker = Maker::new();
        let says = || maker.says(Form::Json);
        let print = |algorithm: i64, digest: &[u8]| {
            Value::Array(vec![algorithm.into(), Value::Bytes(digest.to_vec())])
        };
        let leaf = maker.chain[0].der();
        for good in [says().without(34), says().set(34, print(-43, &sha384(leaf)))] {
            assert!(Sign1::decode(&maker.sign(&good)).is_ok());
        }
        for wrong in [
            print(-16, &sha256(maker.chain[1].der())),
            print(-16, &sha384(leaf)),
            print(-44, &sha384(leaf)),
            print(-15, &sha256(leaf)[..8]),
            Value::Bytes(sha256(leaf).to_vec()),
        ] {
            assert_eq!(refused(&maker.sign(&says().set(34, wrong))), CoseError::Thumbprint);
        }
    }

    #[test]
    fn a_payload_elsewhere_is_refused() {
        let detached = Value::Array(vec![
            Value::Bytes(vec![0xa0]),
            Value::Map(vec![]),
            Value::Null,
            Value::Bytes(vec![]),
        ]);
        assert_eq!(refused(&cbor(&detached)), CoseError::Syntax);
        assert_eq!(refused(&cbor(&Value::Array(vec![]))), CoseError::Syntax);
        assert_eq!(refused(&[0x9f; 1000]), CoseError::Syntax, "arrays without end");
    }

    /// The signature is over the bytes of the protected header, in whatever pieces they come: the pieces say
    /// nothing, so that they may differ.
    #[test]
    fn bytes_in_pieces_are_the_same_bytes() {
        let maker = Maker::new();
        let message = maker.sign(&maker.says(Form::Json));
        let Value::Tag(_, parts) = cbor::decode(&message).unwrap() else { panic!("as signed") };
        let parts = parts.into_array().unwrap();
        let mut pieces = vec![0x84, 0x5f];
        for piece in parts[0].as_bytes().unwrap().chunks(100) {
            pieces.extend(cbor(&Value::Bytes(piece.to_vec())));
        }
        pieces.push(0xff);
        pieces.extend(parts[1..].iter().flat_map(cbor));
        assert_eq!(Sign1::decode(&pieces).unwrap().verify(), Ok(()));
    }
}
