//! Who a proved group is, in what does not change unless somebody deploys it anew: to hold a later proof against an
//! earlier one.
//!
//! What changes by itself (boot, certificate, log) is no part of it. This module must not know what is done about a
//! change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use attestation::binding::ReportData;
use attestation::connection::ProvenConnection;
use attestation::crypto::sha256;
use attestation::encoding::from_b64u;
use attestation::owner::{OwnerKey, OwnerStatement};
use attestation::wire::{Manifest, VerifyAnswer};

use crate::causes::printable;

/// Digests and keys by what they are of. `None`: the group did not say.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity(BTreeMap<String, Option<String>>);

/// One thing that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub what: String,
    /// As it was.
    pub before: String,
    /// As it is; `None` if the group does not say any more.
    pub after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = self.after.as_deref().unwrap_or("not told");
        write!(f, "{}: {} -> {}", printable(&self.what), self.before, printable(after))
    }
}

impl Identity {
    /// Of a proof that was accepted. An owner's key counts only if its signature is good.
    #[must_use]
    pub fn of(proven: &ProvenConnection, answer: &VerifyAnswer) -> Self {
        let report = &proven.appraised.guest().report;
        let owner = owner_of(&proven.manifest, answer, &report.report_data());
        let mut parts: BTreeMap<String, Option<String>> = [
            ("launch measurement".to_owned(), Some(hex::encode(report.measurement()))),
            ("enforcement policy (HOST_DATA)".to_owned(), Some(hex::encode(report.host_data()))),
            ("owner's key".to_owned(), owner.map(|key| key.to_text())),
        ]
        .into();
        for (role, digest) in &proven.manifest.config {
            parts.insert(format!("measured variables of {role}"), digest.clone());
        }
        Self(parts)
    }

    /// What differs in a later one. What this one does not say is not compared: who remembers it takes it over from the
    /// first that says it.
    #[must_use]
    pub fn changes(&self, later: &Self) -> Vec<Change> {
        let known = self.0.iter().filter_map(|(what, before)| Some((what, before.as_ref()?)));
        let mut changes: Vec<Change> = known
            .filter_map(|(what, before)| {
                let after = later.0.get(what).cloned().flatten();
                (after.as_ref() != Some(before)).then(|| Change {
                    what: what.clone(),
                    before: before.clone(),
                    after,
                })
            })
            .collect();
        // A role that was not there before has variables that nobody remembers.
        let new = later.0.iter().filter(|(what, _)| !self.0.contains_key(*what));
        changes.extend(new.map(|(what, after)| Change {
            what: what.clone(),
            before: "not there".to_owned(),
            after: after.clone(),
        }));
        changes
    }

    /// What the group does not say, and so nobody can hold it to.
    pub fn untold(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, value)| value.is_none()).map(|(what, _)| what.as_str())
    }

    /// Takes over what only the later one says.
    fn learn(&mut self, later: &Self) {
        for (what, known) in &mut self.0 {
            if known.is_none() {
                known.clone_from(&later.0.get(what).cloned().flatten());
            }
        }
    }
}

/// Who a group was when it was first proved, with each part as it was first told.
pub(crate) struct Remembered(Mutex<Identity>);

impl Remembered {
    pub(crate) fn new(identity: Identity) -> Self {
        Self(Mutex::new(identity))
    }

    fn lock(&self) -> MutexGuard<'_, Identity> {
        // Whoever panicked took over a part whole or not at all.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What differs in a later proof that is accepted otherwise. If nothing does, what it is the first to say is remembered
    /// from then on: in one step, so that of two proofs that say it differently only one is accepted.
    pub(crate) fn changes(&self, later: &Identity) -> Vec<Change> {
        let mut remembered = self.lock();
        let changes = remembered.changes(later);
        if changes.is_empty() {
            remembered.learn(later);
        }
        changes
    }

    /// What the group did not say yet.
    pub(crate) fn untold(&self) -> Vec<String> {
        self.lock().untold().map(str::to_owned).collect()
    }
}

/// The owner's key that a manifest names, if it signed this proof.
pub(crate) fn owner_of(
    manifest: &Manifest,
    answer: &VerifyAnswer,
    report_data: &ReportData,
) -> Option<OwnerKey> {
    let key = OwnerKey::from_spki(&from_b64u(manifest.owner_key.as_ref()?)?).ok()?;
    let signature = answer.owner.clone()?;
    let statement = OwnerStatement { signature, manifest_sha256: sha256(&answer.manifest) };
    statement.verify(&key, report_data).ok().map(|()| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(parts: &[(&str, Option<&str>)]) -> Identity {
        let owned =
            |(what, value): &(&str, Option<&str>)| ((*what).to_owned(), value.map(str::to_owned));
        Identity(parts.iter().map(owned).collect())
    }

    #[test]
    fn every_difference_is_a_change_but_what_was_never_told() {
        let before = identity(&[("a", Some("1")), ("b", None), ("c", Some("3"))]);
        assert!(before.changes(&before).is_empty());
        assert_eq!(before.untold().collect::<Vec<_>>(), ["b"]);
        let later = identity(&[("a", Some("2")), ("b", Some("x")), ("c", None), ("d", Some("4"))]);
        let changes: Vec<String> = before.changes(&later).iter().map(ToString::to_string).collect();
        assert_eq!(changes, ["a: 1 -> 2", "c: 3 -> not told", "d: not there -> 4"]);
        assert_eq!(before.changes(&identity(&[("a", Some("1"))])).len(), 1, "c is gone");
    }

    #[test]
    fn what_is_first_told_later_is_remembered_from_then_on() {
        let with = |b| identity(&[("a", Some("1")), ("b", b)]);
        let remembered = Remembered::new(with(None));
        assert_eq!(remembered.untold(), ["b"]);
        let other = identity(&[("a", Some("2")), ("b", Some("y"))]);
        assert_eq!(remembered.changes(&other).len(), 1);
        assert_eq!(remembered.untold(), ["b"], "nothing is learnt from another group");
        assert!(remembered.changes(&with(None)).is_empty());
        assert!(remembered.changes(&with(Some("x"))).is_empty());
        assert!(remembered.untold().is_empty());
        for later in [Some("y"), None] {
            assert_eq!(remembered.changes(&with(later)).len(), 1, "{later:?}");
        }
    }
}
