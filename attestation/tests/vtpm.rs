//! Evidence of confidential VMs, recorded on real ones. The recordings bring no certificates of attestation
//! keys: those are made here, for the recorded keys, below roots of this test.

#![expect(clippy::unwrap_used, reason = "tests")]

mod recorded;

use std::collections::{BTreeMap, BTreeSet};

use attestation::certificate::Certificate;
use attestation::hcl::HclReport;
use attestation::policy::Hex;
use attestation::vtpm::{
    AkCertificate, AppraisedVm, VtpmEvidence, VtpmExpectations, verify, verify_and_appraise,
};
use attestation::{Anchors, Expect, Outcome, Policy, Rejected, Trust, danger, path};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, PublicKeyData, SignatureAlgorithm, date_time_ymd,
};
use recorded::{Vectors, vectors};
use serde_json::Value;

/// 2026-11-22.
const NOW: u64 = 1_795_305_600;

// ---- recordings

/// Rust's bincode of a signature, a quote and registers: each with its count in 8 bytes before it.
fn from_bincode(bytes: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<[u8; 32]>) {
    let mut rest = bytes;
    let mut counted = |size: usize| {
        let (count, after) = rest.split_first_chunk().unwrap();
        let (taken, after) =
            after.split_at(usize::try_from(u64::from_le_bytes(*count)).unwrap() * size);
        rest = after;
        taken.to_vec()
    };
    let (signature, quote, pcrs) = (counted(1), counted(1), counted(32));
    (signature, quote, pcrs.chunks(32).map(|pcr| pcr.try_into().unwrap()).collect())
}

fn first_of_pem(text: &str) -> Vec<u8> {
    Certificate::sequence_from_pem(text).unwrap().remove(0).der().to_vec()
}

/// A paravisor's report, a leaf and a quote from files of their own.
fn of_files(vectors: &Vectors, hcl: &str, vek: &str, quote: &str) -> VtpmEvidence {
    let vek = vectors.read(vek);
    let vek = match std::str::from_utf8(&vek) {
        Ok(pem) => first_of_pem(pem),
        Err(_) => vek,
    };
    let (signature, quote, pcrs) = from_bincode(&vectors.read(quote));
    VtpmEvidence {
        hcl_report: vectors.read(hcl),
        quote,
        signature,
        pcrs,
        vek,
        ..VtpmEvidence::default()
    }
}

fn milan_v2(vectors: &Vectors) -> VtpmEvidence {
    let folder = |name: &str| format!("trustee/az-snp-vtpm/{name}");
    of_files(vectors, &folder("hcl-report.bin"), &folder("vcek.pem"), &folder("quote.bin"))
}

/// The newer JSON form: base64url and hexadecimal digits.
fn of_json(vectors: &Vectors, name: &str) -> VtpmEvidence {
    let json: Value = serde_json::from_slice(&vectors.read(name)).unwrap();
    let json = json.get("evidence").unwrap_or(&json);
    let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).unwrap();
    let b64 = |pointer| URL_SAFE_NO_PAD.decode(text(pointer).trim_end_matches('=')).unwrap();
    let pcrs = json.pointer("/tpm_quote/pcrs").and_then(Value::as_array).unwrap();
    let pcr = |pcr: &Value| pcr.as_str().unwrap().parse::<Hex<32>>().unwrap().0;
    VtpmEvidence {
        hcl_report: b64("/hcl_report"),
        quote: hex::decode(text("/tpm_quote/message")).unwrap(),
        signature: hex::decode(text("/tpm_quote/signature")).unwrap(),
        pcrs: pcrs.iter().map(pcr).collect(),
        vek: b64("/vcek"),
        ..VtpmEvidence::default()
    }
}

/// The older JSON form: numbers, and PEM.
fn of_numbers(vectors: &Vectors, name: &str) -> VtpmEvidence {
    let json: Value = serde_json::from_slice(&vectors.read(name)).unwrap();
    let bytes = |pointer: &str| -> Vec<u8> {
        serde_json::from_value(json.pointer(pointer).unwrap().clone()).unwrap()
    };
    let pem = json.pointer("/vcek").and_then(Value::as_str).unwrap();
    VtpmEvidence {
        hcl_report: bytes("/report"),
        quote: bytes("/quote/message"),
        signature: bytes("/quote/signature"),
        pcrs: serde_json::from_value(json.pointer("/quote/pcrs").unwrap().clone()).unwrap(),
        vek: first_of_pem(pem),
        ..VtpmEvidence::default()
    }
}

