//! C6: revocation lists of a synthetic root, authentic and not, current and not.

use crate::case::{Case, NOW};
use crate::pki::{List, Signer, Spec, extension, raw};
use attestation::crl::{Crl, CrlError};
use attestation::policy::{Expect, List as Presence, Revocation};
use attestation::{Endorser, Evidence, Outcome, appraise, verify};
use x509_cert::ext::pkix::{KeyUsage, KeyUsages};

const DAY: u64 = 24 * 3600;

fn rule(list: Presence, grace: u64) -> Expect<Revocation> {
    Expect::Value(Revocation { list, grace })
}

/// What C6 says when nothing else refuses.
fn c6(case: &Case) -> Outcome {
    assert!(case.failures().iter().all(|id| *id == "C6"), "{:?}", case.failures());
    case.findings().into_iter().find(|finding| finding.check.id == "C6").unwrap().outcome
}

fn with(change: impl FnOnce(&mut List)) -> Case {
    let mut case = Case::milan();
    let mut list = case.list();
    change(&mut list);
    case.crl = Some(list);
    case
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Passed,
    Failed,
    Unchecked,
}

fn verdict(case: &Case) -> Verdict {
    match c6(case) {
        Outcome::Passed { .. } => Verdict::Passed,
        Outcome::Failed { .. } => Verdict::Failed,
        Outcome::Unchecked { why } => {
            assert!(!why.is_empty());
            Verdict::Unchecked
        }
    }
}

#[test]
fn a_current_list_that_revokes_nothing_of_the_chain_clears_it() {
    assert_eq!(verdict(&with(|_| ())), Verdict::Passed);
    assert_eq!(verdict(&with(|list| list.revoked = vec![1, 65538, 65793])), Verdict::Passed);
    assert_eq!(verdict(&with(|list| list.revoked = vec![0])), Verdict::Passed, "any VCEK's serial");
}

#[test]
fn without_a_current_list_the_rule_decides() {
    for (list, expected) in
        [(Presence::WhenPresent, Verdict::Unchecked), (Presence::Required, Verdict::Failed)]
    {
        let judged = |mut case: Case| {
            case.policy.revocation = rule(list, DAY);
            assert_eq!(verdict(&case), expected);
        };
        judged(Case::milan());
        judged(with(|list| {
            list.this_update = NOW - 9 * DAY;
            list.next_update = Some(NOW - DAY - 1);
        }));
        judged(with(|list| list.this_update = NOW + 1));
    }
}

#[test]
fn grace_counts_from_the_promised_update() {
    let mut case = with(|list| {
        list.this_update = NOW - 9 * DAY;
        list.next_update = Some(NOW - DAY);
    });
    case.policy.revocation = rule(Presence::Required, DAY);
    assert_eq!(verdict(&case), Verdict::Passed);
    case.policy.revocation = rule(Presence::Required, DAY - 1);
    assert_eq!(verdict(&case), Verdict::Failed);
    case.policy.revocation = rule(Presence::Required, u64::MAX);
    assert_eq!(verdict(&case), Verdict::Passed);
}

#[test]
fn what_was_revoked_stays_revoked_however_old_the_list_is() {
    for serial in [65536, 65537] {
        let mut case = with(|list| list.revoked = vec![7, serial]);
        assert_eq!(verdict(&case), Verdict::Failed);
        let list = case.crl.as_mut().unwrap();
        list.this_update = NOW - 99 * DAY;
        list.next_update = Some(NOW - 98 * DAY);
        assert_eq!(verdict(&case), Verdict::Failed);
    }
}

#[test]
fn a_vlek_and_its_issuer_can_be_revoked() {
    let vlek = |revoked: Vec<u32>| {
        let mut case = Case::milan().with_vlek();
        case.policy.vlek = Expect::unchecked("that provider signs with VLEKs");
        case.crl = Some(List { revoked, ..case.list() });
        verdict(&case)
    };
    assert_eq!(vlek(vec![]), Verdict::Passed);
    assert_eq!(vlek(vec![65537]), Verdict::Passed, "the other intermediate");
    assert_eq!(vlek(vec![65793]), Verdict::Failed, "the ASVK");
    assert_eq!(vlek(vec![0]), Verdict::Failed, "the VLEK itself");
}

#[test]
fn a_list_that_the_root_did_not_sign_refuses_under_every_rule() {
    for presence in [Presence::WhenPresent, Presence::Required] {
        let refused = |mut case: Case| {
            case.policy.revocation = rule(presence, DAY);
            assert_eq!(verdict(&case), Verdict::Failed);
        };
        refused(with(|list| list.signer = Signer::Ask));
        refused(with(|list| list.signer = Signer::Stranger));
        refused(with(|list| list.issuer = "ARK-Genoa".to_owned()));
        refused(with(|list| list.issuer = "SEV-Milan".to_owned()));
        let mut case = with(|_| ());
        case.ark.extensions[0] = extension(&KeyUsage(KeyUsages::KeyCertSign.into()), "ARK-Milan");
        refused(case);
    }
}

