//! Something that is under way: a thread waits for it, or an event loop is told when it is done.
//!
//! This module must not know what is under way.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError};
use pyo3::types::PyBytes;
use pyo3::{IntoPyObjectExt as _, Py, PyAny, PyResult, Python, pyclass, pymethods};
use tokio::task::AbortHandle;

use crate::answer::Answer;
use crate::failure::Failed;
use crate::runtime::Threads;

/// How long a waiting thread sleeps before it looks for signals: Ctrl-C must not wait for a model.
const SLICE: Duration = Duration::from_millis(100);

/// What comes of it.
pub(crate) enum Outcome {
    /// Whether the other end still wants more.
    Wanted(bool),
    /// A piece of a body, or its end.
    Piece(Option<Bytes>),
    /// A document.
    Text(String),
    /// The beginning of an answer.
    Answer(Answer),
}

enum State {
    Running(Option<Py<PyAny>>),
    Done(Result<Outcome, Failed>),
    Taken,
}

struct Shared {
    state: Mutex<State>,
    done: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment: whoever panicked left a whole state behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first end counts. Returns whom to tell.
    fn end(&self, result: Result<Outcome, Failed>) -> Option<Py<PyAny>> {
        let mut state = self.state();
        let State::Running(callback) = &mut *state else { return None };
        let callback = callback.take();
        *state = State::Done(result);
        self.done.notify_all();
        callback
    }
}

/// Ends it when the task ends, also one that panics or is aborted: nobody waits for ever.
struct Completion {
    shared: Arc<Shared>,
    threads: &'static Threads,
}

impl Completion {
    fn complete(&self, result: Result<Outcome, Failed>) {
        if let Some(callback) = self.shared.end(result) {
            let threads = self.threads;
            // A thread that waits for the interpreter's lock must not be one that moves bytes. A loop that is closed
            // has nobody left to be told.
            threads.runtime.spawn_blocking(move || threads.tell(|py| drop(callback.call0(py))));
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.complete(Err(Failed::stopped()));
    }
}

/// Something under way. It has one taker.
#[pyclass(frozen, module = "privatemode_confidential._native")]
pub(crate) struct Pending {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Pending {
    /// Begins it.
    pub(crate) fn start<T, E>(
        work: impl Future<Output = Result<T, E>> + Send + 'static,
        outcome: fn(T) -> Outcome,
    ) -> PyResult<Self>
    where
        T: 'static,
        E: Into<Failed>,
    {
        let state = Mutex::new(State::Running(None));
        let shared = Arc::new(Shared { state, done: Condvar::new() });
        let threads = Threads::own()?;
        let completion = Completion { shared: shared.clone(), threads };
        let task = threads.runtime.spawn(async move {
            let result = work.await;
            completion.complete(result.map(outcome).map_err(Into::into));
        });
        Ok(Self { shared, task: task.abort_handle() })
    }

    fn take(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let result = {
            let mut state = self.shared.state();
            match std::mem::replace(&mut *state, State::Taken) {
                State::Done(result) => result,
                other @ (State::Running(_) | State::Taken) => {
                    *state = other;
                    return Err(PyRuntimeError::new_err("it is not done, or was taken"));
                }
            }
        };
        match result? {
            Outcome::Wanted(wanted) => wanted.into_py_any(py),
            Outcome::Piece(piece) => piece.map(|piece| PyBytes::new(py, &piece)).into_py_any(py),
            Outcome::Text(text) => text.into_py_any(py),
            Outcome::Answer(answer) => answer.into_py_any(py),
        }
    }

    /// Whether it is done after at most this time.
    fn is_done_within(&self, time: Duration) -> bool {
        let running = |state: &mut State| matches!(state, State::Running(_));
        let waited = self.shared.done.wait_timeout_while(self.shared.state(), time, running);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// What is too long for a duration, as infinity, is no limit; what is negative or no number is over at once.
fn duration(seconds: f64) -> Duration {
    let longest = if seconds > 0.0 { Duration::MAX } else { Duration::ZERO };
    Duration::try_from_secs_f64(seconds).unwrap_or(longest)
}

/// Whoever lets go of it wants it no more.
impl Drop for Pending {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[pymethods]
impl Pending {
    /// Waits at most so many seconds, without the interpreter's lock, and returns what came of it. After `TimeoutError`
    /// it is still under way.
    #[pyo3(signature = (seconds = None))]
    fn wait(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<Py<PyAny>> {
        let mut left = seconds.map(duration);
        loop {
            let slice = left.map_or(SLICE, |left| left.min(SLICE));
            if py.detach(|| self.is_done_within(slice)) {
                return self.take(py);
            }
            py.check_signals()?;
            if let Some(left) = &mut left {
                *left = left.saturating_sub(slice);
                if left.is_zero() {
                    return Err(PyTimeoutError::new_err("not done in time"));
                }
            }
        }
    }

    /// Has a callable called when it is done, from another thread; at once, from this one, if it is.
    fn when_done(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        {
            let mut state = self.shared.state();
            if let State::Running(told) = &mut *state {
                *told = Some(callback);
                return Ok(());
            }
        }
        callback.call0(py).map(drop)
    }

    /// What came of it.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.take(py)
    }

    /// Stops it. What it holds is given back, and a request that is under way is cancelled at the server.
    fn stop(&self) {
        self.task.abort();
    }
}
