//! Short questions on many connections: as many as can be answered, or so many a second.
//!
//! Must not know what is measured of whoever answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;

use super::client::{Client, Target};
use crate::bench::BenchError;

/// Connections that are opened at the same time.
const OPENING: usize = 16;

/// How often each connection asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    /// As soon as it has its answer.
    Saturating,
    /// So often a second, all connections together.
    PerSecond(u32),
}

/// Open connections to one target.
pub(crate) struct Fleet {
    clients: Vec<Client>,
    request: Arc<[u8]>,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    /// One for each answer.
    pub(crate) times: Vec<Duration>,
    pub(crate) elapsed: Duration,
}

impl Fleet {
    /// Opens them, and asks once on each.
    pub(crate) async fn connect(target: Target, connections: usize) -> Result<Self, BenchError> {
        let request = target.question();
        let opened = futures_util::stream::iter(0..connections).map(|number| {
            let (target, request) = (target.clone(), request.clone());
            async move {
                let mut client = Client::connect(&target, number).await?;
                client.ask(&request).await?;
                Ok::<_, BenchError>(client)
            }
        });
        let clients = opened.buffer_unordered(OPENING).try_collect().await?;
        Ok(Self { clients, request })
    }

    /// Asks for so long, and returns the connections as well.
    pub(crate) async fn run(
        mut self,
        rate: Rate,
        duration: Duration,
    ) -> Result<(Self, Outcome), BenchError> {
        let begin = Instant::now();
        let count = u32::try_from(self.clients.len()).unwrap_or(u32::MAX).max(1);
        let mut running = JoinSet::new();
        for (number, client) in (0..).zip(self.clients.drain(..)) {
            let request = self.request.clone();
            let plan = Plan { begin, end: begin + duration, rate, number, count };
            running.spawn(async move { plan.run(client, &request).await });
        }
        let mut outcome = Outcome::default();
        while let Some(ended) = running.join_next().await {
            let ended = ended.map_err(|error| BenchError::Unexpected(error.to_string()))?;
            let (client, times) = ended?;
            self.clients.push(client);
            outcome.times.extend(times);
        }
        outcome.elapsed = begin.elapsed();
        Ok((self, outcome))
    }
}

/// What one connection does.
struct Plan {
    begin: Instant,
    end: Instant,
    rate: Rate,
    number: u32,
    count: u32,
}

impl Plan {
    async fn run(
        self,
        mut client: Client,
        request: &[u8],
    ) -> Result<(Client, Vec<Duration>), BenchError> {
        let mut times = Vec::new();
        loop {
            if let Rate::PerSecond(rate) = self.rate {
                let turn = u32::try_from(times.len()).unwrap_or(u32::MAX);
                let place = f64::from(turn) * f64::from(self.count) + f64::from(self.number);
                let due = self.begin + Duration::from_secs_f64(place / f64::from(rate.max(1)));
                if due >= self.end {
                    break;
                }
                tokio::time::sleep_until(due.into()).await;
            }
            if Instant::now() >= self.end {
                break;
            }
            times.push(client.ask(request).await?);
        }
        Ok((client, times))
    }
}
