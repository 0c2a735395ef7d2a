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

/// Who endorses utility VMs on Azure: leaves for confidential containers below "Microsoft Supply Chain RSA Root CA
/// 2022", as stated in microsoft/confidential-aci-examples and compared with two endorsements of real machines.
pub const MICROSOFT: &str =
    "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.2";

/// The feed of Azure's utility VMs on AMD processors.
pub const FEED: &str = "ContainerPlat-AMD-UVM";

/// The lowest security version that production should accept: what Azure has signed for container groups since it
/// is a product.
pub const MINIMUM_SVN: u64 = 100;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Draught, Entries, Form, MEASUREMENT, Maker, SIGNED_AT};

    fn read(maker: &Maker, says: &Draught) -> Result<Endorsement, UvmError> {
        Signed::decode(&maker.sign(says)).map(|signed| signed.says)
    }

    #[test]
    fn both_forms_say_the_same() {
        let maker = Maker::new();
        let expected = Endorsement {
            issuer: maker.did(),
            feed: "ContainerPlat-AMD-UVM".to_owned(),
            svn: 104,
            measurement: MEASUREMENT,
            signed_at: SIGNED_AT,
        };
        for form in [Form::Json, Form::Claims] {
            assert_eq!(read(&maker, &maker.says(form)), Ok(expected.clone()), "{form:?}");
        }
    }

    #[test]
    fn a_form_is_one_form() {
        let maker = Maker::new();
        for label in ["iss", "feed", "signingtime"] {
            let mixed = maker.says(Form::Claims).set(label, maker.did());
            assert_eq!(read(&maker, &mixed), Err(UvmError::Form));
        }
        let neither = maker.says(Form::Claims).without(15);
        assert_eq!(read(&maker, &neither), Err(UvmError::Part("issuer")));
    }

    #[test]
    fn what_is_not_protected_is_not_said() {
        let maker = Maker::new();
        for (label, part) in [("iss", "issuer"), ("feed", "feed"), ("signingtime", "signing time")]
        {
            let moved = maker.says(Form::Json).unprotect(label);
            assert_eq!(read(&maker, &moved), Err(UvmError::Part(part)));
        }
        let moved = maker.says(Form::Claims).unprotect(15);
        assert_eq!(read(&maker, &moved), Err(UvmError::Part("issuer")));
        let moved = maker.says(Form::Json).unprotect(3);
        assert_eq!(read(&maker, &moved), Err(UvmError::Part("content type")));
    }

    fn payload(maker: &Maker, members: &str) -> Result<u64, UvmError> {
        let measurement = hex::encode(MEASUREMENT);
        let text = format!(r#"{{{members}"x-ms-sevsnpvm-launchmeasurement":"{measurement}"}}"#);
        let says = maker.says(Form::Json).payload(text.as_bytes());
        read(maker, &says).map(|says| says.svn)
    }

    #[test]
    fn a_version_is_a_number_and_both_ways_to_say_it_agree() {
        let maker = Maker::new();
        let version = |text: &str, number: &str| {
            let text = format!(r#""x-ms-sevsnpvm-guestsvn":{text},"#);
            let number = format!(r#""x-ms-sevsnpvm-guestsvn-int":{number},"#);
            payload(
                &maker,
                &[text, number].into_iter().filter(|m| !m.contains(":,")).collect::<String>(),
            )
        };
        assert_eq!(version("\"104\"", "104"), Ok(104));
        assert_eq!(version("\"104\"", ""), Ok(104));
        assert_eq!(version("", "104"), Ok(104));
        assert_eq!(version("\"0\"", "0"), Ok(0));
        assert_eq!(version("\"18446744073709551615\"", ""), Ok(u64::MAX));
        let differ = UvmError::Versions { text: 22, number: 104 };
        assert_eq!(version("\"22\"", "104"), Err(differ));

        let missing = Err(UvmError::Part("security version"));
        for text in [
            "\"\"",
            "\"+100\"",
            "\"-1\"",
            "\" 100\"",
            "\"100 \"",
            "\"0100\"",
            "\"00\"",
            "\"1e2\"",
            "\"0x64\"",
            "\"100.0\"",
            "\"18446744073709551616\"",
            "\"\\u0661\"",
        ] {
            assert_eq!(version(text, ""), missing, "{text}");
            assert_eq!(version(text, "100"), missing, "{text}, whatever the number says");
        }
        assert_eq!(version("", ""), missing);
        for number in ["104.0", "1e2", "-1", "18446744073709551616", "\"104\"", "true", "[104]"] {
            assert_eq!(version("", number), Err(UvmError::Part("payload")), "{number}");
        }
        assert_eq!(version("104", ""), Err(UvmError::Part("payload")), "a number as text");
    }

    #[test]
    fn members_stand_once() {
        let maker = Maker::new();
        let twice = r#""x-ms-sevsnpvm-guestsvn":"104","x-ms-sevsnpvm-guestsvn":"104","#;
        assert_eq!(payload(&maker, twice), Err(UvmError::Part("payload")));
        let twice = r#""x-ms-sevsnpvm-guestsvn-int":22,"x-ms-sevsnpvm-guestsvn-int":104,"#;
        assert_eq!(payload(&maker, twice), Err(UvmError::Part("payload")));
        let measurement = format!(
            r#""x-ms-sevsnpvm-guestsvn":"104","x-ms-sevsnpvm-launchmeasurement":"{}","#,
            "00".repeat(48)
        );
        assert_eq!(payload(&maker, &measurement), Err(UvmError::Part("payload")));
        let another = r#""x-ms-sevsnpvm-guestsvn":"104","x-ms-new":[{"a":1}],"#;
        assert_eq!(payload(&maker, another), Ok(104), "others are passed over");
    }

    #[test]
    fn a_payload_is_one_document_of_the_stated_type() {
        let maker = Maker::new();
        let says = |payload: &[u8]| read(&maker, &maker.says(Form::Json).payload(payload));
        let svn = r#""x-ms-sevsnpvm-guestsvn":"104""#;
        let short = format!(r#"{{{svn},"x-ms-sevsnpvm-launchmeasurement":"5f"}}"#);
        let deep = "[".repeat(10_000);
        let none = format!("{{{svn}}}");
        for wrong in [&b""[..], b"{}", b"[]", none.as_bytes(), short.as_bytes(), deep.as_bytes()] {
            assert_eq!(says(wrong), Err(UvmError::Part("payload")));
        }
        let followed = [maker.says(Form::Json).payload.as_slice(), b"{}"].concat();
        assert_eq!(says(&followed), Err(UvmError::Part("payload")));

        let claims = || maker.says(Form::Claims);
        assert_eq!(read(&maker, &claims().payload(&[1; 47])), Err(UvmError::Part("payload")));
        assert_eq!(read(&maker, &claims().payload(&[1; 49])), Err(UvmError::Part("payload")));
        for wrong in [
            claims().without(259),
            claims().set(259, "application/json"),
            claims().set(3, "application/octet-stream"),
            maker.says(Form::Json).set(3, "application/octet-stream"),
        ] {
            assert_eq!(read(&maker, &wrong), Err(UvmError::Part("content type")));
        }
        let bare = claims().without(259).set(3, "application/octet-stream");
        assert!(read(&maker, &bare).is_ok(), "or without a hash envelope");
        let other_hash = claims().set(258, -16);
        assert!(read(&maker, &other_hash).is_err());
    }

    #[test]
    fn times_and_claims_are_integers_that_are_there() {
        let maker = Maker::new();
        let time = |value: Value| read(&maker, &maker.says(Form::Json).set("signingtime", value));
        let seconds = |value: Value| Value::Tag(1, Box::new(value));
        let none = Err(UvmError::Part("signing time"));
        assert!(time(seconds(1.into())).is_ok());
        for wrong in [1.into(), seconds((-1).into()), seconds(1.5.into()), "2025".into()] {
            assert_eq!(time(wrong), none);
        }
        assert_eq!(read(&maker, &maker.says(Form::Json).without("signingtime")), none);

        let claims = |change: &dyn Fn(&mut Entries)| {
            let says = maker.says(Form::Claims);
            let all = says.protected.iter().find(|(label, _)| *label == 15.into());
            let mut entries = all.unwrap().1.as_map().unwrap().clone();
            change(&mut entries);
            read(&maker, &says.set(15, Value::Map(entries)))
        };
        for (at, part) in [(0, "issuer"), (1, "feed"), (2, "signing time"), (3, "security version")]
        {
            assert_eq!(claims(&|all| drop(all.remove(at))), Err(UvmError::Part(part)));
            let odd = claims(&|all| all[at].1 = 1.5.into());
            assert_eq!(odd, Err(UvmError::Part(part)));
        }
        let twice = claims(&|all| all.push(("svn".into(), 200.into())));
        assert_eq!(twice, Err(UvmError::Part("set of claims")));
        let negative = claims(&|all| all[3].1 = (-1).into());
        assert_eq!(negative, Err(UvmError::Part("security version")));
    }
}
