//! One server, reached on attested connections or not at all.

use std::sync::{Arc, Mutex, PoisonError};

use attestation::{Anchors, danger, policy_file};
use bytes::Bytes;
use client::{Connector, Target};
use http::{HeaderName, HeaderValue, Method, Request};
use pyo3::exceptions::PyValueError;
use pyo3::{Py, PyResult, Python, pyclass, pymethods};

use crate::answer::Answer;
use crate::call::Call;
use crate::failure::Failed;
use crate::first::First;
use crate::pending::{Outcome, Pending};
use crate::upload::Upload;

/// A server, whom to believe and what to accept. Nothing is sent before the first call.
#[pyclass(frozen, module = "privatemode_confidential._native")]
pub(crate) struct Server {
    connector: Connector,
    own: Mutex<Arc<Own>>,
}

/// The connections of one process. A forked one has the same memory, and shares neither threads nor keys with it.
struct Own {
    process: u32,
    first: First,
}

impl Own {
    fn new() -> Arc<Self> {
        Arc::new(Self { process: std::process::id(), first: First::default() })
    }
}

impl Server {
    fn own(&self) -> Arc<Own> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if own.process != std::process::id() {
            // Dropped, the parent's connections would touch what its threads may have held at the fork.
            std::mem::forget(std::mem::replace(&mut *own, Own::new()));
        }
        own.clone()
    }
}

#[pymethods]
impl Server {
    /// `url` is `https://host[:port]`; `policy` a policy's text; `danger_anchors_pem` certificates to believe instead of
    /// AMD's and Microsoft's, for simulations.
    #[new]
    #[pyo3(signature = (url, policy, danger_anchors_pem = None))]
    fn new(url: &str, policy: &str, danger_anchors_pem: Option<&str>) -> PyResult<Self> {
        let wrong = |what: &str, error: &dyn std::error::Error| {
            PyValueError::new_err(format!("{what}: {error}"))
        };
        let target: Target = url.parse().map_err(|error| wrong(url, &error))?;
        let policy = policy_file::parse(policy).map_err(|error| wrong("the policy", &error))?;
        let anchors = match danger_anchors_pem {
            None => Anchors::production(),
            Some(pem) => danger::Anchors::from_pem(pem)
                .map_err(|error| wrong("danger_anchors_pem", &error))?,
        };
        let connector = Connector::new(target, anchors, policy);
        Ok(Self { connector, own: Mutex::new(Own::new()) })
    }

    /// The server's URL.
    #[getter]
    fn url(&self) -> String {
        self.connector.target().to_string()
    }

    /// Has the server prove itself now. The verdict on that comes of it, as JSON.
    fn verify(&self) -> PyResult<Pending> {
        let (own, connector) = (self.own(), self.connector.clone());
        Pending::start(
            async move {
                let client = own.first.client(connector).await?;
                // Also if somebody else's attempt was just waited for: it may be one from before this was asked.
                Ok::<_, Failed>(client.verify_again_as_json().await?)
            },
            Outcome::Text,
        )
    }

    /// Begins a request; `url` is whole. Whether its body is fed, `with_body` says.
    fn begin(
        &self,
        py: Python<'_>,
        method: &str,
        url: &str,
        headers: Vec<(Vec<u8>, Vec<u8>)>,
        with_body: bool,
    ) -> PyResult<Call> {
        let (feed, body) = if with_body {
            let (feed, body) = Upload::fed();
            (Some(feed), body)
        } else {
            (None, Upload::Empty)
        };
        let request = request(method, url, headers, body)
            .map_err(|error| PyValueError::new_err(format!("the request: {error}")))?;
        let (own, connector) = (self.own(), self.connector.clone());
        let answer = Pending::start(
            async move {
                let client = own.first.client(connector).await?;
                Ok::<_, Failed>(Answer::from(client.send(request).await?))
            },
            Outcome::Answer,
        )?;
        Ok(Call::new(feed, Py::new(py, answer)?))
    }
}

/// A request with these headers, in their order.
fn request(
    method: &str,
    url: &str,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Upload,
) -> Result<Request<Upload>, http::Error> {
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes())?).uri(url);
    for (name, value) in headers {
        let value = HeaderValue::from_maybe_shared(Bytes::from(value))?;
        request = request.header(HeaderName::from_bytes(&name)?, value);
    }
    request.body(body)
}
