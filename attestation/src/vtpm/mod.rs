//! Evidence of an Azure confidential VM: a report of the security processor, around it the paravisor's report
//! that binds a virtual TPM's attestation key, and a quote of that TPM.
//!
//! Source: `attestation.md` part 5. What hangs on what: AMD's root → VCEK → report → digest of the runtime data →
//! attestation key → quote → nonce and registers. The key's certificate (NV index 0x01C101D0) leads to Azure's
//! own root beside that.
//!
//! A confidential VM has no enforcement policy and no endorsement of a utility VM: HOST_DATA is zero, and the
//! measurement is that of Azure's paravisor. What runs in the VM is in the registers alone.

mod certified;
mod expectations;

use std::collections::BTreeMap;

pub(crate) use certified::Certified;
pub use expectations::{AkCertificate, VtpmExpectations};

use crate::anchors::{Anchors, Trust};
use crate::appraise::{self, Appraised};
use crate::binding::ReportData;
use crate::check::{self, Check, Finding, Outcome, Rejected};
use crate::checks::vtpm::{ACCEPTANCE, AUTHENTICITY, Acceptable, Authentic, HCL, QUOTE};
use crate::evidence::Evidence;
use crate::hcl::HclReport;
use crate::policy::{Expect, Hex, Policy};
use crate::rsa_key::RsaKey;
use crate::tpm::Quote;
use crate::verify::{self, Guest, Verified};

/// The parts, as they are read inside the VM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct VtpmEvidence {
    /// The paravisor's report: content of NV index 0x01400001.
    pub hcl_report: Vec<u8>,
    /// `TPMS_ATTEST` of a quote by the attestation key (handle 0x81000003).
    pub quote: Vec<u8>,
    /// Its RSASSA signature with SHA-256, bare or in a `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
    /// Values of the SHA-256 bank's registers, from register 0 on, up to 24.
    pub pcrs: Vec<[u8; 32]>,
    /// Certificate of the key that signed the report (DER).
    pub vek: Vec<u8>,
    /// Its issuers, ASK then ARK, as in [`Evidence::chain`].
    pub chain: Option<Vec<u8>>,
    /// The attestation key's certificate: content of NV index 0x01C101D0, with or without the zeros after it.
    pub ak_certificate: Option<Vec<u8>>,
    /// Its issuers, root last: DER certificates, one after the other.
    pub ak_issuers: Vec<u8>,
}

/// What is known of a confidential VM once its evidence is authentic.
#[derive(Clone)]
pub struct Vm {
    /// The guest, by the report of the security processor.
    pub guest: Guest,
    /// The paravisor's JSON, which the report binds.
    pub runtime_data: Vec<u8>,
    /// What the vTPM signed.
    pub quote: Quote,
    /// The registers that the quote proves. Values that it does not cover are not here.
    pub pcrs: BTreeMap<u8, Hex<32>>,
    binding: ReportData,
    key: Option<RsaKey>,
    certificate: Option<Certified>,
}

/// A confidential VM that is genuine and that this relying party accepts.
#[derive(Clone)]
pub struct AppraisedVm {
    guest: Appraised,
    runtime_data: Vec<u8>,
    pcrs: BTreeMap<u8, Hex<32>>,
    findings: Vec<Finding>,
}

impl AppraisedVm {
    /// The guest.
    #[must_use]
    pub fn guest(&self) -> &Guest {
        self.guest.guest()
    }

    /// The paravisor's JSON: keys of the vTPM, configuration of the VM.
    #[must_use]
    pub fn runtime_data(&self) -> &[u8] {
        &self.runtime_data
    }

    /// The registers that the quote proves.
    #[must_use]
    pub fn pcrs(&self) -> &BTreeMap<u8, Hex<32>> {
        &self.pcrs
    }

    /// Every check that was run: the guest's, then the vTPM's.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Which anchors the verifier held.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.guest.trust()
    }
}

/// Both questions in one call: is it authentic, and is it acceptable?
///
/// # Errors
///
/// [`Rejected`] with every check's outcome, as far as it was reached.
pub fn verify_and_appraise(
    evidence: &VtpmEvidence,
    anchors: &Anchors,
    policy: &Policy,
    expectations: &VtpmExpectations,
    at: u64,
) -> Result<AppraisedVm, Rejected> {
    appraise(verify(evidence, anchors, at)?, policy, expectations)
}

