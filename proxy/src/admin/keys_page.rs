//! The first page: every key, a form for a new one, and how to use it (`proxy.md` cases 101 to 104, 113).

use askama::Template;
use http::{Response, StatusCode};
use service::clock::unix_now;
use zeroize::Zeroizing;

use super::asking::{Asking, encode};
use super::audit::Action;
use super::error::AdminError;
use super::field::{Field, Kind, Refused, refill};
use super::form::Form;
use super::session::Open;
use super::shell::Shell;
use super::view::{self, Status};
use super::{Admin, aside, respond, values};
use crate::body::Body;
use crate::keys::{ApiKey, Keys, Listed};
use crate::ledger::Ledger;

/// Keys of one page.
const PAGE: usize = 100;

#[derive(Template)]
#[template(path = "admin/keys.html")]
struct KeysPage<'a> {
    shell: Shell<'a>,
    /// A new key: its id and its text.
    shown: Option<(String, Zeroizing<String>)>,
    rows: Vec<Row>,
    /// How many there are, and how many of them are found.
    all: usize,
    found: usize,
    find: String,
    /// Links to other parts of the list.
    earlier: Option<String>,
    later: Option<String>,
    fields: Vec<Field>,
    more: Vec<Field>,
    /// Whether one of them was refused: they are shown, then.
    is_more_wrong: bool,
    base_url: String,
}

/// A key in the list.
struct Row {
    id: String,
    segment: String,
    name: String,
    owner: String,
    status: Status,
    limits: Vec<String>,
    spent: String,
    created: String,
    expires: String,
    is_editable: bool,
}

impl Row {
    fn of(listed: &Listed, ledger: &Ledger, now: u64) -> Self {
        let key = &listed.key;
        Self {
            id: key.id.clone(),
            segment: encode(&key.id),
            name: name(key).to_owned(),
            owner: key.owner.clone(),
            status: Status::of(key, now),
            limits: view::limits(key),
            spent: view::euros(ledger.spent_in_month(&key.id, now)),
            created: key.created_at.map_or_else(|| "unknown".to_owned(), view::moment),
            expires: key.expires_at.map_or_else(|| "Never".to_owned(), view::moment),
            is_editable: listed.is_editable(),
        }
    }
}

/// What a key is called: its description, where it has one.
pub(super) fn name(key: &ApiKey) -> &str {
    if key.description.is_empty() { "No description" } else { &key.description }
}

/// The page. A key that was just made is on it once.
pub(super) async fn page(admin: &Admin, asking: &Asking<'_>, session: &Open) -> Response<Body> {
    let asked = asking.query.get("show_key").filter(|_| !asking.is_head);
    let shown = asked.and_then(|id| {
        let text = admin.reveals.take(id, session.id, asking.now)?;
        Some((id.to_owned(), text))
    });
    show(admin, asking, session, shown, None).await
}

/// A part of the list.
struct Part {
    rows: Vec<Row>,
    all: usize,
    found: usize,
    /// Which one it is, and how many there are.
    number: usize,
    pages: usize,
}

impl Part {
    /// Of the keys that hold a text, the part of that number, or the nearest.
    fn of(keys: &Keys, ledger: &Ledger, find: &str, number: usize) -> Self {
        let (now, all) = (unix_now(), keys.list());
        let found: Vec<&Listed> = all.iter().rev().filter(|one| holds(&one.key, find)).collect();
        let pages = found.len().div_ceil(PAGE).max(1);
        let number = number.clamp(1, pages);
        let rows = found.iter().skip((number - 1) * PAGE).take(PAGE);
        let rows = rows.map(|listed| Row::of(listed, ledger, now)).collect();
        Self { rows, all: all.len(), found: found.len(), number, pages }
    }
}

