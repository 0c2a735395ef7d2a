//! The endorsement of the utility VM: did its maker sign it, and is it about this guest?

use std::fmt::Display;

use crate::check::{self, Check, Finding, Outcome, Row};
use crate::did_x509::{Did, DidError};
use crate::path::{self, PathError};
use crate::policy::{EndorsementPolicy, Expect};
use crate::uvm::{Endorsement, Signed};
use crate::verify::Guest;

/// What these checks look at: an endorsement that could be read, and what it is held against.
pub(crate) struct Subject {
    pub(crate) signed: Signed,
    /// Whether its chain holds together, whenever: its signatures are verified once, for two rows.
    pub(crate) path: Result<(), PathError>,
    /// did:x509 of the issuers that the verifier believes.
    pub(crate) believed: Vec<String>,
    pub(crate) policy: EndorsementPolicy,
    /// The report's.
    pub(crate) measurement: [u8; 48],
    /// The time of judgement, in Unix seconds.
    pub(crate) at: u64,
}

const NOT_GENUINE: &str =
    "Do not trust this guest: nobody whom you believe endorses what it runs in.";
const OTHER_IMAGE: &str =
    "Hand over the endorsement of this guest's utility VM; if it is that, do not trust the guest.";

/// Also the check under which an endorsement is reported that is not there or cannot be read.
const SIGNATURE: Check = Check {
    id: "U1",
    title: "the utility VM's endorsement is signed by its chain's leaf",
    spec: "RFC 9052 (COSE_Sign1), RFC 8230 (PS384), RFC 9360 (x5chain); RFC 5280, section 6",
    remedy: "Hand over the endorsement that the platform mounts (reference-info-base64).",
};

pub(crate) const CHECKS: [Row<Subject>; 6] = [
    Row { check: SIGNATURE, run: signature },
    Row {
        check: Check {
            id: "U2",
            title: "the endorsement's issuer is one that this verifier believes",
            spec: "did:x509, version 0; the policy's endorsement.issuers",
            remedy: NOT_GENUINE,
        },
        run: issuer,
    },
    Row {
        check: Check {
            id: "U3",
            title: "the endorsement is about images of the expected kind",
            spec: "Confidential containers on Azure, feed; the policy's endorsement.feed",
            remedy: OTHER_IMAGE,
        },
        run: |s| {
            let feed = &s.signed.says.feed;
            Outcome::of(*feed == s.policy.feed, &s.policy.feed, feed)
        },
    },
    Row {
        check: Check {
            id: "U4",
            title: "the utility VM is recent enough",
            spec: "Confidential containers on Azure, guestsvn; the policy's endorsement.minimum_svn",
            remedy: "Redeploy the group onto a newer utility VM.",
        },
        run: |s| {
            let (svn, minimum) = (s.signed.says.svn, s.policy.minimum_svn);
            Outcome::of(svn >= minimum, format!("at least {minimum}"), svn)
        },
    },
    Row {
        check: Check {
            id: "U5",
            title: "the endorsed measurement is the report's",
            spec: "Confidential containers on Azure, launchmeasurement; SEV-SNP ABI 1.58, MEASUREMENT",
            remedy: OTHER_IMAGE,
        },
        run: |s| {
            let endorsed = s.signed.says.measurement;
            let actual = hex::encode(s.measurement);
            Outcome::of(endorsed == s.measurement, hex::encode(endorsed), actual)
        },
    },
    Row {
        check: Check {
            id: "U6",
            title: "it was signed in the past, in its signer's life",
            spec: "RFC 5280, 4.1.2.5; RFC 8392, 3.1.6",
            remedy: "Check the clock; for recorded evidence give the time of recording.",
        },
        run: signing_time,
    },
];

