//! Recorded evidence of real machines, read from `$VECTORS_DIR`, by default `../shared/vectors` beside the
//! workspace. Without it tests say so and pass, unless `VECTORS_REQUIRED=1`.

#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "shared by tests")]

use std::path::PathBuf;

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
}
