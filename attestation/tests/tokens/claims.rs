//! What a token says.

use attestation::maa::{
    AciExpectations, CvmExpectations, GuestExpectations, Sent, UvmExpectations, appraise_aci,
    appraise_cvm, is_about,
};
use attestation::policy::{Hex, MinimumTcb, Never};
use attestation::{Expect, Outcome};
use serde_json::{Value, json};

use crate::mint::{RUNTIME, failures, mint, times, verified, with};

pub(crate) fn guest(runtime: &[u8]) -> Value {
    let digest = hex::encode(attestation::binding::maa(runtime));
    json!({
        "x-ms-attestation-type": "sevsnpvm",
        "x-ms-runtime": serde_json::from_slice::<Value>(runtime).unwrap(),
        "x-ms-sevsnpvm-is-debuggable": false,
        "x-ms-sevsnpvm-migration-allowed": false,
        "x-ms-sevsnpvm-vmpl": 0,
        "x-ms-sevsnpvm-hostdata": "11".repeat(32),
        "x-ms-sevsnpvm-launchmeasurement": "22".repeat(48),
        "x-ms-sevsnpvm-reportdata": digest,
        "x-ms-sevsnpvm-bootloader-svn": 4,
        "x-ms-sevsnpvm-tee-svn": 0,
        "x-ms-sevsnpvm-snpfw-svn": 24,
        "x-ms-sevsnpvm-microcode-svn": 219,
    })
}

pub(crate) fn merge(mut into: Value, from: Value) -> Value {
    let Value::Object(from) = from else { panic!("as built") };
    into.as_object_mut().unwrap().extend(from);
    into
}

pub(crate) fn aci() -> Value {
    let about = json!({
        "x-ms-ver": "1.0",
        "x-ms-compliance-status": "azure-compliant-uvm",
        "x-ms-policy-hash": "policy",
        "nonce": "73949",
        "x-ms-sevsnpvm-uvm-endorsement": {
            "x-ms-sevsnpvm-guestsvn": "104",
            "x-ms-sevsnpvm-guestsvn-int": 104,
            "x-ms-sevsnpvm-launchmeasurement": "22".repeat(48),
        },
        "x-ms-sevsnpvm-uvm-endorsement-headers": {
            "feed": attestation::uvm::FEED,
            "iss": attestation::uvm::MICROSOFT,
        },
    });
    merge(merge(times(), guest(RUNTIME)), about)
}

pub(crate) fn cvm() -> Value {
    let status = json!({"x-ms-compliance-status": "azure-compliant-cvm"});
    let about = json!({
        "x-ms-ver": "1.0",
        "x-ms-attestation-type": "azurevm",
        "x-ms-policy-hash": "policy",
        "secureboot": true,
        "x-ms-azurevm-attestation-protocol-ver": "3.0",
        "x-ms-azurevm-bootdebug-enabled": false,
        "x-ms-azurevm-kerneldebug-enabled": false,
        "x-ms-azurevm-hypervisordebug-enabled": false,
        "x-ms-azurevm-testsigning-enabled": false,
        "x-ms-azurevm-debuggersdisabled": true,
        "x-ms-azurevm-vmid": "V",
        "x-ms-runtime": {"client-payload": {"nonce": "bm9uY2U="}},
        "x-ms-isolation-tee": merge(guest(RUNTIME), status),
    });
    merge(times(), about)
}

pub(crate) fn expected_guest() -> GuestExpectations {
    GuestExpectations {
        host_data: Expect::Value(vec![Hex([0x11; 32])]),
        measurement: Expect::Value(vec![Hex([0x22; 48])]),
        minimum_tcb: Expect::Value(MinimumTcb {
            bootloader: 4,
            tee: 0,
            snp: 24,
            microcode: 219,
            fmc: 0,
        }),
        runtime_data: Expect::Value(RUNTIME.to_vec()),
        policy_hashes: Expect::Value(vec!["policy".to_owned()]),
    }
}

pub(crate) fn expected_aci() -> AciExpectations {
    AciExpectations {
        guest: expected_guest(),
        nonce: Expect::Value("73949".to_owned()),
        endorsement: Expect::Value(UvmExpectations::default()),
    }
}

pub(crate) fn expected_cvm() -> CvmExpectations {
    CvmExpectations {
        guest: expected_guest(),
        nonce: Expect::Value(b"nonce".to_vec()),
        insecure_boot: Expect::Value(Never::Forbidden),
        protocols: Expect::Value(vec!["3.0".to_owned()]),
    }
}

