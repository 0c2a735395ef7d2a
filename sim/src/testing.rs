//! What the unit tests of this crate share: where derived keys are cached, and where recorded
//! vectors lie.
//!
//! Must not know: any test.

use std::path::PathBuf;

/// A folder in the build directory: searching for RSA keys once is enough.
pub(crate) fn state() -> Option<PathBuf> {
    Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/sim-state"))
}

/// The folder of recorded vectors; `None`, with a notice, when it is missing and not required.
pub(crate) fn vectors() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a test reads where its vectors lie")]
    let (folder, required) =
        (std::env::var_os("VECTORS_DIR"), std::env::var_os("VECTORS_REQUIRED"));
    let folder = folder.map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors"),
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(required.is_none(), "no vectors in {}", folder.display());
    println!("skipped: no vectors in {}", folder.display());
    None
}
