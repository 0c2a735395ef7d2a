//! What verification costs beside the signatures that it cannot do without, on a recorded report of Azure's
//! (Milan, version 3). `cargo bench -p attestation`.
//!
//! Ratios on a machine that others use too are only worth something if both sides see the same disturbances. So
//! this measures in rounds, each with a few calls of every candidate, and compares the fastest rounds.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints, and may panic")]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use attestation::certificate::Certificate;
use attestation::{Anchors, Demand, Endorser, Evidence, Expect, Policy, appraise, crypto, verify};
use sev::certs::snp as other;
use sev::certs::snp::Verifiable as _;
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser as _;

/// 2026-11-22, in the life of every certificate.
const AT: u64 = 1_795_305_600;

const ROUNDS: usize = 300;
const CALLS: u32 = 5;

/// The most that everything around the signatures may cost.
const TARGET: f64 = 1.15;

#[expect(clippy::disallowed_methods, reason = "where the vectors lie is no configuration")]
fn vectors() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    std::env::var_os("VECTORS_DIR").map_or_else(beside, PathBuf::from)
}

/// Something to measure, and the fastest that it was.
struct Candidate<'a> {
    name: &'static str,
    run: Box<dyn Fn() + 'a>,
    best: Duration,
}

impl<'a> Candidate<'a> {
    fn new<T>(name: &'static str, run: impl Fn() -> T + 'a) -> Self {
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

    fn micros(&self) -> f64 {
        self.best.as_secs_f64() * 1e6
    }
}

fn main() {
    let folder = vectors().join("aci-reports");
    let files = (
        std::fs::read(folder.join("milan_attestation_report.bin")),
        std::fs::read_to_string(folder.join("milan_vcek.pem")),
    );
    let (Ok(report), Ok(pem)) = files else {
        println!("skipped: no vectors in {}", folder.display());
        return;
    };
    let leaf = Certificate::sequence_from_pem(&pem).unwrap().swap_remove(0);
    measure(&Evidence { report, vek: leaf.der().to_vec(), ..Evidence::default() }, &leaf);
}

fn measure(evidence: &Evidence, leaf: &Certificate) {
    let anchors = Anchors::production();
    let policy = Policy::for_host_data(Expect::unchecked("a benchmark"));
    let demand = Demand::from(&Expect::Value([0; 64]));
    let endorser = Endorser::of(evidence, &anchors).ok().unwrap();
    let guest = verify(evidence, &anchors, AT).ok().unwrap();
    let report = &guest.value().report;
    let (key, signature) = (leaf.p384_key().unwrap(), report.signature().unwrap());
    let ark = ark();
    let their_leaf = other::Certificate::from_der(leaf.der()).unwrap();
    let their_report = AttestationReport::from_bytes(&evidence.report).unwrap();
    let their_chain = || other::Chain {
        ca: other::ca::Chain {
            ark: other::builtin::milan::ark().unwrap(),
            ask: other::builtin::milan::ask().unwrap(),
        },
        vek: their_leaf.clone(),
    };
    let held = their_chain();

    let mut candidates = [
        Candidate::new("P-384 signature, bare", || {
            crypto::verify_p384(key, report.signed_bytes(), &signature).unwrap();
        }),
        Candidate::new("RSA-4096 PSS signature, bare", || {
            let key = ark.rsa_key().unwrap();
            crypto::verify_pss_sha384(key, ark.signed_part(), ark.signature()).unwrap();
        }),
        Candidate::new("cold: verify", || verify(evidence, &anchors, AT).ok().unwrap()),
        Candidate::new("cold: verify and appraise", || {
            let guest = verify(evidence, &anchors, AT).ok().unwrap();
            appraise(guest, &policy, demand.clone()).ok().unwrap()
        }),
        Candidate::new("warm: verify", || endorser.verify(evidence, AT).ok().unwrap()),
        Candidate::new("warm: verify and appraise", || {
            let guest = endorser.verify(evidence, AT).ok().unwrap();
            appraise(guest, &policy, demand.clone()).ok().unwrap()
        }),
        Candidate::new("crate sev: report and its TCB, parsed before", || {
            (&their_leaf, &their_report).verify().unwrap();
        }),
        Candidate::new("crate sev: chain and report, parsed before", || {
            (&held, &their_report).verify().unwrap();
        }),
    ];
    for _ in 0..ROUNDS {
        candidates.iter_mut().for_each(Candidate::round);
    }
    print(&candidates);
}

fn ark() -> Certificate {
    let pem = std::str::from_utf8(other::builtin::milan::ARK).unwrap();
    Certificate::sequence_from_pem(pem).unwrap().swap_remove(0)
}

fn print(candidates: &[Candidate<'_>]) {
    for candidate in candidates {
        println!("{:>9.1} µs  {}", candidate.micros(), candidate.name);
    }
    let [p384, rsa, cold, cold_whole, warm, warm_whole, ..] = candidates else { return };
    let bare = 3.0 * rsa.micros() + p384.micros();
    for (candidate, bare) in
        [(cold, bare), (cold_whole, bare), (warm, p384.micros()), (warm_whole, p384.micros())]
    {
        let ratio = candidate.micros() / bare;
        let word = if ratio <= TARGET { "within" } else { "ABOVE" };
        println!("{ratio:>9.3} ×   {} over its bare signatures, {word} {TARGET}", candidate.name);
    }
}
