//! A verdict as one JSON document: what `pmc verify --json` prints, and what the forwarder tells.

use std::sync::Arc;

use attestation::connection::{ConnectionError, ProvenConnection};
use attestation::{Finding, Trust};
use serde_json::{Value, json};

use crate::causes::{chain, printable_json};
use crate::clock;
use crate::connection::ConnectError;

/// What was judged, and how.
pub(crate) struct Verdict<'a> {
    pub(crate) accepted: bool,
    pub(crate) trust: Trust,
    /// When certificates were judged, in Unix seconds.
    pub(crate) at: u64,
    pub(crate) findings: &'a [Finding],
    /// Facts beside the checks: name and value.
    pub(crate) facts: Vec<(&'static str, Value)>,
}

impl Verdict<'_> {
    /// The document's text.
    pub(crate) fn json(&self) -> String {
        let mut document = json!({
            "verdict": if self.accepted { "accepted" } else { "refused" },
            "anchors": self.trust.to_string(),
            "at": self.at,
            "checks": self.findings,
        });
        for (name, value) in &self.facts {
            if let Some(object) = document.as_object_mut() {
                object.insert((*name).replace(' ', "_"), value.clone());
            }
        }
        printable_json(&format!("{document:#}\n"))
    }
}

/// How the last proof of a server was judged, or why there was none.
#[derive(Clone)]
pub(crate) struct Judged {
    /// In Unix seconds.
    pub(crate) at: u64,
    pub(crate) outcome: Result<Arc<ProvenConnection>, Arc<ConnectError>>,
}

impl Judged {
    /// The document's text. `trust` is the verifier's, where no check was run.
    pub(crate) fn json(&self, endpoint: &str, trust: Trust) -> String {
        let mut facts = vec![("endpoint", json!(endpoint)), ("taken at", json!(self.at))];
        let (accepted, findings): (_, &[Finding]) = match &self.outcome {
            Ok(proven) => {
                facts.push(("manifest", json!(proven.manifest)));
                (true, proven.appraised.findings())
            }
            Err(error) => {
                facts.push(("error", json!(chain(error.as_ref()))));
                (false, refused(error))
            }
        };
        Verdict { accepted, trust, at: self.at, findings, facts }.json()
    }
}

/// The document of a proof that was just accepted. The last judgement that a pool knows may be of another one by then.
pub(crate) fn accepted_now(endpoint: &str, proof: Arc<ProvenConnection>) -> String {
    let trust = proof.appraised.trust();
    Judged { at: clock::unix_now(), outcome: Ok(proof) }.json(endpoint, trust)
}

fn refused(error: &ConnectError) -> &[Finding] {
    match error {
        ConnectError::Refused(_, why) => match why.as_ref() {
            ConnectionError::Rejected(rejected) => &rejected.findings,
            _ => &[],
        },
        _ => &[],
    }
}
