//! The certificate that new connections get, renewed long before its end. Connections keep the one that they
//! began with.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::leaf::{Draft, Leaf, LeafError};
use crate::attest::{AttestError, AttestSidecar};

/// How long certificates live, and when the next one is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Seconds from a certificate's beginning to its end.
    pub(crate) lifetime: u64,
    /// Seconds until there is another one; fewer than `lifetime`.
    pub(crate) rotation: u64,
}

/// The first certificate is waited for this long; then the process gives up and is started anew.
const PATIENCE: Duration = Duration::from_secs(300);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    #[error("attest-sidecar gave no evidence for the certificate")]
    Evidence(#[from] AttestError),
    #[error(transparent)]
    Leaf(#[from] LeafError),
    #[error("attest-sidecar gave no evidence for the certificate within {} s", PATIENCE.as_secs())]
    Patience,
}

/// Where the current certificate is found. Clones see the same one.
#[derive(Clone)]
pub(crate) struct Current(watch::Receiver<Arc<Leaf>>);

impl Current {
    /// The certificate for a new connection.
    pub(crate) fn leaf(&self) -> Arc<Leaf> {
        self.0.borrow().clone()
    }

    /// Resolves when there is another one; never, once nobody renews it any more.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The one that somebody else keeps up to date.
    pub(crate) fn following(receiver: watch::Receiver<Arc<Leaf>>) -> Self {
        Self(receiver)
    }

    /// One that stays.
    pub(crate) fn fixed(leaf: Leaf) -> Self {
        Self(watch::channel(Arc::new(leaf)).1)
    }

    /// Makes the first certificate, waiting for `attest-sidecar`, and renews it from then on.
    pub(crate) async fn attested(
        attest: AttestSidecar,
        hostnames: Vec<String>,
        Schedule { lifetime, rotation }: Schedule,
    ) -> Result<Self, RotationError> {
        let first = tokio::time::timeout(PATIENCE, make_until_done(&attest, &hostnames, lifetime))
            .await
            .map_err(|_| RotationError::Patience)?;
        let (sender, receiver) = watch::channel(Arc::new(first));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(rotation)).await;
                let next = Arc::new(make_until_done(&attest, &hostnames, lifetime).await);
                tracing::info!(not_after = next.not_after, "the certificate was renewed");
                if sender.send(next).is_err() {
                    return;
                }
            }
        });
        Ok(Self(receiver))
    }
}

async fn make_until_done(attest: &AttestSidecar, hostnames: &[String], lifetime: u64) -> Leaf {
    let mut pause = Duration::from_millis(100);
    loop {
        match make(attest, hostnames, lifetime).await {
            Ok(leaf) => return leaf,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "no certificate could be made yet; trying again");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// A new key, evidence for it, a certificate with that evidence.
async fn make(
    attest: &AttestSidecar,
    hostnames: &[String],
    lifetime: u64,
) -> Result<Leaf, RotationError> {
    let draft = Draft::new(service::clock::unix_now(), lifetime)?;
    let evidence = attest.certificate_evidence(&draft.spki_sha256, draft.not_after).await?;
    Ok(draft.finish(hostnames, &evidence)?)
}
