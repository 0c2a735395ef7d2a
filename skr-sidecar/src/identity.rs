//! The managed identity's token, from the instance metadata service.
//!
//! Source: Azure's documentation of managed identities, *Get a token using HTTP*: `GET
//! /metadata/identity/oauth2/token?api-version=2018-02-01&resource=…[&client_id=…]` with `Metadata: true`.
//!
//! Must not know whom a token is sent to: `vault_hosts` decides that.

use std::str::FromStr;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use service::outbound::{Answer, Call, Limits, Outbound, OutboundError, shown_request};
use service::roots::Roots;
use url::Url;
use zeroize::Zeroizing;

use crate::secret::{self, Bearer, NotABearer};
use crate::workload_identity::{WorkloadError, WorkloadIdentity};

/// Tries in all. The service of a container that has just started often refuses the first ones.
const TRIES: usize = 3;

/// From the first try to the last answer, pauses included.
const DEADLINE: Duration = Duration::from_secs(20);

const LIMITS: Limits = Limits {
    deadline: DEADLINE,
    attempt: Duration::from_secs(5),
    attempts: TRIES,
    answer: 64 * 1024,
};

/// Pauses before the second and third try, with jitter. `Retry-After` may stretch them.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Where the service answers: scheme, host and port.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint(Url);

/// Why a text is no such endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a URL such as http://169.254.169.254, without path or query")]
pub(crate) struct NotAnEndpoint;

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        let url = Url::parse(text).map_err(|_| NotAnEndpoint)?;
        let bare = matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if bare { Ok(Self(url)) } else { Err(NotAnEndpoint) }
    }
}

/// A user-assigned identity, by its client id.
#[derive(Clone, Debug)]
pub(crate) struct ClientId(String);

/// Why a text is no client id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be the client id of a managed identity, such as 01234567-89ab-cdef-0123-456789abcdef"
)]
pub(crate) struct NotAClientId;

impl FromStr for ClientId {
    type Err = NotAClientId;

    fn from_str(text: &str) -> Result<Self, NotAClientId> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        if fits { Ok(Self(text.to_owned())) } else { Err(NotAClientId) }
    }
}

impl ClientId {
    /// As it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The group's identity.
#[derive(Debug)]
pub(crate) struct Identity {
    endpoint: Endpoint,
    client_id: Option<ClientId>,
    service: Outbound,
    pauses: ExponentialBuilder,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The service gave no whole answer.
    #[error("http get authentication token failed")]
    Call(#[source] OutboundError),
    /// The service refused, after every try.
    #[error(
        "pulling http get authentication token response failed: {excerpt}: http response status equal to {status}{}",
        shown_request(request_id.as_deref())
    )]
    Refused {
        /// Its status.
        status: StatusCode,
        /// The beginning of what it said.
        excerpt: String,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
        /// What it calls the request.
        request_id: Option<Box<str>>,
    },
    /// The answer holds no token.
    #[error("the identity service answered without an access token")]
    NoToken,
    /// The answer's token cannot be used.
    #[error("the identity service answered with something else than a token")]
    Token(#[source] NotABearer),
    /// A workload identity has none.
    #[error("failed to acquire access token")]
    Workload(#[source] Box<WorkloadError>),
    /// The task that asked has ended early.
    #[error("asking for an authentication token was interrupted: try again")]
    Interrupted,
}

impl IdentityError {
    /// What failed as a whole, in the words that callers of the reference know.
    pub(crate) fn step(&self) -> &'static str {
        match self {
            Self::Workload(_) => "retrieving authentication token using workload identity failed",
            _ => "retrieving authentication token failed",
        }
    }
}

/// Whose tokens they are.
#[derive(Debug)]
pub(crate) enum Source {
    /// A managed identity's.
    Managed(Identity),
    /// A pod's of a cluster.
    Workload(WorkloadIdentity),
}

impl Source {
    /// A token for `resource`, as long as its issuer has it live.
    pub(crate) async fn token(&self, resource: &str) -> Result<Issued, IdentityError> {
        match self {
            Self::Managed(identity) => identity.token(resource).await,
            Self::Workload(identity) => identity.token(resource).await,
        }
    }
}

/// A token, and for how long it is good from now on.
pub(crate) struct Issued {
    /// The token.
    pub(crate) bearer: Bearer,
    /// Zero where its issuer does not say.
    pub(crate) expires_in: Duration,
}

impl Identity {
    /// The identity that `endpoint` answers for: `client_id`'s, or else the only one that the group has.
    pub(crate) fn new(endpoint: Endpoint, client_id: Option<ClientId>, roots: &Roots) -> Self {
        let service = Outbound::new("the identity service", roots, LIMITS);
        let pauses = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(TRIES - 1)
            .with_jitter();
        Self { endpoint, client_id, service, pauses }
    }

    /// A token for `resource`, as long as the service has it live.
    pub(crate) async fn token(&self, resource: &str) -> Result<Issued, IdentityError> {
        let call = self.call(resource);
        let asking = (|| self.service.once(&call))
            .retry(self.pauses)
            .when(is_worth_another_try)
            .adjust(|error, pause| pause.map(|pause| pause.max(asked_pause(error))));
        let answer = tokio::time::timeout(DEADLINE, asking)
            .await
            .unwrap_or(Err(OutboundError::TimedOut { party: "the identity service" }))?;
        read(answer)
    }

