//! Endorsements of utility VM images: what Microsoft signs about the launch measurement.
//!
//! Must not know: reports or policies. An endorsement is a COSE_Sign1 (RFC 9052 section 4.2)
//! with PS384 and a certificate chain in the protected header (RFC 9360), in one of two forms:
//! the JSON payload of today's images, or CWT claims (RFC 9597) over the bare measurement.

use ciborium::Value;
use der::Encode as _;
use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::pss::{Signature, SigningKey, VerifyingKey};
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _, Verifier as _};
use serde_json::json;
use sha2::{Digest as _, Sha256, Sha384};
use x509_cert::Certificate;

use crate::json::set;
use crate::pki::microsoft::{UvmSigner, did_x509};
use crate::pki::{PkiError, certificate, chain};
use crate::seed::Seed;

/// The feed of Azure's confidential container images.
pub const FEED: &str = "ContainerPlat-AMD-UVM";
/// The security version of the default image.
pub const DEFAULT_SVN: u32 = 104;
/// When the default endorsement was signed: 2025-10-20T00:00:00Z.
pub const SIGNED_AT: u64 = 1_760_918_400;

const MAX_LEN: usize = 64 * 1024;
const TAG_SIGN1: u64 = 18;
const TAG_EPOCH: u64 = 1;
const PS384: i64 = -38;
const SHA256: i64 = -16;
const SHA384: i64 = -43;

/// Labels of COSE header parameters.
mod label {
    pub(super) const ALG: i64 = 1;
    pub(super) const CONTENT_TYPE: i64 = 3;
    pub(super) const CWT_CLAIMS: i64 = 15;
    pub(super) const X5CHAIN: i64 = 33;
    pub(super) const X5T: i64 = 34;
    pub(super) const PAYLOAD_HASH_ALG: i64 = 258;
    pub(super) const PREIMAGE_CONTENT_TYPE: i64 = 259;
}

/// Keys of CWT claims (RFC 8392 section 4).
mod claim {
    pub(super) const ISS: i64 = 1;
    pub(super) const SUB: i64 = 2;
    pub(super) const IAT: i64 = 6;
    pub(super) const SVN: &str = "svn";
}

