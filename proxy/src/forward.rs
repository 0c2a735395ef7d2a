//! Passing a request to the upstream and the head of its answer back.
//!
//! Path and query go on byte for byte, and so do headers, but for those of one hop and of this one. Nothing is sent twice:
//! only a connection that could not be opened is tried again ([`crate::dial`]), or one from the pool that turned out to be
//! closed before anything of the request was written. When the client goes away, its request is dropped here, and with it
//! the connection to the upstream.
//!
//! Must not know what a body says.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, SET_COOKIE,
    TRANSFER_ENCODING,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use service::env::{Class, Reader, Var};
use service::roots::Roots;
use thread_local::ThreadLocal;
use tokio::time::{Instant, timeout_at};
use url::Url;
use zeroize::Zeroizing;

use crate::admin::COOKIE_NAME;
use crate::dial::Dial;
use crate::error::Refusal;
use crate::openai::padding::{self, Padding};
use crate::openai::{Progress, RequestBody};

const MAX_BODY: &str = "PROXY_MAX_BODY";
const FIRST_BYTE: &str = "UPSTREAM_FIRST_BYTE_TIMEOUT";
const IDLE: &str = "UPSTREAM_IDLE_TIMEOUT";

/// The row of the longest body.
pub(crate) const MAX_BODY_VAR: Var = Var {
    name: MAX_BODY,
    class: Class::Measured,
    default: Some("52428800"),
    help: "The longest request body, in bytes, up to 1073741824. The default is twice OpenAI's limit for audio.",
};
/// The row of the wait for an answer.
pub(crate) const FIRST_BYTE_VAR: Var = Var {
    name: FIRST_BYTE,
    class: Class::Measured,
    default: Some("300"),
    help: "Seconds that the upstream may take to begin its answer, from the last byte of the request on, up to 3600.",
};
/// The row of the wait within an answer.
pub(crate) const IDLE_VAR: Var = Var {
    name: IDLE,
    class: Class::Measured,
    default: Some("300"),
    help: "Seconds that the upstream may pause within an answer, up to 3600. How long it takes in all has no limit.",
};

/// The bounds within which requests and answers pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passing {
    /// The longest request body, in bytes.
    pub(crate) max_body: usize,
    /// How long the upstream may take until it begins to answer.
    pub(crate) first_byte: Duration,
    /// How long it may pause within an answer.
    pub(crate) idle: Duration,
    /// How streamed answers are padded.
    pub(crate) padding: Padding,
}

impl Passing {
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let max_body = within(env, MAX_BODY, 1, 1 << 30);
        let first_byte = within(env, FIRST_BYTE, 1, 3600);
        let idle = within(env, IDLE, 1, 3600);
        let padding = env.parse(padding::NAME);
        Some(Self {
            max_body: usize::try_from(max_body?).ok()?,
            first_byte: Duration::from_secs(first_byte?),
            idle: Duration::from_secs(idle?),
            padding: padding?,
        })
    }
}

fn within(env: &mut Reader<'_>, name: &'static str, least: u64, most: u64) -> Option<u64> {
    let number = env.parse::<u64>(name)?;
    if (least..=most).contains(&number) {
        return Some(number);
    }
    env.refuse(name, &format!("must be {least} to {most}"));
    None
}

