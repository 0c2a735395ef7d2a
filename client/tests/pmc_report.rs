//! `pmc verify --report` on recorded evidence of real machines, with the production anchors, as an auditor runs it. The
//! files lie in `$VECTORS_DIR`, by default `../shared/vectors` beside the workspace; without them these tests say so and
//! pass, unless `VECTORS_REQUIRED=1`.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// 2026-11-22, the day that the vectors' index judges at.
const DAY: &str = "2026-11-22T00:00:00Z";

#[expect(clippy::disallowed_methods, reason = "where the vectors lie is no configuration")]
fn vectors() -> Option<PathBuf> {
    let given = std::env::var_os("VECTORS_DIR").map(PathBuf::from);
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let folder = given.unwrap_or_else(beside);
    if folder.join("INDEX.md").is_file() {
        return Some(folder);
    }
    let required = std::env::var("VECTORS_REQUIRED").as_deref() == Ok("1");
    assert!(!required, "the vectors are required, and {} has none", folder.display());
    println!("skipped: no vectors in {}", folder.display());
    None
}

fn pmc(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pmc")).args(arguments).output().unwrap()
}

/// Exit status, and the document with every check.
struct Verdict {
    status: i32,
    document: Value,
}

impl Verdict {
    fn of(output: &Output) -> Self {
        let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Self { status: output.status.code().unwrap(), document }
    }

    /// Ids of the checks with that outcome.
    fn with(&self, outcome: &str) -> Vec<&str> {
        let checks = self.document["checks"].as_array().unwrap();
        let of = checks.iter().filter(|check| check["outcome"] == outcome);
        of.map(|check| check["id"].as_str().unwrap()).collect()
    }
}

/// Runs `pmc verify` offline; words that begin with `@` are files of the vectors.
fn verify(words: &[&str]) -> Option<Verdict> {
    let folder = vectors()?;
    let words: Vec<String> = words
        .iter()
        .map(|word| match word.strip_prefix('@') {
            Some(file) => folder.join(file).display().to_string(),
            None => (*word).to_owned(),
        })
        .collect();
    let fixed = ["verify", "--json", "--at", DAY];
    let all: Vec<&str> = fixed.into_iter().chain(words.iter().map(String::as_str)).collect();
    Some(Verdict::of(&pmc(&all)))
}

fn accepted(words: &[&str]) {
    let Some(verdict) = verify(words) else { return };
    assert_eq!(verdict.status, 0, "{words:?}: {}", verdict.document);
    assert_eq!(verdict.document["verdict"], "accepted");
    assert_eq!(verdict.document["anchors"], "production");
    assert!(verdict.with("failed").is_empty());
    for check in verdict.document["checks"].as_array().unwrap() {
        if check["outcome"] == "unchecked" {
            assert!(check["why"].as_str().is_some_and(|why| !why.is_empty()), "{check}");
        }
    }
}

fn refused(words: &[&str], by: &[&str]) {
    let Some(verdict) = verify(words) else { return };
    assert_eq!(verdict.status, 1, "{words:?}: {}", verdict.document);
    assert_eq!(verdict.with("failed"), by, "{words:?}");
}

/// A policy file that accepts what was recorded years ago.
fn of_old_machines() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "host_data = { unchecked = \"an audit\" }\n\
                minimum_tcb = { unchecked = \"recorded years ago\" }\n\
                platform = { unchecked = \"recorded years ago\" }\n";
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn recorded_machines_are_accepted_from_raw_parts() {
    let old = ["--report", "@trustee/snp/test-report.bin", "--certs", "@trustee/snp/test-vcek.der"];
    refused(&old, &["R4", "T2"]);
    let policy = of_old_machines();
    accepted(&[old.as_slice(), &["--policy", policy.path().to_str().unwrap()]].concat());
    for certs in ["@aci-reports/milan_vcek.pem", "@aci-reports/milan_vcek_reissued.pem"] {
        accepted(&["--report", "@aci-reports/milan_attestation_report.bin", "--certs", certs]);
    }
    accepted(&[
        "--report",
        "@aci-reports/genoa_attestation_report.bin",
        "--certs",
        "@aci-reports/genoa_vcek.pem",
    ]);
}

const SET_A: [&str; 8] = [
    "--report",
    "@ms-confidential-sidecar/attest/snp_report.bin",
    "--certs",
    "@ms-confidential-sidecar/attest/uvm_host_amd_certificate.json",
    "--uvm",
    "@ms-confidential-sidecar/attest/body.uvm_reference_info.bin",
    "--cce-policy",
    "@ms-confidential-sidecar/attest/uvm_security_policy.base64",
];

#[test]
fn a_complete_set_is_accepted_as_azure_mounts_it() {
    refused(&SET_A, &["R4", "T2"]);
    let policy = of_old_machines();
    let words = [SET_A.as_slice(), &["--policy", policy.path().to_str().unwrap()]].concat();
    accepted(&words);
    let Some(verdict) = verify(&words) else { return };
    // Until endorsements are verified, the verdict says that they are not.
    let unchecked =
        ["U1", "U4", "C6", "R4", "R7", "T2", "P10", "P6", "P7", "P8", "P9", "B1", "B2", "B3"];
    assert_eq!(verdict.with("unchecked"), unchecked);
    assert!(verdict.with("passed").contains(&"P11"), "the policy is the one of HOST_DATA");
}

