//! Why an admin request is refused, and which status that gives.
//!
//! A person sees the text on a page, a program in OpenAI's error object; the texts that `proxy.md` names are those.

use std::time::Duration;

use http::StatusCode;

use super::values::Problems;
use crate::keys::EditError;
use crate::settings::SettingsError;
use crate::store::StoreError;

/// A refusal. No text holds what somebody typed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// There is no password, so nobody can log in.
    #[error("Admin UI disabled: set ADMIN_PASSWORD to a long password and start the proxy again")]
    Disabled,
    /// A form without a token of this session, or with one that is too old or was used.
    #[error("Invalid or expired CSRF token: open the page again and send the form once more")]
    Token,
    /// A page of somebody else made the browser send this.
    #[error("This request was made by a page of another site, so it was not done")]
    OtherSite,
    /// Too many wrong passwords.
    #[error("Too many login attempts from this address: try again in {} s", seconds(.0))]
    TooManyAttempts(Duration),
    /// The password of a program is wrong.
    #[error("Invalid password")]
    Password,
    /// A program has no session.
    #[error(
        "Not logged in: POST /admin/login with Accept: application/json gives a session, which goes into \
         Authorization: Bearer"
    )]
    NoSession,
    /// Nothing is there.
    #[error("There is nothing at this path")]
    NotFound,
    /// Something is there, but not by this method.
    #[error("This path does not take this method")]
    Method,
    /// A body is too long.
    #[error("The body is longer than {0} bytes")]
    TooLarge(usize),
    /// A body is none of this kind.
    #[error("{0}")]
    Malformed(&'static str),
    /// Fields have values that cannot be.
    #[error("{0}")]
    Invalid(Problems),
    /// There is no such key.
    #[error("There is no key with this id")]
    UnknownKey,
    /// The key comes from where nothing is changed from here.
    #[error(
        "This key comes from API_KEYS or from the sealed secrets: change it there, and start again or seal anew"
    )]
    NotEditable,
    /// As it says.
    #[error("There are as many keys as can be kept: delete some first")]
    TooManyKeys,
    /// What was used cannot be read.
    #[error(
        "The usage cannot be read at the moment; nothing of it is lost. Try again; the log says why"
    )]
    NoUsage,
    /// There is no log to watch.
    #[error(
        "There is no sealed log here: LOG_SEALER is off, so nothing that is logged goes anywhere"
    )]
    NoLogSealer,
    /// It is not shown on a connection that nobody can have verified, whatever else is.
    #[error(
        "The live log is not shown on this connection, which was not proved: open it through `pmc connect`, which \
         verifies the server first"
    )]
    NotProved,
    /// It is not allowed.
    #[error(
        "The live log is off: set LOG_LIVE=admin for log-sealer, a measured variable, and start the group anew. Until then only \
         the readers of the sealed log can read it, with pmc logs"
    )]
    LiveViewOff,
    /// As many watch as may.
    #[error("As many people watch the log as may: end one of those views first")]
    TooManyViews,
    /// It does not answer. Why is in the log.
    #[error("log-sealer shows nothing at the moment: see that it runs, and try again")]
    NoLiveView,
    /// What is kept could not be changed. Why is in the log.
    #[error("The change could not be saved; nothing was changed. The log says why")]
    NotSaved,
}

fn seconds(wait: &Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl AdminError {
    /// Which status it gives.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Disabled
            | Self::Token
            | Self::OtherSite
            | Self::NotProved
            | Self::LiveViewOff => StatusCode::FORBIDDEN,
            Self::TooManyAttempts(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Password | Self::NoSession => StatusCode::UNAUTHORIZED,
            Self::NotFound | Self::UnknownKey | Self::NoLogSealer => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Malformed(_) | Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::NotEditable | Self::TooManyKeys => StatusCode::CONFLICT,
            Self::NoUsage | Self::TooManyViews | Self::NoLiveView => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::NotSaved => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// OpenAI's `type` and `code`.
    pub(crate) fn kind(&self) -> (&'static str, &'static str) {
        let code = match self {
            Self::Disabled => "admin_disabled",
            Self::Token => "invalid_csrf_token",
            Self::OtherSite => "other_site",
            Self::TooManyAttempts(_) => return ("rate_limit_error", "too_many_logins"),
            Self::Password => "invalid_password",
            Self::NoSession => "not_logged_in",
            Self::NotFound => "not_found",
            Self::Method => "method_not_allowed",
            Self::TooLarge(_) => "request_too_large",
            Self::Malformed(_) => "malformed_request",
            Self::Invalid(_) => "invalid_value",
            Self::UnknownKey => "key_not_found",
            Self::NotEditable => "key_not_editable",
            Self::TooManyKeys => "too_many_keys",
            Self::NoLogSealer => "no_log_sealer",
            Self::NotProved => "connection_not_proved",
            Self::LiveViewOff => "live_view_off",
            Self::TooManyViews => return ("server_error", "too_many_views"),
            Self::NoLiveView => return ("server_error", "live_view_unavailable"),
            Self::NoUsage => return ("server_error", "usage_unavailable"),
            Self::NotSaved => return ("server_error", "not_saved"),
        };
        ("invalid_request_error", code)
    }

    /// OpenAI's `param`: the first field that is wrong.
    pub(crate) fn param(&self) -> Option<&'static str> {
        match self {
            Self::Invalid(problems) => problems.first(),
            _ => None,
        }
    }

    /// Seconds until it may be tried again.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooManyAttempts(wait) => Some(seconds(wait)),
            _ => None,
        }
    }
}

impl From<Problems> for AdminError {
    fn from(problems: Problems) -> Self {
        Self::Invalid(problems)
    }
}

impl From<EditError> for AdminError {
    fn from(error: EditError) -> Self {
        match &error {
            EditError::Unknown(_) => Self::UnknownKey,
            EditError::NotEditable(_) => Self::NotEditable,
            EditError::TooMany => Self::TooManyKeys,
            EditError::Invalid { field, why } => Self::Invalid(Problems::one(field, why)),
            EditError::File(_) | EditError::Store(_) | EditError::NoRandomNumbers => {
                not_saved(&error)
            }
        }
    }
}

impl From<SettingsError> for AdminError {
    fn from(error: SettingsError) -> Self {
        not_saved(&error)
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        let error = &error as &dyn std::error::Error;
        tracing::error!(error, "the usage could not be read for an admin");
        Self::NoUsage
    }
}

fn not_saved(error: &(dyn std::error::Error + 'static)) -> AdminError {
    tracing::error!(error, "a change by an admin could not be saved");
    AdminError::NotSaved
}