pub(crate) fn aci_refused(claims: &Value, expected: &AciExpectations) -> Vec<&'static str> {
    let verified = verified(&mint().token(claims)).unwrap();
    appraise_aci(verified, expected).err().as_ref().map(failures).unwrap_or_default()
}

pub(crate) fn cvm_refused(claims: &Value, expected: &CvmExpectations) -> Vec<&'static str> {
    let verified = verified(&mint().token(claims)).unwrap();
    appraise_cvm(verified, expected).err().as_ref().map(failures).unwrap_or_default()
}

/// Rows of both shapes: id, the claim below the guest, and a value that must fail that row alone. Null: absent.
pub(crate) fn guest_rows() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("J7", "x-ms-compliance-status", json!("azure-signed-katacc-uvm")),
        ("J7", "x-ms-compliance-status", json!(null)),
        ("J8.P1", "x-ms-sevsnpvm-is-debuggable", json!(true)),
        ("J8.P1", "x-ms-sevsnpvm-is-debuggable", json!("false")),
        ("J8.P1", "x-ms-sevsnpvm-is-debuggable", json!(0)),
        ("J8.P1", "x-ms-sevsnpvm-is-debuggable", json!(null)),
        ("J8.P2", "x-ms-sevsnpvm-migration-allowed", json!(true)),
        ("J8.P2", "x-ms-sevsnpvm-migration-allowed", json!(null)),
        ("J8.P5", "x-ms-sevsnpvm-vmpl", json!(1)),
        ("J8.P5", "x-ms-sevsnpvm-vmpl", json!(0.0)),
        ("J8.P5", "x-ms-sevsnpvm-vmpl", json!("0")),
        ("J8.P5", "x-ms-sevsnpvm-vmpl", json!(null)),
        ("J8.P9", "x-ms-sevsnpvm-hostdata", json!("33".repeat(32))),
        ("J8.P9", "x-ms-sevsnpvm-hostdata", json!(null)),
        ("J8.T2", "x-ms-sevsnpvm-microcode-svn", json!(218)),
        ("J8.T2", "x-ms-sevsnpvm-snpfw-svn", json!("24")),
        ("J8.T2", "x-ms-sevsnpvm-bootloader-svn", json!(4.5)),
        ("J8.T2", "x-ms-sevsnpvm-tee-svn", json!(null)),
        ("J9", "x-ms-sevsnpvm-reportdata", json!("00".repeat(64))),
        ("J9", "x-ms-sevsnpvm-reportdata", json!(null)),
        ("J12", "x-ms-runtime", json!({"keys": [], "vm-configuration": {"vmUniqueId": "V"}})),
    ]
}

#[test]
pub(crate) fn every_row_of_a_container_groups_token_fails_alone() {
    assert_eq!(aci_refused(&aci(), &expected_aci()), [""; 0]);
    let uvm = "x-ms-sevsnpvm-uvm-endorsement/x-ms-sevsnpvm";
    let other = "44".repeat(48);
    let mut rows: Vec<(&str, String, Value)> =
        guest_rows().into_iter().map(|(id, name, value)| (id, name.to_owned(), value)).collect();
    rows.extend([
        ("J6", "x-ms-ver".to_owned(), json!("2.0")),
        ("J6", "x-ms-attestation-type".to_owned(), json!("azurevm")),
        ("J6", "x-ms-isolation-tee".to_owned(), json!({})),
        ("J10", "nonce".to_owned(), json!("1")),
        ("J10", "nonce".to_owned(), json!(73949)),
        ("J10", "nonce".to_owned(), json!(null)),
        ("J11", "x-ms-policy-hash".to_owned(), json!("other")),
        ("J11", "x-ms-policy-hash".to_owned(), json!(null)),
        ("J12", "x-ms-runtime".to_owned(), json!(null)),
        ("J8.U2", "x-ms-sevsnpvm-uvm-endorsement-headers/iss".to_owned(), json!("did:x509:other")),
        ("J8.U2", "x-ms-sevsnpvm-uvm-endorsement-headers/iss".to_owned(), json!(null)),
        ("J8.U3", "x-ms-sevsnpvm-uvm-endorsement-headers/feed".to_owned(), json!("Other")),
        ("J8.U4", format!("{uvm}-guestsvn-int"), json!(99)),
        ("J8.U4", format!("{uvm}-guestsvn"), json!("99")),
        ("J8.U5", format!("{uvm}-launchmeasurement"), json!(other)),
        ("J8.U5", format!("{uvm}-launchmeasurement"), json!(null)),
    ]);
    for (id, name, value) in rows {
        let claims = with(aci(), &format!("/{name}"), value.clone());
        assert_eq!(aci_refused(&claims, &expected_aci()), [id], "{name} {value}");
    }
    // The endorsed measurement moves with the guest's, so that P8 fails alone.
    let moved = with(aci(), &format!("/{uvm}-launchmeasurement"), json!(other));
    let moved = with(moved, "/x-ms-sevsnpvm-launchmeasurement", json!(other));
    assert_eq!(aci_refused(&moved, &expected_aci()), ["J8.P8"]);
}

