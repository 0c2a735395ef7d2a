//! Endorsements of utility VMs: what Microsoft signs about the launch measurement of the virtual machine that a
//! container group runs in.
//!
//! A COSE_Sign1 in one of two forms. The older one has issuer, feed and time in the protected header and a JSON
//! payload; the newer one has them as CWT claims (RFC 8392, 9597) and the bare measurement as its payload. Both
//! come out as one [`Endorsement`]. A `Verified<Endorsement>` is authentic: the signature verifies, the path was
//! valid at the time of signing, the did:x509 resolves, and the verifier's anchors believe it. Reading is done
//! here, judging in the table of checks.

use ciborium::Value;
use serde::Deserialize;

use crate::cbor::{self, Map};
use crate::cose::{CoseError, Sign1};
use crate::policy::Hex;

const TAG_EPOCH: u64 = 1;
const SHA_384: i64 = -43;

/// Labels of header parameters (RFC 9052, 9597, and those of COSE hash envelopes).
mod label {
    pub(super) const CONTENT_TYPE: i64 = 3;
    pub(super) const CWT_CLAIMS: i64 = 15;
    pub(super) const PAYLOAD_HASH_ALG: i64 = 258;
    pub(super) const PREIMAGE_CONTENT_TYPE: i64 = 259;
}

/// Keys of CWT claims (RFC 8392, section 4).
mod claim {
    pub(super) const ISS: i64 = 1;
    pub(super) const SUB: i64 = 2;
    pub(super) const IAT: i64 = 6;
}

/// Why bytes are no endorsement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UvmError {
    /// No COSE_Sign1 as it should be.
    #[error(transparent)]
    Cose(#[from] CoseError),
    /// Something is missing or malformed.
    #[error("{0} is missing or malformed")]
    Part(&'static str),
    /// It mixes the two forms.
    #[error("it mixes two forms of endorsement")]
    Form,
    /// The version as text and as number are two versions.
    #[error("its security version is {text} as text and {number} as number")]
    Versions {
        /// `x-ms-sevsnpvm-guestsvn`.
        text: u64,
        /// `x-ms-sevsnpvm-guestsvn-int`.
        number: u64,
    },
}

/// What an endorsement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// Who says it: a did:x509.
    pub issuer: String,
    /// Which kind of image it is about.
    pub feed: String,
    /// The image's security version.
    pub svn: u64,
    /// The launch measurement of the image.
    pub measurement: [u8; 48],
    /// When it was signed, in Unix seconds, by the signer's own clock.
    pub signed_at: u64,
}

/// An endorsement with its signature. Nothing about it is verified.
pub(crate) struct Signed {
    pub(crate) says: Endorsement,
    pub(crate) sign1: Sign1,
}

impl Signed {
    /// Reads an endorsement of either form.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, UvmError> {
        let sign1 = Sign1::decode(bytes)?;
        let json = ["iss", "feed", "signingtime"].iter().any(|l| sign1.protected.get(*l).is_some());
        let says = match (json, sign1.protected.get(label::CWT_CLAIMS)) {
            (true, None) => from_json(&sign1)?,
            (false, Some(claims)) => from_claims(&sign1, claims)?,
            (true, Some(_)) => return Err(UvmError::Form),
            (false, None) => return Err(UvmError::Part("issuer")),
        };
        Ok(Self { says, sign1 })
    }
}

/// The payload's members that are looked at. Serde refuses one that stands there twice.
#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "x-ms-sevsnpvm-guestsvn")]
    svn_text: Option<String>,
    #[serde(rename = "x-ms-sevsnpvm-guestsvn-int")]
    svn_number: Option<u64>,
    #[serde(rename = "x-ms-sevsnpvm-launchmeasurement")]
    measurement: Hex<48>,
}

fn from_json(sign1: &Sign1) -> Result<Endorsement, UvmError> {
    let header = &sign1.protected;
    if header.text(label::CONTENT_TYPE) != Some("application/json") {
        return Err(UvmError::Part("content type"));
    }
    let payload: Payload =
        serde_json::from_slice(&sign1.payload).map_err(|_| UvmError::Part("payload"))?;
    let signed_at = match header.get("signingtime") {
        Some(Value::Tag(TAG_EPOCH, seconds)) => cbor::unsigned(seconds),
        _ => None,
    };
    Ok(Endorsement {
        issuer: header.text("iss").ok_or(UvmError::Part("issuer"))?.to_owned(),
        feed: header.text("feed").ok_or(UvmError::Part("feed"))?.to_owned(),
        svn: svn(payload.svn_text.as_deref(), payload.svn_number)?,
        measurement: payload.measurement.0,
        signed_at: signed_at.ok_or(UvmError::Part("signing time"))?,
    })
}

fn from_claims(sign1: &Sign1, claims: &Value) -> Result<Endorsement, UvmError> {
    let header = &sign1.protected;
    let mut types = [label::CONTENT_TYPE, label::PREIMAGE_CONTENT_TYPE]
        .into_iter()
        .filter_map(|label| header.get(label));
    if (types.next(), types.next()) != (Some(&"application/octet-stream".into()), None) {
        return Err(UvmError::Part("content type"));
    }
    if header.get(label::PAYLOAD_HASH_ALG).is_some_and(|given| *given != SHA_384.into()) {
        return Err(UvmError::Part("payload hash algorithm"));
    }
    let claims = Map::new(claims.clone()).ok_or(UvmError::Part("set of claims"))?;
    let payload = sign1.payload.as_slice();
    Ok(Endorsement {
        issuer: claims.text(claim::ISS).ok_or(UvmError::Part("issuer"))?.to_owned(),
        feed: claims.text(claim::SUB).ok_or(UvmError::Part("feed"))?.to_owned(),
        svn: claims.unsigned("svn").ok_or(UvmError::Part("security version"))?,
        measurement: payload.try_into().map_err(|_| UvmError::Part("payload"))?,
        signed_at: claims.unsigned(claim::IAT).ok_or(UvmError::Part("signing time"))?,
    })
}

/// One version of the two ways to say it, which must agree: `"22"` is less than `"100"` as a number only.
fn svn(text: Option<&str>, number: Option<u64>) -> Result<u64, UvmError> {
    let malformed = UvmError::Part("security version");
    let text = text.map(|text| parse_svn(text).ok_or(malformed.clone())).transpose()?;
    match (text, number) {
        (Some(text), Some(number)) if text != number => Err(UvmError::Versions { text, number }),
        (text, number) => number.or(text).ok_or(malformed),
    }
}

/// A security version as text: decimal digits, no sign, no space, no leading zero.
pub(crate) fn parse_svn(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok())?
}