/// Runs every row, if the policy wants an endorsement. One that is missing or unreadable fails the first row, and
/// the others are not reached. The endorsement comes back with every row's outcome; who keeps it must refuse it
/// if one of them failed.
pub(crate) fn judge(
    guest: &Guest,
    policy: &Expect<EndorsementPolicy>,
    at: u64,
) -> (Option<Endorsement>, Vec<Finding>) {
    let policy = match policy {
        Expect::Value(policy) => policy.clone(),
        Expect::Unchecked { why } => return (None, all(|_| Outcome::unchecked(why))),
    };
    let Some(cose) = &guest.unverified.uvm else {
        return (None, unreadable("the evidence brings none"));
    };
    match Signed::decode(cose) {
        Err(error) => (None, unreadable(error)),
        Ok(signed) => {
            let says = signed.says.clone();
            let believed = guest.endorsers.clone();
            let measurement = guest.report.measurement();
            let path = path::verify_at_any_time(signed.sign1.chain());
            let subject = Subject { signed, path, believed, policy, measurement, at };
            (Some(says), check::run(&CHECKS, &subject))
        }
    }
}

fn all(outcome: impl Fn(Check) -> Outcome) -> Vec<Finding> {
    let checks = CHECKS.iter().map(|row| row.check);
    checks.map(|check| Finding { check, outcome: outcome(check) }).collect()
}

fn unreadable(error: impl Display) -> Vec<Finding> {
    let why = format!("not reached, because {} failed", SIGNATURE.id);
    all(|check| {
        if check == SIGNATURE {
            Outcome::of(false, "an endorsement of the utility VM", &error)
        } else {
            Outcome::unchecked(&why)
        }
    })
}

/// The signer's certificates live for a year, images for longer: they are judged at the time of signing, which
/// U6 keeps out of the future.
fn signature(s: &Subject) -> Outcome {
    let expected = "PS384 by the leaf of a path that was valid at the time of signing";
    let sign1 = &s.signed.sign1;
    if let Err(error) = sign1.verify() {
        return Outcome::of(false, expected, error);
    }
    let alive = || path::alive(sign1.chain(), s.signed.says.signed_at);
    match s.path.clone().and_then(|()| alive()) {
        Ok(()) => Outcome::of(true, expected, "verified"),
        Err(error) => Outcome::of(false, expected, error),
    }
}

/// Identifiers are compared byte for byte, and the chain must be one of the identifier that is claimed.
fn issuer(s: &Subject) -> Outcome {
    let claimed = &s.signed.says.issuer;
    let allowed = |did: &&String| s.policy.issuers.as_ref().is_none_or(|own| own.contains(did));
    let accepted: Vec<&str> = s.believed.iter().filter(allowed).map(String::as_str).collect();
    let expected = if accepted.is_empty() {
        "one of an empty list: nobody is believed".to_owned()
    } else {
        accepted.join(" or ")
    };
    if !accepted.contains(&claimed.as_str()) {
        return Outcome::of(false, expected, claimed);
    }
    match resolves(s) {
        Ok(true) => Outcome::of(true, expected, claimed),
        Ok(false) => Outcome::of(false, expected, "a leaf whose key is not for signatures"),
        Err(error) => Outcome::of(false, expected, format!("{claimed}, but {error}")),
    }
}

fn resolves(s: &Subject) -> Result<bool, DidError> {
    let did: Did = s.signed.says.issuer.parse()?;
    s.path.clone()?;
    Ok(did.resolve_verified(s.signed.sign1.chain())?.signs)
}

fn signing_time(s: &Subject) -> Outcome {
    let signed_at = s.signed.says.signed_at;
    let life = s.signed.sign1.chain().first().map(crate::certificate::Certificate::validity);
    let (from, to) = life.unwrap_or_default();
    let to = to.min(s.at);
    Outcome::of((from..=to).contains(&signed_at), format!("from {from} to {to}"), signed_at)
}

