//! Saved proofs that the log of `pmc logs` is held against.

use std::path::PathBuf;

use attestation::bundle::{self, Bundle};
use attestation::{Anchors, Policy};
use clap::Args;

use crate::causes::chain;
use crate::cli::Failure;
use crate::logs::{Witness, WitnessError};
use crate::offline;

/// The option that names them.
#[derive(Debug, Args)]
pub(super) struct Proofs {
    /// A saved proof of the group, as `pmc verify URL --save FILE` writes it: the log must hold the record that it names.
    /// Judged like the log; may be given several times.
    // A proof does not name its boot, so all have to be read.
    #[arg(long, value_name = "FILE", conflicts_with = "boot")]
    proof: Vec<PathBuf>,
}

impl Proofs {
    /// What they say, each judged first.
    pub(super) fn witnesses(
        &self,
        anchors: &Anchors,
        policy: &Policy,
        at: u64,
    ) -> Result<Vec<Witness>, Failure> {
        let witness = |path: &PathBuf| {
            let name = path.display().to_string();
            let bytes = offline::read(path, bundle::MAX_LENGTH)
                .map_err(|error| Failure::unusable(&error))?;
            let bundle = Bundle::parse(&bytes)
                .map_err(|error| Failure::Unusable(format!("{name}: {error}")))?;
            Witness::of(&name, &bundle, anchors, policy, at).map_err(|error| {
                let why = format!("{name}: {}", chain(&error));
                match error {
                    WitnessError::Refused(_) => Failure::Refused(Some(why)),
                    WitnessError::NoLog => Failure::Unusable(why),
                }
            })
        };
        self.proof.iter().map(witness).collect()
    }
}