    fn call(&self, resource: &str) -> Call {
        let mut url = self.endpoint.0.clone();
        url.set_path("/metadata/identity/oauth2/token");
        url.query_pairs_mut()
            .append_pair("api-version", "2018-02-01")
            .append_pair("resource", resource);
        if let Some(ClientId(id)) = &self.client_id {
            url.query_pairs_mut().append_pair("client_id", id);
        }
        let metadata = HeaderName::from_static("metadata");
        Call::get(url).header(metadata, HeaderValue::from_static("true"))
    }
}

/// Beside what is transient for everybody: the service says 400, 404 or 410 while an identity is not ready yet.
fn is_worth_another_try(error: &OutboundError) -> bool {
    let not_ready = [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND, StatusCode::GONE];
    error.is_transient()
        || matches!(error, OutboundError::Refused { status, .. } if not_ready.contains(status))
}

fn asked_pause(error: &OutboundError) -> Duration {
    match error {
        OutboundError::Refused { retry_after: Some(asked), .. } => (*asked).min(LONGEST_PAUSE),
        _ => Duration::ZERO,
    }
}

/// The token of an answer, which is wiped.
pub(crate) fn read(answer: Answer) -> Result<Issued, IdentityError> {
    #[derive(Deserialize)]
    struct Token<'a> {
        #[serde(borrow)]
        access_token: &'a str,
        #[serde(default)]
        expires_in: Option<Seconds>,
    }

    // A token has no character that JSON would escape, so it can be borrowed.
    let token = serde_json::from_slice::<Token<'_>>(&answer.body).map(|token| {
        let Seconds(life) = token.expires_in.unwrap_or_default();
        (Zeroizing::new(token.access_token.to_owned()), life)
    });
    secret::wipe(answer.body);
    let (token, life) = token.map_err(|_| IdentityError::NoToken)?;
    let bearer = Bearer::new(token).map_err(IdentityError::Token)?;
    Ok(Issued { bearer, expires_in: Duration::from_secs(life) })
}

/// Seconds, which some issuers write as a number and some as a text. What is neither says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "serde_json::Value")]
pub(crate) struct Seconds(pub(crate) u64);

impl From<serde_json::Value> for Seconds {
    fn from(value: serde_json::Value) -> Self {
        let text = value.as_str().and_then(|text| text.parse().ok());
        Self(value.as_u64().or(text).unwrap_or_default())
    }
}

impl From<OutboundError> for IdentityError {
    fn from(error: OutboundError) -> Self {
        match error {
            OutboundError::Refused { status, excerpt, retry_after, request_id, .. } => {
                Self::Refused { status, excerpt, retry_after, request_id }
            }
            other => Self::Call(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_origin() {
        for good in ["http://169.254.169.254", "http://127.0.0.1:80/", "https://identity.test"] {
            assert!(good.parse::<Endpoint>().is_ok(), "{good}");
        }
        for bad in [
            "169.254.169.254",
            "ftp://a",
            "http://a/metadata",
            "http://a?x",
            "http://a#x",
            "http://u@a",
            "http://:p@a",
        ] {
            assert_eq!(bad.parse::<Endpoint>().err(), Some(NotAnEndpoint), "{bad}");
        }
    }

    #[test]
    fn a_client_id_has_no_characters_of_a_query() {
        assert!("01234567-89ab-cdef-0123-456789abcdef".parse::<ClientId>().is_ok());
        for bad in ["", "a&b", "a=b", "a b", "ä", &"a".repeat(65)] {
            assert_eq!(bad.parse::<ClientId>().err(), Some(NotAClientId), "{bad}");
        }
    }

    #[test]
    fn a_call_names_resource_and_identity() {
        let endpoint: Endpoint = "http://127.0.0.1:8080".parse().unwrap();
        let of = |client_id| Identity::new(endpoint.clone(), client_id, &Roots::public());
        let call = of(None).call("https://vault.azure.net");
        let url = "http://127.0.0.1:8080/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net";
        assert_eq!(call.url.as_str(), url);
        assert_eq!(call.headers["metadata"], "true");
        let call = of("a-1".parse().ok()).call("https://vault.azure.net");
        assert_eq!(call.url.as_str(), format!("{url}&client_id=a-1"));
    }

    #[test]
    fn a_life_is_a_number_or_a_text_or_unknown() {
        for (json, seconds) in
            [("3599", 3599), ("\"3599\"", 3599), ("-1", 0), ("\"x\"", 0), ("null", 0), ("{}", 0)]
        {
            assert_eq!(serde_json::from_str::<Seconds>(json).unwrap(), Seconds(seconds), "{json}");
        }
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let refused = |status: u16| OutboundError::Refused {
            party: "x",
            status: StatusCode::from_u16(status).unwrap(),
            excerpt: String::new(),
            retry_after: Some(Duration::from_secs(3600)),
            request_id: None,
        };
        for status in [400, 404, 408, 410, 429, 500, 503] {
            assert!(is_worth_another_try(&refused(status)), "{status}");
        }
        for status in [401, 403, 405] {
            assert!(!is_worth_another_try(&refused(status)), "{status}");
        }
        assert!(is_worth_another_try(&OutboundError::TimedOut { party: "x" }));
        assert!(!is_worth_another_try(&OutboundError::TooLarge { party: "x", limit: 1 }));
        assert_eq!(asked_pause(&refused(429)), LONGEST_PAUSE, "however long the service asks for");
    }
}
