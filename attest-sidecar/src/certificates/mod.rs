//! Certificates that fit a report: kept in memory, fetched anew when the machine's TCB has moved.
//!
//! A report is signed by a key derived for the machine's reported TCB. When the host updates its firmware, the
//! certificates at hand stop fitting from one report to the next, and the new ones must then stay. Where they come
//! from is one file a source; the host owns all of them, so what does not fit is refused and the next one is asked.
//! Must not know: what reports are for.

mod azure_cache;
mod context;
mod endorsements;
mod kds;
mod rest;
mod revocation;
mod source;
mod thim;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use attestation::report::Report;
use service::clock::unix_now;
use service::roots::Roots;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use endorsements::{Key, Misfit, Wanted, key};
use rest::Rest;
use revocation::Revocation;
use source::{Name, Source, SourceError};

pub(crate) use azure_cache::AzureCachePlace;
pub(crate) use endorsements::Endorsements;
pub(crate) use source::{Order, Places};

/// Sets of certificates that are kept. A machine has one chip and few TCBs in the life of a guest.
const KEPT: usize = 4;

/// Why there are no certificates for a report: what each source said, in the order in which they were asked.
#[derive(Clone, Debug)]
pub(crate) struct CertificatesError(Arc<[(Name, Arc<SourceError>)]>);

impl CertificatesError {
    /// Whether a source has the certificates of another TCB: the machine's may have moved since the report.
    pub(crate) fn tcb_moved(&self) -> bool {
        let moved = |error: &SourceError| matches!(error, SourceError::Misfit(Misfit::Tcb { .. }));
        self.0.iter().any(|(_, error)| match error.as_ref() {
            SourceError::Resting { source, .. } => moved(source),
            error => moved(error),
        })
    }
}

impl std::error::Error for CertificatesError {}

impl fmt::Display for CertificatesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refreshing CertChain failed: failed to retrieve cert chain: ")?;
        for (name, error) in self.0.iter() {
            write!(f, "{name}: {}; ", service::chain(error.as_ref()))?;
        }
        f.write_str(
            "let the group reach one of the sources in ATTEST_CERTIFICATE_SOURCES; after a firmware update, try \
             again when the host has published its new certificates",
        )
    }
}

/// The certificates of this machine. Clones share them.
#[derive(Clone)]
pub(crate) struct Certificates {
    shared: Arc<Shared>,
}

struct Shared {
    sources: Vec<Source>,
    kept: RwLock<VecDeque<(Key, Arc<Endorsements>)>>,
    /// Held while sources are asked, so that they are asked once however many wait.
    turn: Mutex<Turn>,
    newest: watch::Sender<Option<Arc<Endorsements>>>,
    revocation: Revocation,
}

/// What is known of earlier turns.
struct Turn {
    /// One a source, in their order.
    rests: Vec<Rest>,
    failed: Option<(Key, Instant, CertificatesError)>,
}

impl Certificates {
    pub(crate) fn new(places: &Places, roots: &Roots) -> Self {
        let sources = places.sources(roots);
        let turn = Turn { rests: sources.iter().map(|_| Rest::default()).collect(), failed: None };
        let shared = Shared {
            sources,
            kept: RwLock::default(),
            turn: Mutex::new(turn),
            newest: watch::Sender::new(None),
            revocation: Revocation::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The certificates that fit `report`, asking the sources if those at hand do not.
    pub(crate) async fn fitting(
        &self,
        report: &Report,
    ) -> Result<Arc<Endorsements>, CertificatesError> {
        if let Some(kept) = self.shared.at_hand(&key(report), unix_now()) {
            return Ok(kept);
        }
        // A task of its own: a caller who goes away does not take what the others wait for along.
        let (shared, wanted) =
            (self.shared.clone(), Wanted { report: report.clone(), known: None });
        let asked = Instant::now();
        let turn = tokio::spawn(async move { shared.take_turn(wanted, asked).await });
        turn.await.unwrap_or_else(|_| Err(CertificatesError(Arc::new([]))))
    }

    /// The revocation list (DER) of these certificates' root, if one is at hand that is not outdated.
    pub(crate) fn revocation_list(&self, endorsements: &Endorsements) -> Option<Vec<u8>> {
        self.shared.revocation.list(&endorsements.ark, unix_now())
    }

    /// Keeps a revocation list at hand, if AMD's service is among the sources.
    pub(crate) async fn keep_revocation_list(&self) -> Infallible {
        let kds = self.shared.sources.iter().find_map(|source| match source {
            Source::Kds(kds) => Some(kds),
            Source::Context(_) | Source::Thim(_) | Source::AzureCache(_) => None,
        });
        match kds {
            Some(kds) => self.shared.revocation.keep(kds, self.shared.newest.subscribe()).await,
            None => std::future::pending().await,
        }
    }
}

impl Shared {
    /// A set whose life is over is at hand no longer.
    fn at_hand(&self, key: &Key, now: u64) -> Option<Arc<Endorsements>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|(of, kept)| of == key && !kept.have_ended(now));
        found.map(|(_, endorsements)| endorsements.clone())
    }

