//! Measuring in rounds, each with a few calls of every candidate, and comparing the fastest ones: ratios on a machine
//! that others use too are only worth something if both sides see the same disturbances.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::hint::black_box;
use std::time::{Duration, Instant};

/// The most that everything around the signatures may cost.
const TARGET: f64 = 1.15;

const ROUNDS: usize = 300;
const CALLS: u32 = 5;

/// Something to measure, and the fastest that it was.
pub(crate) struct Candidate<'a> {
    name: &'static str,
    run: Box<dyn Fn() + 'a>,
    best: Duration,
}

impl<'a> Candidate<'a> {
    pub(crate) fn new<T>(name: &'static str, run: impl Fn() -> T + 'a) -> Self {
        let run = Box::new(move || {
            black_box(run());
        });
        Self { name, run, best: Duration::MAX }
    }

    fn round(&mut self) {
        let start = Instant::now();
        for _ in 0..CALLS {
            (self.run)();
        }
        self.best = self.best.min(start.elapsed() / CALLS);
    }

    /// The fastest, in microseconds.
    pub(crate) fn micros(&self) -> f64 {
        self.best.as_secs_f64() * 1e6
    }
}

/// Measures all of them, and prints what came out.
pub(crate) fn measure(candidates: &mut [Candidate<'_>]) {
    for _ in 0..ROUNDS {
        candidates.iter_mut().for_each(Candidate::round);
    }
    for candidate in candidates {
        println!("{:>9.1} µs  {}", candidate.micros(), candidate.name);
    }
}

/// Prints by how much a whole exceeds the parts that it cannot do without.
pub(crate) fn compare(name: &str, whole: f64, parts: f64) {
    let ratio = whole / parts;
    let word = if ratio <= TARGET { "within" } else { "ABOVE" };
    println!("{ratio:>9.3} ×   {name} over its bare parts, {word} {TARGET}");
}
