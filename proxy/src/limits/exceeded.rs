//! A limit that is in a request's way, and what its client is told.
//!
//! Texts that today's clients match on are those of `proxy.md` part E. Must not know how anything is counted.

use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, RETRY_AFTER};

use super::headers::{Quota, Standing, whole_seconds};

/// Which limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Limit {
    /// Requests of one address.
    Address,
    /// Requests of one key.
    Key,
    /// Requests of all keys.
    Global,
    /// Tokens of one key.
    Tokens,
    /// Money of one key, spent.
    Budget,
    /// Money of one key, set aside for its calls in flight.
    BudgetInFlight,
}

impl Limit {
    /// Its name, as metrics have it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Key => "key",
            Self::Global => "global",
            Self::Tokens => "tokens",
            Self::Budget | Self::BudgetInFlight => "budget",
        }
    }

    /// OpenAI's `type` and `code`.
    pub(crate) fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Address | Self::Key | Self::Global => ("requests", "rate_limit_exceeded"),
            Self::Tokens => ("tokens", "rate_limit_exceeded"),
            Self::Budget => ("insufficient_quota", "insufficient_quota"),
            Self::BudgetInFlight => ("budget", "rate_limit_exceeded"),
        }
    }
}

/// A request is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", text(*.what))]
pub(crate) struct Exceeded {
    /// By this limit.
    pub(crate) what: Limit,
    /// Requests or tokens; 0 for money, whose amount is for the eyes of `/auth/key-info`.
    pub(crate) limit: u64,
    /// What is left of it: too little, or nothing.
    pub(crate) remaining: u64,
    /// How long to wait before asking again.
    pub(crate) wait: Duration,
}

fn text(what: Limit) -> &'static str {
    match what {
        Limit::Address => "IP rate limit exceeded",
        Limit::Key => "Per-key rate limit exceeded",
        Limit::Global => "Global rate limit exceeded",
        Limit::Tokens => {
            "Per-key token rate limit exceeded: wait for the calls in flight and of the last minute, or ask for shorter \
             answers (max_tokens)"
        }
        Limit::Budget => {
            "The budget of this API key for this calendar month (UTC) is spent: ask whoever issued the key for more"
        }
        Limit::BudgetInFlight => {
            "What is left of this API key's budget is set aside for its calls in flight: wait for them, or ask for \
             shorter answers (max_tokens)"
        }
    }
}

impl Exceeded {
    /// Says it in headers, too.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let quota = Quota { limit: self.limit, remaining: self.remaining, reset: self.wait };
        match self.what {
            Limit::Address | Limit::Key | Limit::Global => {
                Standing { requests: quota, tokens: None }.write(headers);
            }
            Limit::Tokens => quota.write_tokens(headers),
            Limit::BudgetInFlight => {}
            Limit::Budget => {
                // OpenAI's clients would ask again at once (openai-python, `_should_retry`).
                let name = HeaderName::from_static("x-should-retry");
                headers.insert(name, HeaderValue::from_static("false"));
            }
        }
        headers.insert(RETRY_AFTER, whole_seconds(self.wait).max(1).into());
    }
}
