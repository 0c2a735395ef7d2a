//! From a client's proof and a server's own observations to a verdict about that client.

use attestation::client_proof::{ClientProofError, ObservedByServer, judge_client};
use attestation::merkle::Tree;
use attestation::policy::{Expect, Hex};
use attestation::wire::ClientProof;
use attestation::{Appraised, Binding};
use serde_json::json;

use crate::case::{Case, NOW, at};

struct Proof {
    case: Case,
    observed: ObservedByServer,
    proof: ClientProof,
}

/// The first of two that waited for one report.
fn proof() -> Proof {
    let observed =
        ObservedByServer { nonce: [1; 32], exporter: [2; 32], server_spki_sha256: [3; 32] };
    let binding = Binding::ClientChannel {
        nonce: observed.nonce,
        exporter: observed.exporter,
        server_spki_sha256: observed.server_spki_sha256,
        key_id_sha256: [4; 32],
    };
    let tree = Tree::new(&[binding.leaf(), vec![1]]).unwrap();
    let inclusion = &tree.inclusions[0];
    let mut case = Case::milan();
    case.set(at::REPORT_DATA, &binding.report_data(inclusion).unwrap());
    let proof = ClientProof {
        v: 1,
        key_id_sha256: [4; 32],
        evidence: case.evidence().to_json(),
        merkle: inclusion.into(),
    };
    Proof { case, observed, proof }
}

fn judged(proof: &Proof) -> Result<Appraised, ClientProofError> {
    let Proof { case, observed, proof } = proof;
    judge_client(proof, observed, &case.anchors(), &case.policy, NOW)
}

fn refused(change: impl FnOnce(&mut Proof)) -> ClientProofError {
    let mut proof = proof();
    change(&mut proof);
    judged(&proof).err().unwrap()
}

fn failures(error: &ClientProofError) -> Vec<&'static str> {
    let ClientProofError::Rejected(rejected) = error else { panic!("{error}") };
    rejected.failures().map(|finding| finding.check.id).collect()
}

#[test]
fn a_client_in_an_acceptable_guest_is_accepted() {
    assert_eq!(judged(&proof()).ok().unwrap().guest().report.vmpl(), 0);
}

#[test]
fn a_proof_for_anything_else_is_not_covered() {
    let changes: [fn(&mut Proof); 5] = [
        |p| p.observed.nonce = [9; 32],
        |p| p.observed.exporter = [9; 32],
        |p| p.observed.server_spki_sha256 = [9; 32],
        |p| p.proof.key_id_sha256 = [9; 32],
        |p| p.proof.merkle = (&Tree::new(&[vec![1], vec![2]]).unwrap().inclusions[1]).into(),
    ];
    for change in changes {
        assert_eq!(failures(&refused(change)), ["B1", "B2", "B3"]);
    }
}

/// What a server says about its connection to a client is no client's word: the label differs.
#[test]
fn a_servers_evidence_is_no_clients() {
    let refused = refused(|p| {
        let servers = Binding::TlsChannel {
            nonce: p.observed.nonce,
            exporter: p.observed.exporter,
            spki_sha256: p.observed.server_spki_sha256,
            certificate_sha256: [4; 32],
            manifest_sha256: [4; 32],
        };
        let tree = Tree::new(&[servers.leaf()]).unwrap();
        p.case.set(at::REPORT_DATA, &servers.report_data(&tree.inclusions[0]).unwrap());
        p.proof.evidence = p.case.evidence().to_json();
        p.proof.merkle = (&tree.inclusions[0]).into();
    });
    assert_eq!(failures(&refused), ["B1", "B2", "B3"]);
}

#[test]
fn another_guest_is_refused_by_the_servers_policy() {
    let refused = refused(|p| p.case.policy.host_data = Expect::Value(vec![Hex([0xab; 32])]));
    assert_eq!(failures(&refused), ["P9"]);
}

#[test]
fn what_cannot_be_read_is_refused_before_it_is_judged() {
    assert_eq!(refused(|p| p.proof.v = 2), ClientProofError::Version(2));
    let evidence = refused(|p| p.proof.evidence = json!({}));
    assert!(matches!(evidence, ClientProofError::Evidence(_)));
    let place = json!({"index": 1, "size": 1, "path": []});
    let inclusion = refused(|p| p.proof.merkle = serde_json::from_value(place).unwrap());
    assert!(matches!(inclusion, ClientProofError::Inclusion(_)));
}
