//! What differs between two proofs, and how much each difference means.
//!
//! This module must not know where the proofs come from, nor whether anybody accepts them: both are genuine.

use std::borrow::Cow;
use std::collections::BTreeSet;

use attestation::Guest;
use attestation::bundle::Bundle;
use attestation::connection::manifest;
use attestation::crypto::sha256;
use attestation::report::Report;
use attestation::tcb::Tcb;
use attestation::wire::Manifest;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

/// Lines of an enforcement policy that are compared.
const COMPARED: usize = 4000;

/// Lines of the difference that are shown.
const SHOWN: usize = 200;

/// Characters of a line or value that are shown.
const WIDTH: usize = 400;

/// The facts of one proof.
pub(crate) struct Side {
    /// In a fixed order, the same of every proof but for the names of roles.
    facts: Vec<Fact>,
    /// The enforcement policy's text, if the evidence brings it and it is the one that runs.
    policy: Option<String>,
}

struct Fact {
    what: String,
    value: String,
    matters: Matter,
    meaning: &'static str,
}

/// How much a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Matter {
    /// It is another deployment.
    Identity,
    /// The same one, but somebody changed something.
    Notable,
    /// Changes by itself, with a restart or a rotation.
    Ordinary,
}

impl Matter {
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Identity => "Other than it was",
            Self::Notable => "Worth a look",
            Self::Ordinary => "Changes with every restart, rotation or move",
        }
    }
}

/// One difference.
#[derive(Serialize)]
pub(crate) struct Change {
    pub(crate) what: String,
    pub(crate) before: String,
    pub(crate) after: String,
    pub(crate) matters: Matter,
    pub(crate) meaning: &'static str,
}

/// All differences.
pub(crate) struct Comparison {
    pub(crate) changes: Vec<Change>,
    /// Lines of the enforcement policy that came (`+`) or went (`-`).
    pub(crate) policy_lines: Vec<String>,
}

impl Side {
    /// `None` if the manifest cannot be read. `owner` is the owner's key, if its signature is good.
    pub(crate) fn of(guest: &Guest, owner: Option<String>, bundle: &Bundle) -> Option<Self> {
        let manifest = manifest(&bundle.answer).ok()?;
        let mut facts = of_report(guest);
        facts.extend(of_launch(&guest.report));
        facts.push(Fact::new("owner's key", or_none(owner), Matter::Identity, OWNER));
        facts.extend(of_manifest(&manifest));
        let certificate = hex::encode(sha256(&bundle.certificate));
        facts.push(Fact::new("certificate", certificate, Matter::Ordinary, "a new TLS key"));
        let policy = guest.unverified.cce_policy.as_ref();
        let policy = policy.filter(|text| sha256(text) == guest.report.host_data());
        let policy = policy.and_then(|text| String::from_utf8(text.clone()).ok());
        Some(Self { facts, policy })
    }
}

const OWNER: &str = "whose vault released it: another one is somebody else's group";
const VARIABLES: &str = "its settings: upstream, vault, identities, roots";

impl Fact {
    fn new(
        what: impl Into<String>,
        value: impl Into<String>,
        matters: Matter,
        meaning: &'static str,
    ) -> Self {
        Self { what: what.into(), value: value.into(), matters, meaning }
    }
}

fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| "none".to_owned())
}

