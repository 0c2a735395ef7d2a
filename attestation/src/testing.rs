//! What unit tests make for themselves: certification paths, and endorsements that such a path signs.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA384, RsaKeyPair};
use ciborium::Value;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA384, RsaKeySize,
};

use crate::certificate::Certificate;
use crate::crypto::sha256;
use crate::encoding::to_b64u;

/// 2025-06-01: when endorsements of tests are signed.
pub(crate) const SIGNED_AT: u64 = 1_748_736_000;

/// What endorsements of tests endorse.
pub(crate) const MEASUREMENT: [u8; 48] = [0x5f; 48];

/// The entries of a CBOR map.
pub(crate) type Entries = Vec<(Value, Value)>;

const FEED: &str = "ContainerPlat-AMD-UVM";
const CONTAINERS: [u64; 10] = [1, 3, 6, 1, 4, 1, 311, 76, 59, 1];

/// A certificate to be, with its key.
pub(crate) struct Draft {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
}

impl Draft {
    /// An end entity on P-256, valid from 2025 to 2026.
    pub(crate) fn leaf(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2025, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 1);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Self { params, key: KeyPair::generate().unwrap() }
    }

    /// An authority on P-256, valid from 2025 to 2026.
    pub(crate) fn authority(name: &str, path_length: Option<u8>) -> Self {
        let mut draft = Self::leaf(name);
        draft.params.is_ca = IsCa::Ca(match path_length {
            None => BasicConstraints::Unconstrained,
            Some(most) => BasicConstraints::Constrained(most),
        });
        draft.params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        draft
    }

    /// As it is after a change.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        change(&mut self.params);
        self
    }

    /// With a key of RSA-2048.
    pub(crate) fn rsa(mut self) -> Self {
        self.key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA384, RsaKeySize::_2048).unwrap();
        self
    }

    /// With an extension of these bytes.
    pub(crate) fn extended(self, oid: &[u64], critical: bool, value: &[u8]) -> Self {
        let mut extension = CustomExtension::from_oid_content(oid, value.to_vec());
        extension.set_criticality(critical);
        self.with(|params| params.custom_extensions.push(extension))
    }

    pub(crate) fn issued_by(&self, issuer: &Self) -> Certificate {
        let issuer = Issuer::from_params(&issuer.params, &issuer.key);
        let made = self.params.signed_by(&self.key, &issuer).unwrap();
        Certificate::from_der(made.der()).unwrap()
    }

    pub(crate) fn self_signed(&self) -> Certificate {
        Certificate::from_der(self.params.self_signed(&self.key).unwrap().der()).unwrap()
    }
}

/// Each draft issued by the next one, the last one by itself.
pub(crate) fn path(drafts: &[Draft]) -> Vec<Certificate> {
    let issuers = drafts.iter().skip(1).map(Some).chain([None]);
    let made = drafts.iter().zip(issuers);
    made.map(|(draft, issuer)| issuer.map_or_else(|| draft.self_signed(), |i| draft.issued_by(i)))
        .collect()
}

/// An extended key usage that did:x509 of endorsers ask for.
pub(crate) fn for_containers(params: &mut CertificateParams) {
    let usage = CONTAINERS.into_iter().chain([2]).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(usage)];
}

/// Somebody who endorses utility VMs: leaf, intermediate and root.
pub(crate) struct Maker {
    pub(crate) drafts: [Draft; 3],
    pub(crate) chain: Vec<Certificate>,
}

impl Maker {
    pub(crate) fn new() -> Self {
        Self::of([
            Draft::leaf("leaf").rsa().with(for_containers),
            Draft::authority("intermediate", Some(0)),
            Draft::authority("root", None),
        ])
    }

    pub(crate) fn of(drafts: [Draft; 3]) -> Self {
        let chain = path(&drafts);
        Self { drafts, chain }
    }

    /// The identifier of its root.
    pub(crate) fn did(&self) -> String {
        let root = to_b64u(&self.chain[2].fingerprint());
        format!("did:x509:0:sha256:{root}::eku:1.3.6.1.4.1.311.76.59.1.2")
    }

