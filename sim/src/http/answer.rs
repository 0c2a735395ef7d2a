//! Answers that several simulators give, sound and broken ones.
//!
//! Must not know: which service answers.

use std::io;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;

/// `application/json; charset=utf-8`, as Azure's services write it.
pub(crate) const JSON_UTF8: &str = "application/json; charset=utf-8";

/// How long an oversized answer is.
pub(crate) const OVERSIZED: usize = 64 * 1024 * 1024;

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, JSON_UTF8)], value.to_string()).into_response()
}

/// Adds `Retry-After`.
pub(crate) fn retry_after(mut response: Response, seconds: u32) -> Response {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// Promises the whole of `value`, sends half, and breaks the connection.
pub(crate) fn truncated(value: &Value) -> Response {
    let text = value.to_string();
    let half = Bytes::from(text.get(..text.len() / 2).unwrap_or_default().to_owned());
    let chunks = stream::iter([Ok(half), Err(io::Error::other("cut off by a fault"))]);
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static(JSON_UTF8)), (CONTENT_LENGTH, text.len().into())];
    (StatusCode::OK, headers, Body::from_stream(chunks)).into_response()
}

/// Valid JSON with 64 MiB of white space in front.
pub(crate) fn oversized(value: &Value) -> Response {
    const CHUNK: usize = 64 * 1024;
    let chunk = Bytes::from(vec![b' '; CHUNK]);
    let last = Bytes::from(value.to_string());
    let chunks = std::iter::repeat_n(chunk, OVERSIZED / CHUNK).chain([last]);
    let body = Body::from_stream(stream::iter(chunks.map(Ok::<_, io::Error>)));
    (StatusCode::OK, [(CONTENT_TYPE, JSON_UTF8)], body).into_response()
}