    /// Keeps a set; the one that came first goes when there are too many.
    fn keep(&self, key: Key, fresh: Arc<Endorsements>) {
        self.newest.send_replace(Some(fresh.clone()));
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(of, _)| *of != key);
        kept.push_front((key, fresh));
        kept.truncate(KEPT);
    }

    /// Waits for whoever is asking, and asks if that did not answer this question too.
    async fn take_turn(
        &self,
        mut wanted: Wanted,
        asked: Instant,
    ) -> Result<Arc<Endorsements>, CertificatesError> {
        let key = wanted.key();
        let mut turn = self.turn.lock().await;
        if let Some(kept) = self.at_hand(&key, unix_now()) {
            return Ok(kept);
        }
        if let Some((of, when, error)) = &turn.failed
            && *of == key
            && *when >= asked
        {
            return Err(error.clone());
        }
        match self.ask_all(&mut wanted, &mut turn.rests).await {
            Ok(fresh) => {
                self.keep(key, fresh.clone());
                Ok(fresh)
            }
            Err(error) => {
                turn.failed = Some((key, Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Asks one source after the other until one has certificates that fit.
    async fn ask_all(
        &self,
        wanted: &mut Wanted,
        rests: &mut [Rest],
    ) -> Result<Arc<Endorsements>, CertificatesError> {
        let key = wanted.key();
        let mut failures = Vec::new();
        for (source, rest) in self.sources.iter().zip(rests) {
            let name = source.name();
            if let Some(resting) = rest.holds(&key, Instant::now()) {
                failures.push((name, Arc::new(resting)));
                continue;
            }
            match fitting(source, wanted).await {
                Ok(fresh) => {
                    rest.end();
                    tracing::info!(source = %name, tcbm = fresh.tcbm, "certificates were fetched");
                    return Ok(Arc::new(fresh));
                }
                Err(error) => {
                    tracing::warn!(source = %name, error = &error as &dyn std::error::Error, "no certificates");
                    let error = Arc::new(error);
                    rest.begin(error.clone(), key, Instant::now());
                    failures.push((name, error));
                }
            }
        }
        Err(CertificatesError(failures.into()))
    }
}

/// What a source has, if it fits. Certificates of this chip for another TCB still tell the chip's generation.
async fn fitting(source: &Source, wanted: &mut Wanted) -> Result<Endorsements, SourceError> {
    let fresh = source.ask(wanted).await?;
    let fit = fresh.fit(&wanted.report);
    if matches!(fit, Err(Misfit::Tcb { .. })) {
        wanted.known = Some(fresh.about.product);
    }
    fit?;
    if fresh.have_ended(unix_now()) {
        return Err(Misfit::Ended.into());
    }
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Certificates and report of a real machine, from `$VECTORS_DIR`, by default `../shared/vectors` beside the
    /// workspace; none where they are not at hand.
    #[expect(clippy::disallowed_methods, reason = "where the vectors lie is no configuration")]
    fn recorded() -> Option<(Endorsements, Report)> {
        let given = std::env::var_os("VECTORS_DIR").map(PathBuf::from);
        let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
        let folder = given.unwrap_or_else(beside).join("ms-confidential-sidecar/attest");
        let json = std::fs::read(folder.join("uvm_host_amd_certificate.json"));
        let required = std::env::var("VECTORS_REQUIRED").as_deref() == Ok("1");
        assert!(json.is_ok() || !required, "the vectors are required");
        let report = std::fs::read(folder.join("snp_report.bin")).ok()?;
        Some((Endorsements::from_thim(&json.ok()?).unwrap(), Report::parse(&report).unwrap()))
    }

    #[test]
    fn certificates_are_at_hand_until_the_first_of_them_ends() {
        let Some((endorsements, report)) = recorded() else { return };
        let lives = [&endorsements.vek, &endorsements.issuers];
        let certificates =
            lives.map(|der| attestation::certificate::Certificate::sequence_from_der(der).unwrap());
        let end = certificates.iter().flatten().map(|one| one.validity().1).min().unwrap();
        let shared = Shared {
            sources: Vec::new(),
            kept: RwLock::default(),
            turn: Mutex::new(Turn { rests: Vec::new(), failed: None }),
            newest: watch::Sender::new(None),
            revocation: Revocation::default(),
        };
        shared.keep(key(&report), Arc::new(endorsements));
        assert!(shared.at_hand(&key(&report), end).is_some());
        assert!(shared.at_hand(&key(&report), end + 1).is_none());
    }
}