/// Every whole recording, with its nonce.
fn all(vectors: &Vectors) -> Vec<(&'static str, VtpmEvidence, &'static [u8])> {
    let live = of_json(vectors, "az-cvm/live-evidence.json");
    // The same machine's certificates, as the host's metadata service gave them.
    let chain = ["az-cvm/imds-chain-0.der", "az-cvm/imds-chain-1.der"].map(|one| vectors.read(one));
    let imds = VtpmEvidence {
        vek: vectors.read("az-cvm/imds-vcek.der"),
        chain: Some(chain.concat()),
        ..live.clone()
    };
    vec![
        ("milan v2", milan_v2(vectors), b"challenge"),
        ("v0", of_numbers(vectors, "trustee/az-snp-vtpm/evidence-v0.json"), b"challenge"),
        ("v1", of_json(vectors, "trustee/az-snp-vtpm/evidence-v1.json"), b"challenge"),
        ("az-cvm v1", of_json(vectors, "az-cvm/evidence-v1.json"), b"challenge"),
        ("live", live, b"attestation-test-fixture"),
        ("live, by imds", imds, b"attestation-test-fixture"),
    ]
}

// ---- judging them

/// Of confidential VMs: no utility VM stands behind them. These were recorded on machines of all ages.
fn policy() -> Policy {
    let mut policy = Policy::for_host_data(Expect::Value(vec![Hex([0; 32])]));
    policy.endorsement = Expect::unchecked("a confidential VM has no utility VM");
    policy.minimum_tcb = Expect::unchecked("recorded years ago");
    policy.platform = Expect::unchecked("recorded years ago");
    policy
}

fn expected(evidence: &VtpmEvidence, nonce: &[u8]) -> VtpmExpectations {
    let value = |(register, value): (u8, &[u8; 32])| (register, vec![Hex(*value)]);
    VtpmExpectations {
        nonce: Expect::Value(nonce.to_vec()),
        registers: Expect::Value((0..24).collect()),
        values: Expect::Value((0..).zip(&evidence.pcrs).map(value).collect()),
        ak_certificate: Expect::unchecked("the recordings bring none"),
    }
}

fn judged(evidence: &VtpmEvidence, expected: &VtpmExpectations) -> Result<AppraisedVm, Rejected> {
    verify_and_appraise(evidence, &Anchors::production(), &policy(), expected, NOW)
}

fn ids(rejected: &Rejected) -> Vec<&'static str> {
    rejected.failures().map(|finding| finding.check.id).collect()
}

fn failures(evidence: &VtpmEvidence, expected: &VtpmExpectations) -> Vec<&'static str> {
    judged(evidence, expected).err().as_ref().map(ids).unwrap_or_default()
}

