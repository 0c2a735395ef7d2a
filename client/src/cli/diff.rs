//! `pmc diff`: what changed between two deployments, and what of it matters.

use std::path::{Path, PathBuf};

use attestation::Anchors;
use attestation::bundle::{self, Bundle};
use clap::Args;
use serde_json::json;

use super::expectations::Roots;
use super::policy::{Drawn, drawn_from, is_elsewhere};
use super::subject::recorded;
use super::{Failure, print};
use crate::causes::{printable, printable_json};
use crate::comparison::{Change, Comparison, Matter, Side, cut};
use crate::offline;
use crate::target::Target;

/// Options of `pmc diff`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// A saved proof, as `pmc verify URL --save FILE` writes it.
    before: PathBuf,
    /// A later one, or the server itself: https://host[:port].
    after: String,
    #[command(flatten)]
    roots: Roots,
    /// Print one JSON document instead of a text.
    #[arg(long)]
    json: bool,
}

/// Runs the command. Ends with 0 if both are the same deployment, with 1 if they differ in what identifies one.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let anchors = options.roots.anchors()?;
    let before = saved(&options.before)?;
    let after = match options.after.parse::<Target>() {
        Ok(target) => recorded(&target, &anchors).map_err(unusable)?,
        Err(_) => saved(Path::new(&options.after))?,
    };
    let (a, b) = (side(&before, &anchors)?, side(&after, &anchors)?);
    let comparison = Comparison::of(&a, &b);
    let text = if options.json {
        let document = json!({
            "equal": comparison.is_equal(),
            "anchors": anchors.trust().to_string(),
            "before": {"endpoint": before.endpoint, "taken_at": before.time},
            "after": {"endpoint": after.endpoint, "taken_at": after.time},
            "changes": comparison.changes,
            "policy_diff": comparison.policy_lines,
        });
        printable_json(&format!("{document:#}\n"))
    } else {
        let anchors = format!("anchors: {}\n", anchors.trust());
        text(&comparison) + &anchors
    };
    print(&text);
    if comparison.is_equal() { Ok(()) } else { Err(Failure::Refused(None)) }
}

fn saved(path: &Path) -> Result<Bundle, Failure> {
    let bytes =
        offline::read(path, bundle::MAX_LENGTH).map_err(|error| Failure::unusable(&error))?;
    Bundle::parse(&bytes).map_err(|error| Failure::Unusable(format!("{}: {error}", path.display())))
}

/// What cannot be compared is no difference.
fn unusable(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(why) => Failure::Unusable(why.unwrap_or_default()),
        other => other,
    }
}

/// A proof's facts, each judged at its own time: genuine, and about its own connection and manifest.
fn side(bundle: &Bundle, anchors: &Anchors) -> Result<Side, Failure> {
    let endpoint = printable(&bundle.endpoint);
    let of = |why: String| Failure::Unusable(format!("the proof of {endpoint}: {why}"));
    let drawn =
        drawn_from(bundle, anchors, bundle.time).map_err(|failure| match unusable(failure) {
            Failure::Unusable(why) => of(why),
            other => other,
        })?;
    let Drawn { refused, owner, guest, .. } = drawn;
    if let Some(elsewhere) = refused.filter(is_elsewhere) {
        return Err(of(elsewhere.to_string()));
    }
    Side::of(&guest, owner.map(|key| key.to_text()), bundle)
        .ok_or_else(|| of("its manifest is not one of this version".to_owned()))
}

fn text(comparison: &Comparison) -> String {
    let mut out = String::new();
    for matter in [Matter::Identity, Matter::Notable, Matter::Ordinary] {
        let changes: Vec<&Change> =
            comparison.changes.iter().filter(|change| change.matters == matter).collect();
        if changes.is_empty() {
            continue;
        }
        out.push_str(matter.heading());
        out.push('\n');
        for Change { what, before, after, meaning, .. } in changes {
            let shown = |text| printable(&cut(text));
            let (what, before, after) = (shown(what), shown(before), shown(after));
            out.push_str(&format!("  {what}: {meaning}\n    - {before}\n    + {after}\n"));
        }
    }
    if !comparison.policy_lines.is_empty() {
        out.push_str("The enforcement policy, by line\n");
        for line in &comparison.policy_lines {
            out.push_str(&format!("  {}\n", printable(line)));
        }
    }
    let verdict = if comparison.is_equal() {
        "SAME: a policy that accepts the one accepts the other, as far as who it is\n"
    } else {
        "DIFFERENT: this is another deployment; read what changed before you accept it\n"
    };
    out + verdict
}
