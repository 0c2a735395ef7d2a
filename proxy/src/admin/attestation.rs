//! What the server can prove, and what this session was bound to when it began.

use askama::Template;
use http::{Response, StatusCode};

use super::asking::Asking;
use super::bound::Bound;
use super::session::Open;
use super::shell::Shell;
use super::view;
use super::{Admin, login, respond};
use crate::body::Body;
use crate::page::told;

#[derive(Template)]
#[template(path = "admin/attestation.html")]
struct AttestationPage<'a> {
    shell: Shell<'a>,
    encrypted: bool,
    proved: bool,
    /// The session's.
    began: String,
    session: String,
    bound: Option<&'a Bound>,
    /// Of this moment; `None` if there is none to be had.
    current: Option<Bound>,
    /// Whether the server makes evidence at all.
    has_evidence: bool,
    /// What the manifest of this moment says.
    facts: Vec<(&'static str, String)>,
    made: String,
    hostname: &'a str,
}

impl AttestationPage<'_> {
    /// Whether the session is with the same start of the same group still.
    fn is_same(&self) -> bool {
        match (self.bound, &self.current) {
            (Some(bound), Some(current)) => bound.boot_id == current.boot_id,
            _ => false,
        }
    }
}

/// The page.
pub(super) fn page(admin: &Admin, asking: &Asking<'_>, session: &Open) -> Response<Body> {
    let publication = admin.parts.publication.as_ref();
    let document = login::evidence(admin);
    let manifest = document.as_ref().and_then(Bound::manifest);
    let page = AttestationPage {
        shell: Shell::new(admin, asking, session, "attestation"),
        encrypted: asking.has_channel,
        proved: asking.proved,
        began: view::moment_of(session.began),
        session: session.id.short(),
        bound: session.bound.as_deref(),
        current: document.as_ref().and_then(Bound::of),
        has_evidence: publication.is_some(),
        facts: manifest.as_ref().map(told).unwrap_or_default(),
        made: publication
            .and_then(|publication| publication.made_at())
            .map(view::moment_of)
            .unwrap_or_default(),
        hostname: &admin.parts.hostname,
    };
    respond::page(StatusCode::OK, &page)
}
