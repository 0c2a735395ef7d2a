//! Evidence and endorsements as they travel: a CMW collection (RFC 9999), in JSON at the endpoint and in CBOR
//! inside a certificate.
//!
//! Each part is `[media type, bytes, indicator]`; the indicator's bits say what it is (1 endorsements is 2,
//! evidence is 4). Here they are bytes; nothing is verified or even looked into.

use std::collections::BTreeMap;

use ciborium::Value as Cbor;
use der::asn1::{ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Encode as _};
use serde_json::{Map, Value as Json};

use crate::encoding::{from_b64u, to_b64u};

/// The collection's type, a tag URI (RFC 4151).
const COLLECTION_TYPE: &str = "tag:privatemode-confidential,2026:aci-snp#1";
const TYPE_LABEL: &str = "__cmwc_t";

/// id-pe-cmw: the certificate extension that carries a collection.
pub const ID_PE_CMW: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.35");

/// The longest collection that is read from CBOR, in bytes. JSON comes inside a document that its reader bounds.
pub const MAX_LENGTH: usize = 256 * 1024;

const ENDORSEMENT: u8 = 2;
const EVIDENCE: u8 = 4;

/// What a verifier gets to see. It brings its own anchors and expectations.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The attestation report: 1184 bytes.
    pub report: Vec<u8>,
    /// Certificate of the key that signed the report (DER).
    pub vek: Vec<u8>,
    /// Its issuers, ASK then ARK: DER certificates, one after the other. `None`: the verifier's own.
    pub chain: Option<Vec<u8>>,
    /// The ARK's revocation list (DER).
    pub crl: Option<Vec<u8>>,
    /// The UVM's endorsement: COSE_Sign1.
    pub uvm: Option<Vec<u8>>,
    /// The enforcement policy, decoded, whose SHA-256 is HOST_DATA.
    pub cce_policy: Option<Vec<u8>>,
}

/// Where a part stands: its label, media type and indicator.
struct Part {
    label: &'static str,
    media_type: &'static str,
    indicator: u8,
}

const REPORT: Part = Part {
    label: "report",
    media_type: "application/vnd.amd.sev-snp.attestation-report",
    indicator: EVIDENCE,
};
const VEK: Part =
    Part { label: "vek", media_type: "application/pkix-cert", indicator: ENDORSEMENT };
const CHAIN: Part =
    Part { label: "chain", media_type: "application/pkix-cert", indicator: ENDORSEMENT };
const CRL: Part = Part { label: "crl", media_type: "application/pkix-crl", indicator: ENDORSEMENT };
const UVM: Part = Part {
    label: "uvm",
    media_type: "application/cose; cose-type=\"cose-sign1\"",
    indicator: ENDORSEMENT,
};
const CCE_POLICY: Part = Part {
    label: "cce-policy",
    media_type: "application/vnd.privatemode-confidential.cce-policy",
    indicator: ENDORSEMENT,
};

