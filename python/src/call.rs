//! A request under way: its body goes out, its answer comes in.

use std::convert::Infallible;

use bytes::Bytes;
use pyo3::exceptions::PyRuntimeError;
use pyo3::{Py, PyResult, Python, pyclass, pymethods};
use tokio::sync::mpsc;

use crate::failure::Failed;
use crate::pending::{Outcome, Pending};
use crate::upload::Piece;

/// A request that was begun. Whoever drops it without [`Call::finish`] gives its body up.
#[pyclass(frozen, module = "privatemode_confidential._native")]
pub(crate) struct Call {
    feed: Option<mpsc::Sender<Piece>>,
    answer: Py<Pending>,
}

impl Call {
    pub(crate) fn new(feed: Option<mpsc::Sender<Piece>>, answer: Py<Pending>) -> Self {
        Self { feed, answer }
    }

    fn feed(&self, piece: Piece) -> PyResult<Pending> {
        let feed = self.feed.clone();
        let feed = feed.ok_or_else(|| PyRuntimeError::new_err("this request has no body"))?;
        Pending::start(
            async move { Ok::<_, Never>(feed.send(piece).await.is_ok()) },
            Outcome::Wanted,
        )
    }
}

#[pymethods]
impl Call {
    /// Hands over the next piece of the body. `False` comes of it if the server wants no more.
    fn push(&self, piece: &[u8]) -> PyResult<Pending> {
        self.feed(Piece::Data(Bytes::copy_from_slice(piece)))
    }

    /// Says that the body is whole.
    fn finish(&self) -> PyResult<Pending> {
        self.feed(Piece::End)
    }

    /// Whether it has a body to feed.
    #[getter]
    fn with_body(&self) -> bool {
        self.feed.is_some()
    }

    /// The answer to be.
    #[getter]
    fn answer(&self, py: Python<'_>) -> Py<Pending> {
        self.answer.clone_ref(py)
    }
}

/// Feeding does not fail: a server that wants no more has answered, or the answer says what happened.
struct Never(Infallible);

impl From<Never> for Failed {
    fn from(never: Never) -> Self {
        match never.0 {}
    }
}
