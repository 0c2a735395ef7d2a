//! The settings: the rate limits of all keys together and of each address, and what cannot be changed here
//! (`proxy.md` cases 105, 108).

use askama::Template;
use http::{Response, StatusCode};
use std::sync::atomic::Ordering;

use super::asking::Asking;
use super::audit::Action;
use super::error::AdminError;
use super::field::{Field, Kind, Refused, refill};
use super::form::Form;
use super::session::Open;
use super::shell::Shell;
use super::values::{self, limit_names};
use super::{Admin, respond};
use crate::body::Body;

#[derive(Template)]
#[template(path = "admin/settings.html")]
struct SettingsPage<'a> {
    shell: Shell<'a>,
    saved: bool,
    has_upstream_key: bool,
    all: Vec<Field>,
    each: Vec<Field>,
}

/// The page.
pub(super) fn page(admin: &Admin, asking: &Asking<'_>, session: &Open) -> Response<Body> {
    show(admin, asking, session, None)
}

fn show(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
    refused: Option<&Refused<'_>>,
) -> Response<Body> {
    let limits = admin.parts.settings.current();
    let [requests, window, ip_requests, ip_window] = limit_names();
    let field = |name, label, hint, value: u64| {
        Field::new("limits", name, label, hint, Kind::Number).value(value.to_string())
    };
    let mut all = vec![
        field(requests, "Requests per window", "Of all keys together.", limits.requests),
        field(
            window,
            "Window in seconds",
            "Also of the limits of single keys.",
            limits.window.as_secs(),
        ),
    ];
    let mut each = vec![
        field(
            ip_requests,
            "Requests per window and address",
            "Before the key is looked at: wrong keys count.",
            limits.ip_requests,
        ),
        field(
            ip_window,
            "Window of an address in seconds",
            "At most a day.",
            limits.ip_window.as_secs(),
        ),
    ];
    if let Some(refused) = refused {
        refill(&mut all, refused);
        refill(&mut each, refused);
    }
    let page = SettingsPage {
        shell: Shell::new(admin, asking, session, "settings"),
        saved: asking.query.text("success") == "rate_limits",
        has_upstream_key: admin.has_upstream_key.load(Ordering::Relaxed),
        all,
        each,
    };
    let status = if refused.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    respond::page(status, &page)
}

/// Takes other numbers.
pub(super) async fn change(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
    form: &Form,
) -> Result<Response<Body>, AdminError> {
    match values::limits(form) {
        Ok(limits) => {
            admin.change_limits(limits).await?;
            admin.record(Action::SettingsChanged, session, "", &limit_names().join(" "));
            Ok(respond::redirect("/admin/settings?success=rate_limits"))
        }
        Err(problems) => {
            Ok(show(admin, asking, session, Some(&Refused { form, problems: &problems })))
        }
    }
}
