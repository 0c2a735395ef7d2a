//! Is the report about what the relying party asked, now, on this connection?

use super::acceptance::Subject;
use super::expect;
use crate::check::{Check, Outcome, Row};
use crate::policy::Expect;

pub(crate) const CHECKS: [Row<Subject>; 4] = [
    Row {
        check: Check {
            id: "B1",
            title: "REPORT_DATA is what this use demands, all 64 bytes",
            spec: "wire.md part 1",
            remedy: "The report was made for something else: another connection, key or nonce.",
        },
        run: |s| {
            let actual = s.guest.report.report_data();
            expect(&s.demand.report_data, |data| {
                Outcome::of(*data == actual, hex::encode(data), hex::encode(actual))
            })
        },
    },
    Row {
        check: Check {
            id: "B2",
            title: "the report is fresh: it covers this verifier's nonce",
            spec: "wire.md part 1; RFC 9334, section 10.2",
            remedy: "Ask again with a new nonce: this proof may have been made for somebody else, or long ago.",
        },
        run: |s| covered(s, &s.demand.nonce),
    },
    Row {
        check: Check {
            id: "B3",
            title: "the report is about this very connection: it covers its exporter",
            spec: "wire.md part 1; RFC 9266",
            remedy: "Do not use this connection: it may end elsewhere than in the guest.",
        },
        run: |s| covered(s, &s.demand.exporter),
    },
    Row {
        check: Check {
            id: "B4",
            title: "the owner's key signed this proof",
            spec: "wire.md part 2, owner; the policy's owner_key",
            remedy: "This may be the same policy in somebody else's subscription: do not use it.",
        },
        run: owner,
    },
];

/// The value is in the digest that was demanded, so the report covers it if and only if it holds that digest.
/// A value of zeros was never chosen by anybody: whoever put it in had none.
fn covered(s: &Subject, value: &Expect<[u8; 32]>) -> Outcome {
    expect(value, |value| {
        let bound = s.demand.report_data == Expect::Value(s.guest.report.report_data());
        let actual = match (bound, *value == [0; 32]) {
            (true, false) => "covered",
            (true, true) => "zeros are covered: nobody chose them",
            (false, _) => "something else is covered",
        };
        Outcome::of(actual == "covered", format!("{} is covered", hex::encode(value)), actual)
    })
}

fn owner(s: &Subject) -> Outcome {
    expect(&s.policy.owner_key, |key| {
        let report_data = s.guest.report.report_data();
        let actual = match &s.demand.owner {
            None => "no signature".to_owned(),
            Some(statement) => match statement.verify(key, &report_data) {
                Ok(()) => "verified".to_owned(),
                Err(error) => error.to_string(),
            },
        };
        Outcome::of(actual == "verified", format!("a signature by {}", key.to_text()), actual)
    })
}
