//! The revocation list of the machine's root, fetched in the background. Evidence never waits for it.
//!
//! Source: RFC 5280, section 5; AMD signs it as it signs certificates (57230, section 4).

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use attestation::certificate::Certificate;
use attestation::crl::{Crl, CrlError};
use service::outbound::OutboundError;
use tokio::sync::watch;

use super::endorsements::Endorsements;
use super::kds::Kds;
use super::rest::{doubled, jittered};

/// How old a list may become before it is fetched anew. AMD's live for months, and a revocation should not wait
/// that long.
const DAILY: Duration = Duration::from_secs(24 * 3600);

/// The longest list that is taken, so that evidence stays readable. AMD's have less than 1 KiB.
const MAX_LENGTH: usize = 32 * 1024;

/// The list at hand.
#[derive(Default)]
pub(super) struct Revocation {
    kept: RwLock<Option<List>>,
}

#[derive(Debug)]
struct List {
    der: Vec<u8>,
    ark: [u8; 32],
    this_update: u64,
    next_update: u64,
}

/// Why a list was not taken.
#[derive(Debug, thiserror::Error)]
enum RevocationError {
    #[error(transparent)]
    Call(#[from] OutboundError),
    #[error("{0} bytes are too many for a revocation list")]
    TooLong(usize),
    #[error(transparent)]
    List(#[from] CrlError),
    #[error("it holds from {from} until {until}, not now")]
    Outdated { from: u64, until: u64 },
}

impl Revocation {
    /// The list of that root, if it still holds.
    pub(super) fn list(&self, ark: &Certificate, now: u64) -> Option<Vec<u8>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let list = kept.as_ref()?;
        (list.ark == ark.fingerprint() && list.holds(now)).then(|| list.der.clone())
    }

    /// Fetches the list of whichever root the machine's certificates have, again and again.
    pub(super) async fn keep(
        &self,
        kds: &Kds,
        mut newest: watch::Receiver<Option<Arc<Endorsements>>>,
    ) -> Infallible {
        let mut failures = 0;
        loop {
            let present = newest.wait_for(Option::is_some).await.ok().and_then(|now| now.clone());
            let Some(endorsements) = present else { return std::future::pending().await };
            let now = service::clock::unix_now();
            let pause = match fetch(kds, &endorsements, now).await {
                Ok(list) => {
                    failures = 0;
                    let pause = list.pause(now);
                    *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(list);
                    tracing::info!("the revocation list was fetched");
                    pause
                }
                Err(error) => {
                    failures += 1;
                    let pause = jittered(doubled(failures)).max(error.retry_after());
                    tracing::warn!(error = &error as &dyn std::error::Error, "no revocation list");
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

impl RevocationError {
    /// How long the service asked to be left alone, up to a day.
    fn retry_after(&self) -> Duration {
        match self {
            Self::Call(error) => error.retry_after().unwrap_or_default().min(DAILY),
            _ => Duration::ZERO,
        }
    }
}

async fn fetch(kds: &Kds, endorsements: &Endorsements, now: u64) -> Result<List, RevocationError> {
    let about = &endorsements.about;
    let answer = kds.revocation_list(about.product, about.kind).await?;
    List::read(answer.body.to_vec(), &endorsements.ark, now)
}

impl List {
    /// Takes a list that this root signed and that holds now. Which certificates it revokes is for those who rely
    /// on evidence.
    fn read(der: Vec<u8>, ark: &Certificate, now: u64) -> Result<Self, RevocationError> {
        if der.len() > MAX_LENGTH {
            return Err(RevocationError::TooLong(der.len()));
        }
        let list = Crl::from_der(&der)?;
        list.verify(ark)?;
        let (this_update, next_update) = list.updates();
        let list = Self { ark: ark.fingerprint(), this_update, next_update, der };
        if list.holds(now) {
            return Ok(list);
        }
        Err(RevocationError::Outdated { from: list.this_update, until: list.next_update })
    }

    fn holds(&self, now: u64) -> bool {
        (self.this_update..self.next_update).contains(&now)
    }

    /// Until the next fetch: a day, or less if the list ends before.
    fn pause(&self, now: u64) -> Duration {
        Duration::from_secs(self.next_update.saturating_sub(now)).min(jittered(DAILY))
    }
}