#[test]
fn one_policy_text_belongs_to_both_generations() {
    let policy = "@ms-confidential-sidecar/security-context/security-policy-base64";
    let digest = "4f4448c67f3c8dfc8de8a5e37125d807dadcc41f06cf23f615dbd52eec777d10";
    for (report, certs) in [
        ("@aci-reports/milan_attestation_report.bin", "@aci-reports/milan_vcek.pem"),
        ("@aci-reports/genoa_attestation_report.bin", "@aci-reports/genoa_vcek.pem"),
    ] {
        let parts = ["--report", report, "--certs", certs, "--cce-policy", policy];
        accepted(&[parts.as_slice(), &["--host-data", digest]].concat());
        refused(&[parts.as_slice(), &["--host-data", &"00".repeat(32)]].concat(), &["P9"]);
    }
}

/// Milan's list of the archive is stale on that day, Genoa's too; but one that a root did not sign is refused.
#[test]
fn revocation_lists_come_from_files() {
    let Some(folder) = vectors() else { return };
    let text = std::fs::read_to_string(folder.join("crl/sev_certificates.txt")).unwrap();
    let end = "-----END X509 CRL-----";
    let genoa = text.split_once("-----BEGIN X509 CRL-----").unwrap().1.split_once(end).unwrap().0;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("-----BEGIN X509 CRL-----{genoa}{end}\n")).unwrap();
    let list = file.path().to_str().unwrap();
    let words = [
        "--report",
        "@aci-reports/genoa_attestation_report.bin",
        "--certs",
        "@aci-reports/genoa_vcek.pem",
        "--crl",
        list,
    ];
    accepted(&words);
    let verdict = verify(&words).unwrap();
    assert!(verdict.document.to_string().contains("no revocation list at hand is current"));

    let rule = tempfile::NamedTempFile::new().unwrap();
    let strict = "host_data = { unchecked = \"an audit\" }\nrevocation = { list = \"required\" }\n";
    std::fs::write(rule.path(), strict).unwrap();
    refused(&[words.as_slice(), &["--policy", rule.path().to_str().unwrap()]].concat(), &["C6"]);

    let junk = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let unusable = verify(&[&words[..5], &[junk]].concat()).unwrap();
    assert_eq!(unusable.status, 2);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let report = "@aci-reports/genoa_attestation_report.bin";
    let own = "@aci-reports/genoa_vcek.pem";
    refused(&["--report", report, "--certs", own, "--report-data", &"11".repeat(64)], &["B1"]);
    accepted(&["--report", report, "--certs", own, "--report-data", &"00".repeat(64)]);
    let policy = "@ms-confidential-sidecar/attest/uvm_security_policy.base64";
    refused(&["--report", report, "--certs", own, "--cce-policy", policy], &["P11"]);
    let debug = "@go-sev-guest/testdata/attestation.bin";
    let debug = ["--report", debug, "--certs", "@go-sev-guest/testdata/vcek.testcer"];
    refused(&debug, &["R4", "T2", "P1", "P3"]);
    let forged = "@trustee/snp/test-vcek-invalid-new.der";
    let parts = ["--report", "@trustee/snp/test-report.bin", "--certs", forged];
    let Some(verdict) = verify(&parts) else { return };
    assert_eq!(verdict.status, 1);
    assert!(verdict.with("failed").contains(&"C2"), "{:?}", verdict.with("failed"));
}

#[test]
fn a_table_is_for_people_and_says_what_to_do() {
    let Some(folder) = vectors() else { return };
    let file = |name: &str| folder.join(name).display().to_string();
    let output = pmc(&[
        "verify",
        "--report",
        &file("go-sev-guest/testdata/attestation.bin"),
        "--certs",
        &file("go-sev-guest/testdata/vcek.testcer"),
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    for words in
        ["FAIL       P1", "expected: off", "actual:   on", "what to do: ", "REFUSED: 4 failed"]
    {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
}

#[test]
fn unusable_input_exits_with_2() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for words in [
        vec!["verify"],
        vec!["verify", "http://plain.example"],
        vec!["verify", "--report", manifest],
        vec!["verify", "--report", manifest, "--certs", "/nowhere"],
        vec!["verify", "--report", manifest, "--certs", manifest],
        vec!["verify", "--evidence", manifest],
        vec!["verify", "https://a.example", "--host-data", "zz"],
        vec!["verify", "https://a.example", "--policy", manifest],
        vec!["verify", "https://a.example", "--at", "2026-01-01T00:00:00Z"],
        vec!["nothing"],
    ] {
        let output = pmc(&words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!output.stderr.is_empty(), "{words:?} says nothing");
    }
    assert_eq!(pmc(&["--help"]).status.code(), Some(0));
}
