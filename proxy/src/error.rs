//! What clients are told when something is refused or fails, in the shape of OpenAI's errors, and which status
//! each gives: [`status`] is the one place.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::admin::AdminError;
use crate::body::{Body, full};
use crate::keys::KeyError;
use crate::limits::{Exceeded, whole_seconds};

/// Why a request gets no good answer. The text is for the client; texts that today's clients match on are those
/// of `proxy.md`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// No key, or none that is good.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Too much was asked for lately, or spent.
    #[error(transparent)]
    Limited(#[from] Exceeded),
    /// Plain HTTP, where that is not allowed.
    #[error("HTTPS required. Please use a secure connection.")]
    NotEncrypted,
    /// No request of HTTP/1.1.
    #[error(
        "This is no request of HTTP/1.1 (RFC 9112): check its line, its headers and how its body is framed"
    )]
    Framing,
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
    /// This connection was proved often already.
    #[error(
        "This connection was proved often already: one proof stands for many requests. Ask again in {} s",
        whole_seconds(*.0)
    )]
    ProvedTooOften(Duration),
    /// Admin pages, on a connection that nobody can have verified.
    #[error(
        "Admin pages are not shown on this connection, which was not proved, so that no password is typed for \
         somebody else: open them through `pmc connect`, which verifies the server first"
    )]
    NotProved,
    /// A program's request to the admin's API, or without a page.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// No evidence can be made just now.
    #[error("No evidence can be made at the moment; try again")]
    NoEvidence,
    /// Too much is judged just now.
    #[error("Too many clients prove themselves at the moment; try again")]
    Busy,
    /// The key is for attested clients, and this connection's is none.
    #[error(
        "This API key is for attested clients only: prove this client on this connection first, by POST \
         /attestation/verify with \"client\": true and POST /attestation/client"
    )]
    ClientNotAttested,
    /// A client may not prove itself here.
    #[error(
        "No attested clients are acceptable here: the operator has named no policy for them (CLIENT_POLICY_FILE)"
    )]
    NoClients,
    /// A client wants to prove itself without a nonce of this connection.
    #[error(
        "There is no nonce for this proof: ask for one by POST /attestation/verify with \"client\": true on this \
         connection, and use it once, within a minute"
    )]
    NoClientNonce,
    /// A client proved something else, or is not acceptable.
    #[error("This client is not accepted: {0}")]
    ClientRefused(String),
    /// The client paused for too long within its body.
    #[error("The rest of the body did not come in time")]
    BodyTimeout,
    /// The key is for other models.
    #[error(
        "This API key may not use this model: name one that GET /v1/models lists, or ask whoever gave you the key"
    )]
    ModelNotAllowed,
    /// The key is limited, and of the request it cannot be told what it uses.
    #[error(
        "This API key is for certain models, or may use only so much, and what this request uses cannot be told: {0}"
    )]
    ModelUnknown(&'static str),
    /// A member that decides something is there twice.
    #[error(
        "The request has \"{0}\" more than once, and readers differ in which one they take: send it once"
    )]
    Repeated(&'static str),
    /// The client wants to speak something else than HTTP.
    #[error(
        "Connections are not upgraded here, to WebSocket or anything else: send the request without Upgrade, with \
         \"stream\": true for an answer that comes as it is made"
    )]
    Upgrade,
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
        Refusal::Limited(_) | Refusal::ProvedTooOften(_) => StatusCode::TOO_MANY_REQUESTS,
        Refusal::NotProved | Refusal::NotEncrypted => StatusCode::FORBIDDEN,
        Refusal::Admin(error) => error.status(),
        Refusal::NotFound => StatusCode::NOT_FOUND,
        Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Framing | Refusal::Malformed(_) | Refusal::NoChannel => StatusCode::BAD_REQUEST,
        Refusal::NoClientNonce => StatusCode::BAD_REQUEST,
        Refusal::ClientNotAttested | Refusal::NoClients | Refusal::ClientRefused(_) => {
            StatusCode::FORBIDDEN
        }
        Refusal::NoEvidence | Refusal::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Refusal::ModelNotAllowed => StatusCode::FORBIDDEN,
        Refusal::ModelUnknown(_) | Refusal::Repeated(_) | Refusal::Upgrade => {
            StatusCode::BAD_REQUEST
        }
        Refusal::Upstream => StatusCode::BAD_GATEWAY,
        Refusal::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// OpenAI's `type` and `code`.
