//! Every check, as a row of a table.
//!
//! [`authenticity`]: is it genuine? [`acceptance`]: is it acceptable to me? To find a check from its id, search
//! this folder for `"<id>"`: it stands once, beside the function that does it.

pub(crate) mod acceptance;
pub(crate) mod authenticity;

use crate::check::Check;

/// Every check of both tables, for documentation.
pub fn all() -> impl Iterator<Item = Check> {
    let authenticity = authenticity::CHECKS.iter().map(|row| row.check);
    authenticity.chain(acceptance::CHECKS.iter().map(|row| row.check))
}
