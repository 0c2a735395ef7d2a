//! Refusals in the words of Key Vault.
//!
//! Must not know: keys or tokens. Codes and texts with an `AKV` number were seen on the service.

use axum::http::StatusCode;
use axum::http::header::WWW_AUTHENTICATE;
use axum::response::Response;
use serde_json::json;

use super::Service;
use crate::http::answer;

/// Why a request gets no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 401: no access token, or one that does not verify.
    Unauthorized(String),
    /// 403: the caller may not do that.
    Permission { operation: &'static str },
    /// 403: a rule other than a permission.
    Forbidden(String),
    /// 404.
    KeyNotFound(String),
    /// 400.
    BadParameter(String),
    /// 409.
    Conflict(String),
    /// 413.
    TooLarge,
    /// 405 or an unknown path.
    NotFound,
    /// 429 with `Retry-After`.
    Throttled(u32),
    /// 500.
    Internal,
}

impl Refusal {
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::BadParameter(message.into())
    }

    /// The attestation token does not verify, or comes from nobody in the policy.
    pub(super) fn unverified() -> Self {
        Self::Forbidden("Target environment attestation statement cannot be verified.".to_owned())
    }

    /// The attestation token is genuine, and the policy says no.
    pub(super) fn policy() -> Self {
        Self::Forbidden(
            "Target environment attestation does not meet key release policy requirements."
                .to_owned(),
        )
    }

    pub(super) fn respond(&self, service: Service, tenant: &str) -> Response {
        let mut response = self.body();
        if let Self::Unauthorized(_) = self {
            let challenge = format!(
                r#"Bearer authorization="https://login.microsoftonline.com/{tenant}", resource="{}""#,
                service.resource()
            );
            if let Ok(challenge) = challenge.try_into() {
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
        }
        response
    }

    fn body(&self) -> Response {
        let plain = |status, code: &str, message: &str| {
            answer::json(status, &json!({"error": {"code": code, "message": message}}))
        };
        match self {
            Self::Unauthorized(message) => plain(StatusCode::UNAUTHORIZED, "Unauthorized", message),
            Self::Permission { operation } => answer::json(
                StatusCode::FORBIDDEN,
                &json!({"error": {
                    "code": "Forbidden",
                    "message": format!(
                        "Caller is not authorized to perform action on resource.\r\n\
                         Action: 'Microsoft.KeyVault/vaults/keys/{operation}/action'\r\n\
                         Assignment: (not found)\r\n"
                    ),
                    "innererror": {"code": "ForbiddenByRbac"},
                }}),
            ),
            Self::Forbidden(message) => plain(StatusCode::FORBIDDEN, "Forbidden", message),
            Self::KeyNotFound(name) => {
                let message =
                    format!("A key with (name/id) {name} was not found in this key vault.");
                plain(StatusCode::NOT_FOUND, "KeyNotFound", &message)
            }
            Self::BadParameter(message) => plain(StatusCode::BAD_REQUEST, "BadParameter", message),
            Self::Conflict(message) => plain(StatusCode::CONFLICT, "Conflict", message),
            Self::TooLarge => plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                "the request is too large",
            ),
            Self::NotFound => plain(StatusCode::NOT_FOUND, "NotFound", "no such resource"),
            Self::Throttled(seconds) => answer::retry_after(
                plain(StatusCode::TOO_MANY_REQUESTS, "Throttled", "Request was not processed."),
                *seconds,
            ),
            Self::Internal => {
                plain(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "internal error")
            }
        }
    }
}
