//! Azure's global cache of AMD's key distribution service: leaf, ASK and ARK of a chip at a TCB, in PEM.
//!
//! Source: measured on the reference (`GET /SevSnpVM/certificates/<chip id>/<tcb>?api-version=…`; lower case, the
//! TCB as an unpadded number).

use service::outbound::{Call, Outbound};
use url::Url;

use super::endorsements::{Endorsements, Wanted};
use super::source::{SourceError, below};

const API_VERSION: &str = "2020-10-15-preview";

/// The cache.
pub(super) struct AzureCache {
    outbound: Outbound,
    base: Url,
}

impl AzureCache {
    pub(super) fn new(outbound: Outbound, base: Url) -> Self {
        Self { outbound, base }
    }

    pub(super) async fn ask(&self, wanted: &Wanted) -> Result<Endorsements, SourceError> {
        if !wanted.is_vcek() {
            return Err(SourceError::OnlyVceks);
        }
        let call = Call::get(self.url(wanted));
        let answer = self.outbound.repeatedly(&call).await?;
        Ok(Endorsements::from_pem(&answer.body, wanted.tcbm())?)
    }

    fn url(&self, wanted: &Wanted) -> Url {
        let chip = hex::encode(wanted.report.chip_id());
        let tcb = format!("{:x}", u64::from_le_bytes(wanted.report.reported_tcb()));
        let mut url = below(&self.base, &["SevSnpVM", "certificates", &chip, &tcb]);
        url.query_pairs_mut().append_pair("api-version", API_VERSION);
        url
    }
}
