//! The rules of the workspace, as tests: who may know whom, and what every file owes its reader.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

const ROLES: [&str; 4] = ["attest-sidecar", "log-sealer", "proxy", "skr-sidecar"];
const LEAVES: [&str; 3] = ["attestation", "proto", "service"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .current_dir(root())
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .unwrap()
}

/// What each crate of ours depends on, by kind: of ours only, and all.
struct Known {
    shipped: BTreeMap<String, BTreeSet<String>>,
    in_tests: BTreeMap<String, BTreeSet<String>>,
}

fn known() -> Known {
    let mut known = Known { shipped: BTreeMap::new(), in_tests: BTreeMap::new() };
    for package in metadata().packages {
        let of = |kinds: &[DependencyKind]| {
            let dependencies = package.dependencies.iter();
            dependencies
                .filter(|one| kinds.contains(&one.kind))
                .map(|one| one.name.clone())
                .collect()
        };
        let name = package.name.to_string();
        known.shipped.insert(name.clone(), of(&[DependencyKind::Normal, DependencyKind::Build]));
        known.in_tests.insert(name, of(&[DependencyKind::Development]));
    }
    known
}

#[test]
fn who_may_know_whom() {
    let Known { shipped, in_tests } = known();
    let ours: BTreeSet<&str> = shipped.keys().map(String::as_str).collect();
    let may = |name: &str| -> Vec<&str> {
        match name {
            "proto" | "attestation" | "service" | "sim" => vec![],
            "client" => vec!["attestation"],
            "python" => vec!["attestation", "client"],
            role if ROLES.contains(&role) => LEAVES.to_vec(),
            "stack" => ours.iter().copied().collect(),
            other => panic!("{other}: say here what it may know"),
        }
    };
    for (name, dependencies) in &shipped {
        let allowed = may(name);
        for dependency in dependencies.iter().filter(|one| ours.contains(one.as_str())) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not know {dependency}");
        }
    }
    // A simulator that shared our code would share our mistakes; tests of ours may use it.
    assert!(in_tests["sim"].iter().all(|one| !ours.contains(one.as_str())));
    for name in ["proto", "service"] {
        assert!(!in_tests[name].contains("sim"), "{name} does not need a simulated world");
    }
}

#[test]
fn attestation_is_pure() {
    let Known { shipped, .. } = known();
    let io =
        ["tokio", "hyper", "reqwest", "tonic", "rustls", "tracing", "rand", "service", "proto"];
    for crate_name in io {
        assert!(
            !shipped["attestation"].contains(crate_name),
            "attestation must not use {crate_name}"
        );
    }
    for (path, text) in sources("attestation/src") {
        for word in [
            "std::fs",
            "std::net",
            "std::env",
            "std::time",
            "std::thread",
            "std::process",
            "async fn",
        ] {
            assert!(!code(&text).contains(word), "{} uses {word}", path.display());
        }
    }
}

#[test]
fn one_provider_of_cryptography_for_tls() {
    // What is really built, by the features that are on; lock file and metadata list more than that.
    let tree = tree(&["--workspace", "--prefix", "none"]);
    let built: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?))
        })
        .collect();
    let names: Vec<&str> = built.iter().map(|(name, _)| *name).collect();
    assert!(names.contains(&"aws-lc-rs"), "the list of packages is not empty");
    for banned in ["ring", "openssl", "native-tls"] {
        assert!(!names.contains(&banned), "{banned} came into the tree");
    }
    only_for_stored_state(&names);
    for single in
        ["http", "hyper", "rustls", "prost", "tonic", "reqwest", "rsa", "p384", "x509-cert"]
    {
        let versions = names.iter().filter(|name| **name == single).count();
        assert_eq!(versions, 1, "{versions} versions of {single}");
    }
}

/// SQLCipher knows no provider of cryptography that is ours, and brings OpenSSL along, for the database of the proxy and
/// nothing else (docs/decisions/0015). It is compiled from a vendored source; nothing else may build on it.
fn only_for_stored_state(names: &[&str]) {
    assert!(names.contains(&"openssl-sys"), "this exception is not needed any more: remove it");
    for (package, only) in
        [("openssl-sys", "libsqlite3-sys"), ("libsqlite3-sys", "rusqlite"), ("rusqlite", "proxy")]
    {
        let users = tree(&["--workspace", "--invert", package, "--depth", "1", "--prefix", "none"]);
        let users: BTreeSet<&str> =
            users.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(users, BTreeSet::from([only]), "who uses {package}");
    }
}

/// What `cargo tree` says of this workspace on the platform that ships.
fn tree(arguments: &[&str]) -> String {
    let tree = std::process::Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["tree", "--locked", "--offline", "--format", "{p}"])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8(tree.stdout).unwrap()
}

#[test]
fn every_crate_takes_the_lints_and_its_version_from_the_workspace() {
    for package in metadata().packages {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} takes no lints", package.name);
        for field in ["version", "edition", "license", "rust-version"] {
            assert!(
                manifest.contains(&format!("{field}.workspace = true")),
                "{} {field}",
                package.name
            );
        }
        let folder = package.manifest_path.parent().unwrap().file_name().unwrap();
        assert_eq!(folder, package.name.as_str(), "a crate is called as its folder");
    }
}

/// The longest file, in lines. A longer one is more than one idea.
const LONGEST: usize = 600;

#[test]
fn every_file_says_what_it_is_for_and_is_one_idea() {
    for (path, text) in sources("") {
        let name = path.display();
        assert!(text.starts_with("//!"), "{name} does not say what it is for");
        let lines = text.lines().count();
        assert!(lines <= LONGEST, "{name} has {lines} lines");
        for word in ["TODO", "FIXME", "XXX", "HACK"] {
            assert!(
                !text.contains(&format!("{word}:")) && !text.contains(&format!("// {word}")),
                "{name}: {word}"
            );
        }
    }
}

/// Every Rust file of ours below a folder of the workspace, generated ones and this one left out.
fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                if !name.starts_with('.') && !name.starts_with("target") && name != "generated" {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") && name != "tidy.rs" {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{below} holds no sources");
    found
}

/// The text before a file's unit tests, without comments.
fn code(text: &str) -> String {
    let before = text.split("#[cfg(test)]").next().unwrap_or_default();
    before
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}
