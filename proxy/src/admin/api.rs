//! The admin's JSON API: what the pages can do, for programs (docs/how-to/admin.md).
//!
//! A program brings the session of its login as a bearer token. A browser's cookie is good here too, and what changes
//! something then needs a token of a form in `X-CSRF-Token`. Errors are OpenAI's.

use http::header::AUTHORIZATION;
use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use service::clock::unix_now;

use super::asking::{Asking, decode};
use super::audit::{Action, Entry};
use super::csrf::For;
use super::error::AdminError;
use super::session::Open;
use super::usage_page::Asked;
use super::values;
use super::view::Status;
use super::{Admin, aside, export, form, live, login, respond};
use crate::body::Body;
use crate::keys::{ApiKey, Change, Listed, Made};
use crate::ledger::Ledger;
use crate::upload::Upload;

type Answer = Result<Response<Body>, AdminError>;

/// Answers a request below `/admin/api/`.
pub(super) async fn answer(admin: &Admin, asking: &Asking<'_>, body: Upload) -> Answer {
    admin.is_enabled()?;
    let session = session(admin, asking)?;
    let path = asking.path.strip_prefix("/admin/api/").unwrap_or_default();
    let segments: Vec<&str> = path.split('/').collect();
    let method = &asking.method;
    match segments.as_slice() {
        ["session"] if *method == Method::GET => Ok(own(admin, asking, &session)),
        ["session"] if *method == Method::DELETE => {
            login::end(admin, &session);
            Ok(no_content())
        }
        ["keys"] if *method == Method::GET => Ok(list(admin).await),
        ["keys"] if *method == Method::POST => create(admin, &session, body).await,
        ["keys", id] => {
            let id = decode(id).ok_or(AdminError::UnknownKey)?;
            one_key(admin, asking, &session, &id, body).await
        }
        ["keys", id, "rotate"] if *method == Method::POST => {
            let id = decode(id).ok_or(AdminError::UnknownKey)?;
            rotate(admin, &session, &id, body).await
        }
        ["settings", "rate-limits"] => rate_limits(admin, asking, &session, body).await,
        ["usage"] if *method == Method::GET => {
            let asked = Asked::of(admin, asking).await?;
            Ok(respond::written_json(StatusCode::OK, export::document(admin, asked).await))
        }
        ["audit"] if *method == Method::GET => {
            let entries: Vec<_> = admin.audit.newest().iter().map(entry).collect();
            Ok(respond::json(StatusCode::OK, &json!({"entries": entries})))
        }
        ["logs"] if *method == Method::GET => live::json_lines(admin, asking, &session).await,
        ["attestation"] if *method == Method::GET => {
            let document = json!({"attestation": login::evidence(admin)});
            Ok(respond::json(StatusCode::OK, &document))
        }
        ["session" | "keys" | "usage" | "audit" | "attestation" | "logs"]
        | ["keys", _, "rotate"] => Err(AdminError::Method),
        _ => Err(AdminError::NotFound),
    }
}

/// Whose request it is. A bearer token that is there decides.
fn session(admin: &Admin, asking: &Asking<'_>) -> Result<Open, AdminError> {
    if let Some(value) = asking.headers.get(AUTHORIZATION) {
        let value = value.to_str().unwrap_or_default();
        let (scheme, token) = value.split_once(' ').unwrap_or_default();
        let found = admin.sessions.find(token, asking.address, asking.now);
        let found = found.filter(|_| scheme.eq_ignore_ascii_case("bearer"));
        return found.ok_or(AdminError::NoSession);
    }
    let session = admin.session(asking).ok_or(AdminError::NoSession)?;
    if asking.method != Method::GET {
        asking.is_of_our_site()?;
        let token = asking.headers.get("x-csrf-token").and_then(|value| value.to_str().ok());
        admin.take_token(token.unwrap_or_default(), For::Session(session.id), asking)?;
    }
    Ok(session)
}

fn own(admin: &Admin, asking: &Asking<'_>, session: &Open) -> Response<Body> {
    let bound = session.bound.as_ref().map(|bound| {
        json!({
            "manifest_sha256": bound.manifest_sha256,
            "boot_id": bound.boot_id,
            "version": bound.version,
            "anchors": bound.anchors,
            "token": bound.has_token,
        })
    });
    let answer = json!({
        "id": session.id.short(),
        "address": session.address.to_string(),
        "began": session.began,
        "bound_to": bound,
        "csrf_token": admin.tokens.give(For::Session(session.id), asking.now),
    });
    respond::json(StatusCode::OK, &answer)
}

async fn list(admin: &Admin) -> Response<Body> {
    let (keys, ledger) = (admin.parts.keys.clone(), admin.parts.ledger.clone());
    let text = aside(move || {
        let keys: Vec<_> = keys.list().iter().map(|key| shown(&ledger, key)).collect();
        json!({"keys": keys}).to_string()
    });
    respond::written_json(StatusCode::OK, text.await)
}

async fn create(admin: &Admin, session: &Open, body: Upload) -> Answer {
    let fields = fields(body, &values::KEY_FIELDS).await?;
    let made = admin.parts.keys.create(values::new_key(&fields)?, unix_now()).await?;
    admin.record(Action::KeyCreated, session, &made.key.id, "");
    Ok(made_key(admin, &made).await)
}

