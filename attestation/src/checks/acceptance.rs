//! Is a genuine guest acceptable? Here the relying party's expectations decide.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::{binding, forbidden, guest, platform, revocation};
use crate::check::{Check, Row};
use crate::demand::Demand;
use crate::policy::Policy;
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
