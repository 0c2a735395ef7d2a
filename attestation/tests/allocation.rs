//! No input makes a parser hold more memory than a stated multiple of its length. One test alone, since it watches the
//! allocator of the whole process.

#[path = "parsers/entries.rs"]
mod entries;
#[path = "parsers/inputs.rs"]
mod inputs;

use entries::entries;
use inputs::input;
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that may be held at once for every byte of input. A JSON document of nothing but `[[],[],…]` becomes the
/// most: a value of 32 bytes and its place in a growing list for every three characters.
const MULTIPLE: usize = 64;

/// Bytes that may be held whatever the input: the verifier's own certificates, and texts of findings.
const BASE: usize = 256 * 1024;

#[test]
fn memory_is_bounded_by_a_multiple_of_the_input() {
    for entry in entries() {
        // Once for what is made lazily and kept.
        (entry.seeds)().iter().for_each(|seed| (entry.read)(seed));
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
        let ran = runner.run(&input(entry), |bytes| {
            MEMORY.reset_peak_usage();
            let before = MEMORY.current_usage();
            (entry.read)(&bytes);
            let held = MEMORY.peak_usage().saturating_sub(before);
            let bound = BASE + MULTIPLE * bytes.len();
            prop_assert!(held <= bound, "{held} bytes held for {} of input", bytes.len());
            Ok(())
        });
        ran.unwrap_or_else(|failure| panic!("{}: {failure}", entry.name));
    }
}