#[test]
fn every_recorded_vm_is_genuine_and_acceptable() {
    let Some(vectors) = vectors() else { return };
    for (name, evidence, nonce) in all(&vectors) {
        let expected = expected(&evidence, nonce);
        let vm = judged(&evidence, &expected)
            .unwrap_or_else(|rejected| panic!("{name}: {rejected}: {:#?}", rejected.findings));
        assert_eq!(vm.trust(), Trust::Production);
        assert_eq!(vm.pcrs().len(), 24);
        assert_eq!(vm.guest().report.vmpl(), 0);
        assert!(vm.runtime_data().starts_with(br#"{"keys":["#));
        let vtpm: Vec<&str> = vm
            .findings()
            .iter()
            .map(|finding| finding.check.id)
            .filter(|id| id.starts_with('V'))
            .collect();
        assert_eq!(vtpm, ["V0", "V2", "V1", "V3", "V6", "V4", "V5", "V7", "V8", "V9"]);
    }
}

#[test]
fn parts_of_two_vms_do_not_fit() {
    let Some(vectors) = vectors() else { return };
    let (one, other) =
        (milan_v2(&vectors), of_json(&vectors, "trustee/az-snp-vtpm/evidence-v1.json"));
    let expected_one = expected(&one, b"challenge");
    let quote = VtpmEvidence {
        quote: other.quote.clone(),
        signature: other.signature.clone(),
        pcrs: other.pcrs.clone(),
        ..one.clone()
    };
    assert_eq!(failures(&quote, &expected(&quote, b"challenge")), ["V3"]);
    let registers = VtpmEvidence { pcrs: other.pcrs.clone(), ..one.clone() };
    assert_eq!(failures(&registers, &expected_one), ["V6"]);
    let leaf = VtpmEvidence { vek: other.vek, ..one };
    let refused = failures(&leaf, &expected_one);
    assert!(refused.contains(&"S2") && refused.contains(&"C8"), "{refused:?}");
}

#[test]
fn another_chips_certificate_is_refused_for_signature_and_chip() {
    let Some(vectors) = vectors() else { return };
    let kinvolk = |name: &str| format!("kinvolk-az-cvm-vtpm/{name}");
    let evidence = of_files(
        &vectors,
        &kinvolk("hcl-report-snp.bin"),
        &kinvolk("certs.pem"),
        &kinvolk("quote.bin"),
    );
    let refused = ids(&verify(&evidence, &Anchors::production(), NOW).err().unwrap());
    assert!(refused.contains(&"S2") && refused.contains(&"C8"), "{refused:?}");
    assert!(!refused.contains(&"V1"), "its runtime data is bound: {refused:?}");
}

#[test]
fn a_report_of_another_technology_fails_v0_alone() {
    let Some(vectors) = vectors() else { return };
    let mut evidence = milan_v2(&vectors);
    evidence.hcl_report = vectors.read("kinvolk-az-cvm-vtpm/hcl-report-tdx.bin");
    let rejected = verify(&evidence, &Anchors::production(), NOW).err().unwrap();
    assert_eq!(ids(&rejected), ["V0"]);
    let Outcome::Failed { actual, .. } = &rejected.failures().next().unwrap().outcome else {
        panic!("as filtered");
    };
    assert!(actual.contains("not SNP"), "{actual}");
}

#[test]
fn another_runtime_data_fails_v1() {
    let Some(vectors) = vectors() else { return };
    let good = milan_v2(&vectors);
    let expected = expected(&good, b"challenge");
    let json = "\"console-enabled\":true";
    let at = good.hcl_report.windows(json.len()).position(|text| text == json.as_bytes()).unwrap();
    let mut evidence = good.clone();
    evidence.hcl_report[at + json.len() - 4..at + json.len()].copy_from_slice(b"null");
    assert_eq!(failures(&evidence, &expected), ["V1"]);

    // Another VM's runtime data, in whole: neither bound nor the signer's.
    let foreign = vectors.read("kinvolk-az-cvm-vtpm/var-data.bin");
    let mut evidence = good;
    let size = u32::try_from(foreign.len()).unwrap();
    evidence.hcl_report.truncate(1236);
    evidence.hcl_report.extend(&foreign);
    for (at, value) in [(8, 1236 + size), (1216, 20 + size), (1232, size)] {
        evidence.hcl_report[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    assert_eq!(failures(&evidence, &expected), ["V1", "V3"]);
}

#[test]
fn each_row_of_the_quote_fails_alone() {
    let Some(vectors) = vectors() else { return };
    let good = milan_v2(&vectors);
    let as_expected = expected(&good, b"challenge");
    let changed = |change: &dyn Fn(&mut VtpmEvidence)| {
        let mut evidence = good.clone();
        change(&mut evidence);
        failures(&evidence, &as_expected)
    };
    assert_eq!(changed(&|e| e.quote[0] = 0), ["V2"]);
    assert_eq!(changed(&|e| e.quote[5] = 0x17), ["V2"], "a certification, not a quote");
    assert_eq!(changed(&|e| e.quote.push(0)), ["V2"]);
    assert_eq!(changed(&|e| e.quote.clear()), ["V2"]);
    assert_eq!(changed(&|e| e.signature[9] ^= 1), ["V3"]);
    assert_eq!(changed(&|e| e.signature.truncate(255)), ["V3"]);
    assert_eq!(changed(&|e| e.signature.clear()), ["V3"]);
    assert_eq!(changed(&|e| e.pcrs[23][0] ^= 1), ["V6"]);
    assert_eq!(changed(&|e| e.pcrs.truncate(23)), ["V6"]);
    assert_eq!(changed(&|e| e.pcrs.push([0; 32])), ["V6"]);
    assert_eq!(changed(&|e| e.pcrs.clear()), ["V6"]);
    let marked = changed(&|e| {
        e.signature.splice(..0, [0, 0x14, 0, 0x0b, 1, 0]);
    });
    assert_eq!(marked, [""; 0], "a TPMT_SIGNATURE is as good");
}

#[test]
fn each_expectation_of_the_quote_fails_alone() {
    let Some(vectors) = vectors() else { return };
    let good = milan_v2(&vectors);
    let with = |change: &dyn Fn(&mut VtpmExpectations)| {
        let mut expected = expected(&good, b"challenge");
        change(&mut expected);
        failures(&good, &expected)
    };
    for nonce in [&b"other"[..], b"", b"challeng", b"challenge\0"] {
        assert_eq!(with(&|e| e.nonce = Expect::Value(nonce.to_vec())), ["V4"]);
    }
    for registers in [(0..23).collect(), (0..25).collect(), BTreeSet::new()] {
        assert_eq!(with(&|e| e.registers = Expect::Value(registers.clone())), ["V5"]);
    }
    for values in [
        BTreeMap::new(),
        BTreeMap::from([(0, vec![])]),
        BTreeMap::from([(0, vec![Hex([7; 32])])]),
        BTreeMap::from([(24, vec![Hex([0; 32])])]),
    ] {
        assert_eq!(with(&|e| e.values = Expect::Value(values.clone())), ["V9"]);
    }
    let believed = Expect::Value(AkCertificate::Believed);
    assert_eq!(with(&|e| e.ak_certificate = believed.clone()), ["V7"], "there is none");
    let loose = |e: &mut VtpmExpectations| {
        e.nonce = Expect::unchecked("a");
        e.registers = Expect::unchecked("b");
        e.values = Expect::unchecked("c");
    };
    assert_eq!(with(&loose), [""; 0]);
}

#[test]
fn an_empty_nonce_in_the_quote_meets_no_expectation() {
    let Some(vectors) = vectors() else { return };
    // The nonce stands after magic, type and the 36 bytes of the signer's name; V3 fails too, of course.
    let mut evidence = milan_v2(&vectors);
    evidence.quote.splice(42..42 + 2 + 9, [0, 0]);
    let mut expected = expected(&evidence, b"");
    let refused = verify(&evidence, &Anchors::production(), NOW).err().unwrap();
    assert_eq!(ids(&refused), ["V3"], "it is a quote, and not the one that was signed");
    expected.nonce = Expect::Value(Vec::new());
    assert_eq!(failures(&milan_v2(&vectors), &expected), ["V4"]);
}

/// The recording of registers 0 to 7 and 14 was signed by the attestation key of a VM that is not recorded.
#[test]
fn a_foreign_quote_of_other_registers_fails_for_key_and_values() {
    let Some(vectors) = vectors() else { return };
    for (name, mut evidence, _) in all(&vectors) {
        evidence.quote = vectors.read("trustee/az-snp-vtpm/tpm-quote.msg");
        evidence.signature = vectors.read("trustee/az-snp-vtpm/tpm-quote.sig");
        let refused = verify(&evidence, &Anchors::production(), NOW).err().unwrap();
        assert_eq!(ids(&refused), ["V3", "V6"], "{name}");
    }
}

#[test]
fn what_the_guests_policy_forbids_is_refused_beside() {
    let Some(vectors) = vectors() else { return };
    let evidence = milan_v2(&vectors);
    let strict = Policy { host_data: Expect::Value(vec![Hex([1; 32])]), ..policy() };
    let expected = expected(&evidence, b"other");
    let rejected =
        verify_and_appraise(&evidence, &Anchors::production(), &strict, &expected, NOW).err();
    assert_eq!(ids(&rejected.unwrap()), ["P9", "V4"]);
}

#[test]
fn no_changed_byte_of_quote_signature_or_runtime_data_survives() {
    let Some(vectors) = vectors() else { return };
    let good = milan_v2(&vectors);
    let refused = |evidence: &VtpmEvidence| verify(evidence, &Anchors::production(), NOW).is_err();
    for at in 0..good.quote.len() {
        let mut evidence = good.clone();
        evidence.quote[at] ^= 1 << (at % 8);
        assert!(refused(&evidence), "quote {at}");
    }
    for at in (0..good.signature.len()).step_by(16) {
        let mut evidence = good.clone();
        evidence.signature[at] ^= 1 << (at % 8);
        assert!(refused(&evidence), "signature {at}");
    }
    for at in (0..good.hcl_report.len()).step_by(13) {
        let mut evidence = good.clone();
        evidence.hcl_report[at] ^= 1 << (at % 8);
        assert!(refused(&evidence), "report {at}");
    }
}

// ---- certificates of attestation keys

/// A key of which only the public half is known.
struct Known(Vec<u8>);

impl PublicKeyData for Known {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// Valid from 2025 to 2027.
fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

/// A hierarchy as Azure's, that certifies a key.
struct Hierarchy {
    leaf: Vec<u8>,
    issuers: Vec<u8>,
    root_pem: String,
}

fn certify(key: Vec<u8>, leaf: &CertificateParams) -> Hierarchy {
    let (root_key, ca_key) = (
        KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(),
        KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(),
    );
    let root_params = authority("Azure Virtual TPM Root Certificate Authority 2023");
    let root = root_params.self_signed(&root_key).unwrap();
    let ca_params = authority("Global Virtual TPM CA - 03");
    let ca = ca_params.signed_by(&ca_key, &Issuer::from_params(&root_params, &root_key)).unwrap();
    let leaf = leaf.signed_by(&Known(key), &Issuer::from_params(&ca_params, &ca_key)).unwrap();
    Hierarchy {
        leaf: leaf.der().to_vec(),
        issuers: [ca.der().as_ref(), root.der().as_ref()].concat(),
        root_pem: pem(root.der()),
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn recorded_key(evidence: &VtpmEvidence) -> Vec<u8> {
    let hcl = HclReport::parse(&evidence.hcl_report).ok().unwrap();
    hcl.attestation_key().unwrap().pkcs1().to_vec()
}

/// Evidence with a certificate of this hierarchy, judged by somebody who believes its root.
fn certified(evidence: &VtpmEvidence, hierarchy: &Hierarchy, at: u64) -> Vec<&'static str> {
    let evidence = VtpmEvidence {
        ak_certificate: Some(hierarchy.leaf.clone()),
        ak_issuers: hierarchy.issuers.clone(),
        ..evidence.clone()
    };
    let mut expected = expected(&evidence, b"challenge");
    expected.ak_certificate = Expect::Value(AkCertificate::Believed);
    let anchors =
        danger::Anchors::with_vtpm_roots(Anchors::production(), &hierarchy.root_pem).unwrap();
    match verify_and_appraise(&evidence, &anchors, &policy(), &expected, at) {
        Ok(vm) => {
            assert_eq!(vm.trust(), Trust::NotProduction);
            vec![]
        }
        Err(rejected) => ids(&rejected),
    }
}

#[test]
fn a_certificate_of_the_key_below_a_believed_root_is_accepted_with_its_padding() {
    let Some(vectors) = vectors() else { return };
    let evidence = milan_v2(&vectors);
    let name = named("0123456789ab.ConfidentialVM.Azure.windows.net");
    let mut hierarchy = certify(recorded_key(&evidence), &name);
    assert_eq!(certified(&evidence, &hierarchy, NOW), [""; 0]);
    let length = hierarchy.leaf.len();
    hierarchy.leaf.resize(4096, 0);
    assert_eq!(certified(&evidence, &hierarchy, NOW), [""; 0], "as it lies in the index");
    hierarchy.leaf[4095] = 1;
    assert_eq!(certified(&evidence, &hierarchy, NOW), ["V7", "V8"], "no certificate");
    hierarchy.leaf.truncate(length - 1);
    assert_eq!(certified(&evidence, &hierarchy, NOW), ["V7", "V8"], "no certificate");
}

#[test]
fn a_certificate_that_is_not_valid_then_fails_v7_alone() {
    let Some(vectors) = vectors() else { return };
    let evidence = milan_v2(&vectors);
    let mut expired = named("ak");
    expired.not_after = date_time_ymd(2026, 8, 1);
    let hierarchy = certify(recorded_key(&evidence), &expired);
    assert_eq!(certified(&evidence, &hierarchy, NOW), ["V7"]);
    let in_july = 1_783_000_000;
    assert_eq!(certified(&evidence, &hierarchy, in_july), [""; 0], "at a time that is given");
}

#[test]
fn another_keys_certificate_fails_v8_alone() {
    let Some(vectors) = vectors() else { return };
    let evidence = milan_v2(&vectors);
    let other = of_json(&vectors, "trustee/az-snp-vtpm/evidence-v1.json");
    let hierarchy = certify(recorded_key(&other), &named("ak"));
    assert_eq!(certified(&evidence, &hierarchy, NOW), ["V8"]);
}

#[test]
fn a_broken_or_foreign_path_fails_v7_alone() {
    let Some(vectors) = vectors() else { return };
    let evidence = milan_v2(&vectors);
    let key = recorded_key(&evidence);
    let good = || certify(key.clone(), &named("ak"));
    let refused = |change: &dyn Fn(&mut Hierarchy)| {
        let mut hierarchy = good();
        change(&mut hierarchy);
        certified(&evidence, &hierarchy, NOW)
    };
    assert_eq!(refused(&|h| h.root_pem = good().root_pem), ["V7"], "another root of that name");
    assert_eq!(refused(&|h| h.issuers = good().issuers), ["V7"], "another hierarchy's issuers");
    assert_eq!(refused(&|h| h.issuers.clear()), ["V7"]);
    assert_eq!(refused(&|h| h.issuers.push(0)), ["V7"]);
    assert_eq!(refused(&|h| h.issuers.resize(64 * 1024 + 1, 0)), ["V7"]);

    // Who believes the published roots alone believes none of this.
    let hierarchy = good();
    let evidence = VtpmEvidence {
        ak_certificate: Some(hierarchy.leaf),
        ak_issuers: hierarchy.issuers,
        ..evidence
    };
    let mut expected = expected(&evidence, b"challenge");
    expected.ak_certificate = Expect::Value(AkCertificate::Believed);
    assert_eq!(failures(&evidence, &expected), ["V7"]);
    expected.ak_certificate = Expect::unchecked("a test");
    assert_eq!(failures(&evidence, &expected), [""; 0]);
}

#[test]
fn the_recorded_issuers_of_azure_lead_to_the_published_root() {
    let Some(vectors) = vectors() else { return };
    let certificate = |name: &str| {
        let text = vectors.text(&format!("azure-tpm-roots/azure_tpm_{name}.pem"));
        Certificate::sequence_from_pem(&text).unwrap().remove(0)
    };
    let (ca_01, ca_03) = (certificate("intermediate_01"), certificate("intermediate_03"));
    let root = certificate("root_2023");
    assert_eq!(
        hex::encode(root.fingerprint()),
        "e6c596b17f8ffefba5c300f714cfb1260c6028704ecf7becc4ab5018efb00e95"
    );
    assert_eq!(path::verify(&[ca_03.clone(), root.clone()], NOW), Ok(()));
    assert!(path::verify(&[ca_01, root.clone()], NOW).is_err(), "expired 2025-11");

    // A leaf that only names Azure's issuer was not signed by it.
    let evidence = milan_v2(&vectors);
    let forged = certify(recorded_key(&evidence), &named("ak"));
    let evidence = VtpmEvidence {
        ak_certificate: Some(forged.leaf),
        ak_issuers: [ca_03.der(), root.der()].concat(),
        ..evidence
    };
    let mut expected = expected(&evidence, b"challenge");
    expected.ak_certificate = Expect::Value(AkCertificate::Believed);
    assert_eq!(failures(&evidence, &expected), ["V7"]);
}
