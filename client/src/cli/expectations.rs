//! What the person expects: anchors and policy, from options and files.

use std::path::{Path, PathBuf};

use attestation::policy::Hex;
use attestation::{Anchors, Expect, Policy, danger, policy_file};
use clap::Args;

use super::Failure;
use crate::offline;

/// Options that say whom to believe and what to accept.
#[derive(Debug, Args)]
pub(super) struct Expectations {
    #[command(flatten)]
    group: GroupOptions,
    #[command(flatten)]
    roots: Roots,
}

/// Options that say which group is meant.
#[derive(Debug, Args)]
pub(super) struct GroupOptions {
    /// Reference values of the group: a policy file (TOML or JSON).
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// SHA-256 of an enforcement policy that is allowed (64 hexadecimal digits); may be given several times.
    #[arg(long, value_name = "HEX")]
    host_data: Vec<Hex<32>>,
}

/// The option that says whom to believe.
#[derive(Debug, Args)]
pub(super) struct Roots {
    /// DANGER: believe the roots in this PEM file instead of AMD's and Microsoft's, for simulations.
    #[arg(long, value_name = "PEM")]
    danger_anchors: Option<PathBuf>,
    /// AMD's revocation list (PEM or DER), beside whatever the evidence brings; may be given several times.
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
}

impl Roots {
    /// The anchors to hold.
    pub(super) fn anchors(&self) -> Result<Anchors, Failure> {
        self.crl.iter().try_fold(self.roots()?, |anchors, path| {
            let list = offline::list(path).map_err(|error| Failure::unusable(&error))?;
            Ok(anchors.with_list(list))
        })
    }

    fn roots(&self) -> Result<Anchors, Failure> {
        let Some(path) = &self.danger_anchors else { return Ok(Anchors::production()) };
        let text = text_of(path)?;
        danger::Anchors::from_pem(&text)
            .map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))
    }
}

impl Expectations {
    /// The anchors to hold.
    pub(super) fn anchors(&self) -> Result<Anchors, Failure> {
        self.roots.anchors()
    }

    /// See [`GroupOptions::policy`].
    pub(super) fn policy(&self, otherwise: Expect<Vec<Hex<32>>>) -> Result<Policy, Failure> {
        self.group.policy(otherwise)
    }
}

impl GroupOptions {
    /// The policy to hold; `otherwise` stands where neither a file nor digests are given.
    pub(super) fn policy(&self, otherwise: Expect<Vec<Hex<32>>>) -> Result<Policy, Failure> {
        let digests = Expect::Value(self.host_data.clone());
        let given = !self.host_data.is_empty();
        let Some(path) = &self.policy else {
            return Ok(Policy::for_host_data(if given { digests } else { otherwise }));
        };
        let mut policy = policy_from(path)?;
        if given {
            policy.host_data = digests;
        }
        Ok(policy)
    }
}

/// The policy in a file.
pub(super) fn policy_from(path: &Path) -> Result<Policy, Failure> {
    parse(&text_of(path)?, path)
}

fn parse(text: &str, path: &Path) -> Result<Policy, Failure> {
    policy_file::parse(text)
        .map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))
}

/// The longest policy or set of anchors that is read, in bytes.
const MAX_LENGTH: usize = 1024 * 1024;

fn text_of(path: &Path) -> Result<String, Failure> {
    let bytes = offline::read(path, MAX_LENGTH).map_err(|error| Failure::unusable(&error))?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::Unusable(format!("{} is not text", path.display())))
}
