//! `pmc connect --pin-first`: whoever answers first is believed, written down, and held to from then on.
//!
//! This is weaker than naming the group: if it is an attacker's own genuine group that answers first, that is the one
//! which is pinned. So nobody gets it without asking for it by name, and it says what it does.

use std::path::Path;

use attestation::policy::Hex;
use attestation::{Anchors, Expect, Policy};

use super::expectations::policy_from;
use super::policy::{Drawn, drawn_from, text};
use super::subject::recorded;
use super::{Failure, new_file, say};
use crate::target::Target;

/// The policy in the file; if there is none, the policy that accepts whoever answers now and nobody else, and a new file
/// with it.
pub(super) fn policy(file: &Path, target: &Target, anchors: &Anchors) -> Result<Policy, Failure> {
    if file.exists() {
        say(Some(&format!("holding to what was pinned at first use: {}", file.display())));
        return policy_from(file);
    }
    let bundle = recorded(target, anchors)?;
    let Drawn { mut policy, refused, guest, owner } = drawn_from(&bundle, anchors, bundle.time)?;
    if let Some(rejected) = refused {
        return Err(Failure::refused(&rejected));
    }
    policy.measurement = Some(Expect::Value(vec![Hex(guest.report.measurement())]));
    let has_owner = owner.is_some();
    if let Some(key) = owner {
        policy.owner_key = Expect::Value(key);
    }
    let text = text(&policy, anchors.trust()).map_err(|error| Failure::unusable(&error))?;
    new_file::write(file, &text)?;
    say(Some(&warning(file, target, has_owner)));
    Ok(policy)
}

/// What was done, and what was not.
fn warning(file: &Path, target: &Target, has_owner: bool) -> String {
    let owner = if has_owner { "" } else { " No owner's key was pinned: none signed this proof." };
    format!(
        "TRUST ON FIRST USE: nobody said which group {target} must be. Whoever answers now is believed from now on, and \
         written to {}. Compare its host_data with the SHA-256 of the enforcement policy that you deployed.{owner}",
        file.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_whether_an_owner_is_held_to() {
        let target = "https://a.example".parse().unwrap();
        for has_owner in [false, true] {
            let said = warning(Path::new("a.toml"), &target, has_owner);
            assert_eq!(said.contains("No owner's key was pinned"), !has_owner, "{said}");
        }
    }
}
