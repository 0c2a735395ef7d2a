//! Verifying evidence as Azure does: chain, signature, binding, and the image's endorsement.
//!
//! Must not know: tokens. A bad endorsement is no reason to refuse: the token then lacks the
//! claim that the guest is compliant.

use sha2::{Digest as _, Sha256};

use super::MaaConfig;
use super::request::AttestRequest;
use crate::jose::JoseError;
use crate::pki::amd::{amd_name, vcek_facts};
use crate::pki::{PkiError, chain};
use crate::report::{Report, ReportError, key_info, verify_signature};
use crate::tcb::{Product, Tcb};
use crate::uvm::{self, UvmEndorsement};

/// Evidence that gets no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("{0} is malformed")]
    Malformed(&'static str),
    #[error("{0} must be of dataType JSON")]
    DataType(&'static str),
    #[error("the attestation report is not acceptable: {0}")]
    Report(#[from] ReportError),
    #[error("the VCEK certificate chain is not acceptable: {0}")]
    Chain(#[from] PkiError),
    #[error("the report and its VCEK do not belong together: {0}")]
    Mismatch(&'static str),
    #[error("the report data is not the hash of the runtime data")]
    RuntimeData,
    #[error("the host data is not the hash of the init time data")]
    InitTimeData,
    #[error("the token could not be signed")]
    Signing(#[from] JoseError),
}

impl Refusal {
    /// The error code in the answer.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::DataType(_) => "InvalidParameter",
            Self::Signing(_) => "InternalError",
            Self::Report(_)
            | Self::Chain(_)
            | Self::Mismatch(_)
            | Self::RuntimeData
            | Self::InitTimeData => "AttestationFailed",
        }
    }
}

/// Verified evidence.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) report: Report,
    /// The reported TCB, in the layout of the product.
    pub(super) tcb: Tcb,
    pub(super) runtime: Option<serde_json::Value>,
    pub(super) init_time: Option<serde_json::Value>,
    /// The endorsement whose measurement is the report's, if there is one.
    pub(super) endorsement: Option<UvmEndorsement>,
    pub(super) nonce: Option<String>,
}

pub(super) fn appraise(
    request: &AttestRequest,
    config: &MaaConfig,
    now: u64,
) -> Result<Evidence, Refusal> {
    let report = Report::parse(&request.report)?;
    if report.signature_algo != 1 {
        return Err(Refusal::Mismatch("the signature algorithm is not ECDSA P-384"));
    }
    chain::verify(&request.chain, &config.amd_roots, now)?;
    let vcek = request.chain.first().ok_or(Refusal::Malformed("VcekCertChain"))?;
    if vcek.tbs_certificate.subject != amd_name("SEV-VCEK")? {
        return Err(Refusal::Mismatch("the leaf is no VCEK"));
    }
    if report.key_info & !key_info::AUTHOR_KEY_EN != key_info::VCEK {
        return Err(Refusal::Mismatch("the report says that no VCEK signed it"));
    }
    verify_signature(&request.report, vcek)?;

    let facts = vcek_facts(vcek)?;
    let [family, model, _] = report.cpuid;
    if report.version >= 3 && Product::from_cpuid(family, model) != Some(facts.product) {
        return Err(Refusal::Mismatch("another product"));
    }
    let tcb = Tcb::from_bytes(report.reported_tcb, facts.product);
    if tcb != facts.tcb {
        return Err(Refusal::Mismatch("another TCB version"));
    }
    let (used, unused) = report.chip_id.split_at(facts.product.chip_id_len());
    if facts.hwid != used || unused.iter().any(|byte| *byte != 0) {
        return Err(Refusal::Mismatch("another chip"));
    }
    if let Some(runtime_data) = &request.runtime_data {
        let hash: [u8; 32] = Sha256::digest(runtime_data).into();
        let (bound, rest) = report.report_data.split_at(32);
        if bound != hash || rest.iter().any(|byte| *byte != 0) {
            return Err(Refusal::RuntimeData);
        }
    }
    if let Some(init_time_data) = &request.init_time_data {
        let hash: [u8; 32] = Sha256::digest(init_time_data).into();
        if report.host_data != hash {
            return Err(Refusal::InitTimeData);
        }
    }
    let endorsement = request
        .endorsements
        .iter()
        .filter_map(|cose| uvm::verify(cose, &config.uvm_did, now).ok())
        .find(|uvm| uvm.feed == uvm::FEED && uvm.measurement == report.measurement);
    Ok(Evidence {
        tcb,
        runtime: as_json(request.runtime_data.as_deref()),
        init_time: as_json(request.init_time_data.as_deref()),
        endorsement,
        nonce: request.nonce.clone(),
        report,
    })
}

fn as_json(bytes: Option<&[u8]>) -> Option<serde_json::Value> {
    bytes.and_then(|bytes| serde_json::from_slice(bytes).ok())
}
