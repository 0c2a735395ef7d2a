//! `docs/guarantees.md` names tests for everything that it promises; this holds that they exist and are run. That they
//! passed, `.ci/run` reads in the record of its own run.

mod named;

use std::path::Path;

use named::is_run;

/// The seed's table of threats, which the page must cover.
const THREATS: [&str; 7] = [
    "Cloud operator accessing data",
    "Malicious Azure admin",
    "Container escape",
    "Key theft",
    "MITM attack",
    "Replay attacks",
    "Compromised client",
];

const PAGE: &str = include_str!("../../docs/guarantees.md");

struct Named<'a> {
    file: &'a str,
    test: &'a str,
}

/// Lines of the form: - `path/of/file.rs`: `name_of_test`, and what it shows.
fn tests_in(section: &str) -> Vec<Named<'_>> {
    section
        .lines()
        .filter_map(|line| {
            let (file, rest) = line.strip_prefix("- `")?.split_once("`: `")?;
            Some(Named { file, test: rest.split_once('`')?.0 })
        })
        .collect()
}

#[test]
fn every_threat_has_tests_that_exist() {
    let sections: Vec<&str> = PAGE.split("\n## ").skip(1).collect();
    let titles: Vec<&str> = sections.iter().filter_map(|section| section.lines().next()).collect();
    assert_eq!(titles, THREATS);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (section, threat) in sections.iter().zip(THREATS) {
        for part in ["**Holds:**", "**Does not cover:**", "**Fails if it breaks:**"] {
            assert!(section.contains(part), "{threat} lacks {part}");
        }
        let tests = tests_in(section);
        assert!(!tests.is_empty(), "{threat} names no test");
        for Named { file, test } in tests {
            let source = std::fs::read_to_string(root.join(file));
            let source = source.unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(is_run(&source, test), "{file} has no test {test} that is run");
        }
    }
}

#[test]
fn a_test_that_is_not_run_is_none() {
    assert!(is_run("#[test]\nfn a() {}", "a"));
    assert!(is_run("/// Why.\n#[tokio::test]\nasync fn a() {}", "a"));
    assert!(!is_run("#[test]\n#[ignore]\nfn a() {}", "a"));
    assert!(!is_run("fn a() {}", "a"));
    assert!(!is_run("#[test]\nfn ab() {}", "a"));
}