async fn show(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
    shown: Option<(String, Zeroizing<String>)>,
    refused: Option<&Refused<'_>>,
) -> Response<Body> {
    let find = asking.query.text("find").to_lowercase();
    let number = asking.query.text("page").parse().unwrap_or(1);
    let (keys, ledger, wanted) =
        (admin.parts.keys.clone(), admin.parts.ledger.clone(), find.clone());
    let part = aside(move || Part::of(&keys, &ledger, &wanted, number)).await;
    let Part { rows, all, found, number, pages } = part;
    let link = |number: usize| {
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("find", &find)
            .append_pair("page", &number.to_string())
            .finish();
        format!("?{query}")
    };
    let (mut fields, mut more) = (fields(), more());
    if let Some(refused) = refused {
        refill(&mut fields, refused);
        refill(&mut more, refused);
    }
    let page = KeysPage {
        shell: Shell::new(admin, asking, session, "keys"),
        shown,
        rows,
        all,
        found,
        earlier: (number > 1).then(|| link(number - 1)),
        later: (number < pages).then(|| link(number + 1)),
        find,
        fields,
        is_more_wrong: more.iter().any(|field| !field.error.is_empty()),
        more,
        base_url: asking.base_url(&admin.parts.hostname),
    };
    let status = if refused.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    respond::page(status, &page)
}

fn holds(key: &ApiKey, find: &str) -> bool {
    find.is_empty()
        || [&key.id, &key.description, &key.owner, &key.note]
            .into_iter()
            .any(|text| text.to_lowercase().contains(find))
}

/// What a new key needs most.
fn fields() -> Vec<Field> {
    let field = |name, label, hint, kind| Field::new("new", name, label, hint, kind);
    vec![
        field("description", "Description", "What the key is for.", Kind::Text),
        field("expires_days", "Expires after days", "1 to 36500. Empty: never.", Kind::Number),
        field(
            "rate_limit",
            "Requests per window",
            "In each window of the settings. Empty: no limit of its own.",
            Kind::Number,
        ),
    ]
}

/// What it may have besides.
fn more() -> Vec<Field> {
    let mut fields = limit_fields("new", &ApiKey::default());
    // It stands among the first ones.
    fields.retain(|field| field.name != "rate_limit");
    fields.push(Field::new("new", "owner", "Owner", "Whose key it is.", Kind::Text));
    fields.push(Field::new("new", "note", "Note", "Anything else to remember.", Kind::Lines));
    fields
}

/// The fields of what a key may do, with what is in force.
pub(super) fn limit_fields(form: &str, key: &ApiKey) -> Vec<Field> {
    let field = |name, label, hint, kind| Field::new(form, name, label, hint, kind);
    let number = |limit: Option<u64>| limit.map(|limit| limit.to_string()).unwrap_or_default();
    vec![
        field(
            "rate_limit",
            "Requests per window",
            "In each window of the settings. Empty: no limit of its own.",
            Kind::Number,
        )
        .value(number(key.rate_limit)),
        field(
            "tokens_per_minute",
            "Tokens per minute",
            "Prompts and answers together. Empty: no limit.",
            Kind::Number,
        )
        .value(number(key.tokens_per_minute)),
        field(
            "monthly_budget_eur",
            "Budget per month, EUR",
            "Of a calendar month, UTC. Empty: no limit.",
            Kind::Number,
        )
        .value(key.monthly_budget.map(|budget| budget.euros().to_string()).unwrap_or_default()),
        field("models", "Models", "One name a line. Empty: all models.", Kind::Lines)
            .value(key.models.as_ref().map(|models| models.join("\n")).unwrap_or_default()),
        field(
            "attested_client",
            "Who may use it",
            "An attested client has proved that it runs in an enclave of its own.",
            Kind::Choice("Every client that has it", "Attested clients only"),
        )
        .value(if key.attested_client { "true" } else { "false" }),
    ]
}

/// Makes a key, and sends the browser to the page that shows it once.
pub(super) async fn generate(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
    form: &Form,
) -> Result<Response<Body>, AdminError> {
    let made = match values::new_key(form) {
        Ok(new) => admin.parts.keys.create(new, unix_now()).await.map_err(AdminError::from),
        Err(problems) => Err(problems.into()),
    };
    match made {
        Ok(made) => {
            admin.record(Action::KeyCreated, session, &made.key.id, "");
            Ok(shown_once(admin, session, &made.key.id, made.text))
        }
        Err(AdminError::Invalid(problems)) => {
            let refused = Refused { form, problems: &problems };
            Ok(show(admin, asking, session, None, Some(&refused)).await)
        }
        Err(error) => Err(error),
    }
}

/// Sends the browser to where a new key is shown.
pub(super) fn shown_once(
    admin: &Admin,
    session: &Open,
    key_id: &str,
    text: Zeroizing<String>,
) -> Response<Body> {
    admin.reveals.keep(key_id, text, session.id);
    respond::redirect(&format!("/admin?show_key={}", encode(key_id)))
}
