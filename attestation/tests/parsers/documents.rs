//! Parsers of single documents: bytes, text, JSON and CBOR, with nothing behind them but themselves.

use std::hint::black_box;

use attestation::bundle::Bundle;
use attestation::certificate::Certificate;
use attestation::encoding::to_b64u;
use attestation::hcl::HclReport;
use attestation::jws::Jws;
use attestation::log_record::{Chain, READERS_TYPE, Readers};
use attestation::maa::Jwks;
use attestation::product::Product;
use attestation::report::{self, Report};
use attestation::tpm::{self, Quote};
use attestation::vek::Vek;
use attestation::wire::{ClientProof, Manifest, VerifyAnswer, VerifyRequest};
use attestation::{Anchors, Evidence, Policy, json, policy_file, verify};

use super::case::{Case, NOW};
use super::{Entry, text, vtpm, world};

pub(super) const ENTRIES: &[Entry] = &[
    Entry { name: "report", read: read_report, seeds: reports },
    Entry { name: "certificate", read: read_certificate, seeds: certificates },
    Entry { name: "certificates-pem", read: read_pem, seeds: pems },
    Entry { name: "evidence-cbor", read: read_evidence_cbor, seeds: evidence_cbor },
    Entry { name: "evidence-json", read: read_evidence_json, seeds: evidence_json },
    Entry { name: "bundle", read: read_bundle, seeds: bundles },
    Entry { name: "wire", read: read_wire, seeds: wire },
    Entry { name: "jws", read: read_jws, seeds: tokens },
    Entry { name: "jwks", read: read_jwks, seeds: key_sets },
    Entry { name: "log-record", read: read_log_record, seeds: tokens },
    Entry { name: "log-readers", read: read_log_readers, seeds: lists },
    Entry { name: "policy", read: read_policy, seeds: policies },
    Entry { name: "json", read: read_json, seeds: json_documents },
    Entry { name: "hcl", read: read_hcl, seeds: vtpm::hcl_reports },
    Entry { name: "quote", read: read_quote, seeds: vtpm::quotes },
];

fn read_report(bytes: &[u8]) {
    let Ok(report) = Report::parse(bytes) else { return };
    black_box((report.signature(), report.reserved_violation(), report.cpuid()));
    black_box((report.guest_policy(), report.key_info().signing_key(), report.vmpl()));
    for product in Product::ALL {
        black_box(report.tcbs(product));
    }
}

fn reports() -> Vec<Vec<u8>> {
    let whole = [Case::milan(), Case::genoa(), Case::turin(), Case::milan().with_vlek()];
    let empty = (2..=5_u8).map(|version| {
        let mut report = vec![0; report::LENGTH];
        if let [first, ..] = report.as_mut_slice() {
            *first = version;
        }
        report
    });
    whole.into_iter().map(|case| case.report).chain(empty).collect()
}

fn look_at(certificate: &Certificate) {
    black_box((certificate.subject_cn(), certificate.issuer_cn(), certificate.validity()));
    black_box((certificate.is_authority(), certificate.p384_key(), certificate.rsa_key()));
    black_box((certificate.spki().is_ok(), certificate.verify_pss_sha384(certificate).is_ok()));
    black_box(Vek::read(certificate).is_ok());
}

fn read_certificate(bytes: &[u8]) {
    for certificate in Certificate::sequence_from_der(bytes).unwrap_or_default() {
        look_at(&certificate);
    }
    black_box(Certificate::from_zero_padded(bytes).is_ok());
}

fn read_pem(bytes: &[u8]) {
    for certificate in Certificate::sequence_from_pem(text(bytes)).unwrap_or_default() {
        look_at(&certificate);
    }
}

fn pems() -> Vec<Vec<u8>> {
    use sev::certs::snp::builtin::{milan, turin};
    vec![milan::ASK.to_vec(), turin::ARK.to_vec(), [milan::ASK, milan::ARK].concat()]
}

fn certificates() -> Vec<Vec<u8>> {
    let read = |pem: Vec<u8>| Certificate::sequence_from_pem(text(&pem)).unwrap_or_default();
    let of_amd = pems()
        .into_iter()
        .map(|pem| read(pem).iter().flat_map(Certificate::der).copied().collect());
    let padded = [world().evidence.vek.as_slice(), &[0; 9]].concat();
    of_amd.chain([world().evidence.vek.clone(), padded]).collect()
}

/// Verification itself must hold too: most of it runs on what only looks like evidence.
fn look_at_evidence(evidence: &Evidence) {
    black_box(verify(evidence, &Anchors::production(), NOW).is_ok());
    black_box(verify(evidence, &world().anchors, NOW).is_ok());
}

fn read_evidence_cbor(bytes: &[u8]) {
    if let Ok(evidence) = Evidence::from_cbor(bytes) {
        look_at_evidence(&evidence);
    }
    black_box(Evidence::from_certificate_extension(bytes).is_ok());
}

fn evidence_cbor() -> Vec<Vec<u8>> {
    vec![world().evidence.to_certificate_cbor(), world().evidence.to_certificate_extension()]
}

fn read_evidence_json(bytes: &[u8]) {
    let Ok(json) = serde_json::from_slice(bytes) else { return };
    if let Ok(evidence) = Evidence::from_json(&json) {
        look_at_evidence(&evidence);
    }
}

fn evidence_json() -> Vec<Vec<u8>> {
    vec![world().evidence.to_json().to_string().into_bytes()]
}

fn read_bundle(bytes: &[u8]) {
    if let Ok(bundle) = Bundle::parse(bytes) {
        black_box((bundle.observed().nonce, bundle.to_json()));
        black_box(Evidence::from_json(&bundle.answer.evidence).is_ok());
    }
}