    /// A draft of an endorsement in the form with a JSON payload, or the one with CWT claims.
    pub(crate) fn says(&self, form: Form) -> Draught {
        let chain = self.chain.iter().map(|one| Value::Bytes(one.der().to_vec())).collect();
        let leaf = sha256(self.chain[0].der()).to_vec();
        let mut protected: Entries = vec![
            (1.into(), (-38).into()),
            (33.into(), Value::Array(chain)),
            (34.into(), Value::Array(vec![(-16).into(), Value::Bytes(leaf)])),
        ];
        let measurement = hex::encode(MEASUREMENT);
        let payload = match form {
            Form::Json => {
                protected.push((3.into(), "application/json".into()));
                protected.push(("iss".into(), self.did().into()));
                protected.push(("feed".into(), FEED.into()));
                let time = Value::Tag(1, Box::new(SIGNED_AT.into()));
                protected.push(("signingtime".into(), time));
                format!(
                    r#"{{"x-ms-sevsnpvm-guestsvn":"104","x-ms-sevsnpvm-guestsvn-int":104,"x-ms-sevsnpvm-launchmeasurement":"{measurement}"}}"#
                )
                .into_bytes()
            }
            Form::Claims => {
                let claims = vec![
                    (1.into(), self.did().into()),
                    (2.into(), FEED.into()),
                    (6.into(), SIGNED_AT.into()),
                    ("svn".into(), 104.into()),
                ];
                protected.push((15.into(), Value::Map(claims)));
                protected.push((258.into(), (-43).into()));
                protected.push((259.into(), "application/octet-stream".into()));
                MEASUREMENT.to_vec()
            }
        };
        Draught { protected, unprotected: vec![], payload }
    }

    /// Signs an endorsement as it stands.
    pub(crate) fn sign(&self, draught: &Draught) -> Vec<u8> {
        let protected = cbor(&Value::Map(draught.protected.clone()));
        self.sign_raw(protected, draught)
    }

    /// Signs with these bytes as the protected header.
    pub(crate) fn sign_raw(&self, protected: Vec<u8>, draught: &Draught) -> Vec<u8> {
        let payload = Value::Bytes(draught.payload.clone());
        let message = Value::Array(vec![
            "Signature1".into(),
            Value::Bytes(protected.clone()),
            Value::Bytes(vec![]),
            payload.clone(),
        ]);
        let signature = self.signature(&cbor(&message));
        let unprotected = Value::Map(draught.unprotected.clone());
        let parts = vec![Value::Bytes(protected), unprotected, payload, Value::Bytes(signature)];
        cbor(&Value::Tag(18, Box::new(Value::Array(parts))))
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let key = RsaKeyPair::from_pkcs8(self.drafts[0].key.serialized_der()).unwrap();
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PSS_SHA384, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    pub(crate) fn root_pem(&self) -> String {
        pem(&self.chain[2])
    }

    pub(crate) fn intermediate_pem(&self) -> String {
        pem(&self.chain[1])
    }

    pub(crate) fn leaf_pem(&self) -> String {
        pem(&self.chain[0])
    }

    /// The leaf's draft, signed by itself: no authority.
    pub(crate) fn lone_leaf_pem(&self) -> String {
        pem(&self.drafts[0].self_signed())
    }
}

fn pem(certificate: &Certificate) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate.der());
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let body = lines.join("\n");
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

/// The two forms of endorsements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    Json,
    Claims,
}

/// An endorsement to be signed.
#[derive(Clone)]
pub(crate) struct Draught {
    pub(crate) protected: Entries,
    pub(crate) unprotected: Entries,
    pub(crate) payload: Vec<u8>,
}

impl Draught {
    /// With another value, or a new one, of a label in the protected header.
    pub(crate) fn set(mut self, label: impl Into<Value>, value: impl Into<Value>) -> Self {
        let label = label.into();
        self.protected.retain(|(other, _)| *other != label);
        self.protected.push((label, value.into()));
        self
    }

    /// Without a label of the protected header.
    pub(crate) fn without(mut self, label: impl Into<Value>) -> Self {
        let label = label.into();
        self.protected.retain(|(other, _)| *other != label);
        self
    }

    /// The value of a label moves to the unprotected header.
    pub(crate) fn unprotect(mut self, label: impl Into<Value>) -> Self {
        let label = label.into();
        let moved = self.protected.iter().position(|(other, _)| *other == label).unwrap();
        let entry = self.protected.remove(moved);
        self.unprotected.push(entry);
        self
    }

    /// With another payload.
    pub(crate) fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }
}

pub(crate) fn cbor(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).unwrap();
    out
}