fn of_report(guest: &Guest) -> Vec<Fact> {
    let report = &guest.report;
    let tcbs = report.tcbs(guest.vek.product);
    let flags: Vec<String> =
        report.guest_policy().flags().map(|flag| format!("{flag:?}")).collect();
    vec![
        Fact::new(
            "launch measurement",
            hex::encode(report.measurement()),
            Matter::Identity,
            "another build of the utility VM, which runs the containers",
        ),
        Fact::new(
            "enforcement policy (HOST_DATA)",
            hex::encode(report.host_data()),
            Matter::Identity,
            "other containers, or other settings of theirs",
        ),
        Fact::new(
            "guest policy",
            flags.join(", "),
            Matter::Identity,
            "what the machine may do with the guest's memory",
        ),
        Fact::new(
            "firmware, reported",
            levels(&tcbs.reported),
            Matter::Notable,
            "lower levels have known defects",
        ),
        Fact::new(
            "firmware, at launch",
            levels(&tcbs.launch),
            Matter::Notable,
            "lower levels have known defects",
        ),
        Fact::new(
            "processor",
            guest.vek.product.to_string(),
            Matter::Notable,
            "another generation, with firmware levels of its own",
        ),
        Fact::new("chip", hex::encode(report.chip_id()), Matter::Ordinary, "another machine"),
        Fact::new(
            "launch (REPORT_ID)",
            hex::encode(report.report_id()),
            Matter::Ordinary,
            "the guest was launched again",
        ),
    ]
}

/// Who launched it and who speaks for it, beside what it is.
fn of_launch(report: &Report) -> Vec<Fact> {
    vec![
        Fact::new(
            "privilege level (VMPL)",
            report.vmpl().to_string(),
            Matter::Identity,
            "how privileged the part of the guest is that asked",
        ),
        Fact::new(
            "signing key",
            format!("{:?}", report.key_info().signing_key()),
            Matter::Identity,
            "the chip's own key (VCEK), or one that AMD gave to the cloud provider (VLEK)",
        ),
        Fact::new(
            "author key",
            author_key(report),
            Matter::Identity,
            "which key signed the id key",
        ),
        Fact::new(
            "id key",
            hex::encode(report.id_key_digest()),
            Matter::Notable,
            "which key signed the launch",
        ),
        Fact::new(
            "family and image",
            format!("{} {}", hex::encode(report.family_id()), hex::encode(report.image_id())),
            Matter::Notable,
            "what the launch calls itself",
        ),
        Fact::new(
            "guest SVN",
            report.guest_svn().to_string(),
            Matter::Notable,
            "the security version that the launch gives itself",
        ),
    ]
}

fn author_key(report: &Report) -> String {
    let is_there = report.key_info().author_key_present();
    or_none(is_there.then(|| hex::encode(report.author_key_digest())))
}

fn levels(tcb: &Tcb) -> String {
    let Tcb { fmc, bootloader, tee, snp, microcode } = tcb;
    format!("fmc {fmc}, bootloader {bootloader}, tee {tee}, snp {snp}, microcode {microcode}")
}

fn of_manifest(manifest: &Manifest) -> Vec<Fact> {
    let mut facts: Vec<Fact> = manifest
        .config
        .iter()
        .map(|(role, digest)| {
            let what = format!("measured variables of {role}");
            Fact::new(what, or_none(digest.clone()), Matter::Identity, VARIABLES)
        })
        .collect();
    facts.extend([
        Fact::new(
            "anchors of the group",
            &manifest.anchors,
            Matter::Identity,
            "whose roots the group itself believes",
        ),
        Fact::new("software version", &manifest.version, Matter::Notable, "other software"),
        Fact::new(
            "host names",
            manifest.hostnames.join(", "),
            Matter::Notable,
            "under which names it may be reached",
        ),
        Fact::new("TLS", &manifest.tls.mode, Matter::Notable, "where its TLS key comes from"),
        Fact::new(
            "admin pages",
            manifest.admin.as_deref().unwrap_or("only on proved connections"),
            Matter::Notable,
            "on which connections they are shown",
        ),
        Fact::new(
            "secrets from the environment",
            manifest.unsealed.join(", "),
            Matter::Notable,
            "the cloud operator can read and set these",
        ),
        Fact::new(
            "key of the sealed log",
            or_none(manifest.log_key.clone()),
            Matter::Ordinary,
            "a new one with every start",
        ),
        Fact::new("boot", &manifest.boot_id, Matter::Ordinary, "the proxy was started again"),
    ]);
    facts
}

