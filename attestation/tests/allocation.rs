//! No input makes a parser hold more memory than a stated multiple of its length. One test alone, since it watches the
//! allocator of the whole process.

#[path = "parsers/entries.rs"]
mod entries;
#[path = "parsers/inputs.rs"]
mod inputs;

use entries::{Entry, entries};
use inputs::input;
use peak_alloc::PeakAlloc;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that may be held at once for every byte of input. A JSON document of nothing but `[[],[],…]` becomes the
/// most: a value of 32 bytes and its place in a growing list for every three characters.
const MULTIPLE: usize = 64;

/// Bytes that may be held whatever the input: the verifier's own certificates, and texts of findings.
const BASE: usize = 256 * 1024;

/// The longest length that DER's decoder takes, 256 MiB, in the long form, and one that CBOR's takes for a byte string.
const LIES: [[u8; 5]; 2] = [[0x84, 0x0f, 0xff, 0xff, 0xff], [0x5a, 0x0f, 0xff, 0xff, 0xff]];

/// Reads an input, and says how far it went over the bound.
fn within_bound(entry: &Entry, bytes: &[u8]) -> Result<(), String> {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    (entry.read)(bytes);
    let held = MEMORY.peak_usage().saturating_sub(before);
    let bound = BASE + MULTIPLE * bytes.len();
    if held <= bound { Ok(()) } else { Err(format!("{held} bytes held for {}", bytes.len())) }
}

#[test]
fn memory_is_bounded_by_a_multiple_of_the_input() {
    for entry in entries() {
        let seeds = (entry.seeds)();
        // Once for what is made lazily and kept.
        seeds.iter().for_each(|seed| (entry.read)(seed));
        // A length that lies, at every place: chance finds the few that matter too seldom.
        for (seed, lie) in seeds.iter().flat_map(|seed| LIES.map(|lie| (seed, lie))) {
            for place in 0..seed.len().saturating_sub(lie.len()) {
                let mut bytes = seed.clone();
                bytes.splice(place..place + lie.len(), lie);
                within_bound(entry, &bytes)
                    .unwrap_or_else(|error| panic!("{}: {error}, changed at {place}", entry.name));
            }
        }
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
        let ran = runner
            .run(&input(entry), |bytes| within_bound(entry, &bytes).map_err(TestCaseError::fail));
        ran.unwrap_or_else(|failure| panic!("{}: {failure}", entry.name));
    }
}
