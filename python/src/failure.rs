//! Why something did not work, as the Python half turns it into exceptions.

use std::error::Error;
use std::io::ErrorKind;
use std::sync::Arc;

use attestation::connection::ConnectionError;
use client::{CallError, ConnectError, chain};
use pyo3::PyErr;
use pyo3::create_exception;
use pyo3::exceptions::PyException;

use crate::verdict;

create_exception!(
    _native,
    Failure,
    PyException,
    "Its arguments: the kind, a text, the id of the check that failed or None, the verdict as JSON or None."
);

/// What the Python half tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The proof was judged and refused.
    Refused,
    /// There is no proof to judge.
    Unproven,
    /// The request names another server.
    OtherServer,
    /// The request cannot be sent as it is.
    Malformed,
    /// Nothing answers there.
    Unreachable,
    /// No connection, or no proof of it, in time.
    ConnectTimeout,
    /// Too many requests are under way.
    Busy,
    /// The connection broke off while the request was under way.
    BrokenOff,
    /// No answer in time.
    ReadTimeout,
    /// Somebody stopped it, or a thread of ours ended.
    Stopped,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unproven => "unproven",
            Self::OtherServer => "other_server",
            Self::Malformed => "malformed",
            Self::Unreachable => "unreachable",
            Self::ConnectTimeout => "connect_timeout",
            Self::Busy => "busy",
            Self::BrokenOff => "broken_off",
            Self::ReadTimeout => "read_timeout",
            Self::Stopped => "stopped",
        }
    }
}

/// A failure, with what is known of it.
#[derive(Clone)]
pub(crate) struct Failed {
    kind: Kind,
    text: String,
    check: Option<&'static str>,
    verdict: Option<String>,
}

impl Failed {
    pub(crate) fn new(kind: Kind, error: &dyn Error) -> Self {
        Self { kind, text: chain(error), check: None, verdict: None }
    }

    pub(crate) fn stopped() -> Self {
        let text = "the operation was stopped before its end".to_owned();
        Self { kind: Kind::Stopped, text, check: None, verdict: None }
    }

    fn of_proof(error: &dyn Error, cause: &ConnectError) -> Self {
        let mut failed = Self::new(kind_of(cause), error);
        failed.check = cause.failed_check();
        if let ConnectError::Refused(target, why) = cause
            && let ConnectionError::Rejected(rejected) = why.as_ref()
        {
            failed.verdict = Some(verdict::refused(target, rejected));
        }
        failed
    }
}

impl From<Arc<ConnectError>> for Failed {
    fn from(error: Arc<ConnectError>) -> Self {
        Self::of_proof(&*error, &error)
    }
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        if let Some(cause) = error.unproven() {
            return Self::of_proof(&error, cause);
        }
        let kind = match &error {
            CallError::Busy => Kind::Busy,
            CallError::OtherServer(_) => Kind::OtherServer,
            CallError::Malformed(_) => Kind::Malformed,
            CallError::TimedOut => Kind::ReadTimeout,
            CallError::BrokenOff(_) => Kind::BrokenOff,
            CallError::Unproven(_) | CallError::NotRenewed(_) => Kind::Unproven,
        };
        Self::new(kind, &error)
    }
}

impl From<Failed> for PyErr {
    fn from(failed: Failed) -> Self {
        let Failed { kind, text, check, verdict } = failed;
        Failure::new_err((kind.name(), text, check, verdict))
    }
}

/// Whether the other end does not prove itself, or is not there: the first will not pass, the second may.
fn kind_of(error: &ConnectError) -> Kind {
    match error {
        ConnectError::Refused(..) | ConnectError::Changed(..) => Kind::Refused,
        // The package proves no program.
        ConnectError::NoProof { .. } | ConnectError::NotAccepted(..) => Kind::Unproven,
        // A connection that was cut is the network's; another version or a bad signature is the server's.
        ConnectError::Tls(_, cause) if cause.kind() == ErrorKind::InvalidData => Kind::Unproven,
        ConnectError::Tls(..) | ConnectError::Unreachable(..) | ConnectError::Http(..) => {
            Kind::Unreachable
        }
        ConnectError::TimedOut(_) => Kind::ConnectTimeout,
    }
}