/// An endorsement that cannot be made, read or trusted.
#[derive(Debug, thiserror::Error)]
pub enum UvmError {
    /// Not the CBOR of a COSE_Sign1, or one with a missing or surprising part.
    #[error("malformed endorsement: {0}")]
    Malformed(&'static str),
    /// A certificate is malformed, or the chain does not hold.
    #[error("the endorsement's certificates")]
    Chain(#[from] PkiError),
    /// The chain does not carry the issuer that was expected.
    #[error("issuer {actual:?} is not the trusted one")]
    Issuer {
        /// The `iss` that came.
        actual: String,
    },
    /// The signature does not verify, or could not be made.
    #[error("the endorsement's signature does not verify")]
    Signature(#[from] rsa::signature::Error),
}

/// The two forms in which endorsements are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UvmForm {
    /// JSON payload with the security version as text and as number.
    #[default]
    Json,
    /// JSON payload as before 2025-10, with the security version as text only.
    JsonTextSvn,
    /// CWT claims in the protected header, the payload is the measurement's 48 bytes.
    CwtClaims,
}

/// What an endorsement says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UvmEndorsement {
    /// The signer's did:x509.
    pub issuer: String,
    /// The feed: which kind of image.
    pub feed: String,
    /// Launch measurement of the image.
    pub measurement: [u8; 48],
    /// Security version as text, where the form has it.
    pub svn_text: Option<String>,
    /// Security version as number, where the form has it.
    pub svn: Option<u32>,
    /// When it was signed, by the signer's own claim.
    pub signed_at: Option<u64>,
}

/// Signs an endorsement of one measurement.
///
/// # Errors
/// [`UvmError`] when a part does not encode.
pub fn endorse(
    signer: &UvmSigner,
    seed: &Seed,
    measurement: &[u8; 48],
    svn: u32,
    form: UvmForm,
) -> Result<Vec<u8>, UvmError> {
    let protected = to_cbor(&protected_header(signer, svn, form)?)?;
    let payload = match form {
        UvmForm::CwtClaims => measurement.to_vec(),
        UvmForm::Json | UvmForm::JsonTextSvn => json_payload(measurement, svn, form),
    };
    let message = sig_structure(&protected, &payload)?;
    let salt = format!("uvm/salt/{}", hex::encode(Sha256::digest(&message)));
    let signature = SigningKey::<Sha384>::new_with_salt_len(signer.key.clone(), 48)
        .try_sign_with_rng(&mut seed.rng(&salt), &message)?;
    let sign1 = Value::Array(vec![
        Value::Bytes(protected),
        Value::Map(Vec::new()),
        Value::Bytes(payload),
        Value::Bytes(signature.to_vec()),
    ]);
    to_cbor(&Value::Tag(TAG_SIGN1, Box::new(sign1)))
}

fn protected_header(signer: &UvmSigner, svn: u32, form: UvmForm) -> Result<Value, UvmError> {
    let chain = signer
        .chain()
        .iter()
        .map(|certificate| Ok(Value::Bytes(certificate.to_der().map_err(PkiError::Der)?)))
        .collect::<Result<Vec<_>, UvmError>>()?;
    let leaf = chain.first().and_then(Value::as_bytes).ok_or(UvmError::Malformed("no leaf"))?;
    let x5t = Value::Array(vec![SHA256.into(), Value::Bytes(Sha256::digest(leaf).to_vec())]);
    let did = Value::from(signer.did());
    Ok(Value::Map(match form {
        UvmForm::Json | UvmForm::JsonTextSvn => vec![
            (label::ALG.into(), PS384.into()),
            (label::CONTENT_TYPE.into(), "application/json".into()),
            (label::X5CHAIN.into(), Value::Array(chain)),
            (label::X5T.into(), x5t),
            ("iss".into(), did),
            ("feed".into(), FEED.into()),
            ("signingtime".into(), Value::Tag(TAG_EPOCH, Box::new(SIGNED_AT.into()))),
        ],
        UvmForm::CwtClaims => vec![
            (label::ALG.into(), PS384.into()),
            (
                label::CWT_CLAIMS.into(),
                Value::Map(vec![
                    (claim::ISS.into(), did),
                    (claim::SUB.into(), FEED.into()),
                    (claim::IAT.into(), SIGNED_AT.into()),
                    (claim::SVN.into(), svn.into()),
                ]),
            ),
            (label::X5CHAIN.into(), Value::Array(chain)),
            (label::X5T.into(), x5t),
            (label::PAYLOAD_HASH_ALG.into(), SHA384.into()),
            (label::PREIMAGE_CONTENT_TYPE.into(), "application/octet-stream".into()),
        ],
    }))
}

/// The payload as it is published: indented by two spaces.
fn json_payload(measurement: &[u8; 48], svn: u32, form: UvmForm) -> Vec<u8> {
    let number = match form {
        UvmForm::Json => format!("\n  \"x-ms-sevsnpvm-guestsvn-int\": {svn},"),
        UvmForm::JsonTextSvn | UvmForm::CwtClaims => String::new(),
    };
    format!(
        "{{\n  \"x-ms-sevsnpvm-guestsvn\": \"{svn}\",{number}\n  \
         \"x-ms-sevsnpvm-launchmeasurement\": \"{}\"\n}}",
        hex::encode(measurement)
    )
    .into_bytes()
}

/// Verifies an endorsement against the one did:x509 that is trusted. Certificates are judged at
/// the claimed time of signing, since leaves live for a year and images for longer; at `now`
/// when there is none.
///
/// # Errors
/// [`UvmError`] with the first thing that is wrong.
pub fn verify(bytes: &[u8], trusted_did: &str, now: u64) -> Result<UvmEndorsement, UvmError> {
    let [protected, payload, signature] = sign1_parts(bytes)?;
    let header = Header::parse(&protected)?;
    if header.issuer != trusted_did {
        return Err(UvmError::Issuer { actual: header.issuer });
    }
    let certificates =
        header.chain.iter().map(|der| certificate::from_der(der)).collect::<Result<Vec<_>, _>>()?;
    let root = trusted_root(&certificates, trusted_did)?;
    chain::verify(&certificates, &[root], header.signed_at.unwrap_or(now))?;

    let leaf = certificates.first().ok_or(UvmError::Malformed("no leaf"))?;
    let key = leaf
        .tbs_certificate
        .subject_public_key_info
        .to_der()
        .ok()
        .and_then(|spki| RsaPublicKey::from_public_key_der(&spki).ok())
        .ok_or(UvmError::Malformed("the leaf's key is no RSA key"))?;
    let signature = Signature::try_from(signature.as_slice())?;
    VerifyingKey::<Sha384>::new_with_salt_len(key, 48)
        .verify(&sig_structure(&protected, &payload)?, &signature)?;
    header.endorsement(&payload)
}

/// The certificate authority of the chain that the did names, provided the leaf has its usage.
fn trusted_root(certificates: &[Certificate], did: &str) -> Result<Certificate, UvmError> {
    let leaf = certificates.first().ok_or(UvmError::Malformed("no leaf"))?;
    for usage in chain::extended_key_usages(leaf)? {
        for root in certificates.iter().skip(1) {
            if did_x509(root, usage)? == did {
                return Ok(root.clone());
            }
        }
    }
    Err(UvmError::Chain(PkiError::Chain("no certificate of the chain is the did's")))
}

/// Protected header, payload and signature of a tagged COSE_Sign1.
fn sign1_parts(bytes: &[u8]) -> Result<[Vec<u8>; 3], UvmError> {
    let Value::Tag(TAG_SIGN1, sign1) = from_cbor(bytes)? else {
        return Err(UvmError::Malformed("no COSE_Sign1 tag"));
    };
    let parts = sign1.into_array().map_err(|_| UvmError::Malformed("no array"))?;
    let [protected, unprotected, payload, signature]: [Value; 4] =
        parts.try_into().map_err(|_| UvmError::Malformed("not four parts"))?;
    if !unprotected.is_map() {
        return Err(UvmError::Malformed("no unprotected header"));
    }
    let bytes = |value: Value| value.into_bytes().map_err(|_| UvmError::Malformed("no bytes"));
    Ok([bytes(protected)?, bytes(payload)?, bytes(signature)?])
}

/// The protected header of either form.
struct Header {
    issuer: String,
    feed: String,
    signed_at: Option<u64>,
    /// `Some` in the form with CWT claims.
    svn: Option<u32>,
    chain: Vec<Vec<u8>>,
}

impl Header {
    fn parse(protected: &[u8]) -> Result<Self, UvmError> {
        let map = CborMap(from_cbor(protected)?);
        if map.integer(label::ALG) != Some(i128::from(PS384)) {
            return Err(UvmError::Malformed("the algorithm is not PS384"));
        }
        let content_type = map
            .text(label::CONTENT_TYPE)
            .or_else(|| map.text(label::PREIMAGE_CONTENT_TYPE))
            .ok_or(UvmError::Malformed("no content type"))?;
        let chain = map.get(label::X5CHAIN).and_then(Value::as_array).map(|chain| {
            chain.iter().map(|item| item.as_bytes().cloned()).collect::<Option<Vec<_>>>()
        });
        let chain = chain.flatten().ok_or(UvmError::Malformed("no certificate chain"))?;
        match content_type.as_str() {
            "application/json" => Ok(Self {
                issuer: map.text("iss").ok_or(UvmError::Malformed("no iss"))?,
                feed: map.text("feed").ok_or(UvmError::Malformed("no feed"))?,
                signed_at: map.epoch("signingtime"),
                svn: None,
                chain,
            }),
            "application/octet-stream" => {
                let claims = map.get(label::CWT_CLAIMS).cloned().map(CborMap);
                let claims = claims.ok_or(UvmError::Malformed("no CWT claims"))?;
                let svn = claims.integer(claim::SVN).and_then(|svn| u32::try_from(svn).ok());
                Ok(Self {
                    issuer: claims.text(claim::ISS).ok_or(UvmError::Malformed("no iss"))?,
                    feed: claims.text(claim::SUB).ok_or(UvmError::Malformed("no sub"))?,
                    signed_at: claims.epoch(claim::IAT),
                    svn: Some(svn.ok_or(UvmError::Malformed("no svn"))?),
                    chain,
                })
            }
            _ => Err(UvmError::Malformed("unknown content type")),
        }
    }

