//! Proofs that wait, in batches: whatever waits while one call to `attest-sidecar` is under way goes into the next one.
//!
//! One call at a time, so that whoever comes waits for the report that is being made and for its own, and for nothing
//! else. A call has a greatest size, and the queue has an end. While they suffice for all, nobody notices; when they do
//! not, connections that have no proof yet go before those that ask again, and take their places.
//!
//! Nothing is kept: a batch is gone with its last answer. This module must not know how evidence is made.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attestation::Evidence;
use attestation::merkle::Inclusion;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use crate::answer::Opening;
use crate::attest::{AttestError, ChannelFacts};
use crate::error::Refusal;

/// Proofs in one call: what `attest-sidecar` takes.
const MAX_BATCH: usize = 4096;

/// Proofs that may wait, of all connections.
const MAX_WAITING: usize = 8192;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(20);

/// How long one proof may take: the call that is under way, and the two that a full queue needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a proof consists of.
pub(crate) struct Proof {
    /// The answer's beginning, which all of its batch share.
    pub(crate) opening: Opening,
    /// Where the connection stands in the batch.
    pub(crate) inclusion: Inclusion,
}

/// Where proofs wait. The calls end with it.
pub(crate) struct Batches {
    shared: Arc<Shared>,
    calls: AbortHandle,
}

struct Shared {
    queue: Mutex<Queue>,
    more: Notify,
}

/// A connection that waits for its proof.
struct Ask {
    facts: ChannelFacts,
    answer: oneshot::Sender<Result<Proof, Refusal>>,
}

impl Batches {
    /// Proves by `make`, which is called with the facts of a batch and returns one inclusion for each, in their order.
    pub(crate) fn start<M, R>(make: M) -> Self
    where
        M: Fn(Vec<ChannelFacts>) -> R + Send + 'static,
        R: Future<Output = Result<(Evidence, Vec<Inclusion>), AttestError>> + Send + 'static,
    {
        let shared = Arc::new(Shared { queue: Mutex::default(), more: Notify::new() });
        let calls = tokio::spawn(prove_all(shared.clone(), make)).abort_handle();
        Self { shared, calls }
    }

    /// A proof of a connection; `first` if it has had none yet.
    pub(crate) async fn prove(&self, facts: ChannelFacts, first: bool) -> Result<Proof, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.shared.queue().add(Ask { facts, answer }, first);
        self.shared.more.notify_one();
        // A sender that is gone said no: the queue is at its end.
        tokio::time::timeout(PATIENCE, answered)
            .await
            .map_err(|_| Refusal::NoEvidence)?
            .map_err(|_| Refusal::NoEvidence)?
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.calls.abort();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next batch, never empty.
    async fn next(&self) -> Vec<Ask> {
        loop {
            let batch = self.queue().take();
            if !batch.is_empty() {
                return batch;
            }
            self.more.notified().await;
        }
    }
}

async fn prove_all<M, R>(shared: Arc<Shared>, make: M)
where
    M: Fn(Vec<ChannelFacts>) -> R,
    R: Future<Output = Result<(Evidence, Vec<Inclusion>), AttestError>>,
{
    loop {
        let batch = shared.next().await;
        let facts = batch.iter().map(|ask| ask.facts).collect();
        match tokio::time::timeout(CALL, make(facts)).await {
            Ok(Ok((evidence, inclusions))) => {
                let opening = Opening::of(&evidence);
                for (ask, inclusion) in batch.into_iter().zip(inclusions) {
                    let _ = ask.answer.send(Ok(Proof { opening: opening.clone(), inclusion }));
                }
            }
            Ok(Err(error)) => {
                let busy = error.is_busy();
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, busy, proofs = batch.len(), "no proof was made");
            }
            Err(_) => {
                tracing::warn!(proofs = batch.len(), "attest-sidecar took too long for proofs");
            }
        }
        // Whoever got none is told by the end of its channel.
    }
}

/// Who waits, in two rows: those without a proof, and those who ask again.
#[derive(Default)]
struct Queue {
    first: VecDeque<Ask>,
    again: VecDeque<Ask>,
}

impl Queue {
    /// Lets one wait. Without a place left it is dropped, or, if it is a first one, the latest of the others is.
    fn add(&mut self, ask: Ask, first: bool) {
        if self.len() >= MAX_WAITING {
            // Whoever went away meanwhile keeps no place.
            self.first.retain(|ask| !ask.answer.is_closed());
            self.again.retain(|ask| !ask.answer.is_closed());
        }
        let full = self.len() >= MAX_WAITING;
        if full && !(first && self.again.pop_back().is_some()) {
            return;
        }
        let row = if first { &mut self.first } else { &mut self.again };
        row.push_back(ask);
    }

    fn len(&self) -> usize {
        self.first.len() + self.again.len()
    }

    /// The next batch: those without a proof, then the others. Whoever went away meanwhile is passed over.
    fn take(&mut self) -> Vec<Ask> {
        let next = || self.first.pop_front().or_else(|| self.again.pop_front());
        std::iter::from_fn(next).filter(|ask| !ask.answer.is_closed()).take(MAX_BATCH).collect()
    }
}

#[cfg(test)]
mod tests {
    use attestation::merkle::Tree;
    use tokio::sync::mpsc;

    use super::*;

    fn facts(n: u16) -> ChannelFacts {
        let mut nonce = [0; 32];
        nonce[..2].copy_from_slice(&n.to_be_bytes());
        ChannelFacts {
            nonce,
            exporter: [0; 32],
            spki_sha256: [0; 32],
            certificate_sha256: [0; 32],
            manifest_sha256: [0; 32],
        }
    }

