//! Recorded tokens.

use attestation::maa::{
    AciExpectations, CvmExpectations, GuestExpectations, Issuer, Jwks, TokenError, UvmExpectations,
    appraise_aci, appraise_cvm, verify_token,
};
use attestation::policy::{MinimumTcb, Never};
use attestation::{Expect, Outcome, Trust};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::claims::{aci_refused, cvm_refused, expected_aci, expected_cvm, merge};
use crate::mint::{NOW, URL, failures, header, mint, times, with};
use crate::recorded::{self, vectors};

#[test]
fn a_recorded_token_verifies_and_is_still_refused() {
    let Some(vectors) = vectors() else { return };
    let token = vectors.text("maa-tokens/sgx-sharedeus-2023-09.jwt");
    let keys = Jwks::parse(&vectors.read("maa-tokens/sgx-sharedeus-2023-09.jwks.json")).unwrap();
    let issuer = Issuer { url: URL.to_owned(), keys, trust: Trust::Production };
    let refused = |issuer: &Issuer, at| match verify_token(&token, std::slice::from_ref(issuer), at)
    {
        Err(TokenError::Rejected(rejected)) => failures(&rejected),
        Ok(_) => vec![],
        Err(other) => panic!("{other}"),
    };
    let issued = 1_695_737_747;
    assert_eq!(refused(&issuer, NOW), ["J5"], "expired three years ago");
    assert_eq!(refused(&issuer, issued + 2 * 3600), ["J5"], "older than we decide on");
    assert_eq!(refused(&issuer, issued - 120), ["J5"], "from the future");
    assert_eq!(refused(&issuer, issued + 60), [""; 0], "authentic then");
    let url = "https://sharedweu.weu.attest.azure.net".to_owned();
    assert_eq!(refused(&Issuer { url, ..issuer.clone() }, issued + 60), ["J1"]);

    let verified = verify_token(&token, &[issuer], issued + 60).unwrap();
    assert_eq!(verified.trust(), Trust::Production);
    let rejected = appraise_aci(verified.clone(), &expected_aci()).err().unwrap();
    assert!(failures(&rejected).contains(&"J6"), "it is about SGX");
    let rejected = appraise_cvm(verified, &expected_cvm()).err().unwrap();
    assert!(failures(&rejected).contains(&"J6"), "it is about SGX");
}

#[test]
fn a_recorded_key_of_1024_bits_verifies_nothing_and_a_chain_counts_by_its_leaf() {
    let Some(vectors) = vectors() else { return };
    let keys = Jwks::parse(&vectors.read("maa-tokens/sgx-sharedeus-2023-09.jwks.json")).unwrap();
    let issuer = Issuer { keys, ..mint().issuer() };
    let actual = |kid: &str| {
        let header = with(header(), "/kid", json!(kid)).to_string();
        let token = mint().sign(&header, &times().to_string());
        match verify_token(&token, std::slice::from_ref(&issuer), NOW) {
            Err(TokenError::Rejected(rejected)) => {
                assert_eq!(failures(&rejected), ["J4"], "{kid}");
                let failed = rejected.failures().next().unwrap().outcome.clone();
                let Outcome::Failed { actual, .. } = failed else { panic!("as filtered") };
                actual
            }
            _ => panic!("{kid}: accepted"),
        }
    };
    assert_eq!(actual("lH/VQ9TL53cXpeFt3Vf9tiOv+rkWwV+5PbiNzgWcySQ="), "a key of 1024 bits");
    assert_eq!(actual("dSsaF5uUxZO_LRycmQ4KJu3ctMc"), "the signature does not verify");
}

#[test]
fn a_recorded_token_whose_key_is_gone_fails_for_that_alone() {
    let Some(vectors) = vectors() else { return };
    let token = vectors.text("maa-tokens/cvm-sharedeus2-2025-12.jwt");
    let url = "https://sharedeus2.eus2.attest.azure.net".to_owned();
    let issuer = Issuer { url, ..mint().issuer() };
    let Err(TokenError::Rejected(rejected)) = verify_token(&token, &[issuer], 1_765_826_700) else {
        panic!("accepted or no token");
    };
    assert_eq!(failures(&rejected), ["J2"]);
}

/// Recorded claims, signed again with the test's key at the test's time.
fn resigned(claims: Value) -> Value {
    merge(claims, times())
}

fn recorded_cvm(vectors: &recorded::Vectors) -> Value {
    let token = vectors.text("maa-tokens/cvm-sharedeus2-2025-12.jwt");
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    resigned(serde_json::from_slice(&payload).unwrap())
}

fn recorded_json(vectors: &recorded::Vectors, name: &str) -> Value {
    resigned(serde_json::from_slice(&vectors.read(name)).unwrap())
}

fn loose_guest(host_data: &str) -> GuestExpectations {
    let why = "the recording does not bring it";
    GuestExpectations {
        host_data: Expect::Value(vec![host_data.parse().unwrap()]),
        measurement: Expect::unchecked(why),
        minimum_tcb: Expect::Value(MinimumTcb {
            bootloader: 2,
            snp: 2,
            microcode: 55,
            ..MinimumTcb::default()
        }),
        runtime_data: Expect::unchecked(why),
        policy_hashes: Expect::unchecked(why),
    }
}

#[test]
fn recorded_claims_of_a_container_group_pass_as_such_and_as_nothing_else() {
    let Some(vectors) = vectors() else { return };
    let claims = recorded_json(&vectors, "maa-tokens/aci-payload-sharedeus-2023-09.json");
    let host_data = "fef932e0103f6132437e8a1223f32efc4bea63342f893b5124645224ef29ba73";
    let expected = AciExpectations {
        guest: loose_guest(host_data),
        nonce: Expect::Value("7394904505194784658".to_owned()),
        endorsement: Expect::Value(UvmExpectations::default()),
    };
    assert_eq!(aci_refused(&claims, &expected), [""; 0]);
    let newer = UvmExpectations { minimum_svn: 104, ..UvmExpectations::default() };
    let newer = AciExpectations { endorsement: Expect::Value(newer), ..expected };
    assert_eq!(aci_refused(&claims, &newer), ["J8.U4"]);

    let as_cvm = CvmExpectations { guest: loose_guest(host_data), ..expected_cvm() };
    let refused = cvm_refused(&claims, &as_cvm);
    assert!(refused.starts_with(&["J6", "J7", "J8.P1", "J8.P2", "J8.P5"]), "{refused:?}");
}

#[test]
fn recorded_claims_of_confidential_vms_pass_as_such_and_as_nothing_else() {
    let Some(vectors) = vectors() else { return };
    let zero = "00".repeat(32);
    let expected = CvmExpectations {
        guest: loose_guest(&zero),
        nonce: Expect::Value(b"midnight-srs".to_vec()),
        insecure_boot: Expect::Value(Never::Forbidden),
        protocols: Expect::Value(vec!["3.0".to_owned()]),
    };
    let newer = recorded_cvm(&vectors);
    assert_eq!(cvm_refused(&newer, &expected), [""; 0]);
    let older = recorded_json(&vectors, "maa-tokens/cvm-payload-sharedeus-test-2022-05.json");
    assert_eq!(cvm_refused(&older, &expected), ["J10", "J15"], "no nonce, protocol 2.0");

    let as_aci = AciExpectations { guest: loose_guest(&zero), ..expected_aci() };
    for claims in [newer, older] {
        let refused = aci_refused(&claims, &as_aci);
        assert!(refused.starts_with(&["J6", "J7", "J8.P1", "J8.P2", "J8.P5"]), "{refused:?}");
    }
}
