//! The committed code is what the `.proto` files say. `UPDATE=1 cargo test -p proto` rewrites it.

use std::path::Path;

const SOURCES: [&str; 5] = [
    "attest-sidecar.proto",
    "info.proto",
    "key-provider.proto",
    "log-sealer.proto",
    "skr-sidecar.proto",
];

#[test]
#[expect(clippy::disallowed_methods, reason = "UPDATE is a switch of this test, no configuration")]
fn generated_code_matches_the_proto_files() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir().unwrap();
    let descriptors = protox::compile(SOURCES, [crate_dir]).unwrap();
    // Keys, tokens and evidence have no Debug, so that none ends in a log by a `?value`.
    tonic_prost_build::configure()
        .skip_debug(["."])
        .out_dir(fresh.path())
        .compile_fds(descriptors)
        .unwrap();

    // What server reflection tells of the reference's service.
    let reflected = protox::compile(["key-provider.proto"], [crate_dir]).unwrap();
    let reflected = prost::Message::encode_to_vec(&reflected);
    std::fs::write(fresh.path().join("key_provider.bin"), reflected).unwrap();

    let committed = crate_dir.join("src/generated");
    for entry in std::fs::read_dir(fresh.path()).unwrap() {
        let entry = entry.unwrap();
        let target = committed.join(entry.file_name());
        let text = std::fs::read(entry.path()).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(target, text).unwrap();
        } else {
            let same = std::fs::read(&target).is_ok_and(|old| old == text);
            assert!(same, "{} is stale: run UPDATE=1 cargo test -p proto", target.display());
        }
    }
}
