//! What clients are told when something is refused or fails, in the shape of OpenAI's errors, and which status
//! each gives: [`status`] is the one place.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::body::{Body, full};
use crate::keys::KeyError;

/// Why a request gets no good answer. The text is for the client; texts that today's clients match on are those
/// of `proxy.md`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// No key, or none that is good.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Nothing is served there.
    #[error("There is nothing at this path")]
    NotFound,
    /// Something is served there, but not by this method.
    #[error("This path does not take this method")]
    Method,
    /// The body is too long.
    #[error("The body is longer than {0} bytes")]
    TooLarge(usize),
    /// The body is not what this route takes.
    #[error("{0}")]
    Malformed(&'static str),
    /// This connection cannot be proved.
    #[error(
        "This connection cannot be proved: a proof needs TLS 1.3, which ends in the proxy itself"
    )]
    NoChannel,
    /// No evidence can be made just now.
    #[error("No evidence can be made at the moment; try again")]
    NoEvidence,
    /// The upstream cannot be reached, or broke off.
    #[error("Proxy error")]
    Upstream,
    /// The upstream did not answer in time.
    #[error("Upstream timeout")]
    UpstreamTimeout,
}

/// Which status a refusal gives.
fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Key(KeyError::Missing | KeyError::Invalid) => StatusCode::UNAUTHORIZED,
        Refusal::NotFound => StatusCode::NOT_FOUND,
        Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Malformed(_) | Refusal::NoChannel => StatusCode::BAD_REQUEST,
        Refusal::NoEvidence => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Upstream => StatusCode::BAD_GATEWAY,
        Refusal::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// OpenAI's `type` and `code`.
fn kind(refusal: &Refusal) -> (&'static str, &'static str) {
    match refusal {
        Refusal::Key(KeyError::Missing) => ("invalid_request_error", "missing_api_key"),
        Refusal::Key(KeyError::Invalid) => ("invalid_request_error", "invalid_api_key"),
        Refusal::NotFound => ("invalid_request_error", "not_found"),
        Refusal::Method => ("invalid_request_error", "method_not_allowed"),
        Refusal::TooLarge(_) => ("invalid_request_error", "request_too_large"),
        Refusal::Malformed(_) => ("invalid_request_error", "malformed_request"),
        Refusal::NoChannel => ("invalid_request_error", "connection_not_provable"),
        Refusal::NoEvidence => ("server_error", "evidence_unavailable"),
        Refusal::Upstream => ("server_error", "upstream_unreachable"),
        Refusal::UpstreamTimeout => ("server_error", "upstream_timeout"),
    }
}

impl Refusal {
    /// The whole answer.
    pub(crate) fn response(&self) -> Response<Body> {
        #[derive(Serialize)]
        struct Envelope {
            error: Inner,
        }
        #[derive(Serialize)]
        struct Inner {
            message: String,
            #[serde(rename = "type")]
            kind: &'static str,
            code: &'static str,
            param: Option<&'static str>,
        }
        let (kind, code) = kind(self);
        let error = Inner { message: self.to_string(), kind, code, param: None };
        let json = serde_json::to_vec(&Envelope { error }).expect("text always serialises");
        let mut response = Response::new(full(Bytes::from(json)));
        *response.status_mut() = status(self);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Self::Key(_) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::NoEvidence => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::NotFound
            | Self::Method
            | Self::TooLarge(_)
            | Self::Malformed(_)
            | Self::NoChannel
            | Self::Upstream
            | Self::UpstreamTimeout => {}
        }
        response
    }
}
