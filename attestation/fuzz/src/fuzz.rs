//! libFuzzer over one parser, which the variable `PARSER` names.

#![no_main]

#[path = "../../tests/parsers/entries.rs"]
mod entries;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static READ: OnceLock<fn(&[u8])> = OnceLock::new();

fn chosen() -> fn(&[u8]) {
    let name = std::env::var("PARSER").unwrap_or_default();
    let entry = entries::entries().find(|entry| entry.name == name);
    let entry = entry.unwrap_or_else(|| panic!("PARSER={name:?} names no parser"));
    // Once for the keys that are made lazily, before the clock of inputs runs.
    (entry.seeds)().iter().for_each(|seed| (entry.read)(seed));
    entry.read
}

fuzz_target!(
    init: {
        READ.get_or_init(chosen);
    },
    |bytes: &[u8]| READ.get_or_init(chosen)(bytes)
);