/// Verifies evidence: the guest's report as [`verify`](crate::verify()) does, and that the vTPM whose key the
/// report binds signed the quote of these registers. `at` is the time to judge certificates at, in Unix
/// seconds.
///
/// # Errors
///
/// [`Rejected`] with every check's outcome; of parts that cannot be read, with the vTPM's checks alone.
pub fn verify(
    evidence: &VtpmEvidence,
    anchors: &Anchors,
    at: u64,
) -> Result<Verified<Vm>, Rejected> {
    let trust = anchors.trust();
    let hcl = HclReport::parse(&evidence.hcl_report)
        .map_err(|error| unreadable(HCL, "a report of an SNP guest", error, trust))?;
    let quote = Quote::parse(&evidence.quote)
        .map_err(|error| unreadable(QUOTE, "a quote", error, trust))?;
    let subject = Authentic {
        key: hcl.attestation_key(),
        hcl,
        quote,
        signed: evidence.quote.clone(),
        signature: evidence.signature.clone(),
        pcrs: evidence.pcrs.clone(),
    };
    let readable = [HCL, QUOTE]
        .map(|check| Finding { check, outcome: Outcome::of(true, "readable", "read") })
        .into_iter();
    let own = readable.chain(check::run(&AUTHENTICITY, &subject));
    let verified = match verify::verify(&guest(evidence, &subject.hcl), anchors, at) {
        Ok(verified) => verified,
        Err(rejected) => return Err(rejected.and(own)),
    };
    let (guest, mut findings, trust) = verified.into_parts();
    findings.extend(own);
    let findings = check::judge(findings, trust)?;
    let vm = Vm {
        guest,
        runtime_data: subject.hcl.runtime_data().to_vec(),
        pcrs: subject.quoted().unwrap_or_default(),
        quote: subject.quote,
        binding: subject.hcl.binding(),
        key: subject.key,
        certificate: evidence
            .ak_certificate
            .as_ref()
            .map(|leaf| Certified::read(leaf, &evidence.ak_issuers, anchors, at)),
    };
    Ok(Verified::new(vm, findings, trust, at))
}

fn guest(evidence: &VtpmEvidence, hcl: &HclReport) -> Evidence {
    Evidence {
        report: hcl.report().as_bytes().to_vec(),
        vek: evidence.vek.clone(),
        chain: evidence.chain.clone(),
        ..Evidence::default()
    }
}

/// Holds a genuine VM against a policy for its guest and against what is expected of its vTPM.
///
/// # Errors
///
/// [`Rejected`] with every check's outcome.
pub fn appraise(
    verified: Verified<Vm>,
    policy: &Policy,
    expectations: &VtpmExpectations,
) -> Result<AppraisedVm, Rejected> {
    let at = verified.at();
    let (vm, findings, trust) = verified.into_parts();
    let Vm { guest, runtime_data, quote, pcrs, binding, key, certificate } = vm;
    let subject = Acceptable { quote, pcrs, key, certificate, expected: expectations.clone() };
    let own = check::run(&ACCEPTANCE, &subject);
    let guest = Verified::new(guest, findings, trust, at);
    let guest = appraise::appraise(guest, policy, &Expect::Value(binding))
        .map_err(|rejected| rejected.and(own.clone()))?;
    let findings = guest.findings().iter().cloned().chain(own).collect();
    let findings = check::judge(findings, trust)?;
    Ok(AppraisedVm { guest, runtime_data, pcrs: subject.pcrs, findings })
}

/// A part cannot even be read: its check failed, and no other one was reached.
fn unreadable(
    failed: Check,
    expected: &str,
    error: impl std::fmt::Display,
    trust: Trust,
) -> Rejected {
    let why = format!("not reached, because {} failed", failed.id);
    let others = AUTHENTICITY
        .iter()
        .map(|row| Finding { check: row.check, outcome: Outcome::unchecked(&why) });
    let first = Finding { check: failed, outcome: Outcome::of(false, expected, error) };
    Rejected { findings: std::iter::once(first).chain(others).collect(), trust }
}
