//! The way of metrics in the clear to where they are wanted: a queue with a bound, and one who sends what is in
//! it. When it is full the oldest are dropped, and counted; nobody who exports waits for it.
//!
//! Must not know what may leave.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use service::outbound::{Answer, Call, Limits, Outbound};
use service::roots::Roots;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::azure::{Azure, ConnectionString};
use super::{Metric, otlp};
use crate::error::Refused;

/// The most points that wait.
const POINTS: usize = 16_384;

/// The most points of a batch, but one metric at least.
const BATCH: usize = 2048;

/// How long a batch is collected for.
const COLLECT: Duration = Duration::from_secs(2);

/// The shortest and, apart from jitter, the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Where metrics go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// To a receiver of OTLP/HTTP, at its path for metrics.
    Otlp(Url),
    /// To Azure Monitor.
    Azure(ConnectionString),
}

/// One who takes metrics.
enum Receiver {
    Otlp(Url),
    Azure(Azure),
}

impl Receiver {
    /// With what errors call it.
    fn new(at: Address) -> (Self, &'static str) {
        match at {
            Address::Otlp(url) => (Self::Otlp(url), "LOG_METRICS_ENDPOINT"),
            Address::Azure(to) => (Self::Azure(Azure::new(to)), "Azure Monitor"),
        }
    }

    fn call(&mut self, metrics: &[Metric]) -> Result<Option<Call>, Refused> {
        match self {
            Self::Otlp(url) => otlp::call(url, metrics).map(Some),
            Self::Azure(azure) => Ok(azure.call(metrics)),
        }
    }

    /// How many points of a call that was answered well were not taken.
    fn rejected(&self, answer: &Answer) -> usize {
        match self {
            Self::Otlp(_) => 0,
            Self::Azure(_) => Azure::rejected(answer),
        }
    }
}

/// The queue. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Forward(Arc<Inner>);

#[derive(Default)]
struct Inner {
    queue: Mutex<Queue>,
    /// Something came in, or nothing will any more.
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Metric>,
    points: usize,
    /// Points that were dropped and not yet spoken of.
    dropped: usize,
    closed: bool,
}

impl Forward {
    /// Takes metrics, and drops the oldest for them if it must.
    pub(crate) fn offer(&self, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let mut queue = self.queue();
        if queue.closed {
            queue.dropped += metrics.iter().map(|metric| metric.points.len()).sum::<usize>();
            return;
        }
        for metric in metrics {
            queue.points += metric.points.len();
            queue.waiting.push_back(metric);
        }
        while queue.points > POINTS {
            let Some(oldest) = queue.waiting.pop_front() else { break };
            queue.points -= oldest.points.len();
            queue.dropped += oldest.points.len();
        }
        drop(queue);
        self.0.changed.notify_one();
    }

    /// What waits is still sent, once; nothing else will come.
    pub(crate) fn close(&self) {
        self.queue().closed = true;
        self.0.changed.notify_one();
    }

