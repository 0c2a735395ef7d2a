//! What operators do: pages without a script, and a JSON API with the same powers, below `/admin`.
//!
//! Source: `proxy.md` part I, `wire.md` part 6. Whether a connection may see any of it is decided before
//! ([`Router`](crate::route::Router)). Nothing below `/admin` is ever forwarded.
//!
//! Must not know how requests to the model are answered.

mod about;
mod api;
mod asking;
mod assets;
mod attempts;
mod attestation;
mod audit;
mod audit_page;
mod bound;
mod chart;
mod csrf;
mod error;
mod export;
mod field;
mod form;
mod key_page;
mod keys_page;
mod live;
mod login;
mod notice;
mod password;
mod respond;
mod reveal;
mod same_site;
mod session;
mod settings_page;
mod shell;
mod usage_page;
mod values;
mod view;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use http::{Method, Request, Response};

use self::asking::Asking;
use self::attempts::Attempts;
use self::audit::{Action, Audit};
use self::csrf::{For, Tokens};
use self::form::Form;
use self::password::Password;
use self::reveal::Reveals;
use self::session::{Open, Sessions};
use crate::body::Body;
use crate::connection::Connection;
use crate::error::Refusal;
use crate::keys::{Keys, Listed};
use crate::ledger::Ledger;
use crate::publication::Publication;
use crate::secrets::Secrets;
use crate::settings::{Numbers, Settings};
use crate::upload::Upload;

pub(crate) use self::asking::COOKIE_NAME;
pub(crate) use self::error::AdminError;
pub(crate) use self::live::Live;

/// A page: a method, a path, what it is.
struct Row {
    method: Method,
    path: &'static str,
    page: Page,
}

/// Everything that has a path of its own. Below `/admin/keys/` stands a key's id and what to do with it.
#[derive(Clone, Copy)]
enum Page {
    Asset(&'static assets::Asset),
    Login,
    TryLogin,
    Logout,
    Keys,
    Generate,
    Settings,
    ChangeRateLimits,
    Usage,
    UsageCsv,
    UsageJson,
    Attestation,
    Logs,
    Audit,
    About,
}

const PAGES: [Row; 17] = [
    Row { method: Method::GET, path: "/admin", page: Page::Keys },
    Row { method: Method::GET, path: "/admin/login", page: Page::Login },
    Row { method: Method::POST, path: "/admin/login", page: Page::TryLogin },
    // Its cookie is `SameSite=Strict`: no other page can make a browser log out.
    Row { method: Method::GET, path: "/admin/logout", page: Page::Logout },
    Row { method: Method::POST, path: "/admin/logout", page: Page::Logout },
    Row { method: Method::POST, path: "/admin/keys/generate", page: Page::Generate },
    Row { method: Method::GET, path: "/admin/usage", page: Page::Usage },
    Row { method: Method::GET, path: "/admin/usage.csv", page: Page::UsageCsv },
    Row { method: Method::GET, path: "/admin/usage.json", page: Page::UsageJson },
    Row { method: Method::GET, path: "/admin/settings", page: Page::Settings },
    Row { method: Method::POST, path: "/admin/settings/rate-limits", page: Page::ChangeRateLimits },
    Row { method: Method::GET, path: "/admin/attestation", page: Page::Attestation },
    Row { method: Method::GET, path: "/admin/logs", page: Page::Logs },
    Row { method: Method::GET, path: "/admin/audit", page: Page::Audit },
    Row { method: Method::GET, path: "/admin/about", page: Page::About },
    Row {
        method: Method::GET,
        path: "/admin/static/admin.css",
        page: Page::Asset(&assets::STYLESHEET),
    },
    Row { method: Method::GET, path: "/admin/static/logo.png", page: Page::Asset(&assets::LOGO) },
];

/// What the admin needs of the rest.
pub(crate) struct Parts {
    /// Keys, to list and change them.
    pub(crate) keys: Arc<Keys>,
    /// What was used.
    pub(crate) ledger: Arc<Ledger>,
    /// The group's evidence; `None` with `TLS_MODE=off`.
    pub(crate) publication: Option<Publication>,
    /// What comes into the sealed log; `None` without `log-sealer`.
    pub(crate) live: Option<Live>,
    /// The rate limits of all.
    pub(crate) settings: Arc<Settings>,
    /// Where clients reach the server: host, and port if it is not 443.
    pub(crate) hostname: String,
}

/// The admin's state. It ends with the process, and with it every session.
pub(crate) struct Admin {
    parts: Parts,
    /// `None`: nobody can log in.
    password: RwLock<Option<Password>>,
    has_upstream_key: AtomicBool,
    sessions: Arc<Sessions>,
    tokens: Tokens,
    attempts: Attempts,
    reveals: Reveals,
    audit: Arc<Audit>,
}

impl Admin {
    /// With the password of these secrets.
    pub(crate) fn new(parts: Parts, secrets: &Secrets) -> Self {
        let admin = Self {
            parts,
            password: RwLock::default(),
            has_upstream_key: AtomicBool::default(),
            sessions: Arc::default(),
            tokens: Tokens::new(Instant::now()),
            attempts: Attempts::default(),
            reveals: Reveals::default(),
            audit: Arc::default(),
        };
        admin.renew(secrets);
        admin
    }

    /// Takes newer secrets. Another password ends every session that was begun with the one before.
    pub(crate) fn renew(&self, secrets: &Secrets) {
        let newer = secrets.admin_password().and_then(|text| Password::new(text));
        let mut password = self.password.write().unwrap_or_else(PoisonError::into_inner);
        let is_same = match (password.as_ref(), newer.as_ref()) {
            (Some(held), Some(newer)) => held.equals(newer),
            _ => false,
        };
        *password = newer;
        if !is_same {
            self.sessions.end_all();
        }
        drop(password);
        self.has_upstream_key.store(secrets.upstream_key().is_some(), Ordering::Relaxed);
    }

