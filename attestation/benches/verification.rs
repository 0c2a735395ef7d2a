//! What verification costs beside the signatures that it cannot do without, on a recorded report of Azure's
//! (Milan, version 3). `cargo bench -p attestation`.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "rounds/recorded.rs"]
mod recorded;
mod rounds;

use attestation::certificate::Certificate;
use attestation::{Anchors, Demand, Endorser, Evidence, Expect, Policy, appraise, crypto, verify};
use recorded::{AT, recorded};
use rounds::{Candidate, compare, measure};
use sev::certs::snp as other;
use sev::certs::snp::Verifiable as _;
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser as _;

fn main() {
    let report = recorded("aci-reports/milan_attestation_report.bin");
    let (Some(report), Some(pem)) = (report, recorded("aci-reports/milan_vcek.pem")) else {
        return;
    };
    let pem = String::from_utf8(pem).unwrap();
    let leaf = Certificate::sequence_from_pem(&pem).unwrap().swap_remove(0);
    run(&Evidence { report, vek: leaf.der().to_vec(), ..Evidence::default() }, &leaf);
}

fn run(evidence: &Evidence, leaf: &Certificate) {
    let anchors = Anchors::production();
    let mut policy = Policy::for_host_data(Expect::unchecked("a benchmark"));
    policy.endorsement = Expect::unchecked("has a benchmark of its own");
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
    measure(&mut candidates);
    let [p384, rsa, cold, cold_whole, warm, warm_whole, ..] =
        candidates.each_ref().map(Candidate::micros);
    compare("cold: verify", cold, 3.0 * rsa + p384);
    compare("cold: verify and appraise", cold_whole, 3.0 * rsa + p384);
    compare("warm: verify", warm, p384);
    compare("warm: verify and appraise", warm_whole, p384);
}

fn ark() -> Certificate {
    let pem = std::str::from_utf8(other::builtin::milan::ARK).unwrap();
    Certificate::sequence_from_pem(pem).unwrap().swap_remove(0)
}
