//! From an answer and a client's own observations to a verdict about a connection.

use attestation::connection::{self, ConnectionError, Observed, SERVICE};
use attestation::crypto::sha256;
use attestation::merkle::Tree;
use attestation::policy::Expect;
use attestation::wire::VerifyAnswer;
use attestation::{Binding, Demand};
use serde_json::{Value, json};

use crate::case::{Case, NOW, Owner, at};
use crate::pki::{Signer, Spec};

/// A client's connection, and the server's answer about it.
struct Proof {
    case: Case,
    observed: Observed,
    answer: VerifyAnswer,
}

fn manifest() -> Value {
    json!({
        "v": 1, "service": SERVICE, "version": "1", "boot_id": "00", "started": NOW, "hostnames": [],
        "tls": {"mode": "attested"}, "owner_key": null, "log_key": null, "log_head": null,
        "config": {}, "anchors": "NOT PRODUCTION",
    })
}

fn binding(observed: &Observed, manifest: &[u8]) -> Binding {
    let certificate = attestation::certificate::Certificate::from_der(&observed.certificate);
    Binding::TlsChannel {
        nonce: observed.nonce,
        exporter: observed.exporter,
        spki_sha256: sha256(&certificate.unwrap().spki().unwrap()),
        certificate_sha256: sha256(&observed.certificate),
        manifest_sha256: sha256(manifest),
    }
}

/// The second of three that waited for one report.
fn proof(manifest: &Value) -> Proof {
    let certificate = Spec::authority(1, "server", "server").issue_rsa(Signer::Stranger);
    let observed = Observed { nonce: [1; 32], exporter: [2; 32], certificate };
    let manifest = manifest.to_string().into_bytes();
    let binding = binding(&observed, &manifest);
    let tree = Tree::new(&[vec![1], binding.leaf(), vec![3]]).unwrap();
    let inclusion = &tree.inclusions[1];
    let mut case = Case::milan();
    case.set(at::REPORT_DATA, &binding.report_data(inclusion).unwrap());
    let answer = VerifyAnswer {
        v: 1,
        evidence: case.evidence().to_json(),
        merkle: inclusion.into(),
        manifest,
        owner: None,
        token: None,
        client_nonce: None,
    };
    Proof { case, observed, answer }
}

fn judged(proof: &Proof) -> Result<connection::ProvenConnection, ConnectionError> {
    let Proof { case, observed, answer } = proof;
    connection::judge(answer, observed, &case.anchors(), &case.policy, NOW)
}

fn refused(change: impl FnOnce(&mut Proof)) -> ConnectionError {
    let mut proof = proof(&manifest());
    change(&mut proof);
    judged(&proof).err().unwrap()
}

fn failures(error: &ConnectionError) -> Vec<&'static str> {
    let ConnectionError::Rejected(rejected) = error else { panic!("{error}") };
    rejected.failures().map(|finding| finding.check.id).collect()
}

#[test]
fn a_connection_into_the_guest_is_proved() {
    let proven = judged(&proof(&manifest())).ok().unwrap();
    assert_eq!(proven.manifest.service, SERVICE);
    assert_eq!(proven.appraised.guest().report.vmpl(), 0);
}

#[test]
fn what_another_connection_would_show_is_not_covered() {
    let changes: [fn(&mut Proof); 5] = [
        |p| p.observed.nonce = [9; 32],
        |p| p.observed.exporter = [9; 32],
        |p| p.observed.certificate = Spec::authority(2, "a", "a").issue_rsa(Signer::Stranger),
        |p| p.answer.manifest = b"{}".to_vec(),
        |p| p.answer.merkle = (&Tree::new(&[vec![1], vec![2]]).unwrap().inclusions[0]).into(),
    ];
    for change in changes {
        assert_eq!(failures(&refused(change)), ["B1", "B2", "B3"]);
    }
}

#[test]
fn what_cannot_be_read_is_refused_before_it_is_judged() {
    assert_eq!(refused(|p| p.answer.v = 2), ConnectionError::Version(2));
    let certificate = refused(|p| p.observed.certificate.clear());
    assert!(matches!(certificate, ConnectionError::Certificate(_)));
    let evidence = refused(|p| p.answer.evidence = json!({}));
    assert!(matches!(evidence, ConnectionError::Evidence(_)));
    let place = json!({"index": 1, "size": 1, "path": []});
    let inclusion = refused(|p| p.answer.merkle = serde_json::from_value(place).unwrap());
    assert!(matches!(inclusion, ConnectionError::Inclusion(_)));
}

#[test]
fn the_manifest_is_one_of_this_service() {
    for (name, value) in [("v", json!(2)), ("service", json!("another")), ("service", json!(null))]
    {
        let mut manifest = manifest();
        manifest[name] = value;
        assert_eq!(judged(&proof(&manifest)).err(), Some(ConnectionError::Manifest), "{name}");
    }
}

#[test]
fn a_manifest_names_a_bounded_number_of_roles() {
    for (roles, expected) in [(64, None), (65, Some(ConnectionError::Manifest))] {
        let mut manifest = manifest();
        for role in 0..roles {
            manifest["config"][role.to_string()] = Value::Null;
        }
        assert_eq!(judged(&proof(&manifest)).err(), expected, "{roles}");
    }
}

#[test]
fn the_owners_word_is_about_this_report_and_manifest() {
    let owner = Owner::new(7);
    let mut signed = proof(&manifest());
    signed.case.policy.owner_key = Expect::Value(owner.public());
    assert_eq!(failures(&judged(&signed).err().unwrap()), ["B4"]);
    let binding = binding(&signed.observed, &signed.answer.manifest);
    let inclusion = (&signed.answer.merkle).try_into().unwrap();
    let report_data = binding.report_data(&inclusion).unwrap();
    let mut sign = |manifest: &[u8]| {
        signed.answer.owner = Some(owner.sign(&report_data, sha256(manifest)).signature);
        judged(&signed).err().as_ref().map(failures).unwrap_or_default()
    };
    assert_eq!(sign(manifest().to_string().as_bytes()), [""; 0]);
    assert_eq!(sign(b"another"), ["B4"]);
}

#[test]
fn only_a_channels_demand_names_a_nonce() {
    let Proof { observed, answer, .. } = proof(&manifest());
    let inclusion = (&answer.merkle).try_into().unwrap();
    let channel = binding(&observed, &answer.manifest);
    let demand = Demand::of(&channel, &inclusion).unwrap();
    assert_eq!((demand.nonce, demand.exporter), (Expect::Value([1; 32]), Expect::Value([2; 32])));
    assert_eq!(demand.report_data, Expect::Value(channel.report_data(&inclusion).unwrap()));
    let log = Binding::LogKey { public_key: vec![1], boot_id: [2; 16], recipients_sha256: [3; 32] };
    let demand = Demand::of(&log, &inclusion).unwrap();
    assert!(matches!(demand.nonce, Expect::Unchecked { .. }));
    assert!(matches!(demand.exporter, Expect::Unchecked { .. }));
}
