//! Is a genuine guest acceptable? Here the relying party's expectations decide.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::{binding, guest, platform, revocation};
use crate::check::{Check, Outcome, Row};
use crate::demand::Demand;
use crate::policy::{Expect, Hex, Never, Policy};
use crate::report::SigningKey;
use crate::verify::Guest;

/// What these checks look at.
pub(crate) struct Subject {
    pub(crate) guest: Guest,
    pub(crate) policy: Policy,
    pub(crate) demand: Demand,
    /// When to judge, in Unix seconds.
    pub(crate) at: u64,
}

/// Every table of these checks, in the order of a verdict.
pub(crate) const TABLES: [&[Row<Subject>]; 5] =
    [&CHECKS, &revocation::CHECKS, &platform::CHECKS, &guest::CHECKS, &binding::CHECKS];

pub(crate) const CHECKS: [Row<Subject>; 1] = [Row {
    check: Check {
        id: "C3",
        title: "the chip's own key signed, not a provider's",
        spec: "SEV-SNP ABI 1.58, KEY_INFO.SIGNING_KEY",
        remedy: "Azure signs with VCEKs. Allow VLEKs only for a provider that is meant to use them.",
    },
    run: |s| forbidden(&s.policy.vlek, s.guest.vek.kind == SigningKey::Vlek, "VCEK", "VLEK"),
}];

pub(super) fn expect<T>(expected: &Expect<T>, judge: impl FnOnce(&T) -> Outcome) -> Outcome {
    match expected {
        Expect::Value(value) => judge(value),
        Expect::Unchecked { why } => Outcome::unchecked(why),
    }
}

pub(super) fn forbidden(never: &Expect<Never>, present: bool, good: &str, bad: &str) -> Outcome {
    expect(never, |Never::Forbidden| Outcome::of(!present, good, if present { bad } else { good }))
}

/// An empty list is met by nobody.
pub(super) fn one_of<const N: usize>(allowed: &[Hex<N>], actual: Hex<N>) -> Outcome {
    let expected = if allowed.is_empty() {
        "one of an empty list: nothing is allowed".to_owned()
    } else {
        let names: Vec<String> = allowed.iter().map(|value| hex::encode(value.0)).collect();
        names.join(" or ")
    };
    Outcome::of(allowed.contains(&actual), expected, hex::encode(actual.0))
}

/// All that are required, and none beyond those that are required or allowed: whether it holds, what is
/// expected, what is.
pub(super) fn flags<F: Ord + Display>(
    required: &BTreeSet<F>,
    allowed: &BTreeSet<F>,
    set: &BTreeSet<F>,
) -> (bool, String, String) {
    let names = |flags: &BTreeSet<F>| match flags.len() {
        0 => "none".to_owned(),
        _ => flags.iter().map(F::to_string).collect::<Vec<_>>().join(", "),
    };
    let holds = required.is_subset(set)
        && set.iter().all(|flag| required.contains(flag) || allowed.contains(flag));
    let expected = format!("required: {}; allowed: {}", names(required), names(allowed));
    (holds, expected, names(set))
}
