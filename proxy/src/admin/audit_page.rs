//! The newest entries of the audit log.

use askama::Template;
use http::{Response, StatusCode};

use super::asking::{Asking, encode};
use super::audit::Entry;
use super::session::Open;
use super::shell::Shell;
use super::view;
use super::{Admin, respond};
use crate::body::Body;

#[derive(Template)]
#[template(path = "admin/audit.html")]
struct AuditPage<'a> {
    shell: Shell<'a>,
    entries: Vec<Entry>,
    /// The session that asks, as the log names it.
    own: String,
}

impl AuditPage<'_> {
    fn at(&self, entry: &Entry) -> String {
        view::moment_of(entry.at)
    }

    fn link(&self, id: &str) -> String {
        encode(id)
    }
}

/// The page.
pub(super) fn page(admin: &Admin, asking: &Asking<'_>, session: &Open) -> Response<Body> {
    let page = AuditPage {
        shell: Shell::new(admin, asking, session, "audit"),
        entries: admin.audit.newest(),
        own: session.id.short(),
    };
    respond::page(StatusCode::OK, &page)
}