/// The bytes are no collection of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Longer than [`MAX_LENGTH`].
    #[error("{0} bytes are too many for evidence")]
    TooLong(usize),
    /// Not the encoding it should be in.
    #[error("not a CMW collection in {0}")]
    Encoding(&'static str),
    /// Another type of collection.
    #[error("the collection's type is not {COLLECTION_TYPE}")]
    Type,
    /// A part that must be there is not.
    #[error("the part {0:?} is missing")]
    Missing(&'static str),
    /// A part is not `[media type, bytes, indicator]` as it should be.
    #[error("the part {0:?} is malformed")]
    Part(&'static str),
}

impl Evidence {
    fn parts(&self) -> impl Iterator<Item = (Part, &[u8])> {
        [
            (REPORT, Some(&self.report)),
            (VEK, Some(&self.vek)),
            (CHAIN, self.chain.as_ref()),
            (CRL, self.crl.as_ref()),
            (UVM, self.uvm.as_ref()),
            (CCE_POLICY, self.cce_policy.as_ref()),
        ]
        .into_iter()
        .filter_map(|(part, bytes)| Some((part, bytes?.as_slice())))
    }

    /// Puts parts together; `take` gives each one's bytes by its row, or says that it is malformed.
    fn collect(
        mut take: impl FnMut(&Part) -> Result<Option<Vec<u8>>, EvidenceError>,
    ) -> Result<Self, EvidenceError> {
        let mut needed = |part: Part| take(&part)?.ok_or(EvidenceError::Missing(part.label));
        let report = needed(REPORT)?;
        let vek = needed(VEK)?;
        Ok(Self {
            report,
            vek,
            chain: take(&CHAIN)?,
            crl: take(&CRL)?,
            uvm: take(&UVM)?,
            cce_policy: take(&CCE_POLICY)?,
        })
    }

    /// The collection as JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut collection = Map::new();
        collection.insert(TYPE_LABEL.to_owned(), COLLECTION_TYPE.into());
        for (Part { label, media_type, indicator }, bytes) in self.parts() {
            let record = vec![media_type.into(), to_b64u(bytes).into(), indicator.into()];
            collection.insert(label.to_owned(), Json::Array(record));
        }
        Json::Object(collection)
    }

    /// Reads a collection from JSON. Labels that are not ours are passed over.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`].
    pub fn from_json(json: &Json) -> Result<Self, EvidenceError> {
        let collection = json.as_object().ok_or(EvidenceError::Encoding("JSON"))?;
        if collection.get(TYPE_LABEL).and_then(Json::as_str) != Some(COLLECTION_TYPE) {
            return Err(EvidenceError::Type);
        }
        Self::collect(|part| {
            let Some(record) = collection.get(part.label) else { return Ok(None) };
            let bytes = match record.as_array().map(Vec::as_slice) {
                Some([Json::String(media_type), Json::String(text), Json::Number(indicator)])
                    if media_type == part.media_type
                        && indicator.as_u64() == Some(part.indicator.into()) =>
                {
                    from_b64u(text)
                }
                _ => None,
            };
            bytes.map(Some).ok_or(EvidenceError::Part(part.label))
        })
    }

    /// The collection as CBOR (RFC 8949), with `report` and `vek` alone: what a certificate has room for.
    #[must_use]
    pub fn to_certificate_cbor(&self) -> Vec<u8> {
        let mut collection =
            vec![(Cbor::Text(TYPE_LABEL.to_owned()), Cbor::Text(COLLECTION_TYPE.to_owned()))];
        for (Part { label, media_type, indicator }, bytes) in self.parts().take(2) {
            let record = vec![
                Cbor::Text(media_type.to_owned()),
                Cbor::Bytes(bytes.to_vec()),
                Cbor::Integer(indicator.into()),
            ];
            collection.push((Cbor::Text(label.to_owned()), Cbor::Array(record)));
        }
        let mut out = Vec::new();
        ciborium::into_writer(&Cbor::Map(collection), &mut out)
            .expect("writing text and bytes to memory cannot fail");
        out
    }

    /// The value of the certificate extension [`ID_PE_CMW`]: the CBOR choice, an OCTET STRING.
    #[must_use]
    pub fn to_certificate_extension(&self) -> Vec<u8> {
        let cbor = self.to_certificate_cbor();
        OctetStringRef::new(&cbor)
            .and_then(|octets| octets.to_der())
            .expect("a few kilobytes fit an OCTET STRING")
    }

    /// Reads the value of the certificate extension [`ID_PE_CMW`].
    ///
    /// # Errors
    ///
    /// [`EvidenceError`]; the JSON choice is not ours and is refused.
    pub fn from_certificate_extension(value: &[u8]) -> Result<Self, EvidenceError> {
        let malformed = EvidenceError::Encoding("a certificate extension");
        let octets = OctetStringRef::from_der(value).map_err(|_| malformed)?;
        Self::from_cbor(octets.as_bytes())
    }

    /// Reads a collection from CBOR. Labels that are not ours are passed over.
    ///
    /// # Errors
    ///
    /// [`EvidenceError`].
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_LENGTH {
            return Err(EvidenceError::TooLong(bytes.len()));
        }
        let malformed = || EvidenceError::Encoding("CBOR");
        let mut rest = bytes;
        let value: Cbor = ciborium::de::from_reader_with_recursion_limit(&mut rest, 8)
            .map_err(|_| malformed())?;
        let (true, Cbor::Map(entries)) = (rest.is_empty(), value) else { return Err(malformed()) };
        let mut collection = BTreeMap::new();
        for (label, value) in entries {
            let Cbor::Text(label) = label else { return Err(malformed()) };
            if collection.insert(label, value).is_some() {
                return Err(malformed());
            }
        }
        if collection.get(TYPE_LABEL).and_then(Cbor::as_text) != Some(COLLECTION_TYPE) {
            return Err(EvidenceError::Type);
        }
        Self::collect(|part| {
            let Some(record) = collection.get(part.label) else { return Ok(None) };
            match record.as_array().map(Vec::as_slice) {
                Some([Cbor::Text(media_type), Cbor::Bytes(bytes), Cbor::Integer(indicator)])
                    if media_type == part.media_type && *indicator == part.indicator.into() =>
                {
                    Ok(Some(bytes.clone()))
                }
                _ => Err(EvidenceError::Part(part.label)),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Evidence {
        Evidence {
            report: vec![1; 1184],
            vek: vec![2; 3],
            chain: Some(vec![3]),
            crl: Some(vec![4]),
            uvm: Some(vec![5]),
            cce_policy: Some(vec![6]),
        }
    }

    #[test]
    fn json_keeps_every_part() {
        let evidence = whole();
        assert!(Evidence::from_json(&evidence.to_json()).unwrap() == evidence);
    }

    #[test]
    fn a_certificate_carries_report_and_vek() {
        let extension = whole().to_certificate_extension();
        let read = Evidence::from_certificate_extension(&extension).unwrap();
        assert!(
            read == Evidence { chain: None, crl: None, uvm: None, cce_policy: None, ..whole() }
        );
        assert!(extension.len() < 1184 + 200, "{}", extension.len());
    }

    fn refused(change: impl FnOnce(&mut Map<String, Json>)) -> EvidenceError {
        let Json::Object(mut collection) = whole().to_json() else { panic!("as built") };
        change(&mut collection);
        Evidence::from_json(&Json::Object(collection)).err().unwrap()
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let set = |label: &'static str, value: Json| {
            refused(move |c| {
                c.insert(label.to_owned(), value);
            })
        };
        assert_eq!(set(TYPE_LABEL, "tag:else".into()), EvidenceError::Type);
        assert_eq!(set("report", Json::Null), EvidenceError::Part("report"));
        assert_eq!(
            set("vek", serde_json::json!(["application/pkix-cert", "AA==", 2])),
            EvidenceError::Part("vek")
        );
        assert_eq!(
            set("vek", serde_json::json!(["application/pkix-cert", "AA", 4])),
            EvidenceError::Part("vek")
        );
        assert_eq!(
            set("uvm", serde_json::json!(["text/plain", "AA", 2])),
            EvidenceError::Part("uvm")
        );
        assert_eq!(
            refused(|c| {
                c.remove("report");
            }),
            EvidenceError::Missing("report")
        );
        assert_eq!(
            Evidence::from_json(&Json::Null).err().unwrap(),
            EvidenceError::Encoding("JSON")
        );
    }

    #[test]
    fn cbor_with_anything_after_it_or_a_label_twice_is_refused() {
        let mut cbor = whole().to_certificate_cbor();
        assert!(Evidence::from_cbor(&cbor).is_ok());
        cbor.push(0);
        assert!(Evidence::from_cbor(&cbor).is_err());

        let twice = Cbor::Map(vec![
            (Cbor::Text(TYPE_LABEL.into()), Cbor::Text(COLLECTION_TYPE.into())),
            (Cbor::Text(TYPE_LABEL.into()), Cbor::Text(COLLECTION_TYPE.into())),
        ]);
        let mut bytes = Vec::new();
        ciborium::into_writer(&twice, &mut bytes).unwrap();
        assert!(Evidence::from_cbor(&bytes).err() == Some(EvidenceError::Encoding("CBOR")));
    }
}
