//! `pmc policy init`: the reference values of a deployment, strict, in a file to read and to keep.

use std::fmt::Write as _;
use std::path::PathBuf;

use attestation::bundle::Bundle;
use attestation::connection::{demand, manifest};
use attestation::owner::OwnerKey;
use attestation::policy::{EndorsementPolicy, Expect, Generation, Hex, MinimumTcb, Policy};
use attestation::tcb::Tcb;
use attestation::uvm::Endorsement;
use attestation::{Anchors, Demand, Evidence, Guest, Rejected, Trust, appraise, verify};
use clap::{Args, Subcommand};

use super::expectations::Roots;
use super::subject::{Found, Subject};
use super::verify::time_of;
use super::{Failure, new_file, print};
use crate::causes::printable;
use crate::clock;
use crate::identity::owner_of;

/// What can be done with policies.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a strict policy from what a deployment shows. It must be genuine, and it is you who says that it is the
    /// one you mean: compare host_data with the digest of the enforcement policy that you deployed.
    Init(Init),
}

/// Options of `pmc policy init`.
#[derive(Debug, Args)]
pub(super) struct Init {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    roots: Roots,
    /// Judge certificates at this time: RFC 3339 or Unix seconds.
    #[arg(long, value_name = "TIME", value_parser = time_of, conflicts_with = "url")]
    at: Option<u64>,
    /// Write to this file, which must not be there yet, instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(command: &Command) -> Result<(), Failure> {
    let Command::Init(options) = command;
    let anchors = options.roots.anchors()?;
    let at = options.at.unwrap_or_else(clock::unix_now);
    let (evidence, demand) = match options.subject.find(&anchors)? {
        Found::Evidence(evidence) => {
            let files = Expect::unchecked("files say nothing about a connection");
            (*evidence, Demand::from(&files))
        }
        Found::Proof(bundle) => (
            Evidence::from_json(&bundle.answer.evidence)
                .map_err(|error| Failure::unusable(&error))?,
            demand(&bundle.answer, &bundle.observed()).map_err(|error| Failure::refused(&error))?,
        ),
    };
    let (policy, refused) = drawn_up(&evidence, &anchors, demand, at)?;
    if let Some(elsewhere) = refused.as_ref().filter(|rejected| is_elsewhere(rejected)) {
        // Genuine evidence of some group, shown by somebody else.
        return Err(Failure::refused(elsewhere));
    }
    let text = text(&policy, anchors.trust()).map_err(|error| Failure::unusable(&error))?;
    match &options.out {
        None => print(&text),
        Some(path) => new_file::write(path, &text)?,
    }
    match refused {
        None => Ok(()),
        Some(rejected) => Err(Failure::Refused(Some(format!(
            "this policy refuses the deployment itself, as it should: {}; change the deployment, or loosen by \
             name what you accept",
            printable(&rejected.to_string())
        )))),
    }
}

/// What a proof of a connection shows.
pub(super) struct Drawn {
    /// Accepts this deployment alone.
    pub(super) policy: Policy,
    /// Why it refuses the deployment all the same.
    pub(super) refused: Option<Rejected>,
    /// The guest.
    pub(super) guest: Guest,
    /// The owner's key, if it signed the proof.
    pub(super) owner: Option<OwnerKey>,
}

/// The policy that a proof of a connection draws up.
pub(super) fn drawn_from(bundle: &Bundle, anchors: &Anchors, at: u64) -> Result<Drawn, Failure> {
    let answer = &bundle.answer;
    let evidence =
        Evidence::from_json(&answer.evidence).map_err(|error| Failure::unusable(&error))?;
    let demand = demand(answer, &bundle.observed()).map_err(|error| Failure::refused(&error))?;
    let (policy, refused) = drawn_up(&evidence, anchors, demand, at)?;
    let verified = verify(&evidence, anchors, at).map_err(|error| Failure::refused(&error))?;
    let guest = verified.value().clone();
    let manifest = manifest(answer).ok();
    let report_data = guest.report.report_data();
    let owner = manifest.and_then(|manifest| owner_of(&manifest, answer, &report_data));
    Ok(Drawn { policy, refused, guest, owner })
}

/// Whether the evidence is about another connection than the one it came on.
pub(super) fn is_elsewhere(rejected: &Rejected) -> bool {
    rejected.failures().any(|finding| matches!(finding.check.id, "B1" | "B2" | "B3"))
}

