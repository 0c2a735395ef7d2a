//! What a token of Azure Attestation costs beside its signature, on a made one in the shape and of the length of a
//! container group's, by a key of 2048 bits as the service has. `cargo bench -p attestation --bench token`.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

mod rounds;

use attestation::certificate::Certificate;
use attestation::encoding::{from_b64u, to_b64u};
use attestation::maa::{
    AciExpectations, GuestExpectations, Issuer, Jwks, UvmExpectations, appraise_aci, verify_token,
};
use attestation::policy::{Hex, MinimumTcb};
use attestation::{Expect, Trust, binding, crypto, json, uvm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, SigningKey as _};
use rounds::{Candidate, compare, measure};
use serde_json::{Value, json};

const AT: u64 = 1_795_305_600;
const URL: &str = "https://sharedeus.eus.attest.azure.net";
const RUNTIME: &[u8] = br#"{"keys":[{"kty":"RSA","kid":"k"}]}"#;

fn main() {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    let x5c = STANDARD.encode(certificate.der());
    let set = json!({"keys": [{"kid": "ours", "kty": "RSA", "x5c": [x5c]}]}).to_string();
    let keys = Jwks::parse(set.as_bytes()).unwrap();
    let issuers = [Issuer { url: URL.to_owned(), keys, trust: Trust::NotProduction }];

    let header =
        json!({"alg": "RS256", "typ": "JWT", "kid": "ours", "jku": format!("{URL}/certs")});
    let claims = claims().to_string();
    let input =
        format!("{}.{}", to_b64u(header.to_string().as_bytes()), to_b64u(claims.as_bytes()));
    let signature = key.sign(input.as_bytes()).unwrap();
    let token = format!("{input}.{}", to_b64u(&signature));
    let certificate = Certificate::from_der(certificate.der()).unwrap();
    let (rsa, encoded, expected) =
        (certificate.rsa_key().unwrap(), to_b64u(claims.as_bytes()), expected());

    let mut candidates = [
        Candidate::new("RS256 signature, bare", || {
            crypto::verify_rs256(rsa, input.as_bytes(), &signature).unwrap();
        }),
        Candidate::new("base64url and JSON of the claims, bare", || {
            json::parse(&from_b64u(&encoded).unwrap()).unwrap()
        }),
        Candidate::new("verify", || verify_token(&token, &issuers, AT).unwrap()),
        Candidate::new("verify and appraise", || {
            let verified = verify_token(&token, &issuers, AT).unwrap();
            appraise_aci(verified, &expected).unwrap()
        }),
    ];
    measure(&mut candidates);
    let [signature, claims, verify, whole] = candidates.each_ref().map(Candidate::micros);
    compare("verify", verify, signature + claims);
    compare("verify and appraise", whole, signature + claims);
}

/// Some 4 KiB, as the service's.
fn claims() -> Value {
    json!({
        "iss": URL, "iat": AT, "nbf": AT, "exp": AT + 28_800, "jti": "e4".repeat(32),
        "secureboot": true, "nonce": "73949",
        "x-ms-ver": "1.0", "x-ms-policy-hash": "policy",
        "x-ms-attestation-type": "sevsnpvm",
        "x-ms-compliance-status": "azure-compliant-uvm",
        "x-ms-policy": {"rules": "a".repeat(1500)},
        "x-ms-runtime": serde_json::from_slice::<Value>(RUNTIME).unwrap(),
        "x-ms-sevsnpvm-authorkeydigest": "00".repeat(48),
        "x-ms-sevsnpvm-bootloader-svn": 4, "x-ms-sevsnpvm-tee-svn": 0,
        "x-ms-sevsnpvm-snpfw-svn": 24, "x-ms-sevsnpvm-microcode-svn": 219,
        "x-ms-sevsnpvm-familyId": "01".repeat(16), "x-ms-sevsnpvm-imageId": "02".repeat(16),
        "x-ms-sevsnpvm-guestsvn": 2, "x-ms-sevsnpvm-idkeydigest": "07".repeat(48),
        "x-ms-sevsnpvm-hostdata": "11".repeat(32),
        "x-ms-sevsnpvm-is-debuggable": false, "x-ms-sevsnpvm-migration-allowed": false,
        "x-ms-sevsnpvm-launchmeasurement": "22".repeat(48),
        "x-ms-sevsnpvm-reportdata": hex::encode(binding::maa(RUNTIME)),
        "x-ms-sevsnpvm-reportid": "05".repeat(32), "x-ms-sevsnpvm-smt-allowed": true,
        "x-ms-sevsnpvm-vmpl": 0,
        "x-ms-sevsnpvm-uvm-endorsement": {
            "x-ms-sevsnpvm-guestsvn": "104", "x-ms-sevsnpvm-guestsvn-int": 104,
            "x-ms-sevsnpvm-launchmeasurement": "22".repeat(48),
        },
        "x-ms-sevsnpvm-uvm-endorsement-headers": {"feed": uvm::FEED, "iss": uvm::MICROSOFT},
    })
}

fn expected() -> AciExpectations {
    let guest = GuestExpectations {
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
    };
    AciExpectations {
        guest,
        nonce: Expect::Value("73949".to_owned()),
        endorsement: Expect::Value(UvmExpectations::default()),
    }
}
