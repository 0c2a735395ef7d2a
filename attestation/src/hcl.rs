//! The attestation report of Azure's paravisor ("HCL"), as a confidential VM reads it from its vTPM: a report
//! of the security processor, and the JSON that the report is about.
//!
//! Source: measured on real VMs (`attestation.md` part 5); NV index 0x01400001, little-endian. A header of 32
//! bytes, the report at 32, sizes and types at 1216, JSON at 1236, zeros to the end of the index.
//!
//! The header is nobody's word. Only what the report's `REPORT_DATA` covers may be believed: the JSON.

use serde_json::Value;

use crate::binding::ReportData;
use crate::crypto::{sha256, sha384, sha512};
use crate::cursor::Cursor;
use crate::json;
use crate::report::{self, Report};
use crate::rsa_key::RsaKey;

/// The longest report that is read, in bytes. The index has 2600.
pub const MAX_LENGTH: usize = 4096;

/// Bytes before the JSON: header, report, and five numbers.
const JSON_AT: usize = NUMBERS_AT + NUMBERS;
const NUMBERS_AT: usize = 32 + report::LENGTH;
const NUMBERS: usize = 20;

/// `kid` of the vTPM's attestation key.
const ATTESTATION_KEY: &str = "HCLAkPub";

/// A report of the paravisor around one of an SEV-SNP guest.
#[derive(Clone)]
pub struct HclReport {
    report: Report,
    hash: Hash,
    runtime_data: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// The bytes are no such report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HclError {
    /// Shorter than its parts, or longer than any that is meant here.
    #[error("{0} bytes are no report of the paravisor")]
    Length(usize),
    /// Another header than version 1 or 2 with an attestation request in it.
    #[error("the header is not one of an attestation report, version 1 or 2")]
    Header,
    /// The sizes contradict each other.
    #[error("the sizes of its parts contradict each other")]
    Sizes,
    /// The report in it is of another technology.
    #[error("the report in it is of type {0}, not SNP (2)")]
    NotSnp(u32),
    /// The JSON is bound by a digest that is not known.
    #[error("hash type {0} is not known")]
    Hash(u32),
    /// Something stands where zeros must.
    #[error("something stands after the JSON")]
    Padding,
}

impl HclReport {
    /// Takes it apart; every byte is accounted for.
    ///
    /// # Errors
    ///
    /// [`HclError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, HclError> {
        if bytes.len() > MAX_LENGTH {
            return Err(HclError::Length(bytes.len()));
        }
        let short = HclError::Length(bytes.len());
        let mut from = Cursor::new(bytes);
        let size = header(&mut from).ok_or(short)??;
        let report = from.take(report::LENGTH).and_then(|report| Report::parse(report).ok());
        let report = report.ok_or(short)?;
        let mut number = || from.array().map(u32::from_le_bytes).ok_or(short);
        let (data_size, version, kind) = (number()?, number()?, number()?);
        let (hash, json_size) = (number()?, number()?);
        if version != 1 {
            return Err(HclError::Header);
        }
        if kind != 2 {
            return Err(HclError::NotSnp(kind));
        }
        let hash = Hash::read(hash)?;
        let json_size = usize::try_from(json_size).map_err(|_| HclError::Sizes)?;
        let sizes = [(data_size, NUMBERS), (size, JSON_AT)];
        if !sizes.into_iter().all(|(whole, before)| is_sum(whole, before, json_size)) {
            return Err(HclError::Sizes);
        }
        let runtime_data = from.take(json_size).ok_or(HclError::Sizes)?.to_vec();
        if from.rest().iter().any(|byte| *byte != 0) {
            return Err(HclError::Padding);
        }
        Ok(Self { report, hash, runtime_data })
    }

    /// The report of the security processor.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The JSON's exact bytes: keys of the vTPM, configuration of the VM.
    #[must_use]
    pub fn runtime_data(&self) -> &[u8] {
        &self.runtime_data
    }

    /// What `REPORT_DATA` must be for the JSON to be the report's: its digest, then zeros.
    #[must_use]
    pub fn binding(&self) -> ReportData {
        let mut out = [0; 64];
        let json = &self.runtime_data;
        let digest = match self.hash {
            Hash::Sha256 => sha256(json).to_vec(),
            Hash::Sha384 => sha384(json).to_vec(),
            Hash::Sha512 => sha512(json).to_vec(),
        };
        out.iter_mut().zip(digest).for_each(|(out, byte)| *out = byte);
        out
    }

    /// The vTPM's attestation key, by the JSON. `None` if there is not exactly one.
    #[must_use]
    pub fn attestation_key(&self) -> Option<RsaKey> {
        let json = json::parse(&self.runtime_data).ok()?;
        let keys = json.get("keys").and_then(Value::as_array)?;
        let named = |key: &&Value| key.get("kid").and_then(Value::as_str) == Some(ATTESTATION_KEY);
        let mut found = keys.iter().filter(named);
        match (found.next(), found.next()) {
            (Some(key), None) => RsaKey::from_jwk(key),
            _ => None,
        }
    }
}

