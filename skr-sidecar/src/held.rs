//! A reserved key that is released once, in the background, and kept for the life of the process.
//!
//! The vault, MAA and `attest-sidecar` may all come later than this role, or refuse for a while; whatever else the
//! role does goes on meanwhile.
//!
//! Must not know what the key is for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::error::is_refusal;
use crate::key::{KeyError, Published};
use crate::kid::KeyId;
use crate::release::Releases;

/// Pause after the first try, doubled after each further one.
const PAUSE: Duration = Duration::from_millis(250);

/// The longest pause. A key that an operator repairs in the vault is had this much later, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// So many refusals in a row are one: a party that has just started may refuse first.
const REFUSALS: u32 = 2;

/// The key, once it is there.
pub(crate) struct Held<T>(watch::Receiver<State<T>>);

enum State<T> {
    Waiting,
    /// Somebody said no to the last try. There are further ones.
    Refused,
    There(Arc<T>),
}

impl<T: Send + Sync + 'static> Held<T> {
    /// Starts to release it. Must be called inside a runtime.
    pub(crate) fn start(
        releases: Arc<Releases>,
        kid: KeyId,
        form: fn(&Published, &[u8]) -> Result<T, KeyError>,
    ) -> Self {
        let (sender, receiver) = watch::channel(State::Waiting);
        tokio::spawn(async move {
            let refused = || drop(sender.send_replace(State::Refused));
            let released = tokio::select! {
                released = until_released(&releases, &kid, form, refused) => released,
                () = sender.closed() => return,
            };
            sender.send_replace(State::There(Arc::new(released)));
            tracing::info!(%kid, "a reserved key was released into this process");
        });
        Self(receiver)
    }

    /// The key, waiting for it this long.
    pub(crate) async fn within(&self, patience: Duration) -> Option<Arc<T>> {
        let mut receiver = self.0.clone();
        let is_there = |state: &State<T>| matches!(state, State::There(_));
        let there = timeout(patience, receiver.wait_for(is_there)).await;
        match &*there.ok()?.ok()? {
            State::There(key) => Some(key.clone()),
            State::Waiting | State::Refused => None,
        }
    }

    /// Whether the last try was refused, so that waiting is no use.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(&*self.0.borrow(), State::Refused)
    }
}

async fn until_released<T: Send + 'static>(
    releases: &Releases,
    kid: &KeyId,
    form: fn(&Published, &[u8]) -> Result<T, KeyError>,
    refused: impl Fn(),
) -> T {
    let mut pause = PAUSE;
    let mut refusals = 0_u32;
    loop {
        match releases.release_reserved(kid, form).await {
            Ok(key) => return key,
            Err(error) => {
                refusals = if is_refusal(&error) { refusals.saturating_add(1) } else { 0 };
                if refusals >= REFUSALS {
                    refused();
                }
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, %kid, "a reserved key was not released yet; trying again");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
