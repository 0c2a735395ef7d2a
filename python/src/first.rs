//! The first proof of a server: one attempt, whose outcome all share who wait for it.
//!
//! A failure is not kept. Who waited for the attempt has failed with it, and must not dial one after the other what does
//! not answer; who comes later tries again. This module must not know what is sent then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{AttestedClient, ConnectError, Connector};
use tokio::sync::watch;

/// How long anybody waits for it. An attempt ends earlier by itself: dialling and proof have their deadlines.
const PATIENCE: Duration = Duration::from_secs(60);

/// What comes of an attempt, once it is over.
type Attempt = watch::Receiver<Option<Result<AttestedClient, Arc<ConnectError>>>>;

/// A server that is verified when the first one asks for it.
#[derive(Default)]
pub(crate) struct First(Mutex<Option<Attempt>>);

impl First {
    /// The client of the server, once that has proved itself.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], the same for all who waited for this attempt.
    pub(crate) async fn client(
        &self,
        connector: Connector,
    ) -> Result<AttestedClient, Arc<ConnectError>> {
        let target = connector.target().clone();
        let mut attempt = self.attempt(connector);
        let over = tokio::time::timeout(PATIENCE, attempt.wait_for(Option::is_some)).await;
        let outcome = over.ok().and_then(Result::ok).and_then(|over| over.clone());
        outcome.unwrap_or_else(|| Err(Arc::new(ConnectError::TimedOut(target))))
    }

    /// The attempt that is under way or did well, or else a new one.
    fn attempt(&self, connector: Connector) -> Attempt {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempt) = last.as_ref().filter(|attempt| !has_failed(attempt)) {
            return attempt.clone();
        }
        let (done, attempt) = watch::channel(None);
        // A task of its own: who began it may stop waiting, and others wait for it, too.
        tokio::spawn(async move {
            let outcome = AttestedClient::connect(connector).await.map_err(Arc::new);
            done.send_replace(Some(outcome));
        });
        *last = Some(attempt.clone());
        attempt
    }
}

fn has_failed(attempt: &Attempt) -> bool {
    // Whether it ended is read first: what ended without an outcome has none afterwards.
    let ended = attempt.has_changed().is_err();
    match &*attempt.borrow() {
        Some(outcome) => outcome.is_err(),
        None => ended,
    }
}
