//! What the endorsement of a utility VM costs beside the signatures in it, on a recorded one of Microsoft's: its own,
//! and one of each certificate. `cargo bench -p attestation --bench endorsement`.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "rounds/recorded.rs"]
mod recorded;
mod rounds;

use attestation::certificate::Certificate;
use attestation::cose::Sign1;
use attestation::policy::EndorsementPolicy;
use attestation::{Anchors, Demand, Endorser, Evidence, Expect, Policy, appraise};
use recorded::{AT, recorded};
use rounds::{Candidate, compare, measure};

const FOLDER: &str = "ms-confidential-sidecar/attest";

fn main() {
    let read = |name: &str| recorded(&format!("{FOLDER}/{name}"));
    let files = (read("snp_report.bin"), read("uvm_host_amd_certificate.pem"));
    let ((Some(report), Some(pem)), Some(uvm)) = (files, read("body.uvm_reference_info.bin"))
    else {
        return;
    };
    let pem = String::from_utf8(pem).unwrap();
    let vek = Certificate::sequence_from_pem(&pem).unwrap().swap_remove(0).der().to_vec();
    run(&Evidence { report, vek, uvm: Some(uvm), ..Evidence::default() });
}

/// The machine is an old one.
fn policy(endorsement: Expect<EndorsementPolicy>) -> Policy {
    let mut policy = Policy::for_host_data(Expect::unchecked("a benchmark"));
    policy.minimum_tcb = Expect::unchecked("recorded years ago");
    policy.platform = Expect::unchecked("recorded years ago");
    policy.endorsement = endorsement;
    policy.measurement = Some(Expect::unchecked("a benchmark"));
    policy
}

fn run(evidence: &Evidence) {
    let endorser = Endorser::of(evidence, &Anchors::production()).unwrap();
    let demand = Demand::from(&Expect::Value([0; 64]));
    let demand = Demand { report_data: Expect::unchecked("a benchmark"), ..demand };
    let guest = endorser.verify(evidence, AT).unwrap();
    let wanted = EndorsementPolicy { minimum_svn: 22, ..EndorsementPolicy::default() };
    let (with, without) =
        (policy(Expect::Value(wanted)), policy(Expect::unchecked("to see what it costs")));
    let message = Sign1::decode(evidence.uvm.as_deref().unwrap()).unwrap();
    let [leaf, intermediate, root] = message.chain() else { return };

    let mut candidates = [
        Candidate::new("signature of the message, bare", || message.verify().unwrap()),
        Candidate::new("signature of the leaf, bare", || {
            leaf.verify_signature(intermediate).unwrap();
        }),
        Candidate::new("signature of the intermediate, bare", || {
            intermediate.verify_signature(root).unwrap();
        }),
        Candidate::new("signature of the root, bare", || root.verify_signature(root).unwrap()),
        Candidate::new("appraise without the endorsement", || {
            appraise(guest.clone(), &without, demand.clone()).ok().unwrap()
        }),
        Candidate::new("appraise with the endorsement", || {
            appraise(guest.clone(), &with, demand.clone()).ok().unwrap()
        }),
    ];
    measure(&mut candidates);
    let [message, leaf, intermediate, root, without, with] =
        candidates.each_ref().map(Candidate::micros);
    compare("the endorsement", with - without, message + leaf + intermediate + root);
}
