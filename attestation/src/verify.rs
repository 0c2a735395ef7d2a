//! *Is it authentic?* Bytes become [`Verified`] here, and nowhere else.

use crate::anchors::{Anchors, Trust};
use crate::check::{Finding, Rejected};
use crate::crl::{CrlError, Listed};
use crate::endorser::{self, Endorser};
use crate::evidence::Evidence;
use crate::report::Report;
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
    /// What each revocation list at hand says about its certificates, or why it is not one of their root.
    pub revocation: Vec<Result<Listed, CrlError>>,
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
    // Its length is looked at before anything that costs time.
    endorser::read(evidence, anchors.trust())?;
    Endorser::of(evidence, anchors)?.verify(evidence, at)
}
