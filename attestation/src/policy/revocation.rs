//! What a relying party demands of AMD's revocation list.
//!
//! A list that revokes a certificate of the chain refuses it however old the list is, and a list that the root
//! did not sign refuses what brought it. The rest is for this rule: whether there must be a list, and how old
//! it may be.

use serde::{Deserialize, Serialize};

/// Which list is good enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Revocation {
    /// Whether there must be one.
    pub list: List,
    /// How long a list is current after the time for which its issuer promises the next one, in seconds.
    /// Default: seven days.
    pub grace: u64,
}

/// Whether there must be a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum List {
    /// Without a current one the guest is refused.
    Required,
    /// Without a current one the verdict says that nobody knows.
    WhenPresent,
}

impl Default for Revocation {
    fn default() -> Self {
        Self { list: List::WhenPresent, grace: 7 * 24 * 3600 }
    }
}
