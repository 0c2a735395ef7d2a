//! The key that signs a machine's reports, with the certificates from it up to AMD's root.
//!
//! Who meets one machine again and again keeps its [`Endorser`]: the chain's signatures are verified once, and
//! each report costs one more. Nothing is believed for longer because of that: what the chain's checks found is
//! part of every verdict, and validity is judged again each time.

use std::fmt::Display;
use std::sync::Arc;

use crate::anchors::{Anchors, Trust};
use crate::certificate::{Certificate, CertificateError};
use crate::check::{self, Check, Finding, Outcome, Rejected};
use crate::checks::chain::{self, CHAIN, Chain};
use crate::checks::leaf::{self, GENERATION};
use crate::checks::report::{self as whole, LENGTH, Subject};
use crate::crl::{Crl, CrlError, Listed, held_against};
use crate::evidence::Evidence;
use crate::product::Product;
use crate::report::{self, Report};
use crate::vek::Vek;
use crate::verify::{Guest, Unverified, Verified};

/// A leaf with its chain, as one verifier's anchors see it. Cheap to clone.
#[derive(Clone)]
pub struct Endorser(Arc<Judged>);

struct Judged {
    chain: Chain,
    findings: Vec<Finding>,
    trust: Trust,
    /// Issuers of endorsements of utility VMs that the verifier believes.
    endorsers: Vec<String>,
    /// The verifier's own revocation lists of this root, held against the chain.
    own_lists: Vec<Result<Listed, CrlError>>,
    /// The list that came with the certificates.
    list: Option<Brought>,
}

/// A revocation list that somebody brought, held against the chain.
struct Brought {
    der: Vec<u8>,
    says: Result<Listed, CrlError>,
}

impl Endorser {
    /// Reads the certificates of evidence and verifies their signatures. A chain that fails is kept with its
    /// findings: it refuses every report.
    ///
    /// # Errors
    ///
    /// [`Rejected`], if a certificate cannot even be read.
    pub fn of(evidence: &Evidence, anchors: &Anchors) -> Result<Self, Rejected> {
        let trust = anchors.trust();
        let leaf = Certificate::from_der(&evidence.vek)
            .map_err(|error| unreadable(GENERATION, "an X.509 certificate", &error, trust))?;
        let vek = Vek::read(&leaf)
            .map_err(|error| unreadable(GENERATION, "a VCEK or VLEK", &error, trust))?;
        let [ask, ark] = issuers(evidence, anchors, vek.product)
            .map_err(|error| unreadable(CHAIN, "ASK and ARK", &error, trust))?;
        let pins = anchors.ark_digests(vek.product).collect();
        let chain = Chain { leaf, vek, ask, ark, pins };
        let findings = check::run(&chain::CHECKS, &chain);
        let endorsers = anchors.endorsers().to_vec();
        let own_lists = anchors.lists(&chain.ark).map(|list| held_against(list, &chain)).collect();
        let list = evidence.crl.as_ref();
        let list = list.map(|der| Brought { der: der.clone(), says: brought(der, &chain) });
        Ok(Self(Arc::new(Judged { chain, findings, trust, endorsers, own_lists, list })))
    }

    /// Verifies evidence whose report this endorser signed. The certificates that the evidence brings are not
    /// looked at; a revocation list that it brings is, whenever it is another one. `at` is the time to judge
    /// certificates at, in Unix seconds.
    ///
    /// # Errors
    ///
    /// [`Rejected`] with every check's outcome.
    pub fn verify(&self, evidence: &Evidence, at: u64) -> Result<Verified<Guest>, Rejected> {
        let Judged { findings: of_chain, trust, endorsers, .. } = &*self.0;
        let report = read(evidence, *trust)?;
        let subject = Subject { report, endorser: self.clone(), at };
        let length = format!("{} bytes", report::LENGTH);
        let mut findings =
            vec![Finding { check: LENGTH, outcome: Outcome::of(true, &length, &length) }];
        findings.extend(check::run(&whole::CHECKS, &subject));
        findings.extend_from_slice(of_chain);
        findings.extend(check::run(&leaf::CHECKS, &subject));
        let findings = check::judge(findings, *trust)?;

        let unverified =
            Unverified { cce_policy: evidence.cce_policy.clone(), uvm: evidence.uvm.clone() };
        let revocation = self.revocation(evidence);
        let guest = Guest {
            report: subject.report,
            vek: self.vek().clone(),
            revocation,
            unverified,
            endorsers: endorsers.clone(),
        };
        Ok(Verified::new(guest, findings, *trust, at))
    }

    fn revocation(&self, evidence: &Evidence) -> Vec<Result<Listed, CrlError>> {
        let Judged { chain, own_lists, list, .. } = &*self.0;
        let brought = evidence.crl.as_ref().map(|der| match list {
            Some(list) if list.der == *der => list.says.clone(),
            _ => brought(der, chain),
        });
        own_lists.iter().cloned().chain(brought).collect()
    }

    /// What the leaf says about the platform.
    #[must_use]
    pub fn vek(&self) -> &Vek {
        &self.0.chain.vek
    }

    /// The certificate of the key.
    #[must_use]
    pub fn leaf(&self) -> &Certificate {
        &self.0.chain.leaf
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.0.chain
    }
}

fn brought(der: &[u8], chain: &Chain) -> Result<Listed, CrlError> {
    held_against(&Crl::from_der(der)?, chain)
}

/// The report of evidence, if it has the length of one.
pub(crate) fn read(evidence: &Evidence, trust: Trust) -> Result<Report, Rejected> {
    let length = format!("{} bytes", report::LENGTH);
    Report::parse(&evidence.report).map_err(|error| unreadable(LENGTH, &length, &error, trust))
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
    let others = crate::checks::authenticity()
        .filter(|check| check.id != failed.id)
        .map(|check| Finding { check, outcome: Outcome::unchecked(&why) });
    let first = Finding { check: failed, outcome: Outcome::of(false, expected, error) };
    Rejected { findings: std::iter::once(first).chain(others).collect(), trust }
}
