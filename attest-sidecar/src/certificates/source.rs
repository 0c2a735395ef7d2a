//! The sources of certificates, in the order in which they are asked.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use service::outbound::{Limits, Outbound, OutboundError};
use service::roots::Roots;
use url::Url;

use super::azure_cache::{AzureCache, AzureCachePlace};
use super::context::Context;
use super::endorsements::{Endorsements, EndorsementsError, Misfit, Wanted};
use super::kds::Kds;
use super::thim::Thim;
use crate::security_context::ContextPlace;

/// The longest that one source may take, with all its calls. All of them together stay below a caller's deadline.
const PATIENCE: Duration = Duration::from_secs(9);

/// One call to a source. A set of certificates has 9 KiB.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(8),
    attempt: Duration::from_secs(4),
    attempts: 3,
    answer: 64 * 1024,
};

/// The name of a source, as the configuration and errors have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Context,
    Thim,
    AzureCache,
    Kds,
}

impl Name {
    const ALL: [Self; 4] = [Self::Context, Self::Thim, Self::AzureCache, Self::Kds];

    fn text(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Thim => "thim",
            Self::AzureCache => "azure-cache",
            Self::Kds => "kds",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Sources by name, each once, in the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order(Vec<Name>);

/// Not an order of sources.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must name context, thim, azure-cache or kds, comma separated, each at most once")]
pub(crate) struct NoOrder;

impl FromStr for Order {
    type Err = NoOrder;

    fn from_str(text: &str) -> Result<Self, NoOrder> {
        let mut order = Vec::new();
        for word in text.split(',') {
            let name = Name::ALL.into_iter().find(|name| name.text() == word.trim());
            match name {
                Some(name) if !order.contains(&name) => order.push(name),
                _ => return Err(NoOrder),
            }
        }
        Ok(Self(order))
    }
}

/// Which sources there are, where, and in which order.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) order: Order,
    pub(crate) context: ContextPlace,
    pub(crate) thim: Url,
    pub(crate) azure_cache: AzureCachePlace,
    pub(crate) kds: Url,
}

impl Places {
    pub(super) fn sources(&self, roots: &Roots) -> Vec<Source> {
        let outbound = |party| Outbound::new(party, roots, LIMITS);
        let source = |name: &Name| match name {
            Name::Context => Source::Context(Context::new(self.context.clone())),
            Name::Thim => Source::Thim(Thim::new(outbound("THIM"), self.thim.clone())),
            Name::AzureCache => Source::AzureCache(AzureCache::new(
                outbound("Azure's certificate cache"),
                self.azure_cache.clone(),
            )),
            Name::Kds => Source::Kds(Kds::new(outbound("AMD KDS"), self.kds.clone())),
        };
        self.order.0.iter().map(source).collect()
    }
}

/// One source.
pub(super) enum Source {
    Context(Context),
    Thim(Thim),
    AzureCache(AzureCache),
    Kds(Kds),
}

impl Source {
    pub(super) fn name(&self) -> Name {
        match self {
            Self::Context(_) => Name::Context,
            Self::Thim(_) => Name::Thim,
            Self::AzureCache(_) => Name::AzureCache,
            Self::Kds(_) => Name::Kds,
        }
    }

    /// What this source has. Whether it fits is the caller's question.
    pub(super) async fn ask(&self, wanted: &Wanted) -> Result<Endorsements, SourceError> {
        let answer = async {
            match self {
                Self::Context(context) => context.ask().await,
                Self::Thim(thim) => thim.ask().await,
                Self::AzureCache(cache) => cache.ask(wanted).await,
                Self::Kds(kds) => kds.ask(wanted).await,
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or(Err(SourceError::TimedOut))
    }
}

/// Why a source gave no certificates that fit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("the platform mounted no certificates")]
    NothingMounted,
    #[error("it knows the keys of chips only, and another kind of key signed the report")]
    OnlyVceks,
    #[error("the report states a generation of processors that is not known; update this software")]
    Generation,
    #[error("it did not answer in time")]
    TimedOut,
    #[error(transparent)]
    Call(#[from] OutboundError),
    #[error("its answer cannot be used")]
    Unusable(#[from] EndorsementsError),
    #[error(transparent)]
    Misfit(#[from] Misfit),
    #[error("it is not asked again for {seconds} s, because it failed last time")]
    Resting { seconds: u64, source: Arc<SourceError> },
}

impl SourceError {
    /// How long the source asked to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Call(error) => error.retry_after(),
            _ => None,
        }
    }

    /// Whether the source works, and only has nothing for this one report.
    pub(super) fn is_about_the_report(&self) -> bool {
        match self {
            Self::Call(error @ OutboundError::Refused { .. }) => !error.is_transient(),
            Self::NothingMounted | Self::OnlyVceks | Self::Generation | Self::Misfit(_) => true,
            Self::Call(_) | Self::TimedOut | Self::Unusable(_) | Self::Resting { .. } => false,
        }
    }
}

/// `base` with more segments in its path.
pub(super) fn below(base: &Url, segments: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_each_source_at_most_once() {
        let order: Order = "thim, kds".parse().unwrap();
        assert_eq!(order, Order(vec![Name::Thim, Name::Kds]));
        for bad in ["", "thim,", "thim,thim", "THIM", "nvidia"] {
            assert_eq!(bad.parse::<Order>(), Err(NoOrder), "{bad}");
        }
    }

    #[test]
    fn paths_go_below_whatever_the_base_has() {
        for (base, expected) in [
            ("https://kds.example", "https://kds.example/vcek/v1"),
            ("https://kds.example/", "https://kds.example/vcek/v1"),
            ("https://mirror.example/amd/", "https://mirror.example/amd/vcek/v1"),
        ] {
            assert_eq!(below(&base.parse().unwrap(), &["vcek", "v1"]).as_str(), expected);
        }
    }
}
