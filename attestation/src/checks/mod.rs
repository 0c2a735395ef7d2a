//! Every check, as a row of a table.
//!
//! Is it genuine? `report`, `chain`, `leaf`. Is it acceptable to me? `revocation`, `platform`, `guest`, `binding` and
//! the rest of `acceptance`. `endorsement`, `token`: the same two questions for another party's word. To find a check from its id,
//! search this folder for `"<id>"`: it stands once, beside the function that does it.

pub(crate) mod acceptance;
pub(crate) mod binding;
pub(crate) mod chain;
pub(crate) mod endorsement;
pub(crate) mod guest;
pub(crate) mod leaf;
pub(crate) mod platform;
pub(crate) mod report;
pub(crate) mod revocation;
pub(crate) mod token;

use crate::check::{Check, Row};

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

/// Every check of every table, for documentation.
pub fn all() -> impl Iterator<Item = Check> {
    let guest = acceptance::TABLES.into_iter().flat_map(ids);
    let guest = guest.chain(ids(&endorsement::CHECKS));
    authenticity().chain(guest).chain(ids(&token::CHECKS)).chain(ids(&token::ACI_CHECKS))
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
