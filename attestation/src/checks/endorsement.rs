//! The endorsement of the utility VM: did its maker sign it, and is it about this guest?

use std::fmt::Display;

use crate::check::{self, Check, Finding, Outcome, Row};
use crate::did_x509::{Did, DidError};
use crate::path;
use crate::policy::{EndorsementPolicy, Expect};
use crate::uvm::{Endorsement, Signed};
use crate::verify::Guest;

/// What these checks look at: an endorsement that could be read, and what it is held against.
pub(crate) struct Subject {
    pub(crate) signed: Signed,
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
            let subject = Subject { signed, believed, policy, measurement, at };
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
    match path::verify(sign1.chain(), s.signed.says.signed_at) {
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
    Ok(did.resolve(s.signed.sign1.chain())?.signs)
}

fn signing_time(s: &Subject) -> Outcome {
    let signed_at = s.signed.says.signed_at;
    let life = s.signed.sign1.chain().first().map(crate::certificate::Certificate::validity);
    let (from, to) = life.unwrap_or_default();
    let to = to.min(s.at);
    Outcome::of((from..=to).contains(&signed_at), format!("from {from} to {to}"), signed_at)
}
