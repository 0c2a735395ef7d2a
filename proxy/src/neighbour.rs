//! Another process of the group that may not be there: its address, or the word `off`.
//!
//! Must not know which one it is.

use std::str::FromStr;

use service::listen::Local;

/// Where it is; `None`: there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour(pub(crate) Option<Local>);

impl FromStr for Neighbour {
    type Err = <Local as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = (text != "off").then(|| text.parse()).transpose();
        at.map(Self)
    }
}
