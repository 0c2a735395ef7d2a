//! Recorded evidence of real machines, read from `$VECTORS_DIR`, by default `../shared/vectors` beside the
//! workspace. Without it tests say so and pass, unless `VECTORS_REQUIRED=1`.

#![allow(
    dead_code,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "shared by tests, which need one part of it or another"
)]

use std::path::PathBuf;

use attestation::Evidence;
use attestation::certificate::Certificate;

/// The folder of recordings.
pub(crate) struct Vectors(PathBuf);

#[expect(clippy::disallowed_methods, reason = "where the vectors lie is no configuration")]
pub(crate) fn vectors() -> Option<Vectors> {
    let given = std::env::var_os("VECTORS_DIR").map(PathBuf::from);
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let folder = given.unwrap_or_else(beside);
    if folder.join("INDEX.md").is_file() {
        return Some(Vectors(folder));
    }
    assert!(
        std::env::var("VECTORS_REQUIRED").as_deref() != Ok("1"),
        "the vectors are required, and {} has none",
        folder.display()
    );
    println!("skipped: no vectors in {}", folder.display());
    None
}

impl Vectors {
    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap().trim().to_owned()
    }

    /// The certificates of a PEM or DER file.
    pub(crate) fn certificates(&self, name: &str) -> Vec<Certificate> {
        let bytes = self.read(name);
        match std::str::from_utf8(&bytes) {
            Ok(text) => Certificate::sequence_from_pem(text).unwrap(),
            Err(_) => vec![Certificate::from_der(&bytes).unwrap()],
        }
    }

    /// A report, raw or in hexadecimal, with the one leaf of a file of certificates.
    pub(crate) fn evidence(&self, report: &str, leaf: &str) -> Evidence {
        let report = if report.ends_with(".hex") {
            hex::decode(self.text(report)).unwrap()
        } else {
            self.read(report)
        };
        let leaf = self.certificates(leaf).into_iter().find(is_leaf).unwrap();
        Evidence { report, vek: leaf.der().to_vec(), ..Evidence::default() }
    }
}

/// Whether it is the certificate of a VCEK or VLEK, by its name.
pub(crate) fn is_leaf(certificate: &Certificate) -> bool {
    matches!(certificate.subject_cn().as_deref(), Some("SEV-VCEK" | "SEV-VLEK"))
}
