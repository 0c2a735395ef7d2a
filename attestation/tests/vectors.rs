//! Recorded evidence of real machines, as `INDEX.md` of the vectors describes it. The files are read from
//! `$VECTORS_DIR`, by default `../shared/vectors` beside the workspace; without them these tests say so and
//! pass, unless `VECTORS_REQUIRED=1`.

#![expect(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;

use attestation::certificate::Certificate;
use attestation::danger;
use attestation::policy::Hex;
use attestation::{
    Anchors, Appraised, Evidence, Expect, Guest, Outcome, Policy, Rejected, Trust, Verified,
    appraise, verify,
};

/// 2026-11-22, the day that INDEX.md judges at.
const NOW: u64 = 1_795_305_600;

#[expect(clippy::disallowed_methods, reason = "where the vectors lie is no configuration")]
fn vectors() -> Option<PathBuf> {
    let given = std::env::var_os("VECTORS_DIR").map(PathBuf::from);
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let folder = given.unwrap_or_else(beside);
    if folder.join("INDEX.md").is_file() {
        return Some(folder);
    }
    assert!(
        std::env::var("VECTORS_REQUIRED").as_deref() != Ok("1"),
        "the vectors are required, and {} has none",
        folder.display()
    );
    println!("skipped: no vectors in {}", folder.display());
    None
}

struct Vectors(PathBuf);

impl Vectors {
    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// The certificates of a PEM or DER file.
    fn certificates(&self, name: &str) -> Vec<Certificate> {
        let bytes = self.read(name);
        match std::str::from_utf8(&bytes) {
            Ok(text) => Certificate::sequence_from_pem(text).unwrap(),
            Err(_) => vec![Certificate::from_der(&bytes).unwrap()],
        }
    }

    fn evidence(&self, report: &str, leaf: &str) -> Evidence {
        let report = if report.ends_with(".hex") {
            hex::decode(self.text(report).trim()).unwrap()
        } else {
            self.read(report)
        };
        let leaf = self.certificates(leaf).into_iter().find(is_leaf).unwrap();
        Evidence { report, vek: leaf.der().to_vec(), ..Evidence::default() }
    }
}

fn is_leaf(certificate: &Certificate) -> bool {
    matches!(certificate.subject_cn().as_deref(), Some("SEV-VCEK" | "SEV-VLEK"))
}

/// Every recorded report with its own leaf: name, report, leaf, and ids of the checks that refuse it today.
const PAIRS: [(&str, &str, &str); 7] = [
    ("milan v2", "trustee/snp/test-report.bin", "trustee/snp/test-vcek.der"),
    (
        "milan v2 debug",
        "go-sev-guest/testdata/attestation.bin",
        "go-sev-guest/testdata/vcek.testcer",
    ),
    (
        "milan v2 hex",
        "virtee-sev/certs_data/report_milan.hex",
        "virtee-sev/certs_data/vcek_milan.der",
    ),
    ("milan v3 aci", "aci-reports/milan_attestation_report.bin", "aci-reports/milan_vcek.pem"),
    (
        "milan v3 reissued",
        "aci-reports/milan_attestation_report.bin",
        "aci-reports/milan_vcek_reissued.pem",
    ),
    ("genoa v3 aci", "aci-reports/genoa_attestation_report.bin", "aci-reports/genoa_vcek.pem"),
    (
        "set A",
        "ms-confidential-sidecar/attest/snp_report.bin",
        "ms-confidential-sidecar/attest/uvm_host_amd_certificate.pem",
    ),
];

fn failures(rejected: &Rejected) -> Vec<&'static str> {
    rejected.failures().map(|finding| finding.check.id).collect()
}

fn at_production(evidence: &Evidence) -> Result<Verified<Guest>, Rejected> {
    verify(evidence, &Anchors::production(), NOW)
}

fn lenient() -> Policy {
    Policy::for_host_data(Expect::unchecked("not what this test is about"))
}

fn accepted(verified: Verified<Guest>, policy: &Policy) -> Result<Appraised, Rejected> {
    appraise(verified, policy, &Expect::unchecked("not what this test is about"))
}

#[test]
fn every_recorded_report_is_authentic_with_its_own_leaf() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    for (name, report, leaf) in PAIRS {
        let verified = at_production(&vectors.evidence(report, leaf))
            .unwrap_or_else(|rejected| panic!("{name}: {rejected}: {:#?}", rejected.findings));
        assert_eq!(verified.trust(), Trust::Production);
        assert_eq!(verified.findings().len(), 15, "every check is listed");
    }
}

#[test]
fn no_recorded_report_is_authentic_with_another_leaf() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let forged = [
        "trustee/snp/test-vcek-invalid-legacy.der",
        "trustee/snp/test-vcek-invalid-new.der",
        "trustee/snp/test-vlek.der",
        "virtee-sev/certs_data/vcek_turin.der",
    ];
    for (name, report, own) in PAIRS {
        let own = vectors.evidence(report, own).vek;
        for leaf in PAIRS.iter().map(|pair| pair.2).chain(forged) {
            let evidence = vectors.evidence(report, leaf);
            let same_key = Certificate::from_der(&evidence.vek).unwrap().spki()
                == Certificate::from_der(&own).unwrap().spki();
            if !same_key {
                assert!(at_production(&evidence).is_err(), "{name} with {leaf}");
            }
        }
    }
}

#[test]
fn forged_leaves_are_refused_for_their_chain() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    for leaf in
        ["trustee/snp/test-vcek-invalid-legacy.der", "trustee/snp/test-vcek-invalid-new.der"]
    {
        let rejected =
            at_production(&vectors.evidence("trustee/snp/test-report.bin", leaf)).err().unwrap();
        assert!(failures(&rejected).contains(&"C2"), "{leaf}: {:?}", failures(&rejected));
    }
}

