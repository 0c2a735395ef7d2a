//! Recorded evidence of real machines, as `INDEX.md` of the vectors describes it. The files are read from
//! `$VECTORS_DIR`, by default `../shared/vectors` beside the workspace; without them these tests say so and
//! pass, unless `VECTORS_REQUIRED=1`.

#![expect(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "helpers of tests")]

use std::path::PathBuf;

use attestation::certificate::Certificate;
use attestation::crl::{Crl, CrlError};
use attestation::danger;
use attestation::policy::{EndorsementPolicy, Generation, Hex, List, Revocation};
use attestation::product::Product;
use attestation::report::SigningKey;
use attestation::vek::Vek;
use attestation::{
    Anchors, Appraised, Endorser, Evidence, Expect, Guest, Outcome, Policy, Rejected, Trust,
    Verified, appraise, verify,
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

/// Every recorded report with its own leaf: name, report, leaf.
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

/// Of the machines here only set A brings an endorsement: see `endorsements.rs`.
fn strict() -> Policy {
    let mut policy = Policy::for_host_data(Expect::unchecked("not what this test is about"));
    policy.endorsement = Expect::unchecked("recorded without its endorsement");
    policy
}

/// Accepts machines that were recorded years ago, or elsewhere than in Azure.
fn lenient() -> Policy {
    let mut policy = strict();
    policy.minimum_tcb = Expect::unchecked("recorded years ago");
    policy.platform = Expect::unchecked("recorded years ago");
    policy.guest_policy = Expect::unchecked("recorded elsewhere than in Azure");
    policy
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
        assert_eq!(verified.findings().len(), 16, "every check is listed");
    }
}

/// What the built-in policy says to each of [`PAIRS`].
#[test]
fn the_built_in_policy_accepts_what_azure_runs_today_and_nothing_older() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let refused_by: [&[&str]; 7] = [
        &["R4", "T2"],
        &["R4", "T2", "P1", "P3"],
        &["R4", "T2", "P3"],
        &[],
        &[],
        &[],
        &["R4", "T2"],
    ];
    for ((name, report, leaf), expected) in PAIRS.into_iter().zip(refused_by) {
        let verified = at_production(&vectors.evidence(report, leaf)).unwrap();
        let refused = accepted(verified, &strict()).err();
        assert_eq!(refused.as_ref().map(failures).unwrap_or_default(), expected, "{name}");
    }
}

#[test]
fn the_built_in_minimum_is_what_was_recorded() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let Expect::Value(minimum) = strict().minimum_tcb else { panic!("a value") };
    for (pair, generation) in [(PAIRS[3], Generation::Milan), (PAIRS[5], Generation::Genoa)] {
        let verified = at_production(&vectors.evidence(pair.1, pair.2)).unwrap();
        let Guest { report, vek, .. } = verified.value();
        let row = minimum[&generation].into();
        assert_eq!(report.tcbs(vek.product).reported, row, "{}", pair.0);
        assert_eq!(report.tcbs(vek.product).launch, row, "{}", pair.0);
    }
}

/// The two lists of the archive, Genoa's and Milan's.
fn lists(vectors: &Vectors) -> [Vec<u8>; 2] {
    let text = vectors.text("crl/sev_certificates.txt");
    let mut blocks = text.split("-----BEGIN X509 CRL-----").skip(1).map(|after| {
        let base64 = after.split("-----END").next().unwrap();
        base64_standard(&base64.split_whitespace().collect::<String>())
    });
    [blocks.next().unwrap(), blocks.next().unwrap()]
}

