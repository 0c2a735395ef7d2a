//! Every check, as a row of a table.
//!
//! `authenticity`: is it genuine? `acceptance`: is it acceptable to me? `endorsement` and `token`: the same two
//! questions for another party's word. To find a check from its id, search this folder for `"<id>"`: it stands once, beside
//! the function that does it.

pub(crate) mod acceptance;
pub(crate) mod authenticity;
pub(crate) mod endorsement;
pub(crate) mod token;

use crate::check::Check;

/// Every check of every table, for documentation.
pub fn all() -> impl Iterator<Item = Check> {
    let guest = authenticity::CHECKS.iter().map(|row| row.check);
    let guest = std::iter::once(authenticity::LENGTH).chain(guest);
    let guest = guest.chain(acceptance::CHECKS.iter().map(|row| row.check));
    let guest = guest.chain(endorsement::CHECKS.iter().map(|row| row.check));
    let token = token::CHECKS.iter().map(|row| row.check);
    guest.chain(token).chain(token::ACI_CHECKS.iter().map(|row| row.check))
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
