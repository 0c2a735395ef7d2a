//! A chain that is judged once for many reports decides as one that is judged every time.

use attestation::{Endorser, Evidence, Rejected, verify};

use crate::case::{Case, NOW, at};
use crate::pki::Signer;

fn endorser(case: &Case) -> Endorser {
    Endorser::of(&case.evidence(), &case.anchors()).ok().unwrap()
}

fn failures(rejected: &Rejected) -> Vec<&'static str> {
    rejected.failures().map(|finding| finding.check.id).collect()
}

#[test]
fn warm_and_cold_find_the_same() {
    let good = Case::milan();
    let endorser = endorser(&good);
    let mut debug = good.clone();
    debug.set(at::POLICY + 2, &[0b1011]);
    let mut forged = good.clone();
    forged.tamper = |report| report[at::REPORT_DATA] ^= 1;
    let mut short = good.clone();
    short.tamper = |report| report.truncate(7);
    for case in [good, debug, forged, short] {
        let evidence = case.evidence();
        let cold = verify(&evidence, &case.anchors(), NOW);
        match (endorser.verify(&evidence, NOW), cold) {
            (Ok(warm), Ok(cold)) => {
                assert_eq!(warm.findings(), cold.findings());
                assert_eq!((warm.trust(), warm.at()), (cold.trust(), cold.at()));
            }
            (Err(warm), Err(cold)) => assert_eq!(warm, cold),
            _ => panic!("one refuses what the other accepts"),
        }
    }
}

#[test]
fn a_chain_that_fails_refuses_every_report() {
    let mut case = Case::milan();
    case.ask.signer = Signer::Stranger;
    let endorser = endorser(&case);
    for _ in 0..2 {
        let rejected = endorser.verify(&case.evidence(), NOW).err().unwrap();
        assert_eq!(failures(&rejected), ["C2"]);
    }
}

#[test]
fn validity_is_judged_again_for_each_report() {
    let mut case = Case::milan();
    case.leaf.life = (NOW - 10, NOW + 10);
    let (endorser, evidence) = (endorser(&case), case.evidence());
    assert!(endorser.verify(&evidence, NOW).is_ok());
    for outside in [NOW - 11, NOW + 11] {
        let rejected = endorser.verify(&evidence, outside).err().unwrap();
        assert_eq!(failures(&rejected), ["C5"]);
    }
}

#[test]
fn certificates_in_the_evidence_change_nothing() {
    let case = Case::milan();
    let endorser = endorser(&case);
    let bare = Evidence { vek: vec![], chain: Some(vec![1]), ..case.evidence() };
    assert!(endorser.verify(&bare, NOW).is_ok());
    // Another machine's report does not become good by bringing its own good certificates.
    let mut other = Case::milan();
    other.leaf.hardware_id = vec![0xee; 64];
    other.set(at::CHIP_ID, &[0xee; 64]);
    assert!(verify(&other.evidence(), &other.anchors(), NOW).is_ok());
    let rejected = endorser.verify(&other.evidence(), NOW).err().unwrap();
    assert_eq!(failures(&rejected), ["C8"]);
}