impl Comparison {
    pub(crate) fn of(before: &Side, after: &Side) -> Self {
        let value_of = |side: &Side, what: &str| {
            let found = side.facts.iter().find(|fact| fact.what == what);
            found.map_or_else(|| "not there".to_owned(), |fact| fact.value.clone())
        };
        let mut seen = BTreeSet::new();
        let facts = before.facts.iter().chain(&after.facts);
        let changes = facts
            .filter(|fact| seen.insert(fact.what.as_str()))
            .map(|Fact { what, matters, meaning, .. }| Change {
                what: what.clone(),
                before: value_of(before, what),
                after: value_of(after, what),
                matters: *matters,
                meaning,
            })
            .filter(|change| change.before != change.after)
            .collect();
        let policy_lines = match (&before.policy, &after.policy) {
            (Some(before), Some(after)) => lines(before, after),
            _ => Vec::new(),
        };
        Self { changes, policy_lines }
    }

    /// Whether both are the same deployment.
    pub(crate) fn is_equal(&self) -> bool {
        self.changes.iter().all(|change| change.matters != Matter::Identity)
    }
}

/// The text as far as it is shown, and how much more there is.
pub(crate) fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(WIDTH) {
        None => text.into(),
        Some((end, _)) => {
            let (shown, rest) = text.split_at(end);
            format!("{shown}... (and {} more characters)", rest.chars().count()).into()
        }
    }
}

/// What came and went, at most [`SHOWN`] lines of it.
fn lines(before: &str, after: &str) -> Vec<String> {
    if before.lines().count().max(after.lines().count()) > COMPARED {
        return vec![format!("(more than {COMPARED} lines: compare the texts yourself)")];
    }
    let diff = TextDiff::from_lines(before, after);
    let mut changed = diff.iter_all_changes().filter_map(|change| {
        let sign = match change.tag() {
            ChangeTag::Equal => return None,
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
        };
        Some(format!("{sign} {}", cut(change.value().trim_end_matches(['\r', '\n']))))
    });
    let mut shown: Vec<String> = changed.by_ref().take(SHOWN).collect();
    let more = changed.count();
    if more > 0 {
        shown.push(format!("(and {more} more lines)"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(facts: &[(&str, &str, Matter)], policy: &str) -> Side {
        let facts = facts
            .iter()
            .map(|(what, value, matters)| Fact::new(*what, *value, *matters, ""))
            .collect();
        Side { facts, policy: Some(policy.to_owned()) }
    }

    #[test]
    fn only_what_identifies_a_deployment_makes_it_another() {
        let a = side(&[("x", "1", Matter::Identity), ("boot", "1", Matter::Ordinary)], "p\n");
        let b = side(&[("x", "1", Matter::Identity), ("boot", "2", Matter::Ordinary)], "p\n");
        let restarted = Comparison::of(&a, &b);
        assert!(restarted.is_equal() && restarted.changes.len() == 1);
        let c = side(&[("boot", "2", Matter::Ordinary)], "p\n");
        assert!(!Comparison::of(&a, &c).is_equal(), "what is gone counts");
        assert!(!Comparison::of(&c, &a).is_equal(), "and what came");
    }

    #[test]
    fn a_policy_is_compared_by_line_within_a_bound() {
        let a = side(&[], "one\ntwo\nthree\n");
        let b = side(&[], "one\n2\nthree\nfour\n");
        assert_eq!(Comparison::of(&a, &b).policy_lines, ["- two", "+ 2", "+ four"]);
        let many: String = (0..3000).map(|line| format!("{line}\n")).collect();
        let shown = Comparison::of(&side(&[], &many), &side(&[], "")).policy_lines;
        assert_eq!(shown.len(), SHOWN + 1);
        assert_eq!(shown.last().unwrap(), "(and 2800 more lines)");
        let wide = Comparison::of(&side(&[], &"ä".repeat(WIDTH + 7)), &side(&[], "")).policy_lines;
        assert_eq!(wide, [format!("- {}... (and 7 more characters)", "ä".repeat(WIDTH))]);
        let long = "x\n".repeat(COMPARED + 1);
        assert_eq!(Comparison::of(&side(&[], &long), &side(&[], "")).policy_lines.len(), 1);
    }
}
