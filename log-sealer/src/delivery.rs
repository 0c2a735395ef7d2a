//! Bringing records from the spool to one sink, in order, until each is there.
//!
//! Every sink has a task of its own, so that one that fails, or is slow, holds up none of the others. What is not
//! delivered stays in the spool.

use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use service::lifecycle;
use tokio::time::{Instant, sleep, timeout};

use crate::outage::{Announced, Pauses};
use crate::sink::{Sink, SinkError};
use crate::spool::{Portion, Spool};
use crate::status::{Part, Status};

/// A try that takes longer than this counts as failing. It is not broken off: what blocks in the file
/// system cannot be, and a second try beside it would only block as well.
const SLOW: Duration = Duration::from_secs(10);

/// The way from the spool to a sink.
pub(crate) struct Delivery {
    pub(crate) spool: Arc<Spool>,
    /// The sink's number in the spool.
    pub(crate) number: usize,
    /// The sink's kind.
    pub(crate) kind: &'static str,
    pub(crate) sink: Sink,
    pub(crate) status: Status,
    pub(crate) announced: Announced,
}

impl Delivery {
    /// Delivers without end.
    pub(crate) async fn run(mut self) -> Infallible {
        loop {
            let portion = self.portion().await;
            let mut pauses = Pauses::default();
            while let Err(error) = self.put(&portion).await {
                self.fails(&error).await;
                sleep(pauses.next().max(error.pause())).await;
            }
            self.works().await;
            self.spool.passed(self.number, portion.end).await;
        }
    }

    async fn portion(&mut self) -> Portion {
        let mut pauses = Pauses::default();
        loop {
            match self.spool.portion(self.number, self.sink.lines()).await {
                Ok(portion) => return portion,
                Err(error) => self.fails(&error).await,
            }
            sleep(pauses.next()).await;
        }
    }

    async fn put(&mut self, portion: &Portion) -> Result<(), SinkError> {
        let mut attempt = pin!(self.sink.put(&portion.items));
        if let Ok(outcome) = timeout(SLOW, attempt.as_mut()).await {
            return outcome;
        }
        self.status.fails(Part::Sink(self.number)).await;
        attempt.await
    }

    async fn fails(&mut self, error: &(impl Error + Sync)) {
        self.status.fails(Part::Sink(self.number)).await;
        if self.announced.outage(Instant::now()) {
            let cause = error.source().map(tracing::field::display);
            lifecycle!("sink unavailable", sink = self.kind, error = %error, cause = cause);
        }
    }

    async fn works(&mut self) {
        self.status.works(Part::Sink(self.number)).await;
        if self.announced.recovery() {
            lifecycle!("sink available again", sink = self.kind);
        }
    }
}
