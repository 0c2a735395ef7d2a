//! AMD's key distribution service: the leaf of a chip at a TCB, its issuers, and the revocation list.
//!
//! Source: "VCEK Certificate and KDS Interface Specification" (57230), section 4.

use attestation::product::Product;
use attestation::report::SigningKey;
use attestation::tcb::Tcb;
use http::StatusCode;
use service::outbound::{Answer, Call, Outbound, OutboundError};
use url::Url;

use super::endorsements::{Endorsements, Wanted};
use super::source::{SourceError, below};

/// The service. Clones share connections.
#[derive(Clone)]
pub(super) struct Kds {
    outbound: Outbound,
    base: Url,
}

impl Kds {
    pub(super) fn new(outbound: Outbound, base: Url) -> Self {
        Self { outbound, base }
    }

    /// Asks for each generation that the chip may be of. Whoever does not know the chip says 404.
    pub(super) async fn ask(&self, wanted: &Wanted) -> Result<Endorsements, SourceError> {
        if !wanted.is_vcek() {
            return Err(SourceError::OnlyVceks);
        }
        let mut outcome = Err(SourceError::Generation);
        for product in wanted.products() {
            outcome = self.vcek(wanted, product).await;
            let unknown = matches!(&outcome, Err(SourceError::Call(OutboundError::Refused { status, .. }))
                if *status == StatusCode::NOT_FOUND);
            if !unknown {
                break;
            }
        }
        outcome
    }

    /// The revocation list of a generation (DER), for the issuers of that kind of key.
    pub(super) async fn revocation_list(
        &self,
        product: Product,
        kind: SigningKey,
    ) -> Result<Answer, OutboundError> {
        let kind = match kind {
            SigningKey::Vlek => "vlek",
            SigningKey::Vcek | SigningKey::Other(_) => "vcek",
        };
        self.get(below(&self.base, &[kind, "v1", product.name(), "crl"])).await
    }

    async fn vcek(&self, wanted: &Wanted, product: Product) -> Result<Endorsements, SourceError> {
        let leaf = self.get(self.vcek_url(wanted, product)).await?;
        let issuers = below(&self.base, &["vcek", "v1", product.name(), "cert_chain"]);
        let issuers = self.get(issuers).await?;
        Ok(Endorsements::from_parts(&leaf.body, &issuers.body, wanted.tcbm())?)
    }

    fn vcek_url(&self, wanted: &Wanted, product: Product) -> Url {
        let tcb = Tcb::from_bytes(wanted.report.reported_tcb(), product);
        let chip = wanted.report.chip_id();
        let hardware_id = chip.get(..product.chip_id_len()).unwrap_or(&chip);
        let mut url = below(&self.base, &["vcek", "v1", product.name(), &hex::encode(hardware_id)]);
        let mut levels = vec![
            ("blSPL", tcb.bootloader),
            ("teeSPL", tcb.tee),
            ("snpSPL", tcb.snp),
            ("ucodeSPL", tcb.microcode),
        ];
        if product == Product::Turin {
            levels.insert(0, ("fmcSPL", tcb.fmc));
        }
        for (name, level) in levels {
            url.query_pairs_mut().append_pair(name, &level.to_string());
        }
        url
    }

    async fn get(&self, url: Url) -> Result<Answer, OutboundError> {
        self.outbound.repeatedly(&Call::get(url)).await
    }
}