    fn endorsement(self, payload: &[u8]) -> Result<UvmEndorsement, UvmError> {
        let (measurement, svn_text, svn) = match self.svn {
            Some(svn) => {
                let measurement = payload.try_into();
                (measurement.map_err(|_| UvmError::Malformed("no 48 bytes"))?, None, Some(svn))
            }
            None => read_json_payload(payload)?,
        };
        Ok(UvmEndorsement {
            issuer: self.issuer,
            feed: self.feed,
            measurement,
            svn_text,
            svn,
            signed_at: self.signed_at,
        })
    }
}

type JsonPayload = ([u8; 48], Option<String>, Option<u32>);

fn read_json_payload(payload: &[u8]) -> Result<JsonPayload, UvmError> {
    let payload: serde_json::Value =
        serde_json::from_slice(payload).map_err(|_| UvmError::Malformed("payload is no JSON"))?;
    let measurement = payload
        .get("x-ms-sevsnpvm-launchmeasurement")
        .and_then(serde_json::Value::as_str)
        .and_then(|text| hex::decode(text).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(UvmError::Malformed("no launch measurement"))?;
    let text = payload.get("x-ms-sevsnpvm-guestsvn").and_then(serde_json::Value::as_str);
    let text = text.ok_or(UvmError::Malformed("no guest svn"))?.to_owned();
    let number = match payload.get("x-ms-sevsnpvm-guestsvn-int") {
        None => None,
        Some(number) => Some(
            number
                .as_u64()
                .and_then(|number| u32::try_from(number).ok())
                .ok_or(UvmError::Malformed("guest svn is no number"))?,
        ),
    };
    Ok((measurement, Some(text), number))
}

impl UvmEndorsement {
    /// The value of the token claim `x-ms-sevsnpvm-uvm-endorsement`.
    #[must_use]
    pub fn claim(&self) -> serde_json::Value {
        let mut claim = json!({
            "x-ms-sevsnpvm-launchmeasurement": hex::encode(self.measurement),
        });
        if let Some(text) = &self.svn_text {
            set(&mut claim, "x-ms-sevsnpvm-guestsvn", text.as_str());
        }
        if let Some(svn) = self.svn {
            set(&mut claim, "x-ms-sevsnpvm-guestsvn-int", svn);
            if self.svn_text.is_none() {
                set(&mut claim, "x-ms-sevsnpvm-guestsvn", svn.to_string());
            }
        }
        claim
    }
}

/// Sig_structure (RFC 9052 section 4.4) without external data.
fn sig_structure(protected: &[u8], payload: &[u8]) -> Result<Vec<u8>, UvmError> {
    to_cbor(&Value::Array(vec![
        "Signature1".into(),
        Value::Bytes(protected.to_vec()),
        Value::Bytes(Vec::new()),
        Value::Bytes(payload.to_vec()),
    ]))
}

fn to_cbor(value: &Value) -> Result<Vec<u8>, UvmError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).map_err(|_| UvmError::Malformed("not encodable"))?;
    Ok(bytes)
}

