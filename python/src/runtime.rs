//! The threads that do the network's work, one set a process; and when they have to let the interpreter alone.
//!
//! A process that was forked has a copy of its parent's memory and none of its threads: whatever waits for one of those
//! waits for ever. So every process makes its own, when it first needs them.

use std::sync::{Mutex, PoisonError, RwLock};

use pyo3::{Python, pyfunction};
use tokio::runtime::{Builder, Runtime};

/// Threads that run what takes time. Few are enough: none of them ever waits.
const WORKERS: usize = 2;

/// Threads that may wait: for the interpreter's lock, to tell an event loop; for the resolver of names.
const WAITERS: usize = 16;

/// What one process has.
pub(crate) struct Threads {
    process: u32,
    pub(crate) runtime: Runtime,
    /// Whether the interpreter is going away. Who calls into it holds this for reading meanwhile.
    over: RwLock<bool>,
}

static THREADS: Mutex<Option<&'static Threads>> = Mutex::new(None);

impl Threads {
    /// Those of this process.
    ///
    /// # Errors
    ///
    /// The operating system gives no thread.
    pub(crate) fn own() -> std::io::Result<&'static Self> {
        let mut slot = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        match *slot {
            Some(threads) if threads.process == process => Ok(threads),
            // A parent's are left as they are: they are not here to be stopped.
            _ => {
                let runtime = Builder::new_multi_thread()
                    .worker_threads(WORKERS)
                    .max_blocking_threads(WAITERS)
                    .thread_name("privatemode")
                    .enable_all()
                    .build()?;
                let threads = Self { process, runtime, over: RwLock::new(false) };
                let threads: &'static Self = Box::leak(Box::new(threads));
                *slot = Some(threads);
                Ok(threads)
            }
        }
    }

    /// Calls into the interpreter from a thread of ours, unless it is going away: a thread that asks for its lock then
    /// is ended by it in the middle of our code.
    pub(crate) fn tell(&self, call: impl FnOnce(Python<'_>)) {
        let over = self.over.read().unwrap_or_else(PoisonError::into_inner);
        if !*over {
            let _ = Python::try_attach(call);
        }
    }
}

/// To be called while the interpreter still runs, before it goes away: waits until no thread of ours is in it, and lets
/// none in any more.
#[pyfunction]
pub(crate) fn let_go(py: Python<'_>) {
    let threads = *THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let own = threads.filter(|threads| threads.process == std::process::id());
    if let Some(threads) = own {
        // Who is in there may wait for the interpreter's lock.
        py.detach(|| *threads.over.write().unwrap_or_else(PoisonError::into_inner) = true);
    }
}
