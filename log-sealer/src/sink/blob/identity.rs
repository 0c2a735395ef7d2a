//! The managed identity's token for storage, from the instance metadata service.
//!
//! Source: Azure's documentation of managed identities, *Get a token using HTTP*. The service belongs to the host. Must
//! not know whom the token is sent to.

use std::str::FromStr;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use service::outbound::{Call, Limits, Outbound};
use service::roots::Roots;
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use crate::sink::SinkError;

/// What the token is for.
const RESOURCE: &str = "https://storage.azure.com";

const LIMITS: Limits = Limits {
    deadline: Duration::from_secs(20),
    attempt: Duration::from_secs(5),
    attempts: 3,
    answer: 64 * 1024,
};

/// A token is not used in the last minutes of its life: what it is sent with takes time, and clocks differ.
const MARGIN: Duration = Duration::from_secs(300);

/// How long a token is kept at least and at most, however long it lives: one that ends too early is refused, and then
/// forgotten.
const KEPT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(24 * 3600));

/// Where the service answers: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(Url);

/// Why a text is no such endpoint.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a URL such as http://169.254.169.254, without path or query")]
pub(crate) struct NotAnEndpoint;

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        let url: Url = text.parse().map_err(|_| NotAnEndpoint)?;
        // an origin's text is the URL's if there is nothing else in it
        let bare = url.as_str() == format!("{}/", url.origin().ascii_serialization());
        if bare && matches!(url.scheme(), "http" | "https") {
            Ok(Self(url))
        } else {
            Err(NotAnEndpoint)
        }
    }
}

/// A user-assigned identity, by its client id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientId(String);

/// Why a text is no client id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the client id of a managed identity: letters, digits and dashes")]
pub(crate) struct NotAClientId;

impl FromStr for ClientId {
    type Err = NotAClientId;

    fn from_str(text: &str) -> Result<Self, NotAClientId> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        if fits { Ok(Self(text.to_owned())) } else { Err(NotAClientId) }
    }
}

/// The group's identity, and its token until shortly before the token's end.
pub(super) struct Identity {
    call: Call,
    service: Outbound,
    kept: Option<(HeaderValue, Instant)>,
}

impl Identity {
    pub(super) fn new(Endpoint(url): &Endpoint, client: Option<&ClientId>, roots: &Roots) -> Self {
        let mut url = url.clone();
        url.set_path("/metadata/identity/oauth2/token");
        url.query_pairs_mut()
            .append_pair("api-version", "2018-02-01")
            .append_pair("resource", RESOURCE);
        if let Some(ClientId(id)) = client {
            url.query_pairs_mut().append_pair("client_id", id);
        }
        let metadata = HeaderName::from_static("metadata");
        let call = Call::get(url).header(metadata, HeaderValue::from_static("true"));
        Self { call, service: Outbound::new("the identity service", roots, LIMITS), kept: None }
    }

    /// The value of `Authorization`.
    pub(super) async fn bearer(&mut self) -> Result<HeaderValue, SinkError> {
        let now = Instant::now();
        if let Some((bearer, _)) = self.kept.as_ref().filter(|(_, end)| now < *end) {
            return Ok(bearer.clone());
        }
        let answer = self.service.repeatedly(&self.call).await.map_err(SinkError::Identity)?;
        let (bearer, life) = read(&answer.body).ok_or(SinkError::NoToken)?;
        let life = life.saturating_sub(MARGIN).clamp(KEPT.0, KEPT.1);
        self.kept = Some((bearer.clone(), now + life));
        Ok(bearer)
    }

    /// The token was not accepted.
    pub(super) fn forget(&mut self) {
        self.kept = None;
    }
}

/// A token, and for how long it is good.
fn read(body: &[u8]) -> Option<(HeaderValue, Duration)> {
    #[derive(Deserialize)]
    struct Token<'a> {
        // no character of a token is one that JSON would escape, so it can be borrowed
        access_token: &'a str,
        #[serde(default)]
        expires_in: Value,
    }

    let token: Token<'_> = serde_json::from_slice(body).ok()?;
    let text = Zeroizing::new(format!("Bearer {}", token.access_token));
    let mut bearer =
        HeaderValue::from_str(&text).ok().filter(|_| !token.access_token.is_empty())?;
    bearer.set_sensitive(true);
    // a number, or a text of one, as the service writes it
    let seconds = token.expires_in.as_str().and_then(|text| text.parse().ok());
    let seconds = token.expires_in.as_u64().or(seconds).unwrap_or_default();
    Some((bearer, Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_origin() {
        for good in ["http://169.254.169.254", "http://127.0.0.1:8080/", "https://identity.test"] {
            assert!(good.parse::<Endpoint>().is_ok(), "{good}");
        }
        for bad in
            ["169.254.169.254", "ftp://a", "http://a/b", "http://a?x", "http://a#x", "http://u@a"]
        {
            assert_eq!(bad.parse::<Endpoint>(), Err(NotAnEndpoint), "{bad}");
        }
        for bad in ["", "a&b", "a b", &"a".repeat(65)] {
            assert_eq!(bad.parse::<ClientId>(), Err(NotAClientId), "{bad}");
        }
    }

    #[test]
    fn a_call_names_resource_and_identity() {
        let endpoint = "http://127.0.0.1:8080".parse().unwrap();
        let client = "a-1".parse().unwrap();
        let identity = Identity::new(&endpoint, Some(&client), &Roots::public());
        assert_eq!(
            identity.call.url.as_str(),
            "http://127.0.0.1:8080/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com&client_id=a-1"
        );
        assert_eq!(identity.call.headers["metadata"], "true");
    }

    #[test]
    fn a_token_is_read_with_its_life() {
        for (text, life) in [
            (r#"{"access_token":"a.b","expires_in":"3599"}"#, 3599),
            (r#"{"access_token":"a.b","expires_in":60,"x":1}"#, 60),
            (r#"{"access_token":"a.b"}"#, 0),
        ] {
            let (bearer, seconds) = read(text.as_bytes()).unwrap();
            assert_eq!((bearer.to_str().unwrap(), seconds.as_secs()), ("Bearer a.b", life));
            assert!(!format!("{bearer:?}").contains("a.b"));
        }
        for bad in ["", "{}", r#"{"access_token":""}"#, r#"{"access_token":"a\nb"}"#] {
            assert!(read(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
