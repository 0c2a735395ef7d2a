//! Logging in and out (`proxy.md` cases 93 to 100, `wire.md` part 6).
//!
//! A person sends a form and gets a cookie. A program that accepts JSON gets the session and the current evidence in the
//! answer and no cookie, so that there is nothing for a page of another site to gain by making a browser ask.

use askama::Template;
use http::header::{CONTENT_TYPE, HeaderValue, SET_COOKIE};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::sync::PoisonError;
use std::time::Instant;
use zeroize::Zeroizing;

use super::asking::{Asking, COOKIE_NAME};
use super::attempts::Guess;
use super::audit::Action;
use super::bound::Bound;
use super::csrf::For;
use super::error::AdminError;
use super::form::{self, Form};
use super::session::{LIFETIME, Open};
use super::shell::Shell;
use super::{Admin, respond};
use crate::body::Body;
use crate::upload::Upload;

#[derive(Template)]
#[template(path = "admin/login.html")]
struct Login<'a> {
    shell: Shell<'a>,
    /// Why the last attempt failed.
    error: &'static str,
    proved: bool,
    encrypted: bool,
}

/// The form, or the way on for who is logged in already.
pub(super) fn page(admin: &Admin, asking: &Asking<'_>) -> Response<Body> {
    if admin.session(asking).is_some() {
        return respond::redirect("/admin");
    }
    let login = Login {
        shell: Shell::outside(admin, asking),
        // Its text is not repeated: anybody can write a link.
        error: match asking.query.text("error") {
            "" => "",
            "Invalid password" => "Invalid password",
            _ => "That did not work",
        },
        proved: asking.proved,
        encrypted: asking.encrypted,
    };
    respond::page(StatusCode::OK, &login)
}

/// Judges a password.
pub(super) async fn attempt(
    admin: &Admin,
    asking: &Asking<'_>,
    body: Upload,
) -> Result<Response<Body>, AdminError> {
    asking.is_of_our_site()?;
    // Whoever may not guess is told so before a byte of the body is read.
    admin.attempts.admit(asking.address, asking.now).map_err(AdminError::TooManyAttempts)?;
    let is_program = asking.wants_json();
    let password = if is_program {
        password_of_a_program(asking, body).await?
    } else {
        let form = Form::read(asking.headers, body).await?;
        admin.take_token(form.text("csrf_token"), For::Login(asking.address), asking)?;
        Zeroizing::new(form.get("password").unwrap_or_default().to_owned())
    };
    let evidence = evidence(admin);
    let bound = evidence.as_ref().and_then(Bound::of);
    let judged = admin.attempts.guess(asking.address, Instant::now(), || {
        // Held until the session is there, so that another password ends this one, too.
        let held = admin.password.read().unwrap_or_else(PoisonError::into_inner);
        let is_right = held.as_ref().is_some_and(|held| held.is(&password));
        is_right.then(|| admin.sessions.begin(asking.address, bound, Instant::now()))
    });
    let (token, session) = match judged.map_err(AdminError::TooManyAttempts)? {
        Guess::Right(begun) => begun,
        Guess::Wrong { is_last } => return wrong(admin, asking, is_last),
    };
    admin.record(Action::LoggedIn, &session, "", "");
    Ok(if is_program {
        let answer = json!({
            "session": token.as_str(),
            "expires_in": LIFETIME.as_secs(),
            "attestation": evidence,
        });
        respond::json(StatusCode::OK, &answer)
    } else {
        let mut response = respond::redirect("/admin");
        response.headers_mut().insert(SET_COOKIE, cookie(&token, LIFETIME.as_secs(), asking));
        response
    })
}

fn wrong(admin: &Admin, asking: &Asking<'_>, is_last: bool) -> Result<Response<Body>, AdminError> {
    admin.audit.record(Action::WrongPassword, None, asking.address, "", "");
    if is_last {
        admin.audit.record(Action::LockedOut, None, asking.address, "", "");
    }
    if asking.wants_json() {
        return Err(AdminError::Password);
    }
    Ok(respond::redirect("/admin/login?error=Invalid+password"))
}

/// `{"password": …}`, or a form's field.
async fn password_of_a_program(
    asking: &Asking<'_>,
    body: Upload,
) -> Result<Zeroizing<String>, AdminError> {
    let kind = asking.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"application/json")) {
        let form = Form::read(asking.headers, body).await?;
        return Ok(Zeroizing::new(form.get("password").unwrap_or_default().to_owned()));
    }
    #[derive(serde::Deserialize)]
    struct Said {
        password: String,
    }
    let body = form::read(body).await?;
    let said: Said = serde_json::from_slice(&body)
        .map_err(|_| AdminError::Malformed("The body must be {\"password\": \"…\"}"))?;
    Ok(Zeroizing::new(said.password))
}

/// What the server says of itself at this moment.
pub(super) fn evidence(admin: &Admin) -> Option<Value> {
    let document = admin.parts.publication.as_ref()?.document()?;
    serde_json::from_slice(&document).ok()
}

/// Ends the session. A link may ask for it as well: the cookie is `SameSite=Strict`, so that only a page of ours can be the
/// one that does, and all that it ends is one's own session.
pub(super) async fn logout(
    admin: &Admin,
    asking: &Asking<'_>,
    body: Upload,
) -> Result<Response<Body>, AdminError> {
    if asking.is_head {
        return Ok(respond::redirect("/admin/login"));
    }
    if let Some(session) = admin.session(asking) {
        if asking.method == Method::POST {
            admin.form(asking, &session, body).await?;
        } else {
            asking.is_of_our_site()?;
        }
        end(admin, &session);
    }
    let mut response = respond::redirect("/admin/login");
    response.headers_mut().insert(SET_COOKIE, cookie("", 0, asking));
    Ok(response)
}

/// Ends a session.
pub(super) fn end(admin: &Admin, session: &Open) {
    admin.sessions.end(session.id);
    admin.record(Action::LoggedOut, session, "", "");
}

fn cookie(token: &str, seconds: u64, asking: &Asking<'_>) -> HeaderValue {
    let secure = if asking.encrypted { "; Secure" } else { "" };
    let text = Zeroizing::new(format!(
        "{COOKIE_NAME}={token}; HttpOnly; Max-Age={seconds}; Path=/; SameSite=Strict{secure}"
    ));
    let mut value = HeaderValue::from_str(&text).expect("base64 and ASCII are a header");
    value.set_sensitive(true);
    value
}
