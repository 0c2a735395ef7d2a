//! Recordings of real machines, and when to judge them.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::path::PathBuf;

/// 2026-11-22, in the life of every certificate.
pub(crate) const AT: u64 = 1_795_305_600;

/// A file of `$VECTORS_DIR`, by default `../shared/vectors` beside the workspace.
#[expect(clippy::disallowed_methods, reason = "where the vectors lie is no configuration")]
pub(crate) fn recorded(name: &str) -> Option<Vec<u8>> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    let file = std::env::var_os("VECTORS_DIR").map_or_else(beside, PathBuf::from).join(name);
    let bytes = std::fs::read(&file).ok();
    if bytes.is_none() {
        println!("skipped: no {}", file.display());
    }
    bytes
}
