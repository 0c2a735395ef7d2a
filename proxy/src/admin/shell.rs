//! What all pages share: their frame, where they stand, the tokens of their forms.

use super::Admin;
use super::asking::Asking;
use super::assets::STYLESHEET;
use super::csrf::For;
use super::session::Open;

/// The frame of one page. A page without a session has no menu.
pub(super) struct Shell<'a> {
    admin: &'a Admin,
    asking: &'a Asking<'a>,
    whom: For,
    pub(super) is_open: bool,
    /// The page of the menu that this one belongs to.
    active: &'static str,
    pub(super) up: String,
    /// What the last form did.
    pub(super) said: Option<String>,
}

impl<'a> Shell<'a> {
    /// Of a session's page.
    pub(super) fn new(
        admin: &'a Admin,
        asking: &'a Asking<'a>,
        session: &Open,
        active: &'static str,
    ) -> Self {
        let said = if asking.is_head { None } else { admin.sessions.said(session.id) };
        let whom = For::Session(session.id);
        Self { admin, asking, whom, is_open: true, active, up: asking.up(), said }
    }

    /// Of a page for anybody.
    pub(super) fn outside(admin: &'a Admin, asking: &'a Asking<'a>) -> Self {
        let whom = For::Login(asking.address);
        Self { admin, asking, whom, is_open: false, active: "", up: asking.up(), said: None }
    }

    /// A token for one form.
    pub(super) fn token(&self) -> String {
        self.admin.tokens.give(self.whom, self.asking.now)
    }

    /// Whether there is a log to watch.
    pub(super) fn has_logs(&self) -> bool {
        self.admin.parts.live.is_some()
    }

    /// For the menu.
    pub(super) fn is(&self, page: &str) -> bool {
        self.active == page
    }

    /// For the address of the stylesheet.
    pub(super) fn style(&self) -> String {
        STYLESHEET.version()
    }
}
