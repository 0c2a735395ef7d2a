//! Has AMD taken back a certificate of the chain?

use super::acceptance::Subject;
use super::expect;
use crate::check::{Check, Outcome, Row};
use crate::policy::{List, Revocation};

pub(crate) const CHECKS: [Row<Subject>; 1] = [Row {
    check: Check {
        id: "C6",
        title: "no certificate was revoked",
        spec: "RFC 5280, 5; VCEK specification 57230, section 4; the policy's revocation",
        remedy: "If a key was revoked or a list is not AMD's, do not trust this machine; else hand over AMD's \
                 current list.",
    },
    run: |s| expect(&s.policy.revocation, |rule| judge(s, *rule)),
}];

/// A list that names the chain refuses it however old it is: what was revoked stays so. A list that is not
/// current cannot clear anything.
fn judge(s: &Subject, rule: Revocation) -> Outcome {
    let expected = format!("a list by this root, current at {}, that revokes none", s.at);
    let mut current = None;
    for list in &s.guest.revocation {
        match list {
            Err(error) => return Outcome::of(false, expected, error),
            Ok(list) if !list.revoked.is_empty() => {
                return Outcome::of(
                    false,
                    expected,
                    format!("revoked: {}", list.revoked.join(", ")),
                );
            }
            Ok(list) => {
                let end = list.next_update.saturating_add(rule.grace);
                current = current.or((list.this_update..=end).contains(&s.at).then_some(list));
            }
        }
    }
    let why = match (current, s.guest.revocation.is_empty()) {
        (Some(list), _) => {
            return Outcome::of(true, expected, format!("the list of {}", list.this_update));
        }
        (None, true) => "no revocation list is at hand",
        (None, false) => "no revocation list at hand is current",
    };
    match rule.list {
        List::Required => Outcome::of(false, expected, why),
        List::WhenPresent => Outcome::unchecked(why),
    }
}