    /// Answers one request to a path at or below `/admin`.
    pub(crate) async fn answer(
        &self,
        connection: &Connection,
        request: Request<Upload>,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let asking = Asking::new(connection, &parts);
        let outcome = if asking.path.starts_with("/admin/api/") {
            api::answer(self, &asking, body).await
        } else {
            self.page(&asking, body).await
        };
        let error = match outcome {
            Ok(response) => return response,
            Err(error) => error,
        };
        if asking.wants_page() {
            notice::page(self, &asking, &error)
        } else {
            respond::unstored(Refusal::Admin(error).response())
        }
    }

    async fn page(&self, asking: &Asking<'_>, body: Upload) -> Result<Response<Body>, AdminError> {
        let page = PAGES.iter().find(|row| row.path == asking.path && row.method == asking.method);
        let page = page.map(|row| row.page);
        if let Some(Page::Asset(asset)) = page {
            return Ok(asset.response(asking.headers));
        }
        let key = if page.is_none() { asking.key_path() } else { None };
        if page.is_none() && key.is_none() {
            return Err(AdminError::NotFound);
        }
        self.is_enabled()?;
        match page {
            Some(Page::Login) => return Ok(login::page(self, asking)),
            Some(Page::TryLogin) => return login::attempt(self, asking, body).await,
            Some(Page::Logout) => return login::logout(self, asking, body).await,
            _ => {}
        }
        let Some(session) = self.session(asking) else {
            return Ok(respond::redirect("/admin/login"));
        };
        if asking.method == Method::POST {
            let form = self.form(asking, &session, body).await?;
            return match (page, key) {
                (Some(Page::Generate), _) => {
                    keys_page::generate(self, asking, &session, &form).await
                }
                (Some(Page::ChangeRateLimits), _) => {
                    settings_page::change(self, asking, &session, &form).await
                }
                (_, Some((id, action))) => {
                    key_page::act(self, asking, &session, &form, &id, action).await
                }
                _ => Err(AdminError::NotFound),
            };
        }
        match (page, key) {
            (Some(Page::Keys), _) => Ok(keys_page::page(self, asking, &session).await),
            (Some(Page::Usage), _) => usage_page::page(self, asking, &session).await,
            (Some(Page::UsageCsv), _) => export::csv(self, asking, &session).await,
            (Some(Page::UsageJson), _) => export::json(self, asking, &session).await,
            (Some(Page::Settings), _) => Ok(settings_page::page(self, asking, &session)),
            (Some(Page::Attestation), _) => Ok(attestation::page(self, asking, &session)),
            (Some(Page::Logs), _) => live::page(self, asking, &session).await,
            (Some(Page::Audit), _) => Ok(audit_page::page(self, asking, &session)),
            (Some(Page::About), _) => Ok(about::page(self, asking, &session)),
            (_, Some((id, ""))) => key_page::page(self, asking, &session, &id).await,
            _ => Err(AdminError::NotFound),
        }
    }

    fn is_enabled(&self) -> Result<(), AdminError> {
        let password = self.password.read().unwrap_or_else(PoisonError::into_inner);
        if password.is_some() { Ok(()) } else { Err(AdminError::Disabled) }
    }

    /// The session that the request's cookie names.
    fn session(&self, asking: &Asking<'_>) -> Option<Open> {
        let mut cookies = asking.session_cookies();
        cookies.find_map(|token| self.sessions.find(token, asking.address, asking.now))
    }

    /// The form of a session, if a page of ours made it for that session.
    async fn form(
        &self,
        asking: &Asking<'_>,
        session: &Open,
        body: Upload,
    ) -> Result<Form, AdminError> {
        asking.is_of_our_site()?;
        let form = Form::read(asking.headers, body).await?;
        self.take_token(form.text("csrf_token"), For::Session(session.id), asking)?;
        Ok(form)
    }

    fn take_token(&self, token: &str, whom: For, asking: &Asking<'_>) -> Result<(), AdminError> {
        if self.tokens.take(token, whom, asking.now) { Ok(()) } else { Err(AdminError::Token) }
    }

    /// The key with that id.
    async fn find(&self, id: &str) -> Result<Listed, AdminError> {
        let (keys, id) = (self.parts.keys.clone(), id.to_owned());
        aside(move || keys.find(&id)).await.ok_or(AdminError::UnknownKey)
    }

    /// Takes other rate limits, once they are on the disk.
    async fn change_limits(&self, numbers: Numbers) -> Result<(), AdminError> {
        Ok(self.parts.settings.change(numbers).await?)
    }

    fn record(&self, action: Action, session: &Open, key_id: &str, fields: &str) {
        self.audit.record(action, Some(session.id), session.address, key_id, fields);
    }
}

/// Has something computed that takes its time where there are many keys, away from the thread that serves clients.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It is not cut off before the thread is that waits for it.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
impl Admin {
    /// One that nobody can log in to.
    pub(crate) fn for_tests(keys: Arc<Keys>, ledger: Arc<Ledger>, settings: Arc<Settings>) -> Self {
        let env = service::env::Environment::default();
        let mut reader = service::env::Reader::new(&env, crate::VARS);
        let secrets = crate::secrets::Origin::read(&mut reader, None);
        let Some(crate::secrets::Origin::Environment(secrets)) = secrets else {
            panic!("secrets are read from an empty environment");
        };
        let hostname = "localhost".to_owned();
        let parts = Parts { keys, ledger, publication: None, live: None, settings, hostname };
        Self::new(parts, &secrets)
    }
}