    fn number(facts: &ChannelFacts) -> u16 {
        u16::from_be_bytes([facts.nonce[0], facts.nonce[1]])
    }

    /// A maker that says whom it is called for, and answers when it is told to.
    struct Stepped {
        batches: Arc<Batches>,
        called: mpsc::UnboundedReceiver<Vec<u16>>,
        go: mpsc::UnboundedSender<bool>,
    }

    fn stepped() -> Stepped {
        let (calls, called) = mpsc::unbounded_channel();
        let (go, steps) = mpsc::unbounded_channel::<bool>();
        let steps = Arc::new(tokio::sync::Mutex::new(steps));
        let batches = Batches::start(move |facts: Vec<ChannelFacts>| {
            let (calls, steps) = (calls.clone(), steps.clone());
            async move {
                calls.send(facts.iter().map(number).collect()).unwrap();
                if !steps.lock().await.recv().await.unwrap() {
                    return Err(AttestError::Incomplete("anything"));
                }
                let leaves: Vec<_> = facts.iter().map(|one| one.nonce.to_vec()).collect();
                Ok((Evidence::default(), Tree::new(&leaves).unwrap().inclusions))
            }
        });
        Stepped { batches: Arc::new(batches), called, go }
    }

    type Waiting = tokio::task::JoinHandle<Result<Proof, Refusal>>;

    impl Stepped {
        /// Asks, and returns once the question waits.
        async fn ask(&self, n: u16, first: bool) -> Waiting {
            let waiting = |batches: &Batches| {
                let queue = batches.shared.queue();
                queue.first.len() + queue.again.len()
            };
            let before = waiting(&self.batches);
            let batches = self.batches.clone();
            let asked = tokio::spawn(async move { batches.prove(facts(n), first).await });
            while waiting(&self.batches) == before && before < MAX_WAITING {
                tokio::task::yield_now().await;
            }
            asked
        }

        /// One that is under way, so that all others wait.
        async fn busy(&mut self) -> Waiting {
            let batches = self.batches.clone();
            let first = tokio::spawn(async move { batches.prove(facts(0), true).await });
            assert_eq!(self.called.recv().await, Some(vec![0]));
            first
        }
    }

    #[tokio::test]
    async fn whoever_waits_shares_the_next_call_and_its_evidence() {
        let mut stepped = stepped();
        let first = stepped.busy().await;
        let mut others = Vec::new();
        for n in 1..=50 {
            others.push(stepped.ask(n, n % 2 == 0).await);
        }
        stepped.go.send(true).unwrap();
        assert_eq!(first.await.unwrap().ok().unwrap().inclusion.size, 1);
        let called = stepped.called.recv().await.unwrap();
        stepped.go.send(true).unwrap();
        let mut openings = Vec::new();
        for (n, other) in (1..=50).zip(others) {
            let Proof { opening, inclusion } = other.await.unwrap().ok().unwrap();
            assert_eq!(called[usize::try_from(inclusion.index).unwrap()], n);
            openings.push(opening.bytes().as_ptr());
        }
        openings.dedup();
        assert_eq!(openings.len(), 1, "the evidence was written once");
        assert!(stepped.called.try_recv().is_err(), "two calls for fifty-one connections");
    }

    /// Connections that ask again and again fill the queue; whoever has no proof yet is in the next call all the same.
    #[tokio::test]
    async fn a_flood_of_those_who_ask_again_delays_no_first_proof() {
        let mut stepped = stepped();
        let under_way = stepped.busy().await;
        let mut flood = Vec::new();
        for n in 0..u16::try_from(MAX_WAITING).unwrap() {
            flood.push(stepped.ask(10_000 + n, false).await);
        }
        let one_more = stepped.batches.prove(facts(1), false).await;
        assert!(matches!(one_more, Err(Refusal::NoEvidence)), "the queue has an end");
        flood.pop().unwrap().abort();
        tokio::task::yield_now().await;
        let in_its_place = stepped.ask(3, false).await;
        flood.push(in_its_place);
        let newcomer = stepped.ask(2, true).await;
        let displaced = flood.pop().unwrap().await.unwrap();
        assert!(matches!(displaced, Err(Refusal::NoEvidence)), "the latest made room");

        stepped.go.send(true).unwrap();
        under_way.await.unwrap().ok().unwrap();
        let next = stepped.called.recv().await.unwrap();
        assert_eq!((next.len(), next[0], next[1]), (MAX_BATCH, 2, 10_000));
        stepped.go.send(true).unwrap();
        assert_eq!(newcomer.await.unwrap().ok().unwrap().inclusion.index, 0);
        stepped.go.send(true).unwrap();
        for waiting in flood {
            waiting.await.unwrap().ok().unwrap();
        }
    }

    #[tokio::test]
    async fn a_failed_call_fails_its_own_batch_only() {
        let mut stepped = stepped();
        let first = stepped.busy().await;
        let second = stepped.ask(1, true).await;
        stepped.go.send(false).unwrap();
        assert!(matches!(first.await.unwrap(), Err(Refusal::NoEvidence)));
        stepped.go.send(true).unwrap();
        assert!(second.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn whoever_went_away_is_not_proved() {
        let mut stepped = stepped();
        let first = stepped.busy().await;
        let gone = stepped.ask(1, true).await;
        let stays = stepped.ask(2, true).await;
        gone.abort();
        assert!(gone.await.is_err());
        stepped.go.send(true).unwrap();
        first.await.unwrap().ok().unwrap();
        assert_eq!(stepped.called.recv().await, Some(vec![2]));
        stepped.go.send(true).unwrap();
        stays.await.unwrap().ok().unwrap();
    }
}
