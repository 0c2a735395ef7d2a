//! Paths that are not AMD's, did:x509, COSE and the endorsements of utility VMs, and revocation lists.

use std::hint::black_box;

use attestation::certificate::Certificate;
use attestation::cose::Sign1;
use attestation::crl::Crl;
use attestation::crypto::sha256;
use attestation::did_x509::Did;
use attestation::encoding::to_b64u;
use attestation::{path, uvm};
use ciborium::Value;
use der::asn1::{Ia5String, ObjectIdentifier};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    ExtendedKeyUsage, KeyUsage, KeyUsages, NameConstraints, SubjectAltName,
};

use super::case::{Case, NOW};
use super::pki::{self, List, Signer, Spec, extension, raw};
use super::{Entry, joined, parts, text, world};

pub(super) const ENTRIES: &[Entry] = &[
    Entry { name: "path", read: read_path, seeds: paths },
    Entry { name: "did-x509", read: read_did, seeds: dids },
    Entry { name: "cose", read: read_cose, seeds: endorsements },
    Entry { name: "crl", read: read_crl, seeds: lists },
];

const CONTAINERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.76.59.1.2");

fn read_path(bytes: &[u8]) {
    let Ok(chain) = Certificate::sequence_from_der(bytes) else { return };
    black_box((path::verify(&chain, NOW).is_ok(), path::verify_at_any_time(&chain).is_ok()));
}

/// The endorser's own certificate.
pub(super) fn root() -> Vec<u8> {
    root_with(vec![])
}

fn root_with(more: Vec<Extension>) -> Vec<u8> {
    let mut root = Spec::authority(1, "endorser", "endorser");
    root.extensions.extend(more);
    root.issue_rsa(Signer::Ark)
}

/// A leaf for confidential containers, its intermediate, its root.
pub(super) fn chain() -> [Vec<u8>; 3] {
    let name = |text| Ia5String::new(text).expect("ASCII");
    let names = SubjectAltName(vec![
        GeneralName::DnsName(name("leaf.example.com")),
        GeneralName::Rfc822Name(name("a@example.com")),
        GeneralName::UniformResourceIdentifier(name("https://example.com/a")),
    ]);
    let leaf = Spec {
        serial: 3,
        issuer: "intermediate".to_owned(),
        subject: "leaf".to_owned(),
        life: pki::LIFE,
        extensions: vec![
            extension(&KeyUsage(KeyUsages::DigitalSignature.into()), "leaf"),
            extension(&ExtendedKeyUsage(vec![CONTAINERS]), "leaf"),
            extension(&names, "leaf"),
            raw("1.3.6.1.4.1.57264.1.1", false, b"https://issuer.example.com"),
        ],
        signer: Signer::Ask,
    };
    let intermediate = Spec::authority(2, "endorser", "intermediate");
    [leaf.issue_rsa(Signer::Stranger), intermediate.issue_rsa(Signer::Ask), root()]
}

pub(super) fn paths() -> Vec<Vec<u8>> {
    let [leaf, intermediate, plain] = chain();
    let base = GeneralName::DnsName(Ia5String::new("example.com").expect("ASCII"));
    let tree = || Some(vec![GeneralSubtree { base: base.clone(), minimum: 0, maximum: None }]);
    let names = [(tree(), None), (None, tree())].map(|(permitted_subtrees, excluded_subtrees)| {
        root_with(vec![extension(&NameConstraints { permitted_subtrees, excluded_subtrees }, "x")])
    });
    let roots = [plain].into_iter().chain(names);
    roots.map(|root| [leaf.as_slice(), &intermediate, &root].concat()).collect()
}

fn read_did(bytes: &[u8]) {
    let Some([did, chain]) = parts(bytes) else { return };
    let Ok(did) = text(did).parse::<Did>() else { return };
    assert!(did.id().parse::<Did>().is_ok_and(|again| again == did));
    let Ok(chain) = Certificate::sequence_from_der(chain) else { return };
    black_box(did.resolve(&chain).is_ok());
}

