//! The attested connections to one server that requests share: few, each proved, proved again before its proof is
//! too old, and made anew when it is gone.
//!
//! Whoever has no proved connection waits for one attempt, which all who wait share; whoever has one never waits.
//! This module must not know what is sent on them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use attestation::connection::ProvenConnection;
use tokio::sync::{Notify, Semaphore, watch};

use crate::clock;
use crate::connection::{AttestedConnection, AttestedSender, ConnectError, Connector, Proof};
use crate::identity::Identity;
use crate::mutual::ProveSelfError;
use crate::tasks::Tasks;
use crate::verdict::Judged;

/// Connections to one server. There is a second one only if all streams of the first are taken.
const CONNECTIONS: usize = 4;

/// Requests that run on one connection at once, if the server lets as many (RFC 9113, 6.5.2: it should let 100).
const STREAMS: usize = 100;

/// Requests that may wait for a connection or a stream of one.
const WAITING: usize = 1024;

/// How long one of them waits. An attempt at a connection ends earlier by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long before another attempt at an early proof, if one gave no verdict.
const PAUSE: Duration = Duration::from_secs(15);

/// Attested connections to one server.
pub(crate) struct Pool {
    connector: Connector,
    state: Mutex<State>,
    /// Somebody gave a stream back.
    freed: Arc<Notify>,
    waiting: Semaphore,
    /// It is another group now, and nothing is sent to it any more.
    changed: watch::Sender<Option<Arc<ConnectError>>>,
}

struct State {
    held: Vec<Held>,
    /// What drives each connection on which something may be under way, whether or not it takes further requests.
    driven: Vec<(Weak<()>, Tasks)>,
    /// A connection is being made or proved, for all who wait.
    attempt: Option<Attempt>,
    newest: Arc<ProvenConnection>,
    judged: Judged,
    /// The name of the next connection.
    next: u64,
}

struct Held {
    name: u64,
    connection: AttestedConnection,
    /// A clone for each stream in use.
    streams: Arc<()>,
    /// When an early proof was last asked for.
    renewal: Option<Duration>,
}

/// Why there is no connection. Nothing was sent.
#[derive(Clone)]
pub(crate) enum Unavailable {
    /// None could be made.
    Unproven(Arc<ConnectError>),
    /// One whose proof had become too old was not proved again, and takes no request any more.
    NotRenewed(Arc<ConnectError>),
    /// Every stream is in use, or too many wait.
    Busy,
}

/// The outcome of an attempt, once there is one.
type Attempt = watch::Receiver<Option<Result<(), Unavailable>>>;

/// A stream of a connection that is proved now.
pub(crate) struct Lease {
    pub(crate) sender: AttestedSender,
    pub(crate) proof: Arc<ProvenConnection>,
    pub(crate) stream: Stream,
}

/// Keeps a stream taken. Its parts are dropped in this order: the stream is free before somebody hears of it.
pub(crate) struct Stream {
    _taken: Arc<()>,
    _freed: Freed,
}

struct Freed(Arc<Notify>);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

enum Step {
    Ready(Lease),
    Over(Arc<ConnectError>),
    Attempt(Attempt),
    Full,
}

impl Pool {
    /// Verifies first.
    pub(crate) async fn start(connector: Connector) -> Result<Arc<Self>, ConnectError> {
        let connection = connector.connect().await?;
        Ok(Self::with(connector, connection))
    }

    /// Verifies first, and takes no other group than this one from then on.
    pub(crate) async fn start_remembering(
        mut connector: Connector,
    ) -> Result<Arc<Self>, ConnectError> {
        let connection = connector.connect().await?;
        connector.remember(Identity::clone(connection.identity()));
        Ok(Self::with(connector, connection))
    }

