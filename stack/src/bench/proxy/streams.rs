//! Streams of server-sent events, many at a time: how soon each begins, how late each chunk is, and streams on which
//! nothing happens.
//!
//! Must not know what is measured of whoever passes them on.

use std::time::{Duration, Instant};

use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;

use super::client::{Client, Events, Target};
use super::model::now;
use crate::bench::BenchError;

/// Connections that are opened at the same time.
const OPENING: usize = 16;

/// Many streams begin within this time, not all at once: what then waits is the machine.
const SPREAD: Duration = Duration::from_secs(1);

/// How many streams, each of how many chunks, and the time between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    /// How many at a time.
    pub number: usize,
    /// Chunks of each.
    pub chunks: u32,
    /// The time between two chunks of a stream.
    pub pace: Duration,
}

/// What was seen of some streams.
#[derive(Default)]
pub(crate) struct Watched {
    /// From asking to the first event.
    pub(crate) first: Vec<Duration>,
    /// From a later chunk's sending to its arrival.
    pub(crate) delays: Vec<Duration>,
}

/// Watches them from their beginning to their end.
pub(crate) async fn watch(target: Target, streams: Streams) -> Result<Watched, BenchError> {
    let clients = opened(&target, streams.number).await?;
    let request = target.stream(streams.pace, streams.chunks);
    let begin = Instant::now();
    let mut running = JoinSet::new();
    let count = u32::try_from(clients.len()).unwrap_or(u32::MAX).max(1);
    for (number, client) in (0_u32..).zip(clients) {
        let (request, due) = (request.clone(), begin + SPREAD * number / count);
        running.spawn(async move {
            tokio::time::sleep_until(due.into()).await;
            follow(client, &request, streams.chunks).await
        });
    }
    let mut all = Watched::default();
    while let Some(ended) = running.join_next().await {
        let one = ended.map_err(|error| BenchError::Unexpected(error.to_string()))??;
        all.first.extend(one.first);
        all.delays.extend(one.delays);
    }
    Ok(all)
}

async fn follow(client: Client, request: &[u8], chunks: u32) -> Result<Watched, BenchError> {
    let begin = Instant::now();
    let mut events = client.open(request).await?;
    let (mut seen, mut number) = (Watched::default(), 0);
    loop {
        let stamps = events.stamps().await?;
        let arrived = now();
        if stamps.is_empty() {
            break;
        }
        for sent in stamps {
            if number == 0 {
                seen.first.push(begin.elapsed());
            } else {
                seen.delays.push(Duration::from_nanos(arrived.saturating_sub(sent)));
            }
            number += 1;
        }
    }
    if number == chunks {
        return Ok(seen);
    }
    Err(BenchError::Unexpected(format!("a stream had {number} chunks instead of {chunks}")))
}

/// Streams that have begun and on which nothing more happens, for as long as they are kept.
pub(crate) async fn idle(target: Target, number: usize) -> Result<Vec<Events>, BenchError> {
    let request = target.stream(Duration::ZERO, 0);
    let begun = futures_util::stream::iter(opened(&target, number).await?).map(|client| {
        let request = request.clone();
        async move {
            let mut events = client.open(&request).await?;
            let begun = !events.stamps().await?.is_empty();
            let ended = || BenchError::Unexpected("an idle stream ended at once".to_owned());
            begun.then_some(events).ok_or_else(ended)
        }
    });
    begun.buffer_unordered(OPENING).try_collect().await
}

async fn opened(target: &Target, number: usize) -> Result<Vec<Client>, BenchError> {
    let opened =
        futures_util::stream::iter(0..number).map(|number| Client::connect(target, number));
    opened.buffer_unordered(OPENING).try_collect().await
}