    /// Sends what comes, until it is closed and empty. One task calls this.
    pub(crate) async fn run(self, to: Address, roots: Roots) {
        let limits = Limits { answer: 1 << 20, ..Limits::default() };
        let (mut receiver, name) = Receiver::new(to);
        let outbound = Outbound::new(name, &roots, limits);
        let mut failing = false;
        while let Some(batch) = self.batch().await {
            let points: usize = batch.iter().map(|metric| metric.points.len()).sum();
            let call = match receiver.call(&batch) {
                Ok(Some(call)) => call,
                Ok(None) => continue,
                Err(_) => {
                    self.queue().dropped += points;
                    continue;
                }
            };
            let mut pauses = pauses();
            loop {
                let error = match outbound.once(&call).await {
                    Ok(answer) => {
                        self.sent(receiver.rejected(&answer), failing);
                        failing = false;
                        break;
                    }
                    Err(error) => error,
                };
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "metrics cannot be forwarded");
                }
                if !error.is_transient() || self.queue().closed {
                    self.queue().dropped += points;
                    break;
                }
                // the builder below never ends
                let pause = pauses.next().unwrap_or(PAUSES.1);
                let pause = error.retry_after().map_or(pause, |asked| asked.max(pause));
                self.rest(pause.min(10 * PAUSES.1)).await;
            }
        }
        let dropped = self.queue().dropped;
        if dropped > 0 {
            tracing::warn!(dropped, "metrics were not forwarded");
        }
    }

    /// Says what was dropped until now, if anything was.
    fn sent(&self, rejected: usize, failed: bool) {
        let dropped = rejected + std::mem::take(&mut self.queue().dropped);
        if failed || dropped > 0 {
            tracing::warn!(dropped, "metrics are forwarded again");
        }
    }

    /// A pause, which ends early when the queue is closed.
    async fn rest(&self, pause: Duration) {
        let _ = timeout(pause, self.until(|queue| queue.closed)).await;
    }

    /// The next batch; `None` when the queue is closed and empty.
    async fn batch(&self) -> Option<Vec<Metric>> {
        self.until(|queue| queue.closed || !queue.waiting.is_empty()).await;
        let _ = timeout(COLLECT, self.until(|queue| queue.closed || queue.points >= BATCH)).await;
        let batch = self.queue().take();
        (!batch.is_empty()).then_some(batch)
    }

    async fn until(&self, is: impl Fn(&Queue) -> bool) {
        while !is(&self.queue()) {
            self.0.changed.notified().await;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // every change is complete or did not begin: a panic elsewhere leaves it usable
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every receiver, each with a queue and a task of its own.
#[derive(Default)]
pub(crate) struct Forwards {
    all: Vec<Forward>,
    running: JoinSet<()>,
}

impl Forwards {
    pub(crate) fn start(receivers: Vec<Address>, roots: &Roots) -> Self {
        let mut forwards = Self::default();
        for to in receivers {
            let forward = Forward::default();
            forwards.running.spawn(forward.clone().run(to, roots.clone()));
            forwards.all.push(forward);
        }
        forwards
    }

    /// Where metrics that may leave in the clear are offered.
    pub(crate) fn all(&self) -> Vec<Forward> {
        self.all.clone()
    }

    /// Sends what waits, and takes nothing more. What is not sent by then is not sent.
    pub(crate) async fn end(mut self, by: Instant) {
        self.all.iter().for_each(Forward::close);
        let ended = async { while self.running.join_next().await.is_some() {} };
        let _ = timeout_at(by, ended).await;
    }
}

impl Queue {
    /// The oldest metrics, as many as a batch holds, and one at least if there is one.
    fn take(&mut self) -> Vec<Metric> {
        let (mut batch, mut room) = (Vec::new(), BATCH);
        while let Some(metric) =
            self.waiting.pop_front_if(|metric| batch.is_empty() || metric.points.len() <= room)
        {
            room = room.saturating_sub(metric.points.len());
            self.points -= metric.points.len();
            batch.push(metric);
        }
        batch
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
    use serde_json::json;

    use super::*;
    use crate::metrics::select::tests::selected;

    /// One metric of this many points, of which the first says this.
    fn metric(first: usize, points: usize) -> Vec<Metric> {
        let mut points: Vec<_> = vec![json!({}); points];
        points[0] = json!({"asInt": first});
        selected(&json!([{"name": "proxy_connections", "gauge": {"dataPoints": points}}])).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_due_by_its_size_or_after_a_while() {
        let forward = Forward::default();
        let began = tokio::time::Instant::now();
        for first in 0..3 {
            forward.offer(metric(first, BATCH / 2));
        }
        assert_eq!(forward.batch().await.unwrap().len(), 2);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(forward.batch().await.unwrap().len(), 1);
        assert_eq!(began.elapsed(), COLLECT);
        forward.offer(metric(3, 2 * BATCH));
        forward.close();
        assert_eq!(forward.batch().await, Some(metric(3, 2 * BATCH)));
        assert_eq!(forward.batch().await, None);
        assert_eq!(began.elapsed(), COLLECT);
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let forward = Forward::default();
        for first in 0..=POINTS / 1000 {
            forward.offer(metric(first, 1000));
        }
        let full = POINTS / 1000 * 1000;
        {
            let queue = forward.queue();
            assert_eq!((queue.dropped, queue.points), (1000, full));
            assert_eq!(queue.waiting.front(), metric(1, 1000).first());
        }
        forward.close();
        forward.offer(metric(0, 7));
        let queue = forward.queue();
        assert_eq!((queue.dropped, queue.points), (1007, full), "too late");
    }
}