fn from_cbor(bytes: &[u8]) -> Result<Value, UvmError> {
    if bytes.len() > MAX_LEN {
        return Err(UvmError::Malformed("too long"));
    }
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, 16)
        .map_err(|_| UvmError::Malformed("not CBOR"))?;
    if rest.is_empty() { Ok(value) } else { Err(UvmError::Malformed("trailing bytes")) }
}

/// A CBOR map, looked up by label.
struct CborMap(Value);

impl CborMap {
    fn get(&self, key: impl Into<Value>) -> Option<&Value> {
        let key = key.into();
        self.0.as_map()?.iter().find(|(label, _)| *label == key).map(|(_, value)| value)
    }

    fn text(&self, key: impl Into<Value>) -> Option<String> {
        self.get(key)?.as_text().map(str::to_owned)
    }

    fn integer(&self, key: impl Into<Value>) -> Option<i128> {
        self.get(key)?.as_integer().map(i128::from)
    }

    /// A time, tagged or bare.
    fn epoch(&self, key: impl Into<Value>) -> Option<u64> {
        let value = self.get(key)?;
        let value = value.as_tag().map_or(value, |(_, inner)| inner);
        value.as_integer().and_then(|seconds| u64::try_from(seconds).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::pki::KeyRing;
    use crate::testing;

    const MEASUREMENT: [u8; 48] = [0x5f; 48];

    fn signer(seed: &str) -> UvmSigner {
        UvmSigner::derive(&KeyRing::new(Seed::new(seed), testing::state())).unwrap()
    }

    #[test]
    fn every_form_verifies_and_says_what_it_endorses() {
        let signer = signer("laptop");
        for (form, text, number) in [
            (UvmForm::Json, Some("104".to_owned()), Some(104)),
            (UvmForm::JsonTextSvn, Some("104".to_owned()), None),
            (UvmForm::CwtClaims, None, Some(104)),
        ] {
            let cose = endorse(&signer, &Seed::default(), &MEASUREMENT, 104, form).unwrap();
            let endorsement = verify(&cose, signer.did(), clock::now()).unwrap();
            assert_eq!(endorsement.measurement, MEASUREMENT);
            assert_eq!(endorsement.feed, FEED);
            assert_eq!(endorsement.issuer, signer.did());
            assert_eq!((endorsement.svn_text, endorsement.svn), (text, number));
            assert_eq!(endorsement.signed_at, Some(SIGNED_AT));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_beginning_like_the_real_ones() {
        let signer = signer("laptop");
        let make = || endorse(&signer, &Seed::default(), &MEASUREMENT, 104, UvmForm::Json).unwrap();
        assert_eq!(make(), make());
        assert!(crate::encoding::b64(&make()).starts_with("0oRZ"));
    }

    #[test]
    fn a_flipped_bit_a_foreign_did_and_a_foreign_root_are_refused() {
        let own = signer("laptop");
        let cose = endorse(&own, &Seed::default(), &MEASUREMENT, 104, UvmForm::Json).unwrap();
        for position in [cose.len() - 1, cose.len() - 500] {
            let mut forged = cose.clone();
            forged[position] ^= 1;
            assert!(verify(&forged, own.did(), clock::now()).is_err());
        }
        let foreign = signer("another world");
        assert!(matches!(verify(&cose, foreign.did(), clock::now()), Err(UvmError::Issuer { .. })));
        assert!(verify(&cose[..cose.len() - 1], own.did(), clock::now()).is_err());
    }

    /// The real endorsement proves that the verifier reads what Microsoft writes.
    #[test]
    fn a_recorded_endorsement_verifies_and_another_measurement_does_not() {
        let Some(folder) = testing::vectors() else { return };
        let path = folder.join("ms-confidential-sidecar/security-context/reference-info.cose");
        let cose = std::fs::read(path).unwrap();
        let did = "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s\
                   ::eku:1.3.6.1.4.1.311.76.59.1.2";
        let endorsement = verify(&cose, did, clock::now()).unwrap();
        assert_eq!(endorsement.feed, FEED);
        assert_eq!(endorsement.svn_text.as_deref(), Some("100"));
        assert!(hex::encode(endorsement.measurement).starts_with("03fea028"));

        let position = cose.windows(8).position(|window| window == b"03fea028").unwrap();
        let mut forged = cose;
        forged[position] = b'1';
        assert!(matches!(verify(&forged, did, clock::now()), Err(UvmError::Signature(_))));
    }
}
