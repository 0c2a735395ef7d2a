//! `docs/skr-conformance.md` goes through the contract of Microsoft's `skr` line by line; this holds that every line says
//! what ours does and names tests that exist and are run. That they passed, `.ci/run` reads in the record of its own run.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

mod named;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use named::is_run;

const PAGE: &str = include_str!("../../docs/skr-conformance.md");

/// The contract's parts, which the page must cover in this order.
const PARTS: [&str; 11] = [
    "1.1 HTTP",
    "1.1 Errors",
    "1.2 gRPC",
    "1.3 Command line",
    "1.4 Environment",
    "2.1 Reports",
    "2.2 TCB",
    "2.3 Sources of certificates",
    "2.4 MAA",
    "2.5 Secure key release",
    "2.6 Tokens",
];

/// A line of the contract.
struct Row<'a> {
    line: &'a str,
    ours: &'a str,
    tests: &'a str,
}

fn rows(section: &str) -> Vec<Row<'_>> {
    let table =
        section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| line"));
    table
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let [line, _, ours, tests] = cells[..] else { panic!("not four cells: {row}") };
            Row { line, ours, tests }
        })
        .collect()
}

/// `crate: name_of_test`, as often as a cell has it.
fn tests_in(cell: &str) -> Vec<(&str, &str)> {
    cell.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(": ")).collect()
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(std::fs::read_to_string(&path).unwrap());
        }
    }
}

fn sources_of(name: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    let mut found = Vec::new();
    for folder in ["src", "tests"].map(|folder| root.join(folder)) {
        if folder.is_dir() {
            sources(&folder, &mut found);
        }
    }
    assert!(!found.is_empty(), "there is no crate {name}");
    found
}

#[test]
fn every_line_of_the_contract_is_answered_and_its_tests_exist() {
    let sections: Vec<&str> = PAGE.split("\n## ").skip(1).collect();
    let titles: Vec<&str> = sections.iter().filter_map(|section| section.lines().next()).collect();
    assert_eq!(titles, PARTS);
    let mut crates = BTreeMap::new();
    for (section, part) in sections.iter().zip(PARTS) {
        let rows = rows(section);
        assert!(!rows.is_empty(), "{part} has no row");
        for Row { line, ours, tests } in rows {
            let what = format!("{part}, {line}");
            let word = ours.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
            assert!(["same", "different", "more"].contains(&word), "{what}: {ours}");
            assert!(word == "same" || ours.len() > word.len() + 2, "{what}: different in what?");
            // What no test of ours can see says who does.
            let named = tests_in(tests);
            let elsewhere = tests.strip_prefix("no test: ").is_some_and(|why| !why.is_empty());
            assert!(named.is_empty() == elsewhere, "{what} names no test, or no reason");
            for (name, test) in named {
                let sources = crates.entry(name).or_insert_with(|| sources_of(name));
                assert!(
                    sources.iter().any(|source| is_run(source, test)),
                    "{what}: {name} has no test {test} that is run"
                );
            }
        }
    }
}