#[test]
pub(crate) fn every_row_of_a_confidential_vms_token_fails_alone() {
    assert_eq!(cvm_refused(&cvm(), &expected_cvm()), [""; 0]);
    let mut rows: Vec<(&str, String, Value)> = guest_rows()
        .into_iter()
        .map(|(id, name, value)| (id, format!("x-ms-isolation-tee/{name}"), value))
        .collect();
    let nested = |name| format!("x-ms-isolation-tee/{name}");
    let azurevm = |name| format!("x-ms-azurevm-{name}");
    rows.extend([
        ("J6", "x-ms-ver".to_owned(), json!(null)),
        ("J6", "x-ms-attestation-type".to_owned(), json!("sevsnpvm")),
        ("J6", nested("x-ms-attestation-type"), json!("tdxvm")),
        ("J8.P8", nested("x-ms-sevsnpvm-launchmeasurement"), json!("44".repeat(48))),
        ("J10", "x-ms-runtime/client-payload/nonce".to_owned(), json!("b3RoZXI=")),
        ("J10", "x-ms-runtime/client-payload/nonce".to_owned(), json!("bm9uY2U")),
        ("J10", "x-ms-runtime/client-payload/nonce".to_owned(), json!(null)),
        ("J10", "x-ms-runtime".to_owned(), json!(null)),
        ("J11", "x-ms-policy-hash".to_owned(), json!("other")),
        ("J13", "secureboot".to_owned(), json!(false)),
        ("J13", "secureboot".to_owned(), json!("true")),
        ("J13", "secureboot".to_owned(), json!(null)),
        ("J14", azurevm("bootdebug-enabled"), json!(true)),
        ("J14", azurevm("kerneldebug-enabled"), json!(true)),
        ("J14", azurevm("hypervisordebug-enabled"), json!(null)),
        ("J14", azurevm("testsigning-enabled"), json!(true)),
        ("J14", azurevm("debuggersdisabled"), json!(false)),
        ("J15", azurevm("attestation-protocol-ver"), json!("2.0")),
        ("J15", azurevm("attestation-protocol-ver"), json!(3.0)),
        ("J16", azurevm("vmid"), json!("W")),
        ("J16", azurevm("vmid"), json!(null)),
    ]);
    for (id, name, value) in rows {
        let claims = with(cvm(), &format!("/{name}"), value.clone());
        assert_eq!(cvm_refused(&claims, &expected_cvm()), [id], "{name} {value}");
    }
}

#[test]
pub(crate) fn one_shape_is_never_taken_for_the_other() {
    let refused = aci_refused(&cvm(), &expected_aci());
    assert!(refused.contains(&"J6") && refused.contains(&"J7"), "{refused:?}");
    let refused = cvm_refused(&aci(), &expected_cvm());
    assert!(refused.contains(&"J6") && refused.contains(&"J7"), "{refused:?}");
    // A token with both shapes at once is of neither.
    let both = merge(aci(), json!({"x-ms-isolation-tee": cvm()["x-ms-isolation-tee"]}));
    assert_eq!(aci_refused(&both, &expected_aci()), ["J6"]);
    assert!(cvm_refused(&both, &expected_cvm()).contains(&"J6"));
}