#[test]
fn amds_lists_are_those_of_their_roots() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let [genoa, milan] = lists(&vectors).map(|der| Crl::from_der(&der).unwrap());
    let root =
        |name: &str| vectors.certificates(&format!("virtee-sev/builtin/{name}.pem")).remove(0);
    assert_eq!(genoa.verify(&root("genoa_ark")), Ok(()));
    assert_eq!(milan.verify(&root("milan_ark")), Ok(()));
    assert_eq!(genoa.verify(&root("milan_ark")), Err(CrlError::Issuer));
    assert_eq!(genoa.verify(&root("genoa_ask")), Err(CrlError::Issuer));
    assert!(genoa.revokes(&131_073_u32.to_be_bytes()[1..]), "the first ASK of Genoa");
    assert!(!genoa.revokes(root("genoa_ask").serial()), "today's");
    assert!(!milan.revokes(root("milan_ask").serial()));
    assert_eq!(milan.updates(), (1_746_535_146, 1_778_544_000));
}

#[test]
fn amds_list_clears_a_machine_while_it_is_current() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let [genoa, milan] = lists(&vectors);
    let (_, report, leaf) = PAIRS[3];
    let mut evidence = vectors.evidence(report, leaf);
    evidence.crl = Some(milan.clone());
    let mut required = strict();
    required.revocation = Expect::Value(Revocation { list: List::Required, ..Default::default() });
    let judged = |evidence: &Evidence, policy: &Policy, at| {
        let verified = verify(evidence, &Anchors::production(), at).unwrap();
        accepted(verified, policy).err().as_ref().map(failures).unwrap_or_default()
    };
    let in_march_2026 = 1_773_000_000;
    assert_eq!(judged(&evidence, &required, in_march_2026), [""; 0]);
    assert_eq!(judged(&evidence, &required, NOW), ["C6"], "stale since May");
    assert_eq!(judged(&evidence, &strict(), NOW), [""; 0], "unchecked, and the verdict says so");
    evidence.crl = Some(genoa);
    assert_eq!(judged(&evidence, &strict(), in_march_2026), ["C6"], "another root's list");

    evidence.crl = None;
    let anchors = Anchors::production().with_list(Crl::from_der(&milan).unwrap());
    let verified = verify(&evidence, &anchors, in_march_2026).unwrap();
    assert!(accepted(verified, &required).is_ok(), "the verifier's own list");
}

#[test]
fn an_endorser_outlives_a_new_certificate_for_its_key() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let (first, reissued) = (PAIRS[3], PAIRS[4]);
    let first = vectors.evidence(first.1, first.2);
    let endorser = Endorser::of(&first, &Anchors::production()).ok().unwrap();
    assert!(endorser.verify(&vectors.evidence(reissued.1, reissued.2), NOW).is_ok());
    let other = PAIRS[5];
    assert!(endorser.verify(&vectors.evidence(other.1, other.2), NOW).is_err(), "another machine");
}

#[test]
fn a_turin_leaf_reads_with_its_own_layout() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let leaf = vectors.certificates("virtee-sev/certs_data/vcek_turin.der").remove(0);
    let vek = Vek::read(&leaf).unwrap();
    assert_eq!((vek.kind, vek.product), (SigningKey::Vcek, Product::Turin));
    assert_eq!(vek.hardware_id.map(|id| id.len()), Some(8));
    let roots = vectors.certificates("trustee/roots/turin_ask_ark_asvk.pem");
    let ask = roots.iter().find(|root| leaf.names_as_issuer(root)).unwrap();
    assert_eq!(ask.subject_cn().as_deref(), Some("SEV-Turin"));
    leaf.verify_pss_sha384(ask).unwrap();
}

