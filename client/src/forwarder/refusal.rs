//! What a local client is told when its request was not sent, or broke off: an OpenAI-shaped error whose `code`
//! names the check that failed.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;

use crate::attested::CallError;
use crate::causes::chain;
use crate::connection::{ConnectError, RequestBody};
use crate::mutual::ProveSelfError;

/// Why a request got no answer of the server.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// It came for another name.
    #[error("This forwarder answers requests for this machine only")]
    ForeignHost,
    /// A page of the web sent it.
    #[error("This forwarder answers no pages of other origins")]
    ForeignOrigin,
    /// It does not begin with the token.
    #[error(
        "The path does not begin with this forwarder's token: use the base URL http://ADDRESS/TOKEN/v1"
    )]
    WrongToken,
    /// Its target is no path.
    #[error("The request names no path")]
    NoPath,
    /// It got no answer: the server is not, or no longer, the attested group that is meant, or the connection broke off.
    #[error("{}", sentence(&chain(.0)))]
    Unanswered(#[from] CallError),
    /// The server's answer would have sent the client away from here.
    #[error("The server's answer points to another server; it was not passed on")]
    Elsewhere,
}

impl Refusal {
    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::ForeignOrigin => {
                (StatusCode::FORBIDDEN, "invalid_request_error", "foreign_origin")
            }
            Self::WrongToken => (StatusCode::UNAUTHORIZED, "invalid_request_error", "wrong_token"),
            Self::ForeignHost => (StatusCode::FORBIDDEN, "invalid_request_error", "foreign_host"),
            Self::NoPath => (StatusCode::BAD_REQUEST, "invalid_request_error", "no_path"),
            Self::Unanswered(error) => kind_of(error),
            Self::Elsewhere => (StatusCode::BAD_GATEWAY, "server_error", "redirected_elsewhere"),
        }
    }

    /// The `code` of its error.
    #[cfg(test)]
    pub(super) fn code(&self) -> &'static str {
        self.kind().2
    }

    pub(super) fn response(&self) -> Response<RequestBody> {
        let (status, kind, code) = self.kind();
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

fn kind_of(error: &CallError) -> (StatusCode, &'static str, &'static str) {
    match error {
        CallError::Unproven(_) | CallError::NotRenewed(_) => {
            let (status, otherwise) = match error.unproven() {
                Some(ConnectError::Changed(..)) => (StatusCode::BAD_GATEWAY, "changed"),
                Some(ConnectError::NotAccepted(_, why)) => not_accepted(why),
                _ => (StatusCode::BAD_GATEWAY, "unproven"),
            };
            (status, "attestation_failed", error.failed_check().unwrap_or(otherwise))
        }
        CallError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "server_error", "busy"),
        CallError::OtherServer(_) | CallError::Malformed(_) => {
            (StatusCode::BAD_REQUEST, "invalid_request_error", "malformed_request")
        }
        CallError::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "server_error", "timeout"),
        CallError::BrokenOff(_) => (StatusCode::BAD_GATEWAY, "server_error", "connection_broken"),
    }
}

/// As the server says it of a request that comes without a proof. Only its refusal will not pass by itself.
fn not_accepted(why: &ProveSelfError) -> (StatusCode, &'static str) {
    match why {
        ProveSelfError::Refused(_) => (StatusCode::FORBIDDEN, "client_refused"),
        ProveSelfError::NoAnswer(_)
        | ProveSelfError::NotAsked(_)
        | ProveSelfError::NoEvidence(_)
        | ProveSelfError::NotJudged(_)
        | ProveSelfError::TimedOut => (StatusCode::BAD_GATEWAY, "client_unproven"),
    }
}

fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn told(why: ProveSelfError) -> (StatusCode, &'static str, String) {
        let target = "https://group.example".parse().unwrap();
        let error = Arc::new(ConnectError::NotAccepted(target, Box::new(why)));
        let refusal = Refusal::Unanswered(CallError::NotRenewed(error));
        let (status, kind, code) = refusal.kind();
        assert_eq!(kind, "attestation_failed");
        (status, code, refusal.to_string())
    }

    #[test]
    fn a_program_that_is_not_accepted_is_told_why() {
        let (status, code, text) = told(ProveSelfError::Refused("P9: another policy".to_owned()));
        assert_eq!((status, code), (StatusCode::FORBIDDEN, "client_refused"));
        assert!(text.starts_with("Nothing was sent"), "{text}");
        assert!(text.ends_with("P9: another policy"), "{text}");
        for passes in [
            ProveSelfError::NotAsked(String::new()),
            ProveSelfError::NoEvidence("no device".into()),
            ProveSelfError::TimedOut,
        ] {
            let (status, code, _) = told(passes);
            assert_eq!((status, code), (StatusCode::BAD_GATEWAY, "client_unproven"));
        }
    }
}
