//! Trusted Hardware Identity Management: Azure's certificates of the host, on the link-local metadata address.
//!
//! Source: measured on the reference (`GET …/metadata/THIM/amd/certification`, header `Metadata: true`).

use http::{HeaderName, HeaderValue};
use service::outbound::{Call, Outbound};
use url::Url;

use super::endorsements::Endorsements;
use super::source::SourceError;

/// The metadata service of the machine.
pub(super) struct Thim {
    outbound: Outbound,
    url: Url,
}

impl Thim {
    pub(super) fn new(outbound: Outbound, url: Url) -> Self {
        Self { outbound, url }
    }

    pub(super) async fn ask(&self) -> Result<Endorsements, SourceError> {
        let call = Call::get(self.url.clone())
            .header(HeaderName::from_static("metadata"), HeaderValue::from_static("true"));
        Ok(Endorsements::from_thim(&self.outbound.repeatedly(&call).await?.body)?)
    }
}