/// Headers of one hop (RFC 9110, 7.6.1), and those that are for this proxy alone: they name its client, carry
/// its credentials, or are its to answer.
const NOT_FORWARDED: [&str; 23] = [
    "api-key",
    "authorization",
    "connection",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "openai-organization",
    "openai-project",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

/// What all headers begin with that tell of the client's way here, and those by which an upstream would open this server to
/// pages of others (`proxy.md` case 16).
const OF_OTHERS: [&str; 2] = ["x-forwarded-", "access-control-"];

/// Headers that stay whatever `Connection` says: by them a body was judged.
const JUDGED_BY: [HeaderName; 2] = [CONTENT_TYPE, CONTENT_LENGTH];

/// Headers of one hop that an upstream's answer must not bring along, and those by which an upstream would send the
/// client elsewhere or speak for this server.
const NOT_RETURNED: [&str; 16] = [
    "alt-svc",
    "clear-site-data",
    "connection",
    "keep-alive",
    "nel",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "refresh",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

type Connector = HttpsConnector<Dial<HttpConnector>>;

/// The model server.
pub(crate) struct Upstream {
    /// One pool for each thread that serves clients: a connection is used where it was opened.
    pools: ThreadLocal<Client<Connector, RequestBody>>,
    connector: Connector,
    base: Uri,
    credential: RwLock<Option<HeaderValue>>,
    passing: Passing,
}

impl Upstream {
    pub(crate) fn new(
        url: &Url,
        key: Option<&Zeroizing<String>>,
        roots: &Roots,
        passing: Passing,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(10)));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(roots.client_config())
            .https_or_http()
            .enable_http1()
            .wrap_connector(Dial::new(tcp));
        let credential = RwLock::new(key.map(header));
        let base = url.as_str().parse().expect("a URL with a host is a URI");
        Self { pools: ThreadLocal::new(), connector, base, credential, passing }
    }

    /// Sends another credential from now on, or none.
    pub(crate) fn renew(&self, key: Option<&Zeroizing<String>>) {
        *self.credential.write().unwrap_or_else(PoisonError::into_inner) = key.map(header);
    }

    /// The bounds within which requests and answers pass.
    pub(crate) fn passing(&self) -> &Passing {
        &self.passing
    }

    /// Passes the request on. The answer's head is back when this returns; its body flows on its own.
    pub(crate) async fn forward(
        &self,
        request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Refusal> {
        let (mut parts, body) = request.into_parts();
        parts.uri = self.target(&parts.uri).ok_or(Refusal::NotFound)?;
        parts.version = http::Version::HTTP_11;
        parts.extensions = http::Extensions::new();
        strip(&mut parts.headers, &NOT_FORWARDED);
        let credential = self.credential.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(credential) = credential {
            parts.headers.insert(AUTHORIZATION, credential);
        }
        let response = self.answer(Request::from_parts(parts, body), progress).await?;
        let (mut parts, body) = response.into_parts();
        if parts.headers.contains_key(TRANSFER_ENCODING) {
            // RFC 9112, 6.3: the encoding decides; a length beside it would cut the answer.
            parts.headers.remove(CONTENT_LENGTH);
        }
        if parts.status.is_informational() {
            // Nothing was asked that could be answered so: the connection would become something else than HTTP.
            return Err(Refusal::Upstream);
        }
        strip(&mut parts.headers, &NOT_RETURNED);
        strip_cookies(&mut parts.headers);
        parts.version = http::Version::HTTP_11;
        parts.extensions = http::Extensions::new();
        Ok(Response::from_parts(parts, body))
    }

    fn pool(&self) -> &Client<Connector, RequestBody> {
        self.pools.get_or(|| {
            // Requests never wait for a connection in the pool: if none is idle, one is opened.
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(30))
                .pool_max_idle_per_host(256)
                .set_host(true)
                .build(self.connector.clone())
        })
    }

    /// Waits for the answer's head: so long after the last of the body has left, whenever that is.
    async fn answer(
        &self,
        request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Refusal> {
        let mut call = self.pool().request(request);
        loop {
            // A client that pauses is not the upstream's fault; it has a bound of its own.
            let since = progress.upstreams_turn().unwrap_or_else(Instant::now);
            let until = since + self.passing.first_byte;
            match timeout_at(until, &mut call).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(_)) => return Err(progress.refusal().unwrap_or(Refusal::Upstream)),
                Err(_) if progress.upstreams_turn().is_none_or(|turn| turn > since) => {}
                Err(_) => return Err(Refusal::UpstreamTimeout),
            }
        }
    }

    /// The upstream's base and the client's path and query, byte for byte.
    fn target(&self, client: &Uri) -> Option<Uri> {
        let asked = client.path_and_query().map_or("/", PathAndQuery::as_str);
        if !asked.starts_with('/') {
            return None;
        }
        let mut parts = self.base.clone().into_parts();
        let prefix = self.base.path().trim_end_matches('/');
        parts.path_and_query = Some(format!("{prefix}{asked}").parse().ok()?);
        Uri::from_parts(parts).ok()
    }
}

