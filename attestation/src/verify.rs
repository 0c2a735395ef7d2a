//! *Is it authentic?* Bytes become [`Verified`] here, and nowhere else.

use std::fmt::Display;

use crate::anchors::{Anchors, Trust};
use crate::certificate::{Certificate, CertificateError};
use crate::check::{self, Check, Finding, Outcome, Rejected};
use crate::checks::authenticity::{CHAIN, CHECKS, GENERATION, LENGTH, Subject};
use crate::evidence::Evidence;
use crate::product::Product;
use crate::report::{self, Report};
use crate::vek::Vek;

/// Something whose authenticity was checked against a verifier's anchors. Only this crate makes one.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    value: T,
    findings: Vec<Finding>,
    trust: Trust,
    at: u64,
}

impl<T> Verified<T> {
    pub(crate) fn new(value: T, findings: Vec<Finding>, trust: Trust, at: u64) -> Self {
        Self { value, findings, trust, at }
    }

    /// What was verified.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Every check that was run.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Which anchors the verifier held.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// The time that certificates were judged at, in Unix seconds.
    pub fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn into_parts(self) -> (T, Vec<Finding>, Trust) {
        (self.value, self.findings, self.trust)
    }
}

/// What is known of a guest once its evidence is authentic.
#[derive(Clone)]
pub struct Guest {
    /// The report, signed by a genuine security processor.
    pub report: Report,
    /// What the certificate of the key that signed it says.
    pub vek: Vek,
    /// Parts of the evidence whose own proof is a matter of appraisal.
    pub unverified: Unverified,
    /// Issuers of endorsements that the verifier's anchors believe.
    pub(crate) endorsers: Vec<String>,
}

/// What the evidence brought beside the report and its certificates. Not verified.
#[derive(Clone)]
pub struct Unverified {
    /// The enforcement policy's text.
    pub cce_policy: Option<Vec<u8>>,
    /// The UVM's endorsement.
    pub uvm: Option<Vec<u8>>,
}

/// Verifies evidence: the report is whole, a key signed it that AMD certified for this chip and firmware, and
/// the verifier believes AMD's root. `at` is the time to judge certificates at, in Unix seconds.
///
/// Says nothing about whether anybody wants to talk to this guest: see [`appraise`](crate::appraise).
///
/// # Errors
///
/// [`Rejected`] with every check's outcome.
pub fn verify(
    evidence: &Evidence,
    anchors: &Anchors,
    at: u64,
) -> Result<Verified<Guest>, Rejected> {
    let trust = anchors.trust();
    let length = format!("{} bytes", report::LENGTH);
    let report = Report::parse(&evidence.report)
        .map_err(|error| unreadable(LENGTH, &length, &error, trust))?;
    let leaf = Certificate::from_der(&evidence.vek)
        .map_err(|error| unreadable(GENERATION, "an X.509 certificate", &error, trust))?;
    let vek = Vek::read(&leaf)
        .map_err(|error| unreadable(GENERATION, "a VCEK or VLEK", &error, trust))?;
    let [ask, ark] = issuers(evidence, anchors, vek.product)
        .map_err(|error| unreadable(CHAIN, "ASK and ARK", &error, trust))?;

    let pins = anchors.ark_digests(vek.product).collect();
    let subject = Subject { report, leaf, vek, ask, ark, pins, at };
    let whole = Finding { check: LENGTH, outcome: Outcome::of(true, &length, &length) };
    let findings = std::iter::once(whole).chain(check::run(&CHECKS, &subject)).collect();
    let findings = check::judge(findings, trust)?;

    let Subject { report, vek, .. } = subject;
    let unverified =
        Unverified { cce_policy: evidence.cce_policy.clone(), uvm: evidence.uvm.clone() };
    let endorsers = anchors.endorsers().to_vec();
    Ok(Verified::new(Guest { report, vek, unverified, endorsers }, findings, trust, at))
}

#[derive(Debug, thiserror::Error)]
enum NoIssuers {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("{0} certificates instead of two")]
    Number(usize),
    #[error("the evidence brings none and this verifier holds none for {0}")]
    Absent(Product),
}

fn issuers(
    evidence: &Evidence,
    anchors: &Anchors,
    product: Product,
) -> Result<[Certificate; 2], NoIssuers> {
    let given = match &evidence.chain {
        Some(chain) => Certificate::sequence_from_der(chain)?,
        None => anchors.chain(product).ok_or(NoIssuers::Absent(product))?.to_vec(),
    };
    let number = given.len();
    given.try_into().map_err(|_| NoIssuers::Number(number))
}

/// A part cannot even be read: its check failed, and no other one was reached.
fn unreadable(failed: Check, expected: &str, error: &dyn Display, trust: Trust) -> Rejected {
    let why = format!("not reached, because {} failed", failed.id);
    let others = CHECKS
        .iter()
        .filter(|row| row.check.id != failed.id)
        .map(|row| Finding { check: row.check, outcome: Outcome::unchecked(&why) });
    let first = Finding { check: failed, outcome: Outcome::of(false, expected, error) };
    Rejected { findings: std::iter::once(first).chain(others).collect(), trust }
}
