//! Tokens of Azure Attestation. Claims are signed anew, so that what a stranger writes is appraised.

use std::hint::black_box;
use std::sync::OnceLock;

use attestation::encoding::to_b64u;
use attestation::maa::{
    AciExpectations, CvmExpectations, GuestExpectations, Issuer, Jwks, UvmExpectations,
    appraise_aci, appraise_cvm, verify_token,
};
use attestation::policy::{Hex, MinimumTcb, Never};
use attestation::{Expect, Trust, binding, uvm};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use serde_json::{Value, json};

use super::case::NOW;
use super::pki::Signer;
use super::{Entry, endorsements, text};

pub(super) const ENTRIES: &[Entry] = &[
    Entry { name: "token", read: read_token, seeds: tokens },
    Entry { name: "claims", read: read_claims, seeds: claims },
];

const URL: &str = "https://sharedeus.eus.attest.azure.net";
const RUNTIME: &[u8] = br#"{"keys":[],"vm-configuration":{"vmUniqueId":"V"}}"#;

fn issuer() -> &'static Issuer {
    static ISSUER: OnceLock<Issuer> = OnceLock::new();
    ISSUER.get_or_init(|| {
        // The root of endorsers has the same key.
        let x5c = STANDARD.encode(endorsements::root());
        let set = json!({"keys": [{"kid": "ours", "kty": "RSA", "x5c": [x5c]}]});
        let keys = Jwks::parse(set.to_string().as_bytes()).expect("a set of keys");
        Issuer { url: URL.to_owned(), keys, trust: Trust::NotProduction }
    })
}

fn minted(claims: &[u8]) -> String {
    static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let der = Signer::Ark.key().to_pkcs1_der().expect("a key");
        RsaKeyPair::from_der(der.as_bytes()).expect("a key")
    });
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": "ours"}).to_string();
    let input = format!("{}.{}", to_b64u(header.as_bytes()), to_b64u(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature)
        .expect("a signature");
    format!("{input}.{}", to_b64u(&signature))
}

fn read_token(bytes: &[u8]) {
    black_box(verify_token(text(bytes), std::slice::from_ref(issuer()), NOW).is_ok());
}

fn tokens() -> Vec<Vec<u8>> {
    claims().iter().map(|claims| minted(claims).into_bytes()).collect()
}

fn read_claims(bytes: &[u8]) {
    let token = minted(bytes);
    let Ok(verified) = verify_token(&token, std::slice::from_ref(issuer()), NOW) else { return };
    let (aci, cvm) = (appraise_aci(verified.clone(), &aci()), appraise_cvm(verified, &cvm()));
    assert!(!(aci.is_ok() && cvm.is_ok()), "a token is of one shape");
}

fn guest() -> GuestExpectations {
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

fn aci() -> AciExpectations {
    AciExpectations {
        guest: guest(),
        nonce: Expect::Value("73949".to_owned()),
        endorsement: Expect::Value(UvmExpectations::default()),
    }
}

fn cvm() -> CvmExpectations {
    CvmExpectations {
        guest: guest(),
        nonce: Expect::Value(b"nonce".to_vec()),
        insecure_boot: Expect::Value(Never::Forbidden),
        protocols: Expect::Value(vec!["3.0".to_owned()]),
    }
}

/// Of both shapes.
fn claims() -> Vec<Vec<u8>> {
    let guest = json!({
        "x-ms-attestation-type": "sevsnpvm",
        "x-ms-compliance-status": "azure-compliant-uvm",
        "x-ms-sevsnpvm-is-debuggable": false, "x-ms-sevsnpvm-migration-allowed": false,
        "x-ms-sevsnpvm-vmpl": 0,
        "x-ms-sevsnpvm-hostdata": "11".repeat(32),
        "x-ms-sevsnpvm-launchmeasurement": "22".repeat(48),
        "x-ms-sevsnpvm-reportdata": hex::encode(binding::maa(RUNTIME)),
        "x-ms-sevsnpvm-bootloader-svn": 4, "x-ms-sevsnpvm-tee-svn": 0,
        "x-ms-sevsnpvm-snpfw-svn": 24, "x-ms-sevsnpvm-microcode-svn": 219,
        "x-ms-runtime": serde_json::from_slice::<Value>(RUNTIME).unwrap_or_default(),
    });
    let about = json!({
        "iss": URL, "iat": NOW, "nbf": NOW, "exp": NOW + 28_800,
        "x-ms-ver": "1.0", "x-ms-policy-hash": "policy",
    });
    let group = json!({
        "nonce": "73949",
        "x-ms-sevsnpvm-uvm-endorsement": {
            "x-ms-sevsnpvm-guestsvn": "104", "x-ms-sevsnpvm-guestsvn-int": 104,
            "x-ms-sevsnpvm-launchmeasurement": "22".repeat(48),
        },
        "x-ms-sevsnpvm-uvm-endorsement-headers": {"feed": uvm::FEED, "iss": uvm::MICROSOFT},
    });
    let status = json!({"x-ms-compliance-status": "azure-compliant-cvm"});
    let machine = json!({
        "x-ms-attestation-type": "azurevm", "secureboot": true,
        "x-ms-azurevm-attestation-protocol-ver": "3.0",
        "x-ms-azurevm-bootdebug-enabled": false, "x-ms-azurevm-kerneldebug-enabled": false,
        "x-ms-azurevm-hypervisordebug-enabled": false, "x-ms-azurevm-testsigning-enabled": false,
        "x-ms-azurevm-debuggersdisabled": true, "x-ms-azurevm-vmid": "V",
        "x-ms-runtime": {"client-payload": {"nonce": "bm9uY2U="}},
        "x-ms-isolation-tee": merged([&guest, &status]),
    });
    let shapes = [merged([&about, &guest, &group]), merged([&about, &machine])];
    shapes.map(|claims| claims.to_string().into_bytes()).into()
}

fn merged<const N: usize>(parts: [&Value; N]) -> Value {
    let members = parts.into_iter().filter_map(Value::as_object).flatten();
    members.map(|(name, value)| (name.clone(), value.clone())).collect()
}