#[cfg(test)]
mod tests {
    use ciborium::Value;
    use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};

    use super::*;
    use crate::testing::{Draft, Draught, Form, MEASUREMENT, Maker, SIGNED_AT, for_containers};

    const NOW: u64 = SIGNED_AT + 1000;

    fn subject(maker: &Maker, says: &Draught) -> Subject {
        let signed = Signed::decode(&maker.sign(says)).unwrap();
        Subject {
            path: path::verify_at_any_time(signed.sign1.chain()),
            signed,
            believed: vec![maker.did()],
            policy: EndorsementPolicy::default(),
            measurement: MEASUREMENT,
            at: NOW,
        }
    }

    fn failed(subject: &Subject) -> Vec<&'static str> {
        let failed = |finding: &Finding| matches!(finding.outcome, Outcome::Failed { .. });
        let findings = check::run(&CHECKS, subject);
        findings.into_iter().filter(failed).map(|finding| finding.check.id).collect()
    }

    fn failed_of(maker: &Maker) -> Vec<&'static str> {
        failed(&subject(maker, &maker.says(Form::Json)))
    }

    fn drafts() -> [Draft; 3] {
        [
            Draft::leaf("leaf").rsa().with(for_containers),
            Draft::authority("intermediate", Some(0)),
            Draft::authority("root", None),
        ]
    }

    #[test]
    fn an_endorsement_of_this_guest_passes_every_row() {
        let maker = Maker::new();
        for form in [Form::Json, Form::Claims] {
            assert_eq!(failed(&subject(&maker, &maker.says(form))), [""; 0], "{form:?}");
        }
    }

    #[test]
    fn u1_fails_alone_for_another_signature() {
        let maker = Maker::new();
        let mut bytes = maker.sign(&maker.says(Form::Json));
        *bytes.last_mut().unwrap() ^= 1;
        let mut subject = subject(&maker, &maker.says(Form::Json));
        subject.signed = Signed::decode(&bytes).unwrap();
        assert_eq!(failed(&subject), ["U1"]);
    }

    #[test]
    fn u1_fails_alone_when_an_issuer_did_not_live_at_the_time_of_signing() {
        let [leaf, intermediate, root] = drafts();
        let over = |params: &mut rcgen::CertificateParams| {
            params.not_after = rcgen::date_time_ymd(2025, 2, 1);
        };
        assert_eq!(failed_of(&Maker::of([leaf, intermediate.with(over), root])), ["U1"]);
    }

    #[test]
    fn u2_fails_alone_for_an_issuer_that_is_not_believed() {
        let maker = Maker::new();
        let mut subject = subject(&maker, &maker.says(Form::Json));
        subject.believed = vec![Maker::new().did()];
        assert_eq!(failed(&subject), ["U2"], "another root");
        subject.believed = vec![];
        assert_eq!(failed(&subject), ["U2"], "nobody");
    }

    #[test]
    fn u2_fails_alone_for_a_believed_name_that_the_chain_does_not_bear() {
        let (microsoft, forger) = (Maker::new(), Maker::new());
        let says = forger.says(Form::Json).set("iss", microsoft.did());
        let mut subject = subject(&forger, &says);
        subject.believed = vec![microsoft.did()];
        assert_eq!(failed(&subject), ["U2"]);
    }

    #[test]
    fn a_believed_root_that_is_only_appended_convinces_nobody() {
        let (microsoft, forger) = (Maker::new(), Maker::new());
        let chain = [forger.chain.as_slice(), &microsoft.chain[2..]].concat();
        let chain = chain.iter().map(|one| Value::Bytes(one.der().to_vec())).collect();
        let says = forger.says(Form::Json).set("iss", microsoft.did()).set(33, Value::Array(chain));
        let mut subject = subject(&forger, &says);
        subject.believed = vec![microsoft.did()];
        assert_eq!(failed(&subject), ["U1", "U2"]);
    }

    #[test]
    fn u2_fails_alone_for_a_leaf_that_is_for_something_else() {
        let [leaf, intermediate, root] = drafts();
        let none = leaf.with(|params| params.extended_key_usages.clear());
        let above = intermediate.with(for_containers);
        assert_eq!(failed_of(&Maker::of([none, above, root])), ["U2"], "only its issuer is for it");

        let [leaf, intermediate, root] = drafts();
        let any =
            leaf.with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]);
        assert_eq!(
            failed_of(&Maker::of([any, intermediate, root])),
            ["U2"],
            "for anything is not it"
        );

        let [leaf, intermediate, root] = drafts();
        let agrees = leaf.with(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
        assert_eq!(
            failed_of(&Maker::of([agrees, intermediate, root])),
            ["U2"],
            "not for signatures"
        );
    }

    #[test]
    fn a_root_that_signs_by_itself_is_no_chain() {
        let root = Draft::authority("root", None).rsa().with(for_containers);
        let certificate = root.self_signed();
        let maker = Maker {
            chain: vec![certificate; 3],
            drafts: {
                let [_, b, c] = drafts();
                [root, b, c]
            },
        };
        for length in [1, 2] {
            let chain = maker.chain[..length].iter().map(|one| Value::Bytes(one.der().to_vec()));
            let says = maker.says(Form::Json).set(33, Value::Array(chain.collect()));
            assert_eq!(failed(&subject(&maker, &says)), ["U1", "U2"], "{length} times");
        }
    }

    #[test]
    fn a_policy_narrows_who_is_believed_and_adds_nobody() {
        let maker = Maker::new();
        let mut subject = subject(&maker, &maker.says(Form::Json));
        subject.policy.issuers = Some(vec![maker.did()]);
        assert_eq!(failed(&subject), [""; 0]);
        for narrow in [vec![], vec![Maker::new().did()], vec![format!("{}#0", maker.did())]] {
            subject.policy.issuers = Some(narrow);
            assert_eq!(failed(&subject), ["U2"]);
        }
        subject.policy.issuers = Some(vec![maker.did()]);
        subject.believed = vec![];
        assert_eq!(failed(&subject), ["U2"], "a policy is no anchor");
    }

    #[test]
    fn u3_fails_alone_for_another_feed() {
        let maker = Maker::new();
        for feed in ["ContainerPlat-AMD-UVM2", "containerplat-amd-uvm", ""] {
            let says = maker.says(Form::Json).set("feed", feed);
            assert_eq!(failed(&subject(&maker, &says)), ["U3"], "{feed}");
        }
    }

    #[test]
    fn u4_fails_alone_for_an_older_version() {
        let maker = Maker::new();
        let mut subject = subject(&maker, &maker.says(Form::Claims));
        subject.policy.minimum_svn = 104;
        assert_eq!(failed(&subject), [""; 0]);
        subject.policy.minimum_svn = 105;
        assert_eq!(failed(&subject), ["U4"]);
    }

    #[test]
    fn u5_fails_alone_for_another_measurement() {
        let maker = Maker::new();
        let mut subject = subject(&maker, &maker.says(Form::Claims));
        subject.measurement[47] ^= 1;
        assert_eq!(failed(&subject), ["U5"]);
    }

    #[test]
    fn u6_fails_alone_for_a_signature_from_the_future() {
        let maker = Maker::new();
        let mut subject = subject(&maker, &maker.says(Form::Json));
        subject.at = SIGNED_AT;
        assert_eq!(failed(&subject), [""; 0]);
        subject.at = SIGNED_AT - 1;
        assert_eq!(failed(&subject), ["U6"]);
    }

    #[test]
    fn a_signature_outside_its_leafs_life_fails_with_its_path() {
        let maker = Maker::new();
        for seconds in [0, SIGNED_AT - 366 * 86_400, SIGNED_AT + 366 * 86_400] {
            let time = Value::Tag(1, Box::new(seconds.into()));
            let mut subject = subject(&maker, &maker.says(Form::Json).set("signingtime", time));
            subject.at = u64::MAX;
            assert_eq!(failed(&subject), ["U1", "U6"], "{seconds}");
        }
    }
}
