//! A million verifications leave the heap as it was. `cargo bench -p attestation --bench heap`: minutes.
//!
//! Each one verifies and appraises a whole guest with a revocation list, by an endorser that is kept.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may panic")]

#[path = "../tests/guest/case.rs"]
#[expect(dead_code, clippy::indexing_slicing, reason = "for tests of guests")]
mod case;
#[path = "../tests/guest/pki.rs"]
mod pki;

use attestation::{Endorser, appraise};
use case::{Case, NOW};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const STEPS: usize = 10;
const STEP: usize = 100_000;

fn main() {
    let mut case = Case::milan();
    case.crl = Some(case.list());
    let evidence = case.evidence();
    let endorser = Endorser::of(&evidence, &case.anchors()).unwrap();
    let times = |number: usize| {
        for _ in 0..number {
            let guest = endorser.verify(&evidence, NOW).unwrap();
            appraise(guest, &case.policy, case.demand.clone()).ok().unwrap();
        }
    };
    // What is made once and kept, also by the printing.
    times(1000);
    println!("a million verifications, each of {} bytes of report", evidence.report.len());
    let before = MEMORY.current_usage();
    println!("{before:>9} bytes  held before");
    for step in 1..=STEPS {
        times(STEP);
        println!("{:>9} bytes  held after {} verifications", MEMORY.current_usage(), step * STEP);
    }
    assert_eq!(MEMORY.current_usage(), before, "the heap is as it was");
    println!("no growth");
}
