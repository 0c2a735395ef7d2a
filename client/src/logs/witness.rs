//! What saved proofs say of a log. The manifest that a proof covers names the newest record of that moment and the key of
//! its boot: the group's own word, which whoever stores the log has no hand in. So it shows what nothing in a log shows:
//! that the newest boots, or the oldest, were taken away whole.
//!
//! Must not know where a proof was kept.

use attestation::bundle::Bundle;
use attestation::connection::{ConnectionError, judge};
use attestation::crypto::sha256;
use attestation::encoding::from_b64u;
use attestation::wire::LogHead;
use attestation::{Anchors, Policy};

use super::problem::{Note, Problem};
use super::report::{Boot, keep};
use super::source::Index;

/// A record that the group said there is.
#[derive(Clone, Debug)]
pub struct Witness {
    proof: String,
    /// SubjectPublicKeyInfo of the boot's key.
    key: Vec<u8>,
    head: LogHead,
}

/// Why a saved proof says nothing of a log.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// It proves nothing, or not the group that is meant.
    #[error("the saved proof is refused")]
    Refused(#[source] ConnectionError),
    /// The group had no log, or none yet.
    #[error("the saved proof names no record of a log: none was sealed when it was taken")]
    NoLog,
}

impl Witness {
    /// Judges a saved proof at a time, in Unix seconds. Who saved it does not matter: the report covers the manifest on
    /// whosever connection it was shown. `proof` is what it is called.
    ///
    /// # Errors
    ///
    /// [`WitnessError`].
    pub fn of(
        proof: &str,
        bundle: &Bundle,
        anchors: &Anchors,
        policy: &Policy,
        at: u64,
    ) -> Result<Self, WitnessError> {
        let proven = judge(&bundle.answer, &bundle.observed(), anchors, policy, at)
            .map_err(WitnessError::Refused)?;
        let manifest = proven.manifest;
        let key = manifest.log_key.as_deref().and_then(from_b64u);
        let (key, head) = key.zip(manifest.log_head).ok_or(WitnessError::NoLog)?;
        Ok(Self { proof: proof.to_owned(), key, head })
    }
}

/// Holds every boot of a log against what proofs say. A log without the boot that one names lacks it whole.
pub(super) fn hold(
    witnesses: &[Witness],
    boots: &mut [Boot],
    index: &Index,
    problems: &mut Vec<Problem>,
    more_problems: &mut u64,
) {
    for Witness { proof, key, head } in witnesses {
        let (seq, proof) = (head.seq, proof.clone());
        // What was not believed ends where it ends.
        let is_here = |boot: &Boot| {
            let compact = index.record(&boot.id, seq).and_then(Result::ok);
            boot.newest.is_some_and(|newest| newest >= seq)
                && compact.is_some_and(|compact| sha256(compact.as_bytes()) == head.digest)
        };
        let Some(boot) = boots.iter_mut().find(|boot| boot.key.as_ref() == Some(key)) else {
            match boots.iter_mut().find(|boot| is_here(boot)) {
                Some(other) => other.wrong(Problem::ProofSigner { seq, proof }),
                None => keep(problems, more_problems, Problem::ProofBootMissing { seq, proof }),
            }
            continue;
        };
        if is_here(boot) {
            boot.notes.push(Note::Proved { seq, proof });
        } else if boot.newest.is_some_and(|newest| newest >= seq) {
            boot.wrong(Problem::ProofFork { seq, proof });
        } else {
            boot.wrong(Problem::ProofCut { seq, proof });
        }
    }
}
