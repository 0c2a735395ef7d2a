//! What this is and how it is used, for whoever has just logged in.

use askama::Template;
use http::{Response, StatusCode};

use super::asking::Asking;
use super::session::Open;
use super::shell::Shell;
use super::{Admin, respond};
use crate::body::Body;

#[derive(Template)]
#[template(path = "admin/about.html")]
struct AboutPage<'a> {
    shell: Shell<'a>,
    version: &'static str,
    base_url: String,
}

/// The page.
pub(super) fn page(admin: &Admin, asking: &Asking<'_>, session: &Open) -> Response<Body> {
    let page = AboutPage {
        shell: Shell::new(admin, asking, session, "about"),
        version: env!("CARGO_PKG_VERSION"),
        base_url: asking.base_url(&admin.parts.hostname),
    };
    respond::page(StatusCode::OK, &page)
}
