//! Endorsements of real utility VMs, against reports of real machines and with the production anchors. The files are
//! read from `$VECTORS_DIR`, by default `../shared/vectors` beside the workspace; without them these tests say so and
//! pass, unless `VECTORS_REQUIRED=1`.

#![expect(clippy::panic, reason = "helpers of tests")]

mod recorded;

use attestation::policy::EndorsementPolicy;
use attestation::{
    Anchors, Appraised, Evidence, Expect, Finding, Outcome, Policy, Rejected, Trust, appraise,
    danger, verify,
};
use recorded::vectors;

/// 2026-11-22, the day that INDEX.md judges at.
const NOW: u64 = 1_795_305_600;

/// What set A brings beside its endorsement.
const REPORT_A: &str = "ms-confidential-sidecar/attest/snp_report.bin";
const LEAF_A: &str = "ms-confidential-sidecar/attest/uvm_host_amd_certificate.pem";
const UVM_A: &str = "ms-confidential-sidecar/attest/body.uvm_reference_info.bin";
const SIGNED_A: u64 = 1_675_834_943;

/// Set C has no report; its policy is the one of this machine, its utility VM is not.
const REPORT_MILAN: &str = "aci-reports/milan_attestation_report.bin";
const LEAF_MILAN: &str = "aci-reports/milan_vcek.pem";
const UVM_C: &str = "ms-confidential-sidecar/security-context/reference-info.cose";

const ENDORSEMENT: [&str; 6] = ["U1", "U2", "U3", "U4", "U5", "U6"];

/// Evidence of a recorded report, its own leaf, and an endorsement.
fn evidence(report: &str, leaf: &str, uvm: &str) -> Option<Evidence> {
    let vectors = vectors()?;
    Some(Evidence { uvm: Some(vectors.read(uvm)), ..vectors.evidence(report, leaf) })
}

/// As strict about endorsements as can be, and about nothing that set A is too old for.
fn strict() -> Policy {
    let mut policy = Policy::for_host_data(Expect::unchecked("not what this test is about"));
    policy.minimum_tcb = Expect::unchecked("recorded years ago");
    policy.platform = Expect::unchecked("recorded years ago");
    policy
}

fn policy(endorsement: EndorsementPolicy) -> Policy {
    let mut policy = strict();
    policy.endorsement = Expect::Value(endorsement);
    policy
}

fn from_version(minimum_svn: u64) -> Policy {
    policy(EndorsementPolicy { minimum_svn, ..EndorsementPolicy::default() })
}

fn judged(
    evidence: &Evidence,
    anchors: &Anchors,
    policy: &Policy,
    at: u64,
) -> Result<Appraised, Rejected> {
    let verified = verify(evidence, anchors, at).unwrap_or_else(|rejected| panic!("{rejected}"));
    appraise(verified, policy, &Expect::unchecked("not what this test is about"))
}

fn failures(result: Result<Appraised, Rejected>) -> Vec<&'static str> {
    match result {
        Ok(_) => vec![],
        Err(rejected) => rejected.failures().map(|finding| finding.check.id).collect(),
    }
}

fn in_production(evidence: &Evidence, policy: &Policy) -> Vec<&'static str> {
    failures(judged(evidence, &Anchors::production(), policy, NOW))
}

#[test]
fn set_a_is_endorsed_and_too_old() {
    let Some(evidence) = evidence(REPORT_A, LEAF_A, UVM_A) else { return };
    assert_eq!(in_production(&evidence, &strict()), ["U4"], "22 is less than 100");
    assert_eq!(in_production(&evidence, &from_version(23)), ["U4"]);

    let anchors = Anchors::production();
    let appraised = judged(&evidence, &anchors, &from_version(22), NOW).ok().unwrap();
    let endorsement = appraised.endorsement().unwrap();
    assert_eq!((endorsement.value().svn, endorsement.value().signed_at), (22, SIGNED_A));
    assert_eq!(endorsement.value().measurement, appraised.guest().report.measurement());
    assert_eq!((endorsement.trust(), endorsement.at()), (Trust::Production, NOW));
    let passed = |finding: &&Finding| matches!(finding.outcome, Outcome::Passed { .. });
    let ids = endorsement.findings().iter().filter(passed).map(|finding| finding.check.id);
    assert_eq!(ids.collect::<Vec<_>>(), ENDORSEMENT);
}

#[test]
fn an_endorsement_from_the_future_is_refused() {
    let Some(evidence) = evidence(REPORT_A, LEAF_A, UVM_A) else { return };
    let anchors = Anchors::production();
    let at = |at| failures(judged(&evidence, &anchors, &from_version(22), at));
    assert_eq!(at(SIGNED_A), [""; 0]);
    assert_eq!(at(SIGNED_A - 1), ["U6"]);
}