#[test]
fn roots_from_independent_sources_agree() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let named = |file: &str, name: &str| {
        let found = vectors.certificates(file);
        let mut of = found.into_iter().filter(|c| c.subject_cn().as_deref() == Some(name));
        of.next().unwrap_or_else(|| panic!("{file} has no {name}")).der().to_vec()
    };
    for generation in ["Milan", "Genoa", "Turin"] {
        let small = generation.to_lowercase();
        let all = format!("trustee/roots/{small}_ask_ark_asvk.pem");
        let (ark, ask) = (format!("ARK-{generation}"), format!("SEV-{generation}"));
        assert!(named(&all, &ark) == named(&format!("virtee-sev/builtin/{small}_ark.pem"), &ark));
        assert!(named(&all, &ask) == named(&format!("virtee-sev/builtin/{small}_ask.pem"), &ask));
    }
    let asvk = "SEV-VLEK-Milan";
    let (one, other) =
        ("trustee/roots/milan_ask_ark_asvk.pem", "go-sev-guest/trust/ask_ark_milan_vlek.pem");
    assert!(named(one, asvk) == named(other, asvk));
}

#[test]
fn a_made_up_root_with_the_right_name_and_a_chain_of_two_generations_are_refused() {
    let Some(vectors) = vectors().map(Vectors) else { return };
    let (_, report, leaf) = PAIRS[3];
    let of = |file: &str| vectors.certificates(file).remove(0).der().to_vec();
    let milan_ask = of("virtee-sev/builtin/milan_ask.pem");
    let genoa_ark = of("virtee-sev/builtin/genoa_ark.pem");
    let roots = vectors.certificates("trustee/roots/milan_ask_ark_asvk.pem");
    let asvk = roots.iter().find(|c| c.subject_cn().as_deref() == Some("SEV-VLEK-Milan")).unwrap();
    let milan_ark = of("virtee-sev/builtin/milan_ark.pem");

    let mut evidence = vectors.evidence(report, leaf);
    evidence.chain = Some([milan_ask, genoa_ark].concat());
    let refused = failures(&at_production(&evidence).err().unwrap());
    assert_eq!(refused, ["C1", "C2", "C4"], "Milan's ASK under Genoa's ARK");
    evidence.chain = Some([asvk.der(), &milan_ark].concat());
    let refused = failures(&at_production(&evidence).err().unwrap());
    assert_eq!(refused, ["C2", "C4"], "a VCEK under the authority for VLEKs");
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

    let mut of_that_cloud = lenient();
    of_that_cloud.vlek = Expect::unchecked("that provider signs with VLEKs");
    of_that_cloud.vmpl = Expect::Value(1);
    let verified = verify(&evidence, &Anchors::production(), in_2025).unwrap();
    assert!(accepted(verified, &of_that_cloud).is_ok());
    let verified = verify(&evidence, &Anchors::production(), in_2025).unwrap();
    let rejected = accepted(verified, &strict()).err().unwrap();
    assert_eq!(failures(&rejected), ["C3", "T2", "P3", "P5"]);
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
        let policy = Policy { host_data: Expect::Value(vec![digest]), ..strict() };
        assert!(accepted(at_production(&evidence).unwrap(), &policy).is_ok(), "{}", pair.0);

        let other = Policy { host_data: Expect::Value(vec![Hex([7; 32])]), ..strict() };
        let rejected = accepted(at_production(&evidence).unwrap(), &other).err().unwrap();
        assert_eq!(failures(&rejected), ["P9"]);

        let nobody = Policy { host_data: Expect::Value(vec![]), ..strict() };
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
    let host_data = Expect::Value(vec![host_data.parse().unwrap()]);
    let endorsement = EndorsementPolicy { minimum_svn: 22, ..EndorsementPolicy::default() };
    let endorsement = Expect::Value(endorsement);
    let policy = Policy { host_data, endorsement, ..lenient() };
    let appraised = accepted(verified, &policy).ok().unwrap();
    let unchecked: Vec<&str> = appraised
        .findings()
        .iter()
        .filter(|finding| matches!(finding.outcome, Outcome::Unchecked { .. }))
        .map(|finding| finding.check.id)
        .collect();
    let expected = ["C6", "R4", "R7", "T2", "P10", "P3", "P6", "P7", "P8", "B1", "B2", "B3", "B4"];
    assert_eq!(unchecked, expected, "and each says why");
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
