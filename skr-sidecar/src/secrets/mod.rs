//! The sealed secrets (`wire.md` part 3): an envelope that the host carries, opened inside, by a key that the vault
//! releases to this group only, and believed on the operator's signature.
//!
//! The host can withhold an envelope, swap it, replay one, change it while it is read, and hand over any bytes. It
//! gets a refusal by name in the log, and what is open stays open.
//!
//! Must not know what the values are for.

mod key;
mod opener;
mod settings;
mod source;

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attestation::crypto::sha256;
use attestation::secrets::{Refusal, Secrets};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::is_refusal;
use crate::release::Releases;

use self::key::SecretsKey;
use self::opener::{Opener, Outcome};

pub(crate) use settings::{
    ENVELOPE_VAR, FILE_VAR, GROUP_VAR, MIN_VERSION_VAR, SIGNER_VAR, Settings,
};

/// How often the envelope is looked at.
const POLL: Duration = Duration::from_secs(1);

/// Pause after the first time that the vault was asked, doubled after each further one, until a newer version is
/// open. Whoever owns the envelope's place can have it name a new key each time.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The secrets, once they are open.
pub(crate) struct Sealed(watch::Receiver<State>);

type State = Result<Arc<Secrets>, SecretsError>;

/// Why there are no secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretsError {
    /// Nothing was tried yet, or a party is late.
    #[error("the vault has not released SECRETS_KID yet: the log of skr-sidecar says why")]
    NotYet,
    /// A party refuses to release the key. It is asked again from time to time.
    #[error(
        "the vault, or another party, refuses to release SECRETS_KID: the log of skr-sidecar says which and why"
    )]
    KeyRefused,
    /// There is none.
    #[error("there is no envelope yet: {0}")]
    NoEnvelope(String),
    /// It is not believed.
    #[error("the envelope is refused: {0}")]
    Refused(#[from] Refusal),
}

impl Sealed {
    /// Starts to open them. Must be called inside a runtime.
    pub(crate) fn start(releases: Arc<Releases>, settings: Settings) -> Self {
        let (sender, receiver) = watch::channel(Err(SecretsError::NotYet));
        tokio::spawn(async move {
            let mut follower = Follower::new(releases, settings);
            let follow = async {
                loop {
                    if let Some(news) = follower.look().await {
                        tell(&sender, news);
                    }
                    tokio::time::sleep(POLL).await;
                }
            };
            tokio::select! {
                () = follow => {}
                () = sender.closed() => {}
            }
        });
        Self(receiver)
    }

    /// Those that are open.
    pub(crate) fn current(&self) -> State {
        self.0.borrow().clone()
    }
}

/// What is open stays open; of a worse envelope only the log hears.
fn tell(sender: &watch::Sender<State>, news: State) {
    match &news {
        Ok(secrets) => {
            let (version, values) = (secrets.version.get(), secrets.values.len());
            tracing::info!(version, values, "sealed secrets are open");
        }
        Err(error) => {
            let stay = sender.borrow().is_ok();
            tracing::warn!(%error, others_stay_open = stay, "sealed secrets were not opened");
            if stay {
                return;
            }
        }
    }
    drop(sender.send_replace(news));
}

/// Looks at the envelope again and again.
struct Follower {
    releases: Arc<Releases>,
    settings: Settings,
    opener: Arc<Mutex<Opener>>,
    /// Digest of the text that was judged last, once and for all.
    judged: Option<[u8; 32]>,
    heard: Heard,
    vault: Pace,
}

/// What was told already. Whoever owns the envelope's place can go back and forth between two as often as they like.
#[derive(Default)]
struct Heard {
    open: Option<NonZeroU64>,
    error: Option<SecretsError>,
}

impl Heard {
    /// Whether it is news.
    fn is_news(&mut self, seen: &State) -> bool {
        match seen {
            Ok(secrets) => self.open.replace(secrets.version) != Some(secrets.version),
            Err(error) => self.error.replace(error.clone()).as_ref() != Some(error),
        }
    }
}

/// When the vault may be asked again.
struct Pace {
    next: Instant,
    pause: Duration,
}

impl Pace {
    fn new() -> Self {
        Self { next: Instant::now(), pause: PAUSE }
    }

    /// Whether it is time; if so, the next time is later.
    fn take(&mut self) -> bool {
        let now = Instant::now();
        let due = now >= self.next;
        if due {
            self.next = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        due
    }
}

impl Follower {
    fn new(releases: Arc<Releases>, settings: Settings) -> Self {
        let opener = Arc::new(Mutex::new(Opener::new(settings.expected.clone())));
        let (heard, vault) = (Heard::default(), Pace::new());
        Self { releases, settings, opener, judged: None, heard, vault }
    }

    /// What there is to say now that was not said before.
    async fn look(&mut self) -> Option<State> {
        let seen = self.see().await?;
        if !self.heard.is_news(&seen) {
            return None;
        }
        if seen.is_ok() {
            self.vault = Pace::new();
        }
        Some(seen)
    }

    async fn see(&mut self) -> Option<State> {
        let text = match self.settings.source.read().await {
            Ok(text) => text,
            Err(error) => return Some(Err(SecretsError::NoEnvelope(error.to_string()))),
        };
        let digest = sha256(text.as_bytes());
        if self.judged == Some(digest) {
            return None;
        }
        let mut outcome = self.judge(&text).await?;
        if matches!(outcome, Outcome::NoKey) {
            if !self.vault.take() {
                return None;
            }
            match self.releases.release_reserved(&self.settings.kid, SecretsKey::new).await {
                Ok(key) => self.opener.lock().unwrap_or_else(PoisonError::into_inner).take(key),
                Err(error) => {
                    let refused = is_refusal(&error);
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "SECRETS_KID was not released yet; trying again");
                    let error =
                        if refused { SecretsError::KeyRefused } else { SecretsError::NotYet };
                    return Some(Err(error));
                }
            }
            outcome = self.judge(&text).await?;
        }
        match outcome {
            Outcome::Opened(secrets) => {
                self.judged = Some(digest);
                Some(Ok(secrets))
            }
            Outcome::Refused(refusal) => {
                self.judged = Some(digest);
                Some(Err(refusal.into()))
            }
            // Not once and for all: the vault may get a newer version of its key.
            Outcome::NoKey => Some(Err(Refusal::OtherKey.into())),
        }
    }

    /// An RSA private-key operation is work for a thread of its own.
    async fn judge(&self, text: &str) -> Option<Outcome> {
        let (opener, text) = (self.opener.clone(), text.to_owned());
        let judge = move || opener.lock().unwrap_or_else(PoisonError::into_inner).judge(&text);
        tokio::task::spawn_blocking(judge).await.ok()
    }
}

#[cfg(test)]
mod tests;
