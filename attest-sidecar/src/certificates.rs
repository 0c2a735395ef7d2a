//! Certificates that fit a report: kept in memory, fetched anew when the machine's TCB has moved.
//!
//! A report is signed by a key derived for the machine's reported TCB. When the host updates its firmware, the
//! certificates at hand stop fitting from one report to the next, and the new ones must then stay.

use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use attestation::certificate::{Certificate, CertificateError};
use attestation::report::Report;
use attestation::tcb::Tcb;
use attestation::vek::{Vek, VekError};
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use service::outbound::{Call, Outbound, OutboundError};
use tokio::sync::Mutex;
use url::Url;

/// A source that gave certificates which do not fit is not asked again before this has passed.
const PAUSE: Duration = Duration::from_secs(5);

/// The certificates of one chip at one TCB.
pub(crate) struct Endorsements {
    /// VCEK, ASK and ARK in PEM, as their source wrote them.
    pub(crate) pem: String,
    /// The leaf (DER).
    pub(crate) vek: Vec<u8>,
    /// ASK, then ARK (DER), one after the other.
    pub(crate) issuers: Vec<u8>,
    /// The source's name of the TCB: 16 hexadecimal digits.
    pub(crate) tcbm: String,
    leaf: Vek,
}

/// A document of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndorsementsError {
    #[error("not the JSON of THIM: vcekCert, certificateChain and tcbm")]
    Syntax,
    #[error("the tcbm is not 16 hexadecimal digits")]
    Tcbm,
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the leaf is no endorsement key's certificate")]
    Leaf(#[from] VekError),
    #[error("{0} issuers instead of two")]
    Issuers(usize),
}

impl Endorsements {
    /// Reads the JSON of THIM, which the platform mounts in the same form.
    pub(crate) fn from_thim(json: &[u8]) -> Result<Self, EndorsementsError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Thim {
            vcek_cert: String,
            tcbm: String,
            certificate_chain: String,
        }
        let thim: Thim = serde_json::from_slice(json).map_err(|_| EndorsementsError::Syntax)?;
        if hex::decode(&thim.tcbm).map(|bytes| bytes.len()) != Ok(8) {
            return Err(EndorsementsError::Tcbm);
        }
        let leaf = Certificate::sequence_from_pem(&thim.vcek_cert)?;
        let issuers = Certificate::sequence_from_pem(&thim.certificate_chain)?;
        let [leaf] = leaf.as_slice() else { return Err(EndorsementsError::Syntax) };
        if issuers.len() != 2 {
            return Err(EndorsementsError::Issuers(issuers.len()));
        }
        Ok(Self {
            leaf: Vek::read(leaf)?,
            vek: leaf.der().to_vec(),
            issuers: issuers.iter().flat_map(Certificate::der).copied().collect(),
            tcbm: thim.tcbm,
            pem: thim.vcek_cert + &thim.certificate_chain,
        })
    }

    /// Whether the report was signed by the key of this leaf, as far as both say: same chip, same TCB.
    fn fits(&self, report: &Report) -> bool {
        let tcb = Tcb::from_bytes(report.reported_tcb(), self.leaf.product);
        let chip = report.chip_id();
        self.leaf.tcb == tcb
            && self.leaf.hardware_id.as_deref().is_none_or(|id| chip.starts_with(id))
    }
}

/// Why there are no certificates for a report.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CertificatesError {
    /// The source failed.
    #[error("Refreshing CertChain failed: failed to retrieve cert chain")]
    Source(#[source] Arc<OutboundError>),
    /// The source's answer cannot be used.
    #[error("Refreshing CertChain failed: the answer of THIM cannot be used")]
    Unusable(#[source] Arc<EndorsementsError>),
    /// The source's certificates are of another chip or TCB. It may lag behind a firmware update.
    #[error(
        "SNP reported TCB value: {reported} doesn't match Certificate TCB value: {certified}; try again when \
         the host has published the certificates of its present firmware"
    )]
    Mismatch { reported: u64, certified: u64 },
}

/// The certificates of this machine.
pub(crate) struct Certificates {
    source: Outbound,
    thim: Url,
    current: RwLock<Option<Arc<Endorsements>>>,
    /// Held while the source is asked, so that it is asked once however many wait.
    refresh: Mutex<Option<(Instant, CertificatesError)>>,
}

impl Certificates {
    /// Begins with what the platform mounted, if anything.
    pub(crate) fn new(source: Outbound, thim: Url, mounted: Option<Endorsements>) -> Self {
        let current = RwLock::new(mounted.map(Arc::new));
        Self { source, thim, current, refresh: Mutex::new(None) }
    }

    /// The certificates that fit `report`, asking the source if those at hand do not.
    pub(crate) async fn fitting(
        &self,
        report: &Report,
    ) -> Result<Arc<Endorsements>, CertificatesError> {
        if let Some(current) = self.at_hand(report) {
            return Ok(current);
        }
        let mut failed = self.refresh.lock().await;
        if let Some(current) = self.at_hand(report) {
            return Ok(current);
        }
        if let Some((when, error)) = failed.as_ref()
            && when.elapsed() < PAUSE
        {
            return Err(error.clone());
        }
        match self.fetch(report).await {
            Ok(fresh) => {
                *failed = None;
                self.keep(fresh.clone());
                tracing::info!(tcbm = fresh.tcbm, "certificates were refreshed");
                Ok(fresh)
            }
            Err(error) => {
                *failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn at_hand(&self, report: &Report) -> Option<Arc<Endorsements>> {
        let current = self.current.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        current.clone().filter(|endorsements| endorsements.fits(report))
    }

    fn keep(&self, fresh: Arc<Endorsements>) {
        *self.current.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(fresh);
    }

    async fn fetch(&self, report: &Report) -> Result<Arc<Endorsements>, CertificatesError> {
        let call = Call::get(self.thim.clone())
            .header(HeaderName::from_static("metadata"), HeaderValue::from_static("true"));
        let answer = self.source.repeatedly(&call).await;
        let answer = answer.map_err(|error| CertificatesError::Source(Arc::new(error)))?;
        let fresh = Endorsements::from_thim(&answer.body)
            .map_err(|error| CertificatesError::Unusable(Arc::new(error)))?;
        if fresh.fits(report) {
            return Ok(Arc::new(fresh));
        }
        Err(CertificatesError::Mismatch {
            reported: u64::from_le_bytes(report.reported_tcb()),
            certified: u64::from_str_radix(&fresh.tcbm, 16).unwrap_or_default(),
        })
    }
}