#[test]
fn set_c_is_authentic_and_about_another_utility_vm() {
    let Some(evidence) = evidence(REPORT_MILAN, LEAF_MILAN, UVM_C) else { return };
    assert_eq!(in_production(&evidence, &from_version(100)), ["U5"]);
    assert_eq!(in_production(&evidence, &from_version(101)), ["U4", "U5"], "its version is 100");
}

#[test]
fn one_machines_endorsement_does_not_serve_another() {
    let Some(evidence) = evidence(REPORT_MILAN, LEAF_MILAN, UVM_A) else { return };
    assert_eq!(in_production(&evidence, &from_version(22)), ["U5"]);
}

#[test]
fn issuer_and_feed_are_the_policys() {
    let Some(evidence) = evidence(REPORT_A, LEAF_A, UVM_A) else { return };
    let base = || EndorsementPolicy { minimum_svn: 22, ..EndorsementPolicy::default() };
    let nobody = EndorsementPolicy { issuers: Some(vec![]), ..base() };
    assert_eq!(in_production(&evidence, &policy(nobody)), ["U2"]);
    let fragments = "did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.3";
    let other = EndorsementPolicy { issuers: Some(vec![fragments.to_owned()]), ..base() };
    assert_eq!(in_production(&evidence, &policy(other)), ["U2"]);
    let other = EndorsementPolicy { feed: "ContainerPlat-AMD-UVM-preview".to_owned(), ..base() };
    assert_eq!(in_production(&evidence, &policy(other)), ["U3"]);
}

#[test]
fn anchors_that_believe_no_endorser_believe_no_endorsement() {
    let Some(evidence) = evidence(REPORT_A, LEAF_A, UVM_A) else { return };
    let pem = vectors().unwrap().text("trustee/roots/milan_ask_ark_asvk.pem");
    let end = pem.match_indices("-----END CERTIFICATE-----").nth(1).unwrap().0 + 25;
    let anchors = danger::Anchors::from_pem(&pem[..end]).unwrap();
    assert_eq!(failures(judged(&evidence, &anchors, &from_version(22), NOW)), ["U2"]);
}

#[test]
fn no_changed_byte_of_what_is_signed_survives() {
    let Some(evidence) = evidence(REPORT_A, LEAF_A, UVM_A) else { return };
    let original = evidence.uvm.clone().unwrap();
    let stamp = original.windows(9).position(|bytes| bytes == b"timestamp").unwrap();
    let payload = original.windows(9).position(|bytes| bytes == b"{\n  \"x-ms").unwrap();
    let signature = original.len() - 384;
    // The tag, the protected header, the payload, the signature: not the timestamp, which nobody reads.
    let signed = (0..stamp).step_by(13).chain(payload..signature).chain(signature..original.len());
    for at in signed {
        let mut changed = evidence.clone();
        changed.uvm.as_mut().unwrap()[at] ^= 1;
        let failures = in_production(&changed, &from_version(0));
        assert!(failures.contains(&"U1"), "byte {at}: {failures:?}");
    }
}

#[test]
fn evidence_without_an_endorsement_is_refused_by_a_policy_that_says_nothing() {
    let Some(mut evidence) = evidence(REPORT_A, LEAF_A, UVM_A) else { return };
    for uvm in [None, Some(vec![]), Some(vec![0; 65_537]), Some(b"0oRZ".to_vec())] {
        evidence.uvm = uvm;
        let rejected = judged(&evidence, &Anchors::production(), &strict(), NOW).err().unwrap();
        let failed: Vec<&str> = rejected.failures().map(|finding| finding.check.id).collect();
        assert_eq!(failed, ["U1"]);
        let unreached = Outcome::Unchecked { why: "not reached, because U1 failed".to_owned() };
        let others = rejected.findings.iter().filter(|finding| finding.outcome == unreached);
        let ids: Vec<&str> = others.map(|finding| finding.check.id).collect();
        assert_eq!(ids, ["U2", "U3", "U4", "U5", "U6"]);
    }
}

#[test]
fn a_policy_may_leave_the_endorsement_unchecked_and_says_why() {
    let Some(mut evidence) = evidence(REPORT_A, LEAF_A, UVM_A) else { return };
    let mut policy = from_version(100);
    policy.endorsement = Expect::unchecked("an old machine, to look at");
    policy.measurement = Some(Expect::unchecked("and what it runs"));
    for uvm in [evidence.uvm.clone(), None, Some(b"garbage".to_vec())] {
        evidence.uvm = uvm;
        let appraised = judged(&evidence, &Anchors::production(), &policy, NOW).ok().unwrap();
        assert!(appraised.endorsement().is_none(), "nothing was learnt from it");
        let unchecked = Outcome::Unchecked { why: "an old machine, to look at".to_owned() };
        let ids = appraised.findings().iter().filter(|finding| finding.outcome == unchecked);
        assert_eq!(ids.map(|finding| finding.check.id).collect::<Vec<_>>(), ENDORSEMENT);
    }
}
