//! What a token claims of a confidential container group beyond its guest: who endorsed its utility VM.

use serde_json::Value;

use super::claims::{self, OTHER_GUEST, SPEC};
use super::{equal, expect, one_of_texts, text};
use crate::check::{Check, Outcome, Row};
use crate::maa::UvmExpectations;
use crate::policy::Expect;
use crate::uvm::parse_svn;

/// The claims of a container group.
pub(crate) struct Subject {
    pub(crate) guest: claims::Subject,
    pub(crate) endorsement: Expect<UvmExpectations>,
}

impl Subject {
    fn header(&self, name: &str) -> Option<&str> {
        text(self.guest.snp("uvm-endorsement-headers")?, name)
    }
}

pub(crate) const CHECKS: [Row<Subject>; 4] = [
    Row {
        check: Check {
            id: "J8.U2",
            title: "its utility VM has an accepted endorser, it says",
            spec: SPEC,
            remedy: OTHER_GUEST,
        },
        run: |s| expect(&s.endorsement, |uvm| one_of_texts(&uvm.issuers, s.header("iss"))),
    },
    Row {
        check: Check {
            id: "J8.U3",
            title: "the endorsement is about Azure's utility VMs, it says",
            spec: SPEC,
            remedy: OTHER_GUEST,
        },
        run: |s| expect(&s.endorsement, |uvm| equal(&uvm.feed, s.header("feed"))),
    },
    Row {
        check: Check {
            id: "J8.U4",
            title: "the utility VM it names is recent enough",
            spec: SPEC,
            remedy: "Redeploy the group onto a newer utility VM.",
        },
        run: |s| expect(&s.endorsement, |uvm| recent(s, uvm.minimum_svn)),
    },
    Row {
        check: Check {
            id: "J8.U5",
            title: "the endorsed measurement is the guest's, it says",
            spec: SPEC,
            remedy: OTHER_GUEST,
        },
        run: |s| expect(&s.endorsement, |_| endorsed(s)),
    },
];

fn recent(s: &Subject, minimum: u64) -> Outcome {
    let endorsement = s.guest.snp("uvm-endorsement");
    let expected = format!("at least {minimum}");
    match endorsement.ok_or("no endorsement").and_then(svn) {
        Ok(svn) => Outcome::of(svn >= minimum, expected, svn),
        Err(why) => Outcome::of(false, expected, why),
    }
}

/// The integer claim, or the older text one, read as a number: "22" is less than "100". Both must agree.
fn svn(endorsement: &Value) -> Result<u64, &'static str> {
    let integer = match endorsement.get("x-ms-sevsnpvm-guestsvn-int") {
        None => None,
        Some(claim) => Some(claim.as_u64().ok_or("guestsvn-int is no integer")?),
    };
    let written = match endorsement.get("x-ms-sevsnpvm-guestsvn") {
        None => None,
        Some(claim) => Some(claim.as_str().and_then(parse_svn).ok_or("guestsvn is no number")?),
    };
    match (integer, written) {
        (Some(integer), Some(written)) if integer != written => Err("guestsvn contradicts itself"),
        (Some(svn), _) | (None, Some(svn)) => Ok(svn),
        (None, None) => Err("no guestsvn"),
    }
}

fn endorsed(s: &Subject) -> Outcome {
    let endorsement = s.guest.snp("uvm-endorsement");
    let endorsed = endorsement.and_then(|one| text(one, "x-ms-sevsnpvm-launchmeasurement"));
    match endorsed {
        Some(endorsed) => equal(endorsed, s.guest.snp("launchmeasurement").and_then(Value::as_str)),
        None => Outcome::of(false, "an endorsed measurement", "none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn security_versions_are_numbers_in_one_way_only() {
        let of = |text: Value, int: Value| {
            let mut claims = json!({});
            let object = claims.as_object_mut().unwrap();
            for (name, claim) in [("guestsvn", text), ("guestsvn-int", int)] {
                if !claim.is_null() {
                    object.insert(format!("x-ms-sevsnpvm-{name}"), claim);
                }
            }
            svn(&claims).ok()
        };
        assert_eq!(of(json!("100"), json!(null)), Some(100));
        assert_eq!(of(json!(null), json!(104)), Some(104));
        assert_eq!(of(json!("104"), json!(104)), Some(104));
        assert_eq!(of(json!("0"), json!(0)), Some(0));
        for text in ["+100", " 100", "100 ", "0100", "-1", "1e2", "", "18446744073709551616", "１"]
        {
            assert_eq!(of(json!(text), json!(null)), None, "{text}");
        }
        for int in [json!("104"), json!(104.0), json!(-1), json!([104]), json!(true)] {
            assert_eq!(of(json!(null), int.clone()), None, "{int}");
            assert_eq!(of(json!("104"), int.clone()), None, "{int}");
        }
        assert_eq!(of(json!("104"), json!(105)), None, "they contradict each other");
        assert_eq!(of(json!(104), json!(null)), None, "the older claim is a text");
        assert_eq!(of(json!(null), json!(null)), None);
    }
}