#[test]
fn a_debug_guest_is_authentic_and_refused() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let (_, report, leaf) = PAIRS[1];
    let verified = at_production(&vectors.evidence(report, leaf)).unwrap();
    let rejected = accepted(verified, &lenient()).err().unwrap();
    assert_eq!(failures(&rejected), ["P1"]);
}

#[test]
fn a_providers_key_is_refused_and_an_expired_certificate_too() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let mut evidence =
        vectors.evidence("trustee/snp/test-vlek-report.bin", "trustee/snp/test-vlek.der");
    let roots = vectors.certificates("trustee/roots/milan_ask_ark_asvk.pem");
    let of = |name: &str| roots.iter().find(|c| c.subject_cn().as_deref() == Some(name)).unwrap();
    let chain = [of("SEV-VLEK-Milan").der(), of("ARK-Milan").der()].concat();
    evidence.chain = Some(chain);

    let rejected = at_production(&evidence).err().unwrap();
    assert_eq!(failures(&rejected), ["C5"], "expired 2025-12-10");

    let in_2025 = 1_750_000_000;
    let verified = verify(&evidence, &Anchors::production(), in_2025).unwrap();
    let rejected = accepted(verified, &lenient()).err().unwrap();
    assert_eq!(failures(&rejected), ["C3", "P5"], "a VLEK, and VMPL 1");
}

#[test]
fn one_policy_digest_covers_both_generations() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let base64 = vectors.text("ms-confidential-sidecar/security-context/security-policy-base64");
    let text = base64_standard(base64.trim());
    let digest = Hex(attestation::crypto::sha256(&text));
    for pair in [PAIRS[3], PAIRS[5]] {
        let mut evidence = vectors.evidence(pair.1, pair.2);
        evidence.cce_policy = Some(text.clone());
        let policy = Policy::for_host_data(Expect::Value(vec![digest]));
        assert!(accepted(at_production(&evidence).unwrap(), &policy).is_ok(), "{}", pair.0);

        let other = Policy::for_host_data(Expect::Value(vec![Hex([7; 32])]));
        let rejected = accepted(at_production(&evidence).unwrap(), &other).err().unwrap();
        assert_eq!(failures(&rejected), ["P9"]);

        let nobody = Policy::for_host_data(Expect::Value(vec![]));
        let rejected = accepted(at_production(&evidence).unwrap(), &nobody).err().unwrap();
        assert_eq!(failures(&rejected), ["P9"], "an empty list accepts nobody");

        evidence.cce_policy.as_mut().unwrap().push(b'\n');
        let rejected = accepted(at_production(&evidence).unwrap(), &policy).err().unwrap();
        assert_eq!(failures(&rejected), ["P11"]);
    }
}

#[test]
fn set_a_says_what_its_parts_say() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let (_, report, leaf) = PAIRS[6];
    let mut evidence = vectors.evidence(report, leaf);
    let policy = vectors.text("ms-confidential-sidecar/attest/uvm_security_policy.base64");
    evidence.cce_policy = Some(base64_standard(policy.trim()));
    evidence.uvm = Some(vectors.read("ms-confidential-sidecar/attest/body.uvm_reference_info.bin"));
    let verified = at_production(&evidence).unwrap();
    let host_data = hex::encode(verified.value().report.host_data());
    assert!(host_data.starts_with("cadd74f71ebb8fbf") && host_data.ends_with("9b031c"));
    let policy = Policy::for_host_data(Expect::Value(vec![host_data.parse().unwrap()]));
    let appraised = accepted(verified, &policy).ok().unwrap();
    let unchecked: Vec<&str> = appraised
        .findings()
        .iter()
        .filter(|finding| matches!(finding.outcome, Outcome::Unchecked { .. }))
        .map(|finding| finding.check.id)
        .collect();
    assert_eq!(unchecked, ["C6", "T2", "P8", "B1", "U1", "U4"], "and each says why");
}

#[test]
fn other_anchors_refuse_genuine_machines() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let (_, report, leaf) = PAIRS[3];
    let evidence = vectors.evidence(report, leaf);
    let genoa = vectors.text("virtee-sev/builtin/genoa_ark.pem");
    let anchors = danger::Anchors::from_pem(&genoa).unwrap();
    let rejected = verify(&evidence, &anchors, NOW).err().unwrap();
    assert_eq!(failures(&rejected), ["C2"], "they hold no issuers for Milan");
    assert_eq!(rejected.trust, Trust::NotProduction);

    let mut complete = evidence;
    let roots = vectors.certificates("trustee/roots/milan_ask_ark_asvk.pem");
    complete.chain = Some([roots[0].der(), roots[1].der()].concat());
    let rejected = verify(&complete, &anchors, NOW).err().unwrap();
    assert_eq!(failures(&rejected), ["C1"], "they do not believe ARK-Milan");
}

#[test]
fn no_changed_bit_survives() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let (_, report, leaf) = PAIRS[5];
    let evidence = vectors.evidence(report, leaf);
    // One bit of every byte that is signed; the signature itself byte by byte.
    for at in 0..0x330 {
        let mut changed = evidence.clone();
        changed.report[at] ^= 1 << (at % 8);
        assert!(at_production(&changed).is_err(), "byte {at:#x}");
    }
    for at in [0x330, 1183] {
        let mut changed = evidence.clone();
        changed.report[at] = 1;
        assert_eq!(failures(&at_production(&changed).err().unwrap()), ["S2"], "padding {at:#x}");
    }
    for length in [0, 1183, 1185] {
        let mut changed = evidence.clone();
        changed.report.resize(length, 0);
        assert_eq!(failures(&at_production(&changed).err().unwrap()), ["R1"], "{length} bytes");
    }
}

fn base64_standard(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
