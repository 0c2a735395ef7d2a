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
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Lines of policies.
const AUDIT: &str = "host_data = { unchecked = \"an audit\" }\n";
const WITHOUT_ENDORSEMENT: &str = "endorsement = { unchecked = \"recorded without its endorsement\" }\n\
     measurement = { unchecked = \"recorded without its endorsement\" }\n";
const YEARS_AGO: &str = "minimum_tcb = { unchecked = \"recorded years ago\" }\n\
                         platform = { unchecked = \"recorded years ago\" }\n";

/// A policy file with these lines.
fn policy(lines: &[&str]) -> String {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("policy-{}.toml", FILES.fetch_add(1, Ordering::Relaxed));
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, lines.concat()).unwrap();
    path.display().to_string()
}

/// Runs `pmc verify` offline on a machine that was recorded without its endorsement, and is else as strict as can be.
fn verify(words: &[&str]) -> Option<Verdict> {
    verify_as(&[words, &["--policy", &policy(&[AUDIT, WITHOUT_ENDORSEMENT])]].concat())
}

/// Runs `pmc verify` offline; words that begin with `@` are files of the vectors.
fn verify_as(words: &[&str]) -> Option<Verdict> {
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
    verify(words).iter().for_each(accepts);
}

/// The same of a machine that was recorded years ago.
fn accepted_of_old(words: &[&str]) {
    let policy = policy(&[AUDIT, WITHOUT_ENDORSEMENT, YEARS_AGO]);
    verify_as(&[words, &["--policy", &policy]].concat()).iter().for_each(accepts);
}