/// The policy, and why it refuses the very guest that it was drawn up from, if it does.
fn drawn_up(
    evidence: &Evidence,
    anchors: &Anchors,
    demand: Demand,
    at: u64,
) -> Result<(Policy, Option<Rejected>), Failure> {
    let verified = verify(evidence, anchors, at).map_err(|error| Failure::refused(&error))?;
    let mut policy = reference_values(verified.value());
    match appraise(verified, &policy, demand) {
        Err(rejected) => Ok((policy, Some(rejected))),
        Ok(appraised) => {
            if let Some(endorsement) = appraised.endorsement() {
                let Endorsement { issuer, feed, svn, .. } = endorsement.value().clone();
                let issuers = Some(vec![issuer]);
                policy.endorsement =
                    Expect::Value(EndorsementPolicy { issuers, feed, minimum_svn: svn });
            }
            Ok((policy, None))
        }
    }
}

/// As strict as the built-in policy or stricter, and for this deployment alone. A generation that the built-in one has
/// no row for gets this deployment's levels.
fn reference_values(guest: &Guest) -> Policy {
    let product = guest.vek.product;
    let tcbs = guest.report.tcbs(product);
    let built_in = built_in_minimum(product.into());
    let level = |of: fn(&Tcb) -> u8| of(&tcbs.reported).min(of(&tcbs.launch)).max(of(&built_in));
    let minimum = MinimumTcb {
        fmc: level(|tcb| tcb.fmc),
        bootloader: level(|tcb| tcb.bootloader),
        tee: level(|tcb| tcb.tee),
        snp: level(|tcb| tcb.snp),
        microcode: level(|tcb| tcb.microcode),
    };
    Policy {
        minimum_tcb: Expect::Value([(Generation::from(product), minimum)].into()),
        ..Policy::for_host_data(Expect::Value(vec![Hex(guest.report.host_data())]))
    }
}

fn built_in_minimum(generation: Generation) -> Tcb {
    let row = match Policy::for_host_data(Expect::Value(Vec::new())).minimum_tcb {
        Expect::Value(rows) => rows.get(&generation).copied(),
        Expect::Unchecked { .. } => None,
    };
    row.unwrap_or_default().into()
}

/// The file's text: what differs from the built-in policy, and who is meant.
pub(super) fn text(policy: &Policy, trust: Trust) -> Result<String, toml::ser::Error> {
    let built_in = toml::Table::try_from(Policy::for_host_data(Expect::Value(Vec::new())))?;
    let mut chosen = toml::Table::try_from(policy)?;
    chosen.retain(|name, value| name == "host_data" || built_in.get(name) != Some(value));
    let mut out = String::from(
        "# Reference values of one deployment, for `pmc verify --policy` and `pmc connect --policy`.\n\
         # What is not here is as strict as it can be; what shall be looser must be named with its reason:\n\
         #   vmpl = { unchecked = \"why\" }\n\
         # host_data is SHA-256 of the enforcement policy (decoded): compare it with the one that you deployed.\n",
    );
    if trust == Trust::NotProduction {
        let _ = writeln!(out, "# Drawn up with anchors that are NOT PRODUCTION.");
    }
    out.push('\n');
    out.push_str(&toml::to_string_pretty(&chosen)?);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_minimum_of_a_generation_is_the_least_there_is() {
        let milan = Tcb { fmc: 0, bootloader: 4, tee: 0, snp: 24, microcode: 219 };
        assert_eq!(built_in_minimum(Generation::Milan), milan);
        assert_eq!(built_in_minimum(Generation::Turin), Tcb::default());
    }

    #[test]
    fn a_file_says_what_is_chosen_and_reads_back_as_the_same_policy() {
        let mut policy = Policy::for_host_data(Expect::Value(vec![Hex([7; 32])]));
        let short = text(&policy, Trust::Production).unwrap();
        assert_eq!(toml::from_str::<Policy>(&short).unwrap(), policy);
        assert!(!short.contains("minimum_tcb") && !short.contains("NOT PRODUCTION"), "{short}");

        policy.minimum_tcb = Expect::Value(
            [(Generation::Turin, MinimumTcb { fmc: 1, ..Default::default() })].into(),
        );
        policy.vmpl = Expect::unchecked("a trial");
        let long = text(&policy, Trust::NotProduction).unwrap();
        assert_eq!(toml::from_str::<Policy>(&long).unwrap(), policy);
        assert!(long.contains("[minimum_tcb.turin]") && long.contains("NOT PRODUCTION"), "{long}");
    }
}
