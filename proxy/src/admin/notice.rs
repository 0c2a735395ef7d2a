//! A refusal as a page: what was not done, and what to do.

use askama::Template;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use super::Admin;
use super::asking::Asking;
use super::error::AdminError;
use super::respond;
use super::shell::Shell;
use crate::body::Body;

#[derive(Template)]
#[template(path = "admin/notice.html")]
struct Notice<'a> {
    shell: Shell<'a>,
    title: &'static str,
    text: String,
    /// Whether there is a page to go back to.
    back: bool,
}

/// The page.
pub(super) fn page(admin: &Admin, asking: &Asking<'_>, error: &AdminError) -> Response<Body> {
    let title = match error.status() {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::TOO_MANY_REQUESTS => "Too many attempts",
        StatusCode::FORBIDDEN => "Refused",
        StatusCode::INTERNAL_SERVER_ERROR => "Not saved",
        _ => "That did not work",
    };
    let shell = match admin.session(asking) {
        Some(session) => Shell::new(admin, asking, &session, ""),
        None => Shell::outside(admin, asking),
    };
    let back = !matches!(error, AdminError::Disabled);
    let notice = Notice { shell, title, text: error.to_string(), back };
    let mut response = respond::page(error.status(), &notice);
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