/// The size that the header claims for everything up to the end of the JSON.
fn header(from: &mut Cursor<'_>) -> Option<Result<u32, HclError>> {
    let magic = from.array()?;
    let version = u32::from_le_bytes(from.array()?);
    let size = u32::from_le_bytes(from.array()?);
    let request = u32::from_le_bytes(from.array()?);
    let rest: [u8; 16] = from.array()?;
    let known = magic == *b"HCLA" && matches!(version, 1 | 2) && request == 2 && rest == [0; 16];
    Some(if known { Ok(size) } else { Err(HclError::Header) })
}

impl Hash {
    fn read(number: u32) -> Result<Self, HclError> {
        match number {
            1 => Ok(Self::Sha256),
            2 => Ok(Self::Sha384),
            3 => Ok(Self::Sha512),
            other => Err(HclError::Hash(other)),
        }
    }
}

fn is_sum(whole: u32, before: usize, json: usize) -> bool {
    usize::try_from(whole).ok() == before.checked_add(json)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A report of the paravisor as it lies in the index.
    pub(crate) fn hcl(report: &[u8], hash: u32, json: &[u8]) -> Vec<u8> {
        let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        let mut out = b"HCLA".to_vec();
        for n in [1, JSON_AT + json.len(), 2, 0, 0, 0, 0] {
            out.extend(number(n));
        }
        out.extend(report);
        for n in [NUMBERS + json.len(), 1, 2, usize::try_from(hash).unwrap(), json.len()] {
            out.extend(number(n));
        }
        out.extend(json);
        out.resize(2600, 0);
        out
    }

    fn error(change: impl FnOnce(&mut Vec<u8>)) -> Option<HclError> {
        let mut bytes = hcl(&[7; report::LENGTH], 1, b"{}");
        change(&mut bytes);
        HclReport::parse(&bytes).err()
    }

    #[test]
    fn a_whole_report_is_taken_apart_and_bound_by_its_digest() {
        for (hash, digest) in
            [(1, sha256(b"{}").to_vec()), (2, sha384(b"{}").to_vec()), (3, sha512(b"{}").to_vec())]
        {
            let parsed = HclReport::parse(&hcl(&[7; report::LENGTH], hash, b"{}")).ok().unwrap();
            assert_eq!(parsed.runtime_data(), b"{}");
            assert_eq!(parsed.report().as_bytes(), &[7; report::LENGTH]);
            let mut expected = digest;
            expected.resize(64, 0);
            assert_eq!(parsed.binding().to_vec(), expected);
        }
        assert!(error(|bytes| bytes.truncate(JSON_AT + 2)).is_none(), "padding is optional");
    }

    #[test]
    fn whatever_is_not_as_it_should_be_is_refused() {
        assert_eq!(error(|b| b.truncate(31)), Some(HclError::Length(31)));
        assert_eq!(error(|b| b.truncate(1215)), Some(HclError::Length(1215)));
        assert_eq!(error(|b| b.truncate(1235)), Some(HclError::Length(1235)));
        assert_eq!(error(|b| b.truncate(JSON_AT + 1)), Some(HclError::Sizes));
        assert_eq!(error(|b| b.resize(4097, 0)), Some(HclError::Length(4097)));
        for at in [0, 4, 12, 16, 31, 1220] {
            assert_eq!(error(|b| b[at] ^= 0x40), Some(HclError::Header), "{at}");
        }
        for at in [8, 1216, 1232] {
            assert_eq!(error(|b| b[at] ^= 1), Some(HclError::Sizes), "{at}");
        }
        assert_eq!(error(|b| b[1232..1236].fill(0xff)), Some(HclError::Sizes));
        assert_eq!(error(|b| b[1224] = 4), Some(HclError::NotSnp(4)));
        assert_eq!(error(|b| b[1228] = 0), Some(HclError::Hash(0)));
        assert_eq!(error(|b| b[1228] = 4), Some(HclError::Hash(4)));
        assert_eq!(error(|b| b[JSON_AT + 2] = 1), Some(HclError::Padding));
        assert_eq!(error(|b| b[2599] = 1), Some(HclError::Padding));
    }

    #[test]
    fn exactly_one_attestation_key_counts() {
        let key = |json: &str| {
            let bytes = hcl(&[7; report::LENGTH], 1, json.as_bytes());
            HclReport::parse(&bytes).ok().unwrap().attestation_key()
        };
        let ak = r#"{"kid":"HCLAkPub","kty":"RSA","n":"AQID","e":"AQAB"}"#;
        let ek = r#"{"kid":"HCLEkPub","kty":"RSA","n":"AQIE","e":"AQAB"}"#;
        let expected = RsaKey::new(&[1, 2, 3], &[1, 0, 1]);
        assert_eq!(key(&format!(r#"{{"keys":[{ek},{ak}]}}"#)), expected);
        assert_eq!(key(&format!(r#"{{"keys":[{ak},{ak}]}}"#)), None, "which one?");
        assert_eq!(key(&format!(r#"{{"keys":[{ek}]}}"#)), None);
        assert_eq!(key(&format!(r#"{{"keys":{ak}}}"#)), None);
        assert_eq!(key(&format!(r#"{{"keys":[{ak}],"keys":[{ak}]}}"#)), None);
        assert_eq!(key(&ak.replace("RSA", "EC")), None);
        assert_eq!(key("no JSON"), None);
    }
}
