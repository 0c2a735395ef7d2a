//! `pmc token` as people run it: on a recorded token with its issuer's keys, and on recorded claims that a key of this
//! test signs again. The files lie in `$VECTORS_DIR`, by default `../shared/vectors` beside the workspace; without them
//! these tests say so and pass, unless `VECTORS_REQUIRED=1`.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, SigningKey as _};
use serde_json::{Value, json};
use tempfile::TempDir;

const ISSUER: &str = "https://sharedeus.eus.attest.azure.net";
const NOW: u64 = 1_795_305_600;

#[expect(clippy::disallowed_methods, reason = "where the vectors lie is no configuration")]
fn vectors() -> Option<PathBuf> {
    let given = std::env::var_os("VECTORS_DIR").map(PathBuf::from);
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let folder = given.unwrap_or_else(beside).join("maa-tokens");
    if folder.is_dir() {
        return Some(folder);
    }
    let required = std::env::var("VECTORS_REQUIRED").as_deref() == Ok("1");
    assert!(!required, "the vectors are required, and {} is missing", folder.display());
    println!("skipped: no vectors in {}", folder.display());
    None
}

/// A folder with a policy file, a token and a key set.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new(policy: &str) -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        desk.put("policy.toml", policy);
        desk
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Signs claims with a key that nobody has seen before, and writes its set.
    fn sign(&self, claims: &Value) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let x5c = STANDARD.encode(certificate.der());
        let set = json!({"keys": [{"kid": "a", "kty": "RSA", "x5c": [x5c]}]});
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let header = json!({"alg": "RS256", "kid": "a", "typ": "JWT"}).to_string();
        let input = format!("{}.{}", b64(header.as_bytes()), b64(claims.to_string().as_bytes()));
        let signature = key.sign(input.as_bytes()).unwrap();
        let token = format!("{input}.{}\n", b64(&signature));
        (self.put("token.jwt", &token), self.put("keys.json", &set.to_string()))
    }

    /// Exit status and the ids of the checks that failed.
    fn judge(&self, token: &Path, keys: &Path, more: &[&str]) -> (i32, Vec<String>) {
        let output = Command::new(env!("CARGO_BIN_EXE_pmc"))
            .args(["token", "--json", "--at", &NOW.to_string(), "--policy"])
            .args([&self.folder.path().join("policy.toml"), token])
            .arg("--keys")
            .arg(keys)
            .args(more)
            .output()
            .unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let checks = document["checks"].as_array().cloned().unwrap_or_default();
        let failed = checks.iter().filter(|check| check["outcome"] == "failed");
        let ids = failed.map(|check| check["id"].as_str().unwrap().to_owned()).collect();
        (output.status.code().unwrap(), ids)
    }
}

fn policy(host_data: &str, tokens: &str) -> String {
    format!("host_data = [\"{host_data}\"]\ntokens = {tokens}\n")
}

fn named(hash: &str) -> String {
    format!("{{ issuers = [\"{ISSUER}\"], policy_hashes = [\"{hash}\"] }}")
}

#[test]
fn recorded_claims_are_judged_against_the_policy_file() {
    let Some(folder) = vectors() else { return };
    let file = std::fs::read(folder.join("aci-payload-sharedeus-2023-09.json")).unwrap();
    let mut claims: Value = serde_json::from_slice(&file).unwrap();
    for (name, time) in [("iat", NOW), ("nbf", NOW), ("exp", NOW + 28_800)] {
        claims[name] = time.into();
    }
    let hash = claims["x-ms-policy-hash"].as_str().unwrap();
    let host_data = claims["x-ms-sevsnpvm-hostdata"].as_str().unwrap();
    let nonce = claims["nonce"].as_str().unwrap();
    let desk = Desk::new(&policy(host_data, &named(hash)));
    let (token, keys) = desk.sign(&claims);
    assert_eq!(desk.judge(&token, &keys, &["--nonce", nonce]), (0, vec![]));
    assert_eq!(desk.judge(&token, &keys, &["--nonce", "1"]), (1, vec!["J10".to_owned()]));
    let zeros = "00".repeat(32);
    assert_eq!(desk.judge(&token, &keys, &["--host-data", &zeros]), (1, vec!["J8.P9".to_owned()]));

    let half = policy(host_data, &named(hash)) + "endorsement = { unchecked = \"a test\" }\n";
    let nothing_says_what_runs = Desk::new(&half);
    let (token, keys) = nothing_says_what_runs.sign(&claims);
    assert_eq!(nothing_says_what_runs.judge(&token, &keys, &[]), (1, vec!["J8.P8".to_owned()]));

    let changed = Desk::new(&policy(host_data, &named("another")));
    let (token, keys) = changed.sign(&claims);
    assert_eq!(changed.judge(&token, &keys, &[]), (1, vec!["J11".to_owned()]));
    let other = desk.put("other.json", &std::fs::read_to_string(&keys).unwrap());
    let (token, _) = desk.sign(&claims);
    assert_eq!(desk.judge(&token, &other, &[]), (1, vec!["J4".to_owned()]), "another's keys");
}

#[test]
fn a_recorded_token_of_another_kind_is_too_old() {
    let Some(folder) = vectors() else { return };
    let desk = Desk::new(&policy(&"00".repeat(32), &named("any")));
    let token = folder.join("sgx-sharedeus-2023-09.jwt");
    let keys = folder.join("sgx-sharedeus-2023-09.jwks.json");
    assert_eq!(desk.judge(&token, &keys, &[]), (1, vec!["J5".to_owned()]));
}

#[test]
fn one_issuers_keys_do_not_stand_for_another() {
    let two = format!("{{ issuers = [\"{ISSUER}\", \"https://b\"], policy_hashes = [] }}");
    let desk = Desk::new(&policy(&"00".repeat(32), &two));
    let (token, keys) = desk.sign(&json!({"iss": ISSUER}));
    assert_eq!(desk.judge(&token, &keys, &[]), (2, vec![]), "whose keys?");
    assert_eq!(desk.judge(&token, &keys, &["--issuer", "https://c"]), (2, vec![]));
    let (status, failed) = desk.judge(&token, &keys, &["--issuer", "https://b"]);
    assert_eq!((status, failed[0].as_str()), (1, "J1"));
}

#[test]
fn a_policy_that_names_no_issuer_judges_no_token() {
    let desk = Desk::new("host_data = []\n");
    let file = desk.put("anything", "a.b.c");
    assert_eq!(desk.judge(&file, &file, &[]), (2, vec![]));
    let desk = Desk::new(&policy(&"00".repeat(32), &named("any")));
    let keys = desk.put("keys.json", "{\"keys\":[]}");
    assert_eq!(desk.judge(&keys, &keys, &[]), (2, vec![]), "not a token");
    assert_eq!(desk.judge(&keys, Path::new("/nowhere"), &[]), (2, vec![]));
}