fn accepts(verdict: &Verdict) {
    assert_eq!(verdict.status, 0, "{}", verdict.document);
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

#[test]
fn recorded_machines_are_accepted_from_raw_parts() {
    let old = ["--report", "@trustee/snp/test-report.bin", "--certs", "@trustee/snp/test-vcek.der"];
    refused(&old, &["R4", "T2"]);
    accepted_of_old(&old);
    for certs in ["@aci-reports/milan_vcek.pem", "@aci-reports/milan_vcek_reissued.pem"] {
        accepted(&["--report", "@aci-reports/milan_attestation_report.bin", "--certs", certs]);
    }
    let genoa = "@aci-reports/genoa_attestation_report.bin";
    accepted(&["--report", genoa, "--certs", "@aci-reports/genoa_vcek.pem"]);
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
    let policy = policy(&[AUDIT, YEARS_AGO, "endorsement = { minimum_svn = 22 }\n"]);
    let words = [SET_A.as_slice(), &["--policy", &policy]].concat();
    let Some(verdict) = verify_as(&words) else { return };
    accepts(&verdict);
    let unchecked = ["C6", "R4", "R7", "T2", "P10", "P6", "P7", "P8", "P9", "B1", "B2", "B3", "B4"];
    assert_eq!(verdict.with("unchecked"), unchecked);
    let passed = verdict.with("passed");
    assert!(passed.contains(&"P11"), "the policy is the one of HOST_DATA");
    assert!(["U1", "U2", "U3", "U4", "U5", "U6"].iter().all(|id| passed.contains(id)));
}

#[test]
fn without_a_word_about_it_an_endorsement_must_be_there_and_recent() {
    let policy = policy(&[AUDIT, YEARS_AGO]);
    let failed = |words: &[&str]| {
        let verdict = verify_as(&[words, &["--policy", &policy]].concat())?;
        Some((verdict.status, verdict.with("failed").into_iter().map(str::to_owned).collect()))
    };
    let Some(of_all) = failed(&SET_A) else { return };
    assert_eq!(of_all, (1, vec!["U4".to_owned()]));
    assert_eq!(failed(&SET_A[..4]).unwrap(), (1, vec!["U1".to_owned()]));
}

#[test]
fn without_an_endorsement_the_measurement_must_be_named_too() {
    let genoa = ["@aci-reports/genoa_attestation_report.bin", "@aci-reports/genoa_vcek.pem"];
    let half = policy(&[AUDIT, "endorsement = { unchecked = \"recorded without it\" }\n"]);
    let words = ["--report", genoa[0], "--certs", genoa[1], "--policy", &half];
    let Some(verdict) = verify_as(&words) else { return };
    assert_eq!((verdict.status, verdict.with("failed")), (1, vec!["P8"]));
    assert!(verdict.document.to_string().contains("nothing says what runs in this guest"));
}

/// What `pmc policy init` draws up is for what it was drawn up from alone, and loosens nothing by itself.
#[test]
fn a_policy_is_drawn_up_from_recorded_evidence() {
    let Some(folder) = vectors() else { return };
    let file = |name: &str| folder.join(name).display().to_string();
    let init = |report: &str, certs: &str| {
        pmc(&["policy", "init", "--report", &file(report), "--certs", &file(certs), "--at", DAY])
    };
    let milan = ["aci-reports/milan_attestation_report.bin", "aci-reports/milan_vcek.pem"];
    let drawn = init(milan[0], milan[1]);
    // Whoever runs the machine may leave its endorsement out: nothing is loosened because of that.
    let why = String::from_utf8_lossy(&drawn.stderr);
    assert_eq!(drawn.status.code(), Some(1), "{why}");
    assert!(why.contains("refuses the deployment itself") && why.contains("U1"), "{why}");
    let text = String::from_utf8(drawn.stdout).unwrap();
    assert!(text.contains("4f4448c67f3c8dfc8de8a5e37125d807"), "{text}");
    assert!(text.contains("[minimum_tcb.milan]") && text.contains("microcode = 219"), "{text}");
    assert!(!text.lines().any(|line| !line.starts_with('#') && line.contains("unchecked")));

    let at = |name: &str| format!("@{name}");
    let judged = |report: &str, certs: &str, policy: &str| {
        let words = ["--report", &at(report), "--certs", &at(certs), "--policy", policy];
        verify_as(&words).unwrap()
    };
    let drawn = judged(milan[0], milan[1], &policy(&[&text]));
    assert_eq!((drawn.status, drawn.with("failed")), (1, vec!["U1"]));
    let loosened = policy(&[WITHOUT_ENDORSEMENT, &text]);
    accepts(&judged(milan[0], milan[1], &loosened));
    let genoa = ["aci-reports/genoa_attestation_report.bin", "aci-reports/genoa_vcek.pem"];
    let other = judged(genoa[0], genoa[1], &loosened);
    assert_eq!((other.status, other.with("failed")), (1, vec!["T2"]), "no row for its generation");

    let old = init("trustee/snp/test-report.bin", "trustee/snp/test-vcek.der");
    assert_eq!(old.status.code(), Some(1), "older firmware than the built-in minimum");
    let why = String::from_utf8(old.stderr).unwrap();
    assert!(why.contains("T2") && why.contains("refuses the deployment itself"), "{why}");
    assert!(String::from_utf8(old.stdout).unwrap().contains("microcode = 219"));

    let debug = init("go-sev-guest/testdata/attestation.bin", "go-sev-guest/testdata/vcek.testcer");
    assert_eq!(debug.status.code(), Some(1));
    let why = String::from_utf8(debug.stderr).unwrap();
    assert!(why.contains("P1") && why.contains("refuses the deployment itself"), "{why}");
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

    let strict = policy(&[AUDIT, WITHOUT_ENDORSEMENT, "revocation = { list = \"required\" }\n"]);
    let verdict = verify_as(&[words.as_slice(), &["--policy", &strict]].concat()).unwrap();
    assert_eq!((verdict.status, verdict.with("failed")), (1, vec!["C6"]));

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
        "--policy",
        &policy(&[AUDIT, WITHOUT_ENDORSEMENT]),
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
