//! The page of one key, and everything that can be done to it (`proxy.md` cases 102, 103; rotation, budgets, models).

use askama::Template;
use http::{Response, StatusCode};
use service::clock::unix_now;

use super::asking::{Asking, encode};
use super::audit::Action;
use super::error::AdminError;
use super::field::{Field, Kind, Refused, refill};
use super::form::Form;
use super::keys_page::{limit_fields, name, shown_once};
use super::session::Open;
use super::shell::Shell;
use super::values::{self, Problems};
use super::view::{self, Status};
use super::{Admin, respond};
use crate::body::Body;
use crate::keys::{ApiKey, Change, Listed};

#[derive(Template)]
#[template(path = "admin/key.html")]
struct KeyPage<'a> {
    shell: Shell<'a>,
    id: &'a str,
    segment: String,
    name: &'a str,
    status: Status,
    is_editable: bool,
    /// Names and values.
    facts: Vec<(&'static str, String)>,
    /// Other keys of its history: which, its id, its segment of a path.
    related: Vec<(&'static str, &'a str, String)>,
    details: Vec<Field>,
    limits: Vec<Field>,
    expiry: Vec<Field>,
    rotation: Vec<Field>,
}

/// The page.
pub(super) async fn page(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
    id: &str,
) -> Result<Response<Body>, AdminError> {
    let listed = admin.find(id).await?;
    Ok(show(admin, asking, session, &listed, None))
}

fn show(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
    listed: &Listed,
    refused: Option<(&str, Refused<'_>)>,
) -> Response<Body> {
    let key = &*listed.key;
    let now = unix_now();
    let related = [("Replaces", &key.rotated_from), ("Replaced by", &key.rotated_to)];
    let mut page = KeyPage {
        shell: Shell::new(admin, asking, session, "keys"),
        id: &key.id,
        segment: encode(&key.id),
        name: name(key),
        status: Status::of(key, now),
        is_editable: listed.is_editable(),
        facts: facts(admin, key, now),
        related: related
            .into_iter()
            .filter_map(|(which, id)| Some((which, id.as_deref()?, encode(id.as_deref()?))))
            .collect(),
        details: details(key),
        limits: limit_fields("limits", key),
        expiry: vec![expiry("expiry", "From now on. Empty: never.")],
        rotation: vec![
            Field::new(
                "rotate",
                "overlap_hours",
                "Hours for which both keys work",
                "0 to 2160. With 0 the old key ends at once.",
                Kind::Number,
            )
            .value("24"),
            expiry("rotate", "Of the new key. Empty: as long as the old one had."),
        ],
    };
    let status = if refused.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    if let Some((action, refused)) = refused {
        let fields = match action {
            "details" => &mut page.details,
            "limits" => &mut page.limits,
            "expiry" => &mut page.expiry,
            _ => &mut page.rotation,
        };
        refill(fields, &refused);
    }
    respond::page(status, &page)
}

fn facts(admin: &Admin, key: &ApiKey, now: u64) -> Vec<(&'static str, String)> {
    let spent = view::euros(admin.parts.ledger.spent_in_month(&key.id, now));
    let spent = match key.monthly_budget {
        Some(budget) => format!("{spent} of {budget} EUR"),
        None => format!("{spent} EUR"),
    };
    let limits = view::limits(key);
    let limits = if limits.is_empty() { "None of its own".to_owned() } else { limits.join(", ") };
    let mut facts = vec![
        ("Created", key.created_at.map_or_else(|| "Unknown".to_owned(), view::moment)),
        ("Expires", key.expires_at.map_or_else(|| "Never".to_owned(), view::moment)),
        ("Limits", limits),
        ("Spent this month", spent),
    ];
    if let Some(at) = key.revoked_at {
        facts.push(("Revoked", view::moment(at)));
    }
    facts
}

fn details(key: &ApiKey) -> Vec<Field> {
    let field = |name, label, hint, kind| Field::new("details", name, label, hint, kind);
    vec![
        field("description", "Description", "What the key is for.", Kind::Text)
            .value(&key.description),
        field("owner", "Owner", "Whose key it is.", Kind::Text).value(&key.owner),
        field("note", "Note", "Anything else to remember.", Kind::Lines).value(&key.note),
    ]
}

fn expiry(form: &str, hint: &'static str) -> Field {
    Field::new(form, "expires_days", "Expires after days", hint, Kind::Number)
}

/// Does what a form asks for.
pub(super) async fn act(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
    form: &Form,
    id: &str,
    action: &str,
) -> Result<Response<Body>, AdminError> {
    let done = match action {
        "revoke" => enable(admin, session, id, false).await,
        "enable" => enable(admin, session, id, true).await,
        "delete" => delete(admin, session, id).await,
        "rate-limit" => rate_limit(admin, session, form, id).await,
        "details" | "limits" | "expiry" => {
            let done = change(admin, session, form, id).await;
            return settle(admin, asking, session, form, id, action, done).await;
        }
        "rotate" => return rotate(admin, asking, session, form, id).await,
        _ => return Err(AdminError::NotFound),
    };
    // The reference sends people back to the list, whatever came of it.
    let said = match &done {
        Ok(said) => (*said).to_owned(),
        Err(error) => format!("Nothing was changed. {error}"),
    };
    admin.sessions.say(session.id, said);
    let stay = form.text("back") == "key" && done.is_ok();
    Ok(respond::redirect(&if stay { own(id) } else { "/admin".to_owned() }))
}

fn own(id: &str) -> String {
    format!("/admin/keys/{}", encode(id))
}

async fn enable(
    admin: &Admin,
    session: &Open,
    id: &str,
    enabled: bool,
) -> Result<&'static str, AdminError> {
    let change = Change { enabled: Some(enabled), ..Change::default() };
    admin.parts.keys.update(id, change, unix_now()).await?;
    let (action, said) = if enabled {
        (Action::KeyEnabled, "The key works again.")
    } else {
        (Action::KeyRevoked, "The key is revoked: it is refused from now on.")
    };
    admin.record(action, session, id, "");
    Ok(said)
}