fn did(policies: &str) -> String {
    format!("did:x509:0:sha256:{}::{policies}", to_b64u(&sha256(&root())))
}

fn dids() -> Vec<Vec<u8>> {
    let chain = chain().concat();
    let policies = [
        "eku:1.3.6.1.4.1.311.76.59.1.2",
        "subject:CN:leaf:O:Advanced%20Micro%20Devices:2.5.4.6:US",
        "san:dns:leaf.example.com::san:email:a%40example.com",
        "san:uri:https%3A%2F%2Fexample.com%2Fa::fulcio-issuer:issuer.example.com",
    ];
    policies.map(|policies| joined([did(policies).as_bytes(), &chain])).into()
}

fn read_cose(bytes: &[u8]) {
    let Ok(message) = Sign1::decode(bytes) else { return };
    black_box((message.verify().is_ok(), path::verify(message.chain(), NOW).is_ok()));
}

fn cbor(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).expect("writing to memory cannot fail");
    out
}

/// Endorsements of the world's measurement in both forms.
pub(super) fn endorsements() -> Vec<Vec<u8>> {
    let issuer = || Value::from(did("eku:1.3.6.1.4.1.311.76.59.1.2"));
    let measurement = [3; 48];
    let json = format!(
        r#"{{"x-ms-sevsnpvm-guestsvn":"104","x-ms-sevsnpvm-guestsvn-int":104,"x-ms-sevsnpvm-launchmeasurement":"{}"}}"#,
        hex::encode(measurement)
    );
    let claims = vec![
        (1.into(), issuer()),
        (2.into(), uvm::FEED.into()),
        (6.into(), (NOW - 1000).into()),
        ("svn".into(), 104.into()),
    ];
    let with_claims = vec![
        (15.into(), Value::Map(claims)),
        (258.into(), (-43).into()),
        (259.into(), "application/octet-stream".into()),
    ];
    let with_json = vec![
        (3.into(), "application/json".into()),
        ("iss".into(), issuer()),
        ("feed".into(), uvm::FEED.into()),
        ("signingtime".into(), Value::Tag(1, Box::new((NOW - 1000).into()))),
    ];
    vec![signed(with_claims, &measurement), signed(with_json, json.as_bytes())]
}

fn signed(more: Vec<(Value, Value)>, payload: &[u8]) -> Vec<u8> {
    let chain = chain();
    let [leaf, ..] = &chain;
    let print = vec![(-16).into(), Value::Bytes(sha256(leaf).to_vec())];
    let mut protected: Vec<(Value, Value)> = vec![
        (1.into(), (-38).into()),
        (34.into(), Value::Array(print)),
        (33.into(), Value::Array(chain.map(Value::Bytes).into())),
    ];
    protected.extend(more);
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
    let protected = cbor(&Value::Map(protected));
    let message = vec!["Signature1".into(), bytes(&protected), bytes(&[]), bytes(payload)];
    let signature = Signer::Stranger.sign(&cbor(&Value::Array(message)));
    let unprotected = Value::Map(vec![("timestamp".into(), bytes(b"none"))]);
    let parts = vec![bytes(&protected), unprotected, bytes(payload), bytes(signature.raw_bytes())];
    cbor(&Value::Tag(18, Box::new(Value::Array(parts))))
}

fn read_crl(bytes: &[u8]) {
    let Ok(list) = Crl::from_der(bytes) else { return };
    black_box((list.updates(), list.revokes(&[1, 0, 1]), list.verify(&world().ark).is_ok()));
}

fn lists() -> Vec<Vec<u8>> {
    let list = Case::milan().list();
    let named = List { revoked: vec![65537, 0], ..list.clone() };
    let partial = List { extensions: vec![raw("2.5.29.27", true, &[2, 1, 1])], ..list.clone() };
    let reason = raw("2.5.29.21", false, &[10, 1, 1]);
    let reasons = List { entry_extensions: Some(vec![reason]), ..named.clone() };
    [list, named, partial, reasons].iter().map(List::issue).collect()
}
