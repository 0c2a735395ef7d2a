//! Whole guests. Reports are signed anew, so that what a stranger writes reaches the checks behind the signature.

use attestation::policy::EndorsementPolicy;
use attestation::{Evidence, Expect, Outcome, Policy, Trust, appraise, report};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use p384::elliptic_curve::sec1::ToEncodedPoint as _;

use super::case::{NOW, at};
use super::{Entry, documents, endorsements, joined, parts, pki, world};

pub(super) const ENTRIES: &[Entry] = &[
    Entry { name: "guest", read: read_guest, seeds: guests },
    Entry { name: "uvm", read: read_uvm, seeds: endorsements::endorsements },
];

/// A report with the signature of the world's machine; another length is left as it is.
pub(super) fn signed(report: &[u8]) -> Vec<u8> {
    let mut out = report.to_vec();
    if let (Some(message), report::LENGTH) = (report.get(..at::SIGNED), report.len()) {
        let signature = key().sign(&SystemRandom::new(), message).expect("a signature");
        let starts = [at::SIGNED, at::SIGNED + 72];
        for (start, number) in starts.into_iter().zip(signature.as_ref().chunks(48)) {
            let places = out.iter_mut().skip(start);
            places.zip(number.iter().rev()).for_each(|(place, byte)| *place = *byte);
        }
    }
    out
}

fn key() -> EcdsaKeyPair {
    let secret = pki::report_key();
    let public = secret.public_key().to_encoded_point(false);
    EcdsaKeyPair::from_private_key_and_public_key(
        &ECDSA_P384_SHA384_FIXED_SIGNING,
        &secret.to_bytes(),
        public.as_bytes(),
    )
    .expect("the key of the world's machine")
}

/// What is accepted has no failed check, and never production's trust; what is refused has one.
fn judge(evidence: &Evidence, policy: &Policy) {
    let verified = world().endorser.verify(evidence, NOW);
    let demand = world().case.demand.clone();
    match verified.and_then(|guest| appraise(guest, policy, demand)) {
        Ok(accepted) => {
            let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed { .. });
            assert!(!accepted.findings().iter().any(|finding| failed(&finding.outcome)));
            assert_eq!(accepted.trust(), Trust::NotProduction);
        }
        Err(rejected) => assert!(rejected.failures().next().is_some()),
    }
}

fn read_guest(bytes: &[u8]) {
    let Some([report, crl, policy, cce_policy]) = parts(bytes) else { return };
    let policy = serde_json::from_slice(policy).unwrap_or_else(|_| world().case.policy.clone());
    let evidence = Evidence {
        report: signed(report),
        crl: Some(crl.to_vec()).filter(|list| !list.is_empty()),
        cce_policy: Some(cce_policy.to_vec()),
        ..Evidence::default()
    };
    judge(&evidence, &policy);
}

fn guests() -> Vec<Vec<u8>> {
    let Evidence { crl, cce_policy, .. } = world().evidence.clone();
    let (crl, text) = (crl.unwrap_or_default(), cce_policy.unwrap_or_default());
    let report = &world().case.report;
    let newest = [&[5], report.get(1..).unwrap_or_default()].concat();
    let judged = |policy: &[u8]| [report, &newest].map(|one| joined([one, &crl, policy, &text]));
    documents::policies().iter().flat_map(|policy| judged(policy)).collect()
}

fn read_uvm(bytes: &[u8]) {
    let evidence = Evidence { uvm: Some(bytes.to_vec()), ..world().evidence.clone() };
    let endorsement = Expect::Value(EndorsementPolicy::default());
    judge(&evidence, &Policy { endorsement, ..world().case.policy.clone() });
}
