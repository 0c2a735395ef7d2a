//! Wrapping keys made ahead, one use each: making one takes longer than everything else that a release does
//! in this process.
//!
//! One task makes one key after the other, so that a burst of releases cannot take every processor. A caller
//! that finds the pool empty waits for its turn; the release's own deadline bounds that.

use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use crate::wrapping_key::WrappingKey;

/// Keys that wait, at most. Making them is the first thing that a fresh process does with its processor.
const READY: usize = 4;

/// Pause after a key could not be made, which the provider is not known to do.
const PAUSE: Duration = Duration::from_secs(1);

/// The pool. Making keys ends when it is dropped.
pub(crate) struct WrappingKeys(Mutex<mpsc::Receiver<WrappingKey>>);

/// The task that makes keys has ended: the process is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("wrapping keys are no longer made: the process is stopping")]
pub(crate) struct Stopped;

impl WrappingKeys {
    /// Starts to make keys. Must be called inside a runtime.
    pub(crate) fn start() -> Self {
        // The key in the task's hand waits beside those in the channel.
        let (ready, keys) = mpsc::channel(READY - 1);
        tokio::spawn(make(ready));
        Self(Mutex::new(keys))
    }

    /// A key that nobody else has or will get.
    pub(crate) async fn take(&self) -> Result<WrappingKey, Stopped> {
        self.0.lock().await.recv().await.ok_or(Stopped)
    }
}

async fn make(ready: mpsc::Sender<WrappingKey>) {
    while !ready.is_closed() {
        match tokio::task::spawn_blocking(WrappingKey::generate).await {
            Ok(Ok(key)) => {
                if ready.send(key).await.is_err() {
                    return;
                }
            }
            Ok(Err(error)) => {
                tracing::error!(cause = %error, "a wrapping key could not be made");
                tokio::time::sleep(PAUSE).await;
            }
            Err(stopping) if stopping.is_cancelled() => return,
            Err(_) => {
                tracing::error!("making a wrapping key panicked");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_key_is_given_twice_also_when_the_pool_runs_dry() {
        let keys = WrappingKeys::start();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..READY + 3 {
            assert!(seen.insert(keys.take().await.ok().unwrap().modulus().to_vec()));
        }
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_does_not_stand_in_the_way() {
        let keys = WrappingKeys::start();
        let impatient = tokio::time::timeout(Duration::ZERO, keys.take()).await;
        drop(impatient);
        assert!(keys.take().await.is_ok());
    }
}
