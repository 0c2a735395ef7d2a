//! Refusals in the words of Blob Storage: a status, `x-ms-error-code`, and XML that says the same.
//!
//! Must not know: blobs or tokens.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

use crate::http::answer;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 401.
    Unauthenticated(&'static str),
    /// 403.
    Permission,
    /// 403: a signature.
    Signature,
    /// 400: a parameter of the query.
    Parameter,
    /// 404.
    ContainerNotFound,
    /// 404.
    BlobNotFound,
    /// 409.
    AlreadyExists,
    /// 409.
    BlockCount,
    /// 412.
    AppendPosition,
    /// 400, with the header's name.
    Header(&'static str),
    /// 405.
    Unsupported,
    /// 413.
    TooLarge,
    /// 416.
    Range,
    /// 503 with `Retry-After`.
    Busy(u32),
    /// 500.
    Internal,
}

impl Refusal {
    /// Without a body where there must be none.
    pub(super) fn respond(&self, headless: bool) -> Response {
        let (status, code, message) = self.parts();
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code>\
             <Message>{message}</Message></Error>"
        );
        let body = if headless { String::new() } else { xml };
        let headers = [(CONTENT_TYPE.as_str(), "application/xml"), ("x-ms-error-code", code)];
        let response = (status, headers, body).into_response();
        match self {
            Self::Busy(seconds) => answer::retry_after(response, *seconds),
            _ => response,
        }
    }

    fn parts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unauthenticated(why) => {
                (StatusCode::UNAUTHORIZED, "InvalidAuthenticationInfo", why)
            }
            Self::Permission => (
                StatusCode::FORBIDDEN,
                "AuthorizationPermissionMismatch",
                "This request is not authorized to perform this operation using this permission.",
            ),
            Self::Signature => (
                StatusCode::FORBIDDEN,
                "AuthenticationFailed",
                "Server failed to authenticate the request.",
            ),
            Self::Parameter => (
                StatusCode::BAD_REQUEST,
                "InvalidQueryParameterValue",
                "Value for one of the query parameters specified in the request URI is invalid.",
            ),
            Self::ContainerNotFound => (
                StatusCode::NOT_FOUND,
                "ContainerNotFound",
                "The specified container does not exist.",
            ),
            Self::BlobNotFound => {
                (StatusCode::NOT_FOUND, "BlobNotFound", "The specified blob does not exist.")
            }
            Self::AlreadyExists => {
                (StatusCode::CONFLICT, "BlobAlreadyExists", "The specified blob already exists.")
            }
            Self::BlockCount => (
                StatusCode::CONFLICT,
                "BlockCountExceedsLimit",
                "The committed block count cannot exceed the maximum limit of 50,000 blocks.",
            ),
            Self::AppendPosition => (
                StatusCode::PRECONDITION_FAILED,
                "AppendPositionConditionNotMet",
                "The append position condition specified was not met.",
            ),
            Self::Header(name) => (StatusCode::BAD_REQUEST, "InvalidHeaderValue", name),
            Self::Unsupported => (
                StatusCode::METHOD_NOT_ALLOWED,
                "UnsupportedHttpVerb",
                "The resource doesn't support the specified HTTP verb.",
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestBodyTooLarge",
                "The request body is too large and exceeds the maximum permissible limit.",
            ),
            Self::Range => (
                StatusCode::RANGE_NOT_SATISFIABLE,
                "InvalidRange",
                "The range specified is invalid for the current size of the resource.",
            ),
            Self::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServerBusy", "The server is busy."),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "The server encountered an internal error.",
            ),
        }
    }
}
