//! *Is it acceptable to me?* What is [`Verified`] becomes [`Appraised`] here, and nowhere else.

use crate::anchors::Trust;
use crate::check::{self, Finding, Rejected};
use crate::checks::acceptance::{Subject, TABLES};
use crate::checks::endorsement;
use crate::demand::Demand;
use crate::policy::Policy;
use crate::uvm::Endorsement;
use crate::verify::{Guest, Verified};

/// A guest that is genuine and that this relying party accepts.
#[derive(Clone)]
pub struct Appraised {
    guest: Guest,
    endorsement: Option<Verified<Endorsement>>,
    findings: Vec<Finding>,
    trust: Trust,
}

impl Appraised {
    /// The guest.
    #[must_use]
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// What the maker of its utility VM says, if the policy wanted that checked.
    #[must_use]
    pub fn endorsement(&self) -> Option<&Verified<Endorsement>> {
        self.endorsement.as_ref()
    }

    /// Every check that was run, those of authenticity first.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Which anchors the verifier held.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust
    }
}

/// Holds a genuine guest against a policy, and its report against what it should be bound to: a [`Demand`], or
/// 64 bytes of which nobody says what is in them.
///
/// # Errors
///
/// [`Rejected`] with every check's outcome.
pub fn appraise(
    verified: Verified<Guest>,
    policy: &Policy,
    demand: impl Into<Demand>,
) -> Result<Appraised, Rejected> {
    let at = verified.at();
    let (guest, mut findings, trust) = verified.into_parts();
    let (endorsement, judged) = endorsement::judge(&guest, &policy.endorsement, at);
    let subject = Subject { guest, policy: policy.clone(), demand: demand.into(), at };
    findings.extend(TABLES.iter().flat_map(|rows| check::run(rows, &subject)));
    findings.extend(judged.iter().cloned());
    let findings = check::judge(findings, trust)?;
    let endorsement = endorsement.map(|says| Verified::new(says, judged, trust, at));
    Ok(Appraised { guest: subject.guest, endorsement, findings, trust })
}