fn strip(headers: &mut HeaderMap, names: &[&'static str]) {
    let nominated = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let nominated = nominated.flat_map(|value| value.split(','));
    let nominated = nominated.filter_map(|name| name.trim().parse::<HeaderName>().ok());
    let nominated = nominated.filter(|name| !JUDGED_BY.contains(name));
    let is_of_others =
        |name: &&HeaderName| OF_OTHERS.iter().any(|of| name.as_str().starts_with(of));
    let others = headers.keys().filter(is_of_others);
    let unwanted: Vec<HeaderName> = nominated.chain(others.cloned()).collect();
    for name in unwanted {
        headers.remove(name);
    }
    for name in names {
        headers.remove(*name);
    }
}

/// Takes out cookies that would take the place of this server's own: an upstream may keep state with a client, but not end
/// an admin's session, or put another in its place.
fn strip_cookies(headers: &mut HeaderMap) {
    if !headers.get_all(SET_COOKIE).iter().any(is_our_cookie) {
        return;
    }
    let others = headers.get_all(SET_COOKIE).iter().filter(|cookie| !is_our_cookie(cookie));
    let others: Vec<HeaderValue> = others.cloned().collect();
    headers.remove(SET_COOKIE);
    for cookie in others {
        headers.append(SET_COOKIE, cookie);
    }
}

/// Whether a browser sends it back under the name of ours. It does so, too, with one that has no name, and the name in its
/// value (RFC 6265bis, 5.6 and 5.8.3).
fn is_our_cookie(value: &HeaderValue) -> bool {
    let pair = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    let begin = pair.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'='));
    let named = pair.get(begin.unwrap_or(pair.len())..).unwrap_or_default();
    let name = named.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(COOKIE_NAME.as_bytes())
}

/// The value of `Authorization`, marked so that nobody prints it.
fn header(key: &Zeroizing<String>) -> HeaderValue {
    let text = Zeroizing::new(format!("Bearer {}", key.as_str()));
    let mut value = HeaderValue::from_str(&text)
        .expect("secrets are checked: a credential has visible ASCII characters only");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
impl Passing {
    pub(crate) fn for_tests() -> Self {
        let minute = Duration::from_secs(60);
        Self { max_body: 1 << 20, first_byte: minute, idle: minute, padding: Padding::Off }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(base: &str) -> Upstream {
        let bounds = Passing::for_tests();
        Upstream::new(&base.parse().unwrap(), None, &Roots::public(), bounds)
    }

    fn target(base: &str, asked: &str) -> String {
        upstream(base).target(&asked.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn path_and_query_go_on_byte_for_byte() {
        let base = "http://127.0.0.1:8081";
        for path in ["/v1/files/a%2Fb", "/v1/models%3Fx=1", "/v1/../x", "//v1/a?b=%20&c", "/"] {
            assert_eq!(target(base, path), format!("{base}{path}"));
        }
        assert_eq!(target("http://h/prefix/", "/v1/x"), "http://h/prefix/v1/x");
        assert_eq!(target(base, "http://elsewhere:1/v1/x?y"), format!("{base}/v1/x?y"));
    }

    #[test]
    fn what_is_not_a_path_has_no_target() {
        assert!(upstream("http://h").target(&"*".parse().unwrap()).is_none());
    }

    #[test]
    fn nominated_and_own_headers_stay_behind() {
        let mut headers: HeaderMap = [
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("authorization", "Bearer client"),
            ("cookie", "admin_session=1"),
            ("x-api-key", "k"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-port", "443"),
            ("accept", "text/event-stream"),
        ]
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
        strip(&mut headers, &NOT_FORWARDED);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("accept"));
    }

    #[test]
    fn the_upstream_sets_no_cookie_of_this_server() {
        let mut headers = HeaderMap::new();
        for cookie in [
            "admin_session=forged; Path=/admin",
            "a=admin_session",
            " \tAdmin_Session =x",
            "=admin_session=x",
            "admin_session",
            "admin_sessions=x",
            "b=2; admin_session=x",
        ] {
            headers.append(SET_COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).unwrap());
        }
        strip_cookies(&mut headers);
        let left: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(left, ["a=admin_session", "admin_sessions=x", "b=2; admin_session=x"]);
    }
}
