//! From a typed purpose to complete evidence: report, certificates that fit it, endorsement, policy.

use std::sync::Arc;
use std::time::Duration;

use attestation::merkle::Inclusion;
use attestation::report::Report;
use attestation::{Binding, Evidence, binding};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::certificates::{Certificates, CertificatesError, Endorsements};
use crate::processor::{Processor, ProcessorError};

/// Why there is no evidence.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum EvidenceError {
    /// No report.
    #[error(transparent)]
    Processor(#[from] ProcessorError),
    /// No certificates for it.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
}

/// A report with the certificates that fit it.
pub(crate) struct Endorsed {
    pub(crate) report: Report,
    pub(crate) endorsements: Arc<Endorsements>,
}

/// Makes evidence.
pub(crate) struct Attester {
    processor: Processor,
    certificates: Certificates,
    /// The utility VM's endorsement as the platform wrote it.
    uvm_base64: Option<String>,
    uvm: Option<Vec<u8>>,
    cce_policy: Option<Vec<u8>>,
}

impl Attester {
    pub(crate) fn new(
        processor: Processor,
        certificates: Certificates,
        uvm_base64: Option<String>,
        cce_policy: Option<Vec<u8>>,
    ) -> Self {
        let uvm = uvm_base64.as_ref().and_then(|text| STANDARD.decode(text).ok());
        Self { processor, certificates, uvm_base64, uvm, cce_policy }
    }

    /// Resolves when evidence can be made.
    pub(crate) async fn until_ready(&self) {
        let mut pause = Duration::from_millis(100);
        while let Err(error) = self.over(b"{}").await {
            tracing::warn!(error = &error as &dyn std::error::Error, "no evidence can be made yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// Evidence of the batch shape that covers these bindings, with each one's place in it, in their order. There must
    /// be one at least.
    pub(crate) async fn prove(
        &self,
        bindings: &[Binding],
    ) -> Result<(Evidence, Vec<Inclusion>), EvidenceError> {
        // A machine whose TCB moves between report and certificates is asked once more.
        let mut second = false;
        loop {
            let (report, inclusions) = self.processor.prove(bindings).await?;
            match self.endorsed(report.as_slice()).await {
                Ok(endorsed) => return Ok((self.evidence(&endorsed), inclusions)),
                Err(error) if error.tcb_moved() && !second => second = true,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Evidence of the certificate shape.
    pub(crate) async fn certificate(
        &self,
        spki_sha256: &[u8; 32],
        not_after: u64,
    ) -> Result<Evidence, EvidenceError> {
        let report_data = binding::tls_certificate(spki_sha256, not_after);
        Ok(self.evidence(&self.single(report_data).await?))
    }

    /// A report of the MAA shape over runtime data.
    pub(crate) async fn over(&self, runtime_data: &[u8]) -> Result<Endorsed, EvidenceError> {
        self.single(binding::maa(runtime_data)).await
    }

    /// The utility VM's endorsement, decoded.
    pub(crate) fn uvm(&self) -> Option<&[u8]> {
        self.uvm.as_deref()
    }

    /// The utility VM's endorsement as the platform wrote it.
    pub(crate) fn uvm_base64(&self) -> Option<&str> {
        self.uvm_base64.as_deref()
    }

    async fn single(&self, data: attestation::ReportData) -> Result<Endorsed, EvidenceError> {
        let mut second = false;
        loop {
            let report = self.processor.report(data).await?;
            match self.endorsed(report.as_slice()).await {
                Ok(endorsed) => return Ok(endorsed),
                Err(error) if error.tcb_moved() && !second => second = true,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn endorsed(&self, report: &[u8]) -> Result<Endorsed, CertificatesError> {
        let report =
            Report::parse(report).expect("the device gives reports of exactly that length");
        let endorsements = self.certificates.fitting(&report).await?;
        Ok(Endorsed { report, endorsements })
    }

    fn evidence(&self, endorsed: &Endorsed) -> Evidence {
        Evidence {
            report: endorsed.report.as_bytes().to_vec(),
            vek: endorsed.endorsements.vek.clone(),
            chain: Some(endorsed.endorsements.issuers.clone()),
            crl: self.certificates.revocation_list(&endorsed.endorsements),
            uvm: self.uvm.clone(),
            cce_policy: self.cce_policy.clone(),
        }
    }
}