fn kind(refusal: &Refusal) -> (&'static str, &'static str) {
    match refusal {
        Refusal::Key(KeyError::Missing) => ("invalid_request_error", "missing_api_key"),
        Refusal::Key(KeyError::Invalid) => ("invalid_request_error", "invalid_api_key"),
        Refusal::Limited(exceeded) => exceeded.what.kind(),
        Refusal::NotEncrypted => ("invalid_request_error", "https_required"),
        Refusal::Framing => ("invalid_request_error", "malformed_request"),
        Refusal::NotFound => ("invalid_request_error", "not_found"),
        Refusal::Method => ("invalid_request_error", "method_not_allowed"),
        Refusal::TooLarge(_) => ("invalid_request_error", "request_too_large"),
        Refusal::Malformed(_) => ("invalid_request_error", "malformed_request"),
        Refusal::NoChannel => ("invalid_request_error", "connection_not_provable"),
        Refusal::ProvedTooOften(_) => ("rate_limit_error", "proved_too_often"),
        Refusal::NotProved => ("invalid_request_error", "connection_not_proved"),
        Refusal::Admin(error) => error.kind(),
        Refusal::NoEvidence => ("server_error", "evidence_unavailable"),
        Refusal::Busy => ("server_error", "busy"),
        Refusal::ClientNotAttested => ("invalid_request_error", "client_not_attested"),
        Refusal::NoClients => ("invalid_request_error", "no_attested_clients"),
        Refusal::NoClientNonce => ("invalid_request_error", "client_nonce_missing"),
        Refusal::ClientRefused(_) => ("invalid_request_error", "client_refused"),
        Refusal::BodyTimeout => ("invalid_request_error", "body_timeout"),
        Refusal::ModelNotAllowed => ("invalid_request_error", "model_not_allowed"),
        Refusal::ModelUnknown(_) => ("invalid_request_error", "model_unknown"),
        Refusal::Repeated(_) => ("invalid_request_error", "repeated_parameter"),
        Refusal::Upgrade => ("invalid_request_error", "upgrade_not_supported"),
        Refusal::Upstream => ("server_error", "upstream_unreachable"),
        Refusal::UpstreamTimeout => ("server_error", "upstream_timeout"),
    }
}

/// OpenAI's `param`: which member of the request it is about.
fn param(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::ModelNotAllowed | Refusal::ModelUnknown(_) => Some("model"),
        Refusal::Repeated(name) => Some(name),
        Refusal::Admin(error) => error.param(),
        _ => None,
    }
}

impl Refusal {
    /// The whole answer.
    pub(crate) fn response(&self) -> Response<Body> {
        self.response_with(|json| full(Bytes::from(json)))
    }

    /// The whole answer, its body made of JSON as the caller likes it.
    pub(crate) fn response_with<B>(&self, body: impl FnOnce(Vec<u8>) -> B) -> Response<B> {
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
        let error = Inner { message: self.to_string(), kind, code, param: param(self) };
        let json = serde_json::to_vec(&Envelope { error }).expect("text always serialises");
        let mut response = Response::new(body(json));
        *response.status_mut() = status(self);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Self::Key(_) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::NoEvidence | Self::Busy => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::ProvedTooOften(wait) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(*wait)));
            }
            Self::Limited(exceeded) => exceeded.write(headers),
            Self::Admin(error) => {
                if let Some(seconds) = error.retry_after() {
                    headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
                }
            }
            Self::Framing
            | Self::NotEncrypted
            | Self::NotProved
            | Self::NotFound
            | Self::Method
            | Self::TooLarge(_)
            | Self::Malformed(_)
            | Self::NoChannel
            | Self::ClientNotAttested
            | Self::NoClients
            | Self::NoClientNonce
            | Self::ClientRefused(_)
            | Self::BodyTimeout
            | Self::ModelNotAllowed
            | Self::ModelUnknown(_)
            | Self::Repeated(_)
            | Self::Upgrade
            | Self::Upstream
            | Self::UpstreamTimeout => {}
        }
        response
    }
}
