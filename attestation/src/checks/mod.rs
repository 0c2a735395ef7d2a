//! Every check, as a row of a table.
//!
//! Is it genuine? `report`, `chain`, `leaf`. Is it acceptable to me? `revocation`, `platform`, `guest`, `binding` and
//! the rest of `acceptance`. `endorsement`, `token` and `claims*`: the same two questions for another party's word.
//! `vtpm`: both, for what a confidential VM brings beside. To find a check from its id, search this folder for
//! `"<id>"`: it stands once, beside the function that does it.

pub(crate) mod acceptance;
pub(crate) mod binding;
pub(crate) mod chain;
pub(crate) mod claims;
pub(crate) mod claims_aci;
pub(crate) mod claims_cvm;
pub(crate) mod endorsement;
pub(crate) mod guest;
pub(crate) mod leaf;
pub(crate) mod platform;
pub(crate) mod report;
pub(crate) mod revocation;
pub(crate) mod token;
pub(crate) mod vtpm;

use serde_json::Value;

use crate::check::{Check, Outcome, Row};
use crate::policy::{Expect, Hex, Never};

fn ids<S>(rows: &[Row<S>]) -> impl Iterator<Item = Check> {
    rows.iter().map(|row| row.check)
}

/// The checks of authenticity, in the order of a verdict.
pub(crate) fn authenticity() -> impl Iterator<Item = Check> {
    std::iter::once(report::LENGTH)
        .chain(ids(&report::CHECKS))
        .chain(ids(&chain::CHECKS))
        .chain(ids(&leaf::CHECKS))
}

/// Every check of a guest, in the order of a verdict: of its evidence, and of the endorsement that comes with it.
pub fn guest() -> impl Iterator<Item = Check> {
    let acceptance = acceptance::TABLES.into_iter().flat_map(ids);
    authenticity().chain(acceptance).chain(ids(&endorsement::CHECKS))
}

/// Every check of every table, for documentation.
pub fn all() -> impl Iterator<Item = Check> {
    let claims = ids(&claims::CHECKS).chain(ids(&claims_aci::CHECKS));
    let token = ids(&token::CHECKS).chain(claims).chain(ids(&claims_cvm::CHECKS));
    let vtpm = [vtpm::HCL, vtpm::QUOTE].into_iter();
    let vtpm = vtpm.chain(ids(&vtpm::AUTHENTICITY)).chain(ids(&vtpm::ACCEPTANCE));
    guest().chain(token).chain(vtpm)
}

/// Judges against a value, or says why nobody does.
fn expect<T>(expected: &Expect<T>, judge: impl FnOnce(&T) -> Outcome) -> Outcome {
    match expected {
        Expect::Value(value) => judge(value),
        Expect::Unchecked { why } => Outcome::unchecked(why),
    }
}

fn forbidden(never: &Expect<Never>, present: bool, good: &str, bad: &str) -> Outcome {
    expect(never, |Never::Forbidden| Outcome::of(!present, good, if present { bad } else { good }))
}

/// An empty list is met by nobody.
fn one_of<const N: usize>(allowed: &[Hex<N>], actual: Hex<N>) -> Outcome {
    let names: Vec<String> = allowed.iter().map(|value| hex::encode(value.0)).collect();
    one_of_texts(&names, Some(&hex::encode(actual.0)))
}

/// An empty list is met by nobody, and absence by no list.
fn one_of_texts(allowed: &[String], actual: Option<&str>) -> Outcome {
    let expected = match allowed {
        [] => "one of an empty list: nothing is allowed".to_owned(),
        names => names.join(" or "),
    };
    let holds = actual.is_some_and(|actual| allowed.iter().any(|one| one == actual));
    Outcome::of(holds, expected, actual.unwrap_or("absent"))
}

/// A claim that is a string.
fn text<'a>(claims: &'a Value, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

/// Of texts; absence equals nothing.
fn equal(expected: &str, actual: Option<&str>) -> Outcome {
    Outcome::of(actual == Some(expected), expected, actual.unwrap_or("absent"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn every_check_has_an_id_of_its_own_and_says_what_to_do() {
        let mut ids = BTreeSet::new();
        for check in super::all() {
            assert!(ids.insert(check.id), "{} stands twice", check.id);
            assert!(check.remedy.ends_with('.') && check.spec.len() > 5, "{}", check.id);
        }
    }
}
