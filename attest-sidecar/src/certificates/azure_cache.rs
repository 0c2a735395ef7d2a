//! Azure's global cache of AMD's key distribution service: leaf, ASK and ARK of a chip at a TCB, in PEM.
//!
//! Source: measured on the reference (`GET /<tee type>/certificates/<chip id>/<tcb>?api-version=…&clientId=…`; lower
//! case, the TCB as an unpadded number).

use std::str::FromStr;

use service::outbound::{Call, Outbound};
use url::Url;

use super::endorsements::{Endorsements, Wanted};
use super::source::{SourceError, below};

/// Where the cache is, and what it wants to be told.
#[derive(Clone, Debug)]
pub(crate) struct AzureCachePlace {
    /// What stands before the tee type.
    pub(crate) base: Url,
    /// The kind of machine, as the cache names it.
    pub(crate) tee_type: Word,
    /// The version of its interface.
    pub(crate) api_version: Word,
    /// Who asks.
    pub(crate) client_id: Word,
}

/// A word of a path or query: 1 to 64 letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word(String);

/// Why a text is no such word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 letters, digits, dots, underscores and hyphens")]
pub(crate) struct NotAWord;

impl FromStr for Word {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let dots = text.bytes().all(|byte| byte == b'.');
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(plain) && !dots;
        if fits { Ok(Self(text.to_owned())) } else { Err(NotAWord) }
    }
}

/// The cache.
pub(super) struct AzureCache {
    outbound: Outbound,
    place: AzureCachePlace,
}

impl AzureCache {
    pub(super) fn new(outbound: Outbound, place: AzureCachePlace) -> Self {
        Self { outbound, place }
    }

    pub(super) async fn ask(&self, wanted: &Wanted) -> Result<Endorsements, SourceError> {
        if !wanted.is_vcek() {
            return Err(SourceError::OnlyVceks);
        }
        let tcb = u64::from_le_bytes(wanted.report.reported_tcb());
        let call = Call::get(self.place.url(&wanted.report.chip_id(), tcb));
        let answer = self.outbound.repeatedly(&call).await?;
        Ok(Endorsements::from_pem(&answer.body, wanted.tcbm())?)
    }
}

impl AzureCachePlace {
    fn url(&self, chip_id: &[u8], tcb: u64) -> Url {
        let (chip, tcb) = (hex::encode(chip_id), format!("{tcb:x}"));
        let mut url = below(&self.base, &[&self.tee_type.0, "certificates", &chip, &tcb]);
        url.query_pairs_mut()
            .append_pair("api-version", &self.api_version.0)
            .append_pair("clientId", &self.client_id.0);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_chip_tcb_version_and_who_asks() {
        let place = AzureCachePlace {
            base: "https://cache.example/mirror".parse().unwrap(),
            tee_type: "SevSnpVM".parse().unwrap(),
            api_version: "2020-10-15-preview".parse().unwrap(),
            client_id: "ConfidentialACI".parse().unwrap(),
        };
        assert_eq!(
            place.url(&[0xab; 2], 0x0308_0000_0000_0003).as_str(),
            "https://cache.example/mirror/SevSnpVM/certificates/abab/308000000000003\
             ?api-version=2020-10-15-preview&clientId=ConfidentialACI"
        );
    }

    #[test]
    fn a_word_leads_nowhere_else() {
        for bad in ["", ".", "..", "a/b", "a&b", "a?b", "a b", "ä", &"a".repeat(65)] {
            assert_eq!(bad.parse::<Word>(), Err(NotAWord), "{bad}");
        }
    }
}
