//! Wrapping keys made ahead, one use each: making one takes longer than everything else that a release does
//! in this process.
//!
//! Threads of their own make one key after the other, half as many as there are processors, so that a burst of releases
//! cannot take all of them. A caller that finds the pool empty waits for its turn; the release's own deadline bounds
//! that.

use std::panic::catch_unwind;
use std::thread;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use crate::wrapping_key::WrappingKey;

/// Keys that wait, at most, beside those in the makers' hands. Making them is the first thing that a fresh process does
/// with its processors.
const READY: usize = 7;

/// The most threads that make keys.
const MAKERS: usize = 4;

/// What the threads are called, so that what they use can be told apart (proc(5), `comm`).
const NAME: &str = "wrapping-keys";

/// Pause after a key could not be made, which the provider is not known to do.
const PAUSE: Duration = Duration::from_secs(1);

/// The pool. Making keys ends when it is dropped.
pub(crate) struct WrappingKeys(Mutex<mpsc::Receiver<WrappingKey>>);

/// The threads that make keys have ended, or none could be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no wrapping keys are made: restart skr-sidecar")]
pub(crate) struct Stopped;

impl WrappingKeys {
    /// Starts to make keys.
    pub(crate) fn start() -> Self {
        let (ready, keys) = mpsc::channel(READY);
        let processors = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..(processors / 2).clamp(1, MAKERS) {
            let ready = ready.clone();
            let maker = thread::Builder::new().name(NAME.to_owned()).spawn(move || make(&ready));
            if let Err(error) = maker {
                tracing::error!(cause = %error, "a thread for wrapping keys could not be started");
            }
        }
        Self(Mutex::new(keys))
    }

    /// A key that nobody else has or will get.
    pub(crate) async fn take(&self) -> Result<WrappingKey, Stopped> {
        self.0.lock().await.recv().await.ok_or(Stopped)
    }
}

fn make(ready: &mpsc::Sender<WrappingKey>) {
    while !ready.is_closed() {
        match catch_unwind(WrappingKey::generate) {
            Ok(Ok(key)) => {
                if ready.blocking_send(key).is_err() {
                    return;
                }
            }
            Ok(Err(error)) => {
                tracing::error!(cause = %error, "a wrapping key could not be made");
                thread::sleep(PAUSE);
            }
            Err(_) => {
                tracing::error!("making a wrapping key panicked");
                thread::sleep(PAUSE);
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
