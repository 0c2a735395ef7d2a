//! What a local client is told when its request was not sent, or broke off: an OpenAI-shaped error whose `code`
//! names the check that failed.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;

use crate::causes::chain;
use crate::connection::{ConnectError, RequestBody};

/// Why a request got no answer of the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// It came for another name.
    #[error("This forwarder answers requests for this machine only")]
    ForeignHost,
    /// The server is not, or no longer, the attested group that is meant. Nothing was sent.
    #[error("Nothing was sent: {}", chain(.0))]
    Unproven(#[from] ConnectError),
    /// The server's answer would have sent the client away from here.
    #[error("The server's answer points to another server; it was not passed on")]
    Elsewhere,
    /// The connection broke off while the request was under way.
    #[error("The connection to the server broke off")]
    BrokenOff,
}

impl Refusal {
    pub(super) fn response(&self) -> Response<RequestBody> {
        let (status, kind, code) = match self {
            Self::ForeignHost => (StatusCode::FORBIDDEN, "invalid_request_error", "foreign_host"),
            Self::Unproven(error) => {
                let code = error.failed_check().unwrap_or("unproven");
                (StatusCode::BAD_GATEWAY, "attestation_failed", code)
            }
            Self::Elsewhere => (StatusCode::BAD_GATEWAY, "server_error", "redirected_elsewhere"),
            Self::BrokenOff => (StatusCode::BAD_GATEWAY, "server_error", "connection_broken"),
        };
        let error = json!({
            "error": {"message": self.to_string(), "type": kind, "code": code, "param": null}
        });
        let body = Full::new(Bytes::from(error.to_string()));
        let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}
