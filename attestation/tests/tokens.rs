//! Tokens of Azure Attestation: made here with a key of this test, where one row after the other is made to
//! fail alone, and recorded ones.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod recorded;

use std::sync::OnceLock;

use attestation::maa::{
    AciExpectations, Claims, CvmExpectations, GuestExpectations, Issuer, Jwks, TokenError,
    UvmExpectations, appraise_aci, appraise_cvm, verify_token,
};
use attestation::policy::{Hex, MinimumTcb, Never};
use attestation::{Expect, Outcome, Rejected, Trust, Verified};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, SigningKey as _};
use recorded::vectors;
use serde_json::{Value, json};

const URL: &str = "https://sharedeus.eus.attest.azure.net";
const NOW: u64 = 1_795_305_600;
const RUNTIME: &[u8] =
    br#"{"keys":[{"kty":"RSA","kid":"k"}],"vm-configuration":{"vmUniqueId":"V"}}"#;

/// A key of this test and a set that holds it.
struct Mint {
    key: KeyPair,
    certificate: Vec<u8>,
}

fn mint() -> &'static Mint {
    static MINT: OnceLock<Mint> = OnceLock::new();
    MINT.get_or_init(|| {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
        Mint { key, certificate }
    })
}

impl Mint {
    fn jwks(&self, kid: &str) -> Jwks {
        let x5c = STANDARD.encode(&self.certificate);
        let set = json!({"keys": [{"kid": kid, "kty": "RSA", "x5c": [x5c]}]});
        Jwks::parse(set.to_string().as_bytes()).unwrap()
    }

    fn issuer(&self) -> Issuer {
        Issuer { url: URL.to_owned(), keys: self.jwks("ours"), trust: Trust::NotProduction }
    }

    fn sign(&self, header: &str, payload: &str) -> String {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let input = format!("{}.{}", b64(header.as_bytes()), b64(payload.as_bytes()));
        let signature = self.key.sign(input.as_bytes()).unwrap();
        format!("{input}.{}", b64(&signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&header().to_string(), &claims.to_string())
    }
}

fn header() -> Value {
    json!({"alg": "RS256", "typ": "JWT", "kid": "ours", "jku": format!("{URL}/certs")})
}

fn failures(rejected: &Rejected) -> Vec<&'static str> {
    rejected.failures().map(|finding| finding.check.id).collect()
}

fn verified(token: &str) -> Result<Verified<Claims>, Vec<&'static str>> {
    match verify_token(token, &[mint().issuer()], NOW) {
        Ok(verified) => Ok(verified),
        Err(TokenError::Rejected(rejected)) => Err(failures(&rejected)),
        Err(other) => panic!("{other}"),
    }
}

fn refused(header: &Value, claims: &Value) -> Vec<&'static str> {
    let token = mint().sign(&header.to_string(), &claims.to_string());
    verified(&token).err().unwrap_or_default()
}

fn times() -> Value {
    json!({"iss": URL, "iat": NOW, "nbf": NOW, "exp": NOW + 28_800})
}

fn with(mut claims: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = claims.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(name);
    } else {
        parent.insert(name.to_owned(), value);
    }
    claims
}

// ---- who signed it, and when

#[test]
fn a_token_of_a_chosen_issuer_is_authentic_and_says_which_trust_it_rests_on() {
    let verified = verified(&mint().token(&times())).unwrap();
    assert_eq!(verified.trust(), Trust::NotProduction);
    let ids: Vec<&str> = verified.findings().iter().map(|finding| finding.check.id).collect();
    assert_eq!(ids, ["J1", "J2", "J3", "J4", "J5"]);
    let without_jku = with(header(), "/jku", Value::Null);
    assert_eq!(refused(&without_jku, &times()), [""; 0]);
}

#[test]
fn an_issuer_that_was_not_chosen_fails_j1_alone() {
    for iss in [json!(null), json!(1), json!("absent"), json!(""), json!(format!("{URL}/"))] {
        assert_eq!(refused(&header(), &with(times(), "/iss", iss)), ["J1"]);
    }
    let token = mint().token(&times());
    for issuers in [vec![], vec![Issuer { url: "https://other".to_owned(), ..mint().issuer() }]] {
        let Err(TokenError::Rejected(rejected)) = verify_token(&token, &issuers, NOW) else {
            panic!("accepted");
        };
        assert_eq!(failures(&rejected), ["J1"]);
    }
}

#[test]
fn among_several_issuers_only_the_named_ones_keys_count() {
    let other = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let certificate = CertificateParams::default().self_signed(&other).unwrap().der().to_vec();
    let other = Mint { key: other, certificate };
    let named = Issuer { keys: other.jwks("theirs"), ..mint().issuer() };
    let elsewhere = Issuer { url: "https://elsewhere".to_owned(), ..mint().issuer() };
    let token = mint().token(&times());
    let Err(TokenError::Rejected(rejected)) = verify_token(&token, &[elsewhere, named], NOW) else {
        panic!("another issuer's key signed it");
    };
    assert_eq!(failures(&rejected), ["J2"]);
}

#[test]
fn a_key_that_is_not_the_issuers_fails_j2_alone() {
    for kid in [json!(null), json!("other"), json!("absent"), json!(""), json!(7)] {
        assert_eq!(refused(&with(header(), "/kid", kid), &times()), ["J2"]);
    }
    for jku in [json!("https://evil.example/certs"), json!(7), json!(format!("{URL}/certs/"))] {
        assert_eq!(refused(&with(header(), "/jku", jku), &times()), ["J2"]);
    }
}