#[test]
fn lists_that_are_not_understood_are_none() {
    let error = |change: fn(&mut List)| {
        let mut list = Case::milan().list();
        change(&mut list);
        Crl::from_der(&list.issue()).err()
    };
    assert_eq!(error(|_| ()), None);
    assert_eq!(error(|list| list.next_update = None), Some(CrlError::NoNextUpdate));
    assert_eq!(
        error(|list| list.next_update = Some(list.this_update - 1)),
        Some(CrlError::NoNextUpdate)
    );
    assert_eq!(error(|list| list.revoked = (0..1025).collect()), Some(CrlError::TooMany(1025)));
    assert_eq!(error(|list| list.revoked = (0..1024).collect()), None);
    let number = |oid: &str, critical| raw(oid, critical, &[2, 1, 1]);
    for (oid, critical, bad) in [
        ("2.5.29.20", false, false),
        ("2.5.29.20", true, true),
        ("2.5.29.27", false, true),
        ("2.5.29.28", false, true),
    ] {
        let mut list = Case::milan().list();
        list.extensions = vec![number(oid, critical)];
        assert_eq!(Crl::from_der(&list.issue()).is_err(), bad, "{oid} {critical}");
    }
    // certificateIssuer: an entry about somebody else's certificate.
    let mut list = Case::milan().list();
    list.revoked = vec![1];
    list.entry_extensions = Some(vec![number("2.5.29.29", true)]);
    assert!(matches!(Crl::from_der(&list.issue()), Err(CrlError::Extension(_))));

    let whole = Case::milan().list().issue();
    assert!(Crl::from_der(&[whole.as_slice(), &[0]].concat()).is_err(), "a byte after it");
    for length in 0..whole.len() {
        assert!(Crl::from_der(whole.get(..length).unwrap()).is_err(), "{length} bytes of it");
    }
    assert_eq!(Crl::from_der(&vec![0x30; 65_537]).err(), Some(CrlError::TooLong(65_537)));
}

#[test]
fn unreadable_lists_in_evidence_refuse_it() {
    let case = Case::milan();
    let mut evidence = case.evidence();
    evidence.crl = Some(vec![0x30, 0]);
    let verified = verify(&evidence, &case.anchors(), NOW).unwrap();
    let rejected = appraise(verified, &case.policy, case.demand).err().unwrap();
    assert_eq!(rejected.failures().map(|finding| finding.check.id).collect::<Vec<_>>(), ["C6"]);
}

#[test]
fn the_verifiers_own_list_counts_beside_the_evidences() {
    let case = Case::milan();
    let judged = |own: &List, brought: Option<&List>| {
        let anchors = case.anchors().with_list(Crl::from_der(&own.issue()).unwrap());
        let mut evidence = case.evidence();
        evidence.crl = brought.map(List::issue);
        let mut policy = case.policy.clone();
        policy.revocation = rule(Presence::Required, 0);
        let verified = verify(&evidence, &anchors, NOW).unwrap();
        appraise(verified, &policy, case.demand.clone()).is_ok()
    };
    let good = case.list();
    let revoking = List { revoked: vec![65537], ..case.list() };
    let stale = List { next_update: Some(NOW - 1), ..case.list() };
    let of_another_root = List { issuer: "ARK-Genoa".to_owned(), ..case.list() };
    let forged = List { signer: Signer::Stranger, ..case.list() };
    assert!(judged(&good, None));
    assert!(
        judged(&stale, Some(&good)) && judged(&good, Some(&stale)),
        "one current list is enough"
    );
    assert!(judged(&of_another_root, Some(&good)), "a list of another generation is not meant");
    assert!(!judged(&of_another_root, None), "and clears nothing");
    assert!(!judged(&revoking, Some(&good)), "an older list in the evidence hides nothing");
    assert!(!judged(&good, Some(&revoking)));
    assert!(!judged(&forged, Some(&good)));
    assert!(!judged(&stale, None));
}

#[test]
fn an_endorser_looks_at_every_new_list() {
    let case = Case::milan();
    let mut evidence = case.evidence();
    let endorser = Endorser::of(&evidence, &case.anchors()).ok().unwrap();
    let judged = |evidence: &Evidence| {
        let verified = endorser.verify(evidence, NOW).unwrap();
        appraise(verified, &case.policy, case.demand.clone()).is_ok()
    };
    assert!(judged(&evidence));
    evidence.crl = Some(case.list().issue());
    assert!(judged(&evidence));
    evidence.crl = Some(List { revoked: vec![65537], ..case.list() }.issue());
    assert!(!judged(&evidence));
}

/// The list that came with the chain is remembered, for itself alone.
#[test]
fn an_endorser_with_a_list_reads_another_one() {
    let case = Case::milan();
    let mut evidence = case.evidence();
    evidence.crl = Some(case.list().issue());
    let endorser = Endorser::of(&evidence, &case.anchors()).ok().unwrap();
    let judged = |evidence: &Evidence| {
        let verified = endorser.verify(evidence, NOW).unwrap();
        appraise(verified, &case.policy, case.demand.clone()).is_ok()
    };
    assert!(judged(&evidence));
    evidence.crl = Some(List { revoked: vec![65537], ..case.list() }.issue());
    assert!(!judged(&evidence));
}

#[test]
fn a_root_that_may_not_sign_lists_still_signs_certificates() {
    let mut case = Case::milan();
    case.ark = Spec::authority(65536, "ARK-Milan", "ARK-Milan");
    case.ark.extensions[0] = extension(&KeyUsage(KeyUsages::KeyCertSign.into()), "ARK-Milan");
    assert_eq!(verdict(&case), Verdict::Unchecked, "no list, and nothing else refuses");
}