fn answer() -> serde_json::Value {
    serde_json::json!({
        "v": 1, "evidence": world().evidence.to_json(), "merkle": {"index": 0, "size": 1, "path": []},
        "manifest": "e30", "owner": null, "token": null, "client_nonce": null,
    })
}

fn bundles() -> Vec<Vec<u8>> {
    let zeros = "A".repeat(43);
    let bundle = serde_json::json!({
        "v": 1, "endpoint": "https://localhost", "time": 1, "nonce": zeros, "exporter": zeros,
        "certificate": "MAA", "answer": answer(),
    });
    vec![bundle.to_string().into_bytes()]
}

fn read_wire(bytes: &[u8]) {
    black_box(serde_json::from_slice::<VerifyRequest>(bytes).is_ok());
    black_box(serde_json::from_slice::<Manifest>(bytes).is_ok());
    if let Ok(proof) = serde_json::from_slice::<ClientProof>(bytes) {
        black_box(attestation::merkle::Inclusion::try_from(&proof.merkle).is_ok());
    }
    if let Ok(answer) = serde_json::from_slice::<VerifyAnswer>(bytes) {
        let inclusion = attestation::merkle::Inclusion::try_from(&answer.merkle);
        black_box(inclusion.ok().and_then(|inclusion| inclusion.root(bytes)));
    }
}

fn wire() -> Vec<Vec<u8>> {
    vec![
        answer().to_string().into_bytes(),
        format!("{{\"nonce\":\"{}\",\"token\":true}}", "A".repeat(43)).into_bytes(),
        serde_json::json!({
            "v": 1, "key_id_sha256": "A".repeat(43), "evidence": {},
            "merkle": {"index": 0, "size": 1, "path": []},
        })
        .to_string()
        .into_bytes(),
    ]
}

fn read_jws(bytes: &[u8]) {
    let Ok(jws) = Jws::parse(text(bytes), 64 * 1024) else { return };
    black_box(jws.unverified::<serde_json::Value>().is_ok());
    black_box(jws.header_text("alg"));
}

/// {"alg":"ES256"} . {} . 64 zero bytes
fn tokens() -> Vec<Vec<u8>> {
    vec![format!("eyJhbGciOiJFUzI1NiJ9.e30.{}", "A".repeat(86)).into_bytes()]
}

fn read_jwks(bytes: &[u8]) {
    black_box(Jwks::parse(bytes).is_ok());
}

fn key_sets() -> Vec<Vec<u8>> {
    vec![br#"{"keys":[{"kid":"a","kty":"RSA","x5c":["MAA="]}]}"#.to_vec()]
}

fn read_log_record(bytes: &[u8]) {
    black_box(Chain::begin(text(bytes)).is_ok());
}

fn read_log_readers(bytes: &[u8]) {
    let Ok(readers) = Readers::unverified(text(bytes)) else { return };
    assert!(readers.check().is_ok());
}

fn lists() -> Vec<Vec<u8>> {
    let header = format!(r#"{{"alg":"ES256","typ":"{READERS_TYPE}"}}"#);
    let payload = r#"{"v":1,"group":"a","version":1,"recipients":["age1q","age1p"]}"#;
    let parts = [header.as_bytes(), payload.as_bytes(), &[0; 64]].map(to_b64u);
    vec![parts.join(".").into_bytes()]
}

fn read_policy(bytes: &[u8]) {
    let Ok(policy) = policy_file::parse(text(bytes)) else { return };
    let written = serde_json::to_vec(&policy).unwrap_or_default();
    assert!(serde_json::from_slice::<Policy>(&written).is_ok_and(|again| again == policy));
}

pub(super) fn policies() -> Vec<Vec<u8>> {
    let own = serde_json::to_vec(&world().case.policy).unwrap_or_default();
    let loose = br#"{"host_data":{"unchecked":"a seed"},"vmpl":3,"revocation":{"list":"required"},
        "guest_policy":{"required":["single-socket"]},"endorsement":{"issuers":[],"minimum_svn":22},
        "minimum_tcb":{"milan":{"bootloader":4,"tee":0,"snp":24,"microcode":219}},
        "firmware":{"minimum":{"major":1,"minor":55,"build":29}},"minimum_mitigation":3}"#;
    let toml = b"host_data = { unchecked = \"a seed\" }\nvmpl = 3\n[minimum_tcb.milan]\nbootloader = 4\ntee = 0\n\
        snp = 24\nmicrocode = 219\n[guest_policy]\nrequired = [\"single-socket\"]\n";
    vec![own, loose.to_vec(), br#"{"host_data":[]}"#.to_vec(), toml.to_vec()]
}

/// What is read strictly is read by everybody else as the same.
fn read_json(bytes: &[u8]) {
    let Ok(strict) = json::parse(bytes) else { return };
    let usual = serde_json::from_slice::<serde_json::Value>(bytes);
    assert!(usual.is_ok_and(|usual| usual == strict));
}

fn json_documents() -> Vec<Vec<u8>> {
    let nested = ["[".repeat(16), "]".repeat(16)].concat().into_bytes();
    let values =
        br#"{"a":[1,-2,3.5e-7,true,false,null,"x\u0041\ud83d\ude00\n"],"b":{"c":{},"d":""}}"#;
    vec![values.to_vec(), nested, br#"{"a":1,"\u0061":2}"#.to_vec()]
}

fn read_hcl(bytes: &[u8]) {
    let Ok(hcl) = HclReport::parse(bytes) else { return };
    black_box((hcl.binding(), hcl.attestation_key(), hcl.runtime_data().len()));
    black_box(hcl.report().signature());
}

fn read_quote(bytes: &[u8]) {
    black_box((Quote::parse(bytes).is_ok(), tpm::rsassa_sha256(bytes)));
}
