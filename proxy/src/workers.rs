//! The threads that serve clients, one for each processor.
//!
//! A connection belongs to one thread from its first byte to its last, and so do the connections to the upstream that its
//! requests take ([`crate::forward`]): nothing that is done for a request wakes another thread. What is shared by all
//! requests (keys, limits, the ledger) is shared by threads as well. What computes for long belongs to
//! [`tokio::task::spawn_blocking`], here more than elsewhere.
//!
//! Must not know what is served.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

/// How long the threads may take to let go of what was cut off.
const END: Duration = Duration::from_secs(1);

/// What the threads are called.
const NAME: &str = "clients";

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;
type Job = Box<dyn FnOnce() -> Serving + Send>;

/// All of the threads.
pub(crate) struct Workers(Vec<Worker>);

struct Worker {
    /// Without a bound of its own: each job is a connection, and those have one.
    jobs: mpsc::UnboundedSender<Job>,
    open: Arc<AtomicUsize>,
    /// Resolves when the thread has ended.
    ended: oneshot::Receiver<()>,
}

impl Workers {
    /// Starts as many as there are processors.
    ///
    /// # Errors
    ///
    /// The system gives no thread, or nothing to wait for sockets with.
    pub(crate) fn start() -> io::Result<Self> {
        let number = std::thread::available_parallelism().map_or(1, usize::from);
        (0..number).map(|_| Worker::start()).collect::<io::Result<_>>().map(Self)
    }

    /// Has the thread with the fewest connections do it: `make` runs there, and so does what it makes.
    pub(crate) fn run<F>(&self, make: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(worker) = self.0.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed))
        else {
            return;
        };
        let place = Place::take(&worker.open);
        // Made where it is awaited: what is made elsewhere and moved in takes its room twice.
        let job = || {
            Box::pin(async move {
                make().await;
                drop(place);
            }) as Serving
        };
        // A thread takes jobs until its sender is gone.
        drop(worker.jobs.send(Box::new(job)));
    }

    /// Cuts off what still runs.
    pub(crate) async fn end(self) {
        let all: Vec<_> = self.0.into_iter().map(|worker| worker.ended).collect();
        if tokio::time::timeout(END, join_all(all)).await.is_err() {
            tracing::warn!("a thread did not let go of its connections");
        }
    }
}

impl Worker {
    fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let (ends, ended) = oneshot::channel();
        std::thread::Builder::new().name(NAME.to_owned()).spawn(move || {
            runtime.block_on(async {
                while let Some(job) = queue.recv().await {
                    tokio::spawn(job());
                }
            });
            // What blocks (a name that is looked up, a file) is not waited for.
            runtime.shutdown_background();
            drop(ends);
        })?;
        Ok(Self { jobs, open: Arc::default(), ended })
    }
}

/// A connection's place at a thread, given back on drop.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread::ThreadId;

    use super::*;

    async fn thread_of(workers: &Workers) -> (ThreadId, oneshot::Sender<()>) {
        let (send, there) = oneshot::channel();
        let (until, end) = oneshot::channel();
        workers.run(move || async move {
            let _ = send.send(std::thread::current().id());
            drop(end.await);
        });
        (there.await.unwrap(), until)
    }

    #[tokio::test]
    async fn connections_are_shared_out_evenly() {
        let workers = Workers::start().unwrap();
        let number = workers.0.len();
        let mut open = Vec::new();
        for _ in 0..number {
            open.push(thread_of(&workers).await);
        }
        let threads: HashSet<ThreadId> = open.iter().map(|(thread, _)| *thread).collect();
        assert_eq!(threads.len(), number);
        // The thread that has fewer again gets the next.
        let (freed, until) = open.swap_remove(0);
        drop(until);
        let all =
            || -> usize { workers.0.iter().map(|one| one.open.load(Ordering::Relaxed)).sum() };
        while all() >= number {
            tokio::task::yield_now().await;
        }
        assert_eq!(thread_of(&workers).await.0, freed);
        workers.end().await;
    }

    #[tokio::test]
    async fn what_still_runs_at_the_end_is_cut_off() {
        let workers = Workers::start().unwrap();
        let (_, until) = thread_of(&workers).await;
        workers.end().await;
        assert!(until.is_closed());
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_connection_only() {
        let workers = Workers::start().unwrap();
        for _ in 0..workers.0.len() {
            workers.run(|| async { panic!("of one connection") });
        }
        thread_of(&workers).await;
    }
}