async fn one_key(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
    id: &str,
    body: Upload,
) -> Answer {
    let keys = &admin.parts.keys;
    let found = async || {
        let found = admin.find(id).await?;
        Ok::<_, AdminError>(respond::json(StatusCode::OK, &shown(&admin.parts.ledger, &found)))
    };
    if asking.method == Method::GET {
        return found().await;
    }
    if asking.method == Method::DELETE {
        keys.delete(id).await?;
        admin.record(Action::KeyDeleted, session, id, "");
        return Ok(no_content());
    }
    if asking.method != Method::PATCH {
        return Err(AdminError::Method);
    }
    let mut known = values::KEY_FIELDS.to_vec();
    known.push("enabled");
    let fields = fields(body, &known).await?;
    let now = unix_now();
    let enabled = enabled(&fields)?;
    let change = Change { enabled, ..values::change(&fields, now)? };
    keys.update(id, change, now).await?;
    let names = values::names(&fields);
    match enabled {
        Some(true) => admin.record(Action::KeyEnabled, session, id, ""),
        Some(false) => admin.record(Action::KeyRevoked, session, id, ""),
        None => {}
    }
    if !names.is_empty() {
        admin.record(Action::KeyChanged, session, id, &names);
    }
    found().await
}

fn enabled(fields: &Map<String, Value>) -> Result<Option<bool>, AdminError> {
    match fields.get("enabled") {
        None => Ok(None),
        Some(Value::Bool(enabled)) => Ok(Some(*enabled)),
        Some(_) => Err(values::Problems::one("enabled", "must be true or false").into()),
    }
}

async fn rotate(admin: &Admin, session: &Open, id: &str, body: Upload) -> Answer {
    let fields = fields(body, &["overlap_hours", "expires_days"]).await?;
    let rotation = values::rotation(&fields)?;
    let made = admin.parts.keys.rotate(id, rotation, unix_now()).await?;
    admin.record(Action::KeyRotated, session, id, "");
    admin.record(Action::KeyCreated, session, &made.key.id, "");
    Ok(made_key(admin, &made).await)
}

async fn rate_limits(admin: &Admin, asking: &Asking<'_>, session: &Open, body: Upload) -> Answer {
    match asking.method {
        Method::GET => {}
        Method::PUT => {
            let names = values::limit_names();
            let limits = values::limits(&fields(body, &names).await?)?;
            admin.change_limits(limits).await?;
            admin.record(Action::SettingsChanged, session, "", &names.join(" "));
        }
        _ => return Err(AdminError::Method),
    }
    let members = values::limit_names().map(ToOwned::to_owned).into_iter();
    let values = admin.parts.settings.current().values().map(Value::from);
    let answer = Value::Object(members.zip(values).collect());
    Ok(respond::json(StatusCode::OK, &answer))
}

/// A body's object. A member that is not known is refused: it would not do what somebody thinks it does.
async fn fields(body: Upload, known: &[&str]) -> Result<Map<String, Value>, AdminError> {
    let body = form::read(body).await?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    let fields: Map<String, Value> = serde_json::from_slice(&body)
        .map_err(|_| AdminError::Malformed("The body must be a JSON object"))?;
    if fields.keys().any(|name| !known.contains(&name.as_str())) {
        return Err(AdminError::Malformed(
            "The body has a member that is not known here: docs/how-to/admin.md lists them",
        ));
    }
    Ok(fields)
}

async fn made_key(admin: &Admin, made: &Made) -> Response<Body> {
    let listed = admin.find(&made.key.id).await;
    let ledger = &admin.parts.ledger;
    let mut answer = listed.map_or_else(|_| json!({}), |listed| shown(ledger, &listed));
    if let Some(object) = answer.as_object_mut() {
        object.insert("key".to_owned(), json!(made.text.as_str()));
    }
    respond::json(StatusCode::CREATED, &answer)
}

fn shown(ledger: &Ledger, listed: &Listed) -> Value {
    let now = unix_now();
    let ApiKey {
        id,
        description,
        owner,
        note,
        created_at,
        enabled,
        expires_at,
        attested_client,
        rate_limit,
        tokens_per_minute,
        monthly_budget,
        models,
        revoked_at,
        rotated_from,
        rotated_to,
    } = &*listed.key;
    json!({
        "key_id": id,
        "description": description,
        "owner": owner,
        "note": note,
        "status": Status::of(&listed.key, now).name(),
        "enabled": enabled,
        "created_at": created_at,
        "expires_at": expires_at,
        "revoked_at": revoked_at,
        "rotated_from": rotated_from,
        "rotated_to": rotated_to,
        "rate_limit": rate_limit,
        "tokens_per_minute": tokens_per_minute,
        "monthly_budget_eur": monthly_budget.map(crate::money::Money::euros),
        "models": models,
        "attested_client": attested_client,
        "spent_this_month_eur": ledger.spent_in_month(id, now).euros(),
        "editable": listed.is_editable(),
    })
}

fn entry(entry: &Entry) -> Value {
    json!({
        "at": entry.at,
        "action": entry.action.name(),
        "session": entry.session,
        "address": entry.address.to_string(),
        "key_id": entry.key_id,
        "fields": entry.fields,
    })
}

fn no_content() -> Response<Body> {
    let mut response = respond::unstored(Response::new(crate::body::full(bytes::Bytes::new())));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