async fn delete(admin: &Admin, session: &Open, id: &str) -> Result<&'static str, AdminError> {
    admin.parts.keys.delete(id).await?;
    admin.record(Action::KeyDeleted, session, id, "");
    Ok("The key is deleted. Its usage stays in the books.")
}

/// The reference's form: a number above zero, or `clear`.
async fn rate_limit(
    admin: &Admin,
    session: &Open,
    form: &Form,
    id: &str,
) -> Result<&'static str, AdminError> {
    let limit = if form.text("clear").is_empty() {
        let read = values::change(form, unix_now())?;
        let missing = || Problems::one("rate_limit", "must be a whole number above 0");
        Some(read.rate_limit.flatten().ok_or_else(missing)?)
    } else {
        None
    };
    let change = Change { rate_limit: Some(limit), ..Change::default() };
    admin.parts.keys.update(id, change, unix_now()).await?;
    admin.record(Action::KeyChanged, session, id, "rate_limit");
    Ok("The key's rate limit is changed.")
}

async fn change(
    admin: &Admin,
    session: &Open,
    form: &Form,
    id: &str,
) -> Result<&'static str, AdminError> {
    let now = unix_now();
    let change = values::change(form, now)?;
    admin.parts.keys.update(id, change, now).await?;
    admin.record(Action::KeyChanged, session, id, &values::names(form));
    Ok("Saved.")
}

/// Back to the key's page, with what was done or beside the fields what is wrong.
async fn settle(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
    form: &Form,
    id: &str,
    action: &str,
    done: Result<&'static str, AdminError>,
) -> Result<Response<Body>, AdminError> {
    match done {
        Ok(said) => {
            admin.sessions.say(session.id, said);
            Ok(respond::redirect(&own(id)))
        }
        Err(AdminError::Invalid(problems)) => {
            let listed = admin.find(id).await?;
            let refused = Refused { form, problems: &problems };
            Ok(show(admin, asking, session, &listed, Some((action, refused))))
        }
        Err(error) => Err(error),
    }
}

async fn rotate(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
    form: &Form,
    id: &str,
) -> Result<Response<Body>, AdminError> {
    let made = match values::rotation(form) {
        Ok(rotation) => {
            let made = admin.parts.keys.rotate(id, rotation, unix_now()).await;
            made.map_err(AdminError::from)
        }
        Err(problems) => Err(problems.into()),
    };
    match made {
        Ok(made) => {
            admin.record(Action::KeyRotated, session, id, "");
            admin.record(Action::KeyCreated, session, &made.key.id, "");
            Ok(shown_once(admin, session, &made.key.id, made.text))
        }
        Err(error) => settle(admin, asking, session, form, id, "rotate", Err(error)).await,
    }
}
