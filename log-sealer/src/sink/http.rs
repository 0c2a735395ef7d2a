//! `LOG_ENDPOINT`: whoever takes lines by POST.
//!
//! The body is `application/x-ndjson`, a line a record, and `Idempotency-Key` says which: `<boot>-<seq>`, or
//! `<boot>-<first>-<last>`. Any 2xx says that they are safe there, whatever is behind it. What was not heard is sent
//! again, with the same key as long as this process lives and the body need not be smaller; a receiver that wants each
//! record once goes by boot and number.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method};
use service::outbound::{Call, Limits, Outbound};
use service::roots::Roots;
use url::Url;

use super::{SinkError, is_private};
use crate::sealed::{Sealed, lines};

/// Of one try; the next one is the caller's.
const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(60),
    attempt: Duration::from_secs(60),
    attempts: 1,
    answer: 64 * 1024,
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// `LOG_ENDPOINT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(Url);

/// Why a text is no endpoint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an https URL without user name, password or fragment; http on loopback only")]
pub(crate) struct NotAnEndpoint;

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        let url: Url = text.parse().map_err(|_| NotAnEndpoint)?;
        let bare =
            url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        if bare && is_private(&url) { Ok(Self(url)) } else { Err(NotAnEndpoint) }
    }
}

impl Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

pub(crate) struct Http {
    endpoint: Url,
    party: Outbound,
}

impl Http {
    pub(super) fn new(Endpoint(endpoint): Endpoint, roots: &Roots) -> Self {
        Self { endpoint, party: Outbound::new("the log endpoint", roots, LIMITS) }
    }

    pub(super) async fn put(&self, items: &[Arc<Sealed>]) -> Result<(), SinkError> {
        Ok(self.party.once_by_status(&self.call(items)).await?)
    }

    fn call(&self, items: &[Arc<Sealed>]) -> Call {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        // boot and numbers are letters and digits
        if let Ok(key) = key(items).try_into() {
            headers.insert(KEY, key);
        }
        Call {
            method: Method::POST,
            url: self.endpoint.clone(),
            headers,
            body: lines(items).into(),
        }
    }
}

fn key(items: &[Arc<Sealed>]) -> String {
    match items {
        [] => String::new(),
        [one] => format!("{}-{}", one.boot, one.seq),
        [first, .., last] => format!("{}-{}-{}", first.boot, first.seq, last.seq),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(seq: u64) -> Arc<Sealed> {
        let (boot, record) = ("b".to_owned(), format!("a.{seq}.c"));
        Arc::new(Sealed { boot, seq, record, segment: None })
    }

    #[test]
    fn an_endpoint_is_reached_by_tls_and_its_url_holds_no_password() {
        for good in ["https://logs.test/in?x=y", "http://127.0.0.1:1/"] {
            assert!(good.parse::<Endpoint>().is_ok(), "{good}");
        }
        for bad in ["logs.test", "http://logs.test", "https://u@a", "https://:p@a", "https://a#b"] {
            assert_eq!(bad.parse::<Endpoint>(), Err(NotAnEndpoint), "{bad}");
        }
    }

    #[test]
    fn a_call_holds_the_lines_and_says_which() {
        let http = Http::new("https://logs.test/in".parse().unwrap(), &Roots::public());
        let call = http.call(&[item(3)]);
        assert_eq!(call.headers[KEY], "b-3");
        assert_eq!(call.headers[CONTENT_TYPE], "application/x-ndjson");
        assert_eq!(call.body, item(3).line());
        let call = http.call(&[item(3), item(4), item(5)]);
        assert_eq!(call.headers[KEY], "b-3-5");
        assert_eq!(call.body.iter().filter(|byte| **byte == b'\n').count(), 3);
    }
}