    fn with(connector: Connector, connection: AttestedConnection) -> Arc<Self> {
        let newest = connection.proof().clone();
        let judged = Judged { at: clock::unix_now(), outcome: Ok(newest.clone()) };
        let mut state =
            State { held: Vec::new(), driven: Vec::new(), attempt: None, newest, judged, next: 0 };
        state.hold(connection, Arc::default());
        Arc::new(Self {
            connector,
            state: Mutex::new(state),
            freed: Arc::default(),
            waiting: Semaphore::new(WAITING),
            changed: watch::Sender::new(None),
        })
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The newest proof.
    pub(crate) fn proof(&self) -> Arc<ProvenConnection> {
        self.state().newest.clone()
    }

    /// The last judgement of the server, or why there was none.
    pub(crate) fn judged(&self) -> Judged {
        self.state().judged.clone()
    }

    /// Waits until the server is another group than the one that is remembered; says how.
    pub(crate) async fn changed(&self) -> Arc<ConnectError> {
        let mut changed = self.changed.subscribe();
        let change = changed.wait_for(Option::is_some).await.ok().and_then(|is| is.clone());
        change.expect("the sender is a part of this pool, which is borrowed")
    }

    /// Has the server prove itself on a connection of its own, beside those that requests use.
    pub(crate) async fn verify_again(&self) -> Result<Arc<ProvenConnection>, Arc<ConnectError>> {
        let outcome = self.connector.verify().await;
        let outcome = outcome.map(|made| made.proof().clone()).map_err(Arc::new);
        self.note(&mut self.state(), &outcome);
        outcome
    }

    /// Nothing is sent any more, and what is under way is cut.
    pub(crate) fn block(&self, why: Arc<ConnectError>) {
        self.end(&mut self.state(), why);
    }

    fn end(&self, state: &mut State, why: Arc<ConnectError>) {
        self.changed.send_replace(Some(why));
        state.held.clear();
        for (_, drivers) in state.driven.drain(..) {
            drivers.cut();
        }
    }

    fn note(&self, state: &mut State, outcome: &Result<Arc<ProvenConnection>, Arc<ConnectError>>) {
        // That it does not take this program says nothing of its own proof, which was good.
        if !matches!(outcome, Err(error) if matches!(**error, ConnectError::NotAccepted(..))) {
            state.judged = Judged { at: clock::unix_now(), outcome: outcome.clone() };
        }
        match outcome {
            Ok(proof) => state.newest = proof.clone(),
            Err(error) if error.is_another_group() => self.end(state, error.clone()),
            // The group does not say for now what it said before: no new requests until it does. Answers may end.
            Err(error) if matches!(**error, ConnectError::Changed(..)) => state.held.clear(),
            Err(_) => {}
        }
    }

    /// A stream on a connection whose proof stands, or was asked for after this was called.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease, Unavailable> {
        let asked = clock::since_boot();
        if let Some(lease) = self.take(&mut self.state(), asked) {
            return Ok(lease);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| Unavailable::Busy)?;
        let lease = tokio::time::timeout(PATIENCE, self.wait(asked)).await;
        lease.unwrap_or(Err(Unavailable::Busy))
    }

