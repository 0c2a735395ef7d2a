//! Bringing records to the sink, one after the other, until each is there.
//!
//! What is delivered here is what `Log.GetHead` reports. While the sink fails, nothing else is sealed and the
//! queue fills: that is the back-pressure.

use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use service::health::Health;
use service::lifecycle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::signer::Signed;
use crate::sink::{Sealed, Sink, SinkError};

/// The shortest and, apart from jitter, the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// A try that takes longer than this makes the role not ready. It is not broken off: what blocks in the file
/// system cannot be, and a second try beside it would only block as well.
const SLOW: Duration = Duration::from_secs(10);

/// How long no second outage is announced. An announcement is a log record: it comes back here in a segment of
/// its own, and if every failure of that segment were announced again, a sink that fails now and then would
/// keep the log busy with itself for ever.
const SILENCE: Duration = Duration::from_secs(600);

/// The newest record that is safely in the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its number in the boot.
    pub(crate) seq: u64,
    /// SHA-256 of its compact form.
    pub(crate) digest: [u8; 32],
}

/// The way to the sink.
pub(crate) struct Delivery {
    sink: Sink,
    head: watch::Sender<Option<Head>>,
    health: Health,
    announced: Announced,
}

impl Delivery {
    pub(crate) fn new(sink: Sink, health: Health) -> (Self, watch::Receiver<Option<Head>>) {
        let (head, newest) = watch::channel(None);
        (Self { sink, head, health, announced: Announced::default() }, newest)
    }

    /// Returns once the record and its segment are in the sink, however long that takes.
    pub(crate) async fn deliver(&mut self, boot: &str, signed: Signed, segment: Option<Vec<u8>>) {
        let Signed { seq, compact, digest } = signed;
        let sealed = Arc::new(Sealed { boot: boot.to_owned(), seq, record: compact, segment });
        let mut pauses = pauses();
        while let Err(error) = self.put(&sealed).await {
            self.fails(&error).await;
            // the builder below never ends
            sleep(pauses.next().unwrap_or(PAUSES.1)).await;
        }
        self.head.send_replace(Some(Head { seq, digest }));
        self.works().await;
    }

    async fn put(&mut self, sealed: &Arc<Sealed>) -> Result<(), SinkError> {
        let mut attempt = pin!(self.sink.put(sealed));
        if let Ok(outcome) = timeout(SLOW, attempt.as_mut()).await {
            return outcome;
        }
        self.health.not_ready().await;
        attempt.await
    }

    async fn fails(&mut self, error: &SinkError) {
        self.health.not_ready().await;
        if self.announced.outage(Instant::now()) {
            let cause = error.source().map(tracing::field::display);
            lifecycle!("sink unavailable", error = %error, cause = cause);
        }
    }

    async fn works(&mut self) {
        self.health.ready().await;
        if self.announced.recovery() {
            lifecycle!("sink available again");
        }
    }
}

/// Which outages were announced.
#[derive(Default)]
struct Announced {
    last: Option<Instant>,
    ongoing: bool,
}

impl Announced {
    /// Whether to announce a failure now.
    fn outage(&mut self, now: Instant) -> bool {
        let silent = self.last.is_some_and(|last| now < last + SILENCE);
        if self.ongoing || silent {
            return false;
        }
        self.last = Some(now);
        self.ongoing = true;
        true
    }

    /// Whether to announce that it works: only if the outage was announced.
    fn recovery(&mut self) -> bool {
        std::mem::take(&mut self.ongoing)
    }
}

fn pauses() -> backon::ExponentialBackoff {
    let (shortest, longest) = PAUSES;
    ExponentialBuilder::new()
        .with_min_delay(shortest)
        .with_max_delay(longest)
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_fails_now_and_then_is_announced_once() {
        let mut announced = Announced::default();
        let now = Instant::now();
        assert!(!announced.recovery(), "nothing was wrong");
        assert!(announced.outage(now));
        assert!(!announced.outage(now), "still the same one");
        assert!(announced.recovery());
        for second in 1..SILENCE.as_secs() {
            assert!(!announced.outage(now + Duration::from_secs(second)));
            assert!(!announced.recovery());
        }
        assert!(announced.outage(now + SILENCE));
        assert!(announced.recovery());
    }
}