#[test]
pub(crate) fn what_nobody_expects_is_shown_with_the_reason() {
    let why = || "because this test says so".to_owned();
    let expected = AciExpectations {
        guest: GuestExpectations {
            host_data: Expect::unchecked(why()),
            measurement: Expect::unchecked(why()),
            minimum_tcb: Expect::unchecked(why()),
            runtime_data: Expect::unchecked(why()),
            policy_hashes: Expect::unchecked(why()),
        },
        nonce: Expect::unchecked(why()),
        endorsement: Expect::unchecked(why()),
    };
    let appraised = appraise_aci(verified(&mint().token(&aci())).unwrap(), &expected).unwrap();
    let unchecked: Vec<&str> = appraised
        .findings()
        .iter()
        .filter(|finding| finding.outcome == Outcome::Unchecked { why: why() })
        .map(|finding| finding.check.id)
        .collect();
    assert_eq!(
        unchecked,
        ["J8.P8", "J8.P9", "J8.T2", "J9", "J10", "J11", "J12", "J8.U2", "J8.U3", "J8.U4", "J8.U5"]
    );
}

#[test]
pub(crate) fn empty_lists_and_empty_nonces_accept_nobody() {
    let mut expected = expected_aci();
    expected.guest.host_data = Expect::Value(vec![]);
    expected.guest.measurement = Expect::Value(vec![]);
    expected.guest.policy_hashes = Expect::Value(vec![]);
    expected.nonce = Expect::Value(String::new());
    expected.endorsement =
        Expect::Value(UvmExpectations { issuers: vec![], ..UvmExpectations::default() });
    let claims = with(aci(), "/nonce", json!(""));
    assert_eq!(aci_refused(&claims, &expected), ["J8.P8", "J8.P9", "J10", "J11", "J8.U2"]);

    let mut expected = expected_cvm();
    expected.nonce = Expect::Value(vec![]);
    expected.protocols = Expect::Value(vec![]);
    let claims = with(cvm(), "/x-ms-runtime/client-payload/nonce", json!(""));
    assert_eq!(cvm_refused(&claims, &expected), ["J10", "J15"]);
}

#[test]
pub(crate) fn runtime_data_that_could_be_read_in_two_ways_is_refused() {
    let twice = br#"{"keys":[],"keys":[],"vm-configuration":{"vmUniqueId":"V"}}"#;
    let claims = merge(aci(), guest(twice));
    let mut expected = expected_aci();
    expected.guest.runtime_data = Expect::Value(twice.to_vec());
    assert_eq!(aci_refused(&claims, &expected), ["J12"]);
}

#[test]
pub(crate) fn a_minimum_of_fmc_is_met_by_no_token() {
    let mut expected = expected_aci();
    expected.guest.minimum_tcb = Expect::Value(MinimumTcb { fmc: 1, ..MinimumTcb::default() });
    assert_eq!(aci_refused(&aci(), &expected), ["J8.T2"]);
}

/// Whoever asked for a token holds it against what was sent, and leaves the guest to its readers.
#[test]
fn a_token_answers_what_was_sent_whoever_the_guest_is() {
    let debugged = with(aci(), "/x-ms-sevsnpvm-is-debuggable", json!(true));
    let elsewhere = with(aci(), "/x-ms-compliance-status", json!("azure-signed-katacc-uvm"));
    let sent = Sent { runtime_data: RUNTIME, nonce: "73949", repeated: true };
    let about = |claims: &Value, sent: &Sent<'_>| {
        let verified = verified(&mint().token(claims)).unwrap();
        is_about(verified, sent).map(|_| ()).map_err(|rejected| failures(&rejected))
    };
    for claims in [aci(), debugged, elsewhere] {
        assert_eq!(about(&claims, &sent), Ok(()));
    }
    let rewritten = with(aci(), "/x-ms-runtime/more", json!(1));
    let other = with(aci(), "/x-ms-sevsnpvm-reportdata", json!("00".repeat(64)));
    let silent = with(aci(), "/nonce", Value::Null);
    for (claims, failed) in [(&rewritten, "J12"), (&other, "J9"), (&silent, "J10")] {
        assert_eq!(about(claims, &sent), Err(vec![failed]));
    }
    assert_eq!(about(&aci(), &Sent { nonce: "73950", ..sent }), Err(vec!["J10"]));
    assert_eq!(about(&aci(), &Sent { nonce: "", ..sent }), Err(vec!["J10"]));
    assert_eq!(about(&aci(), &Sent { runtime_data: b"{}", ..sent }), Err(vec!["J9", "J12"]));
    let bytes = Sent { repeated: false, ..sent };
    assert_eq!(about(&rewritten, &bytes), Ok(()));
    assert_eq!(about(&other, &bytes), Err(vec!["J9"]));
}