#[test]
fn an_unusual_header_fails_j3_alone() {
    for (name, value) in [
        ("/typ", json!(null)),
        ("/typ", json!("jwt")),
        ("/x5c", json!([STANDARD.encode(&mint().certificate)])),
        ("/x5t", json!("AA")),
        ("/cty", json!("JWT")),
    ] {
        assert_eq!(refused(&with(header(), name, value), &times()), ["J3"], "{name}");
    }
    // What would change how the signature is verified stops that, too.
    for (name, value) in [
        ("/alg", json!("none")),
        ("/alg", json!("HS256")),
        ("/alg", json!("PS256")),
        ("/alg", json!(null)),
        ("/jwk", json!({})),
        ("/crit", json!([])),
    ] {
        assert_eq!(refused(&with(header(), name, value), &times()), ["J3", "J4"], "{name}");
    }
}

#[test]
fn another_signature_fails_j4_alone() {
    let good = mint().token(&times());
    let (input, signature) = good.rsplit_once('.').unwrap();
    let other = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap().sign(input.as_bytes()).unwrap();
    for signature in ["", "AAAA", &signature[4..], &URL_SAFE_NO_PAD.encode(other)] {
        assert_eq!(verified(&format!("{input}.{signature}")).err().unwrap(), ["J4"]);
    }
    let later = with(times(), "/exp", json!(NOW + 90_000));
    let payload = URL_SAFE_NO_PAD.encode(later.to_string());
    let (header, _) = input.split_once('.').unwrap();
    assert_eq!(verified(&format!("{header}.{payload}.{signature}")).err().unwrap(), ["J4"]);
}

#[test]
fn an_old_or_future_token_fails_j5_alone() {
    for (name, value) in [
        ("/iat", json!(NOW - 3600 - 61)),
        ("/iat", json!(NOW + 61)),
        ("/nbf", json!(NOW + 61)),
        ("/exp", json!(NOW - 60)),
        ("/exp", json!(NOW as f64 + 100.0)),
        ("/exp", json!((NOW + 100).to_string())),
        ("/iat", json!(-1)),
        ("/iat", json!(null)),
        ("/nbf", json!(null)),
        ("/exp", json!(null)),
    ] {
        let claims = with(times(), name, value.clone());
        assert_eq!(refused(&header(), &claims), ["J5"], "{name} {value}");
    }
    for (name, value) in [("/iat", NOW - 3660), ("/nbf", NOW + 60), ("/exp", NOW - 59)] {
        assert_eq!(refused(&header(), &with(times(), name, json!(value))), [""; 0], "{name}");
    }
}

#[test]
fn a_claim_that_stands_twice_is_no_token() {
    let claims = times().to_string();
    let twice = claims.replacen('{', r#"{"iss":"https://evil.example","#, 1);
    let token = mint().sign(&header().to_string(), &twice);
    let refused = verify_token(&token, &[mint().issuer()], NOW);
    assert!(matches!(refused, Err(TokenError::Syntax(_))));
    let header = header().to_string().replacen('{', r#"{"kid":"other","#, 1);
    let refused = verify_token(&mint().sign(&header, &claims), &[mint().issuer()], NOW);
    assert!(matches!(refused, Err(TokenError::Syntax(_))));
}

// ---- what it says

fn guest(runtime: &[u8]) -> Value {
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

fn merge(mut into: Value, from: Value) -> Value {
    let Value::Object(from) = from else { panic!("as built") };
    into.as_object_mut().unwrap().extend(from);
    into
}

fn aci() -> Value {
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

fn cvm() -> Value {
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

fn expected_guest() -> GuestExpectations {
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

fn expected_aci() -> AciExpectations {
    AciExpectations {
        guest: expected_guest(),
        nonce: Expect::Value("73949".to_owned()),
        endorsement: Expect::Value(UvmExpectations::default()),
    }
}

fn expected_cvm() -> CvmExpectations {
    CvmExpectations {
        guest: expected_guest(),
        nonce: Expect::Value(b"nonce".to_vec()),
        insecure_boot: Expect::Value(Never::Forbidden),
        protocols: Expect::Value(vec!["3.0".to_owned()]),
    }
}

fn aci_refused(claims: &Value, expected: &AciExpectations) -> Vec<&'static str> {
    let verified = verified(&mint().token(claims)).unwrap();
    appraise_aci(verified, expected).err().as_ref().map(failures).unwrap_or_default()
}

fn cvm_refused(claims: &Value, expected: &CvmExpectations) -> Vec<&'static str> {
    let verified = verified(&mint().token(claims)).unwrap();
    appraise_cvm(verified, expected).err().as_ref().map(failures).unwrap_or_default()
}

/// Rows of both shapes: id, the claim below the guest, and a value that must fail that row alone. Null: absent.
fn guest_rows() -> Vec<(&'static str, &'static str, Value)> {
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
fn every_row_of_a_container_groups_token_fails_alone() {
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
fn every_row_of_a_confidential_vms_token_fails_alone() {
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
fn one_shape_is_never_taken_for_the_other() {
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
fn what_nobody_expects_is_shown_with_the_reason() {
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
fn empty_lists_and_empty_nonces_accept_nobody() {
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
fn runtime_data_that_could_be_read_in_two_ways_is_refused() {
    let twice = br#"{"keys":[],"keys":[],"vm-configuration":{"vmUniqueId":"V"}}"#;
    let claims = merge(aci(), guest(twice));
    let mut expected = expected_aci();
    expected.guest.runtime_data = Expect::Value(twice.to_vec());
    assert_eq!(aci_refused(&claims, &expected), ["J12"]);
}

#[test]
fn a_minimum_of_fmc_is_met_by_no_token() {
    let mut expected = expected_aci();
    expected.guest.minimum_tcb = Expect::Value(MinimumTcb { fmc: 1, ..MinimumTcb::default() });
    assert_eq!(aci_refused(&aci(), &expected), ["J8.T2"]);
}

// ---- recorded ones

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
