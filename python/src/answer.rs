//! An answer: its head, and its body as it comes.

use std::sync::Arc;

use bytes::Bytes;
use client::ResponseBody;
use http::Response;
use http_body_util::BodyExt as _;
use pyo3::types::PyBytes;
use pyo3::{Bound, PyResult, Python, pyclass, pymethods};
use tokio::sync::{Mutex, Notify};

use crate::failure::{Failed, Kind};
use crate::pending::{Outcome, Pending};
use crate::runtime::Threads;

/// An answer. Nothing of its body is read before somebody asks for it, but what HTTP/2 lets a server send ahead.
#[pyclass(frozen, module = "privatemode_confidential._native")]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(Bytes, Bytes)>,
    body: Arc<Body>,
}

struct Body {
    stage: Mutex<Stage>,
    closed: Notify,
}

enum Stage {
    /// More may come.
    Open(ResponseBody),
    /// It came to its end.
    Whole,
    /// It broke off, or somebody closed it, before that: what was read is not the whole.
    Closed,
}

impl From<Response<ResponseBody>> for Answer {
    fn from(response: Response<ResponseBody>) -> Self {
        let (parts, body) = response.into_parts();
        let owned = Bytes::copy_from_slice;
        let headers = parts.headers.iter();
        Self {
            status: parts.status.as_u16(),
            headers: headers
                .map(|(name, value)| (owned(name.as_str().as_bytes()), owned(value.as_bytes())))
                .collect(),
            body: Arc::new(Body { stage: Mutex::new(Stage::Open(body)), closed: Notify::new() }),
        }
    }
}

impl Body {
    /// The next piece, `None` at the end and after it. Stopped in the middle, nothing of the body is lost.
    async fn piece(&self) -> Result<Option<Bytes>, Failed> {
        let mut stage = self.stage.lock().await;
        loop {
            let body = match &mut *stage {
                Stage::Open(body) => body,
                Stage::Whole => return Ok(None),
                Stage::Closed => return Err(Failed::stopped()),
            };
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = self.closed.notified() => {
                    stage.close();
                    continue;
                }
            };
            match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                Some(Ok(Ok(data))) if data.is_empty() => {}
                Some(Ok(Ok(data))) => return Ok(Some(data)),
                // Trailers: nobody here reads them.
                Some(Ok(Err(_))) => {}
                Some(Err(error)) => {
                    *stage = Stage::Closed;
                    return Err(Failed::new(Kind::BrokenOff, &error));
                }
                None => *stage = Stage::Whole,
            }
        }
    }

    fn close(self: &Arc<Self>) -> std::io::Result<()> {
        if let Ok(mut stage) = self.stage.try_lock() {
            stage.close();
            return Ok(());
        }
        // Somebody reads, or was just stopped. He lets go; it is closed when he has, whatever he did last.
        self.closed.notify_one();
        let body = self.clone();
        Threads::own()?.runtime.spawn(async move { body.stage.lock().await.close() });
        Ok(())
    }
}

impl Stage {
    fn close(&mut self) {
        if matches!(self, Self::Open(_)) {
            *self = Self::Closed;
        }
    }
}

#[pymethods]
impl Answer {
    /// The status code.
    #[getter]
    fn status(&self) -> u16 {
        self.status
    }

    /// Names and values, as they came.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let bytes = |bytes: &Bytes| PyBytes::new(py, bytes);
        self.headers.iter().map(|(name, value)| (bytes(name), bytes(value))).collect()
    }

    /// The next piece of the body; `None` at its end.
    fn read(&self) -> PyResult<Pending> {
        let body = self.body.clone();
        Pending::start(async move { body.piece().await }, Outcome::Piece)
    }

    /// Ends it. Before the end of the body this cancels the request at the server.
    fn close(&self) -> PyResult<()> {
        Ok(self.body.close()?)
    }
}