    async fn wait(self: &Arc<Self>, asked: Duration) -> Result<Lease, Unavailable> {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on nothing that becomes free goes unheard.
            freed.as_mut().enable();
            match self.step(asked) {
                Step::Ready(lease) => return Ok(lease),
                Step::Over(change) => return Err(Unavailable::Unproven(change)),
                Step::Attempt(attempt) => tokio::select! {
                    outcome = self.outcome(attempt) => outcome?,
                    // A connection that is proved has room again: who waits for another one need not.
                    () = freed => {}
                },
                Step::Full => freed.await,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked left every part as it was or as it should be.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(self: &Arc<Self>, asked: Duration) -> Step {
        let mut state = self.state();
        if let Some(change) = self.changed.borrow().as_ref() {
            return Step::Over(change.clone());
        }
        if let Some(lease) = self.take(&mut state, asked) {
            return Step::Ready(lease);
        }
        // One that died without an outcome is none: nobody must wait for it for ever.
        if let Some(attempt) = state.attempt.as_ref().filter(|one| one.has_changed().is_ok()) {
            return Step::Attempt(attempt.clone());
        }
        let stale = state.held.iter().position(|held| !self.stands(held, asked));
        if stale.is_none() && state.held.len() >= CONNECTIONS {
            return Step::Full;
        }
        let stale = stale.map(|at| state.held.swap_remove(at));
        let attempt = self.attempt(stale);
        state.attempt = Some(attempt.clone());
        Step::Attempt(attempt)
    }

    fn stands(&self, held: &Held, asked: Duration) -> bool {
        held.connection.age() < self.connector.max_age() || held.connection.is_proved_since(asked)
    }

    fn take(self: &Arc<Self>, state: &mut State, asked: Duration) -> Option<Lease> {
        if self.changed.borrow().is_some() {
            return None;
        }
        state.held.retain(|held| held.connection.is_open());
        let held =
            state.held.iter_mut().find(|held| self.stands(held, asked) && held.has_room())?;
        self.renew_early(held);
        let stream = Stream { _taken: held.streams.clone(), _freed: Freed(self.freed.clone()) };
        let proof = held.connection.proof().clone();
        Some(Lease { sender: held.connection.sender(), proof, stream })
    }

    /// Makes a connection, or proves one again whose proof is too old, whether or not somebody still waits for it.
    fn attempt(self: &Arc<Self>, stale: Option<Held>) -> Attempt {
        let (done, attempt) = watch::channel(None);
        let pool = self.clone();
        tokio::spawn(async move {
            let mut unavailable: fn(_) -> _ = Unavailable::Unproven;
            let mut made = None;
            if let Some(Held { connection, streams, .. }) = stale {
                let outcome = connection.renew(&pool.connector).await;
                // A connection that went silent or broke off says nothing of the server: it may be reached anew.
                let is_gone = match &outcome {
                    Err(ConnectError::TimedOut(_) | ConnectError::Http(..)) => true,
                    Err(ConnectError::NotAccepted(_, why)) => {
                        matches!(**why, ProveSelfError::NoAnswer(_))
                    }
                    _ => false,
                };
                if !is_gone {
                    unavailable = Unavailable::NotRenewed;
                    made = Some((outcome, streams));
                }
            }
            let (outcome, streams) = match made {
                Some(renewed) => renewed,
                None => (pool.connector.connect().await, Arc::default()),
            };
            let outcome = outcome.map_err(Arc::new);
            let mut state = pool.state();
            state.attempt = None;
            let noted = outcome.as_ref().map(|made| made.proof().clone()).map_err(Arc::clone);
            pool.note(&mut state, &noted);
            let outcome = outcome.map(|connection| {
                if pool.changed.borrow().is_some() {
                    // Everything ended while this one was proved.
                    connection.unproven().cut();
                } else {
                    state.hold(connection, streams);
                }
            });
            drop(state);
            done.send_replace(Some(outcome.map_err(unavailable)));
        });
        attempt
    }

    async fn outcome(&self, mut attempt: Attempt) -> Result<(), Unavailable> {
        // An attempt ends by itself: dialling and proof have their deadlines.
        let outcome = attempt.wait_for(Option::is_some).await.ok().and_then(|done| done.clone());
        outcome.unwrap_or_else(|| {
            let target = self.connector.target().clone();
            Err(Unavailable::Unproven(Arc::new(ConnectError::TimedOut(target))))
        })
    }

    /// Proves a connection again before its proof is too old, so that nobody has to wait for that. A refusal, or another
    /// group, cuts it at once; if there is no verdict, its last proof stands as long as it would have.
    fn renew_early(self: &Arc<Self>, held: &mut Held) {
        let now = clock::since_boot();
        let (age, max_age) = (held.connection.age(), self.connector.max_age());
        let is_due = (max_age.mul_f32(0.8)..max_age).contains(&age)
            && held.renewal.is_none_or(|last| now.saturating_sub(last) > PAUSE);
        if !is_due {
            return;
        }
        held.renewal = Some(now);
        let (pool, name, unproven) = (self.clone(), held.name, held.connection.unproven());
        tokio::spawn(async move {
            let outcome = unproven.judged(&pool.connector).await.map_err(Arc::new);
            let mut state = pool.state();
            let noted = outcome.as_ref().map(|proof| proof.proven.clone()).map_err(Arc::clone);
            pool.note(&mut state, &noted);
            match outcome {
                Ok(proof) => state.renewed(name, proof),
                Err(error) if error.is_final() => {
                    unproven.cut();
                    state.held.retain(|held| held.name != name);
                }
                Err(_) => {}
            }
        });
    }
}

impl State {
    fn hold(&mut self, connection: AttestedConnection, streams: Arc<()>) {
        let own = Arc::downgrade(&streams);
        // Nothing runs on the others any more; and one that was proved again is driven as before.
        self.driven.retain(|(other, _)| other.strong_count() > 0 && !other.ptr_eq(&own));
        self.driven.push((own, connection.unproven().drivers()));
        self.held.push(Held { name: self.next, connection, streams, renewal: None });
        self.next += 1;
    }

    fn renewed(&mut self, name: u64, proof: Proof) {
        if let Some(held) = self.held.iter_mut().find(|held| held.name == name) {
            held.connection.put(proof);
            held.renewal = None;
        }
    }
}

impl Held {
    fn has_room(&self) -> bool {
        // One stream of the server's is left for the next proof; else long answers could keep it from being given.
        let most = self.connection.most_streams().saturating_sub(1).clamp(1, STREAMS);
        Arc::strong_count(&self.streams) <= most
    }
}
