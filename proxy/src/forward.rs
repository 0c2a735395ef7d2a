//! Passing a request to the upstream and its answer back, both as they come.
//!
//! Nothing is buffered, decoded or repeated. Path and query go on byte for byte. When the client goes away,
//! its request is dropped here, and with it the connection to the upstream.

use std::error::Error;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use service::roots::Roots;
use url::Url;
use zeroize::Zeroizing;

use crate::body::{Body, streamed};
use crate::error::Refusal;

/// The longest request body: twice OpenAI's limit for audio.
pub(crate) const MAX_BODY: usize = 50 * 1024 * 1024;

/// How long the upstream may take until it begins to answer.
const FIRST_BYTE: Duration = Duration::from_secs(300);

/// How long it may pause within an answer.
const BETWEEN_BYTES: Duration = Duration::from_secs(300);

/// Headers of one hop (RFC 9110, 7.6.1), and those that are for this proxy alone: they name its client, carry
/// its credentials, or are its to answer.
const NOT_FORWARDED: [&str; 19] = [
    "authorization",
    "connection",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-api-key",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Headers of one hop that an upstream's answer must not bring along, and those by which an upstream would send the
/// client elsewhere or speak for this server.
const NOT_RETURNED: [&str; 12] = [
    "alt-svc",
    "clear-site-data",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "refresh",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The model server.
pub(crate) struct Upstream {
    client: Client<HttpsConnector<HttpConnector>, Limited<Incoming>>,
    base: Uri,
    credential: RwLock<Option<HeaderValue>>,
}

impl Upstream {
    pub(crate) fn new(url: &Url, key: Option<&Zeroizing<String>>, roots: &Roots) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(10)));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(roots.client_config())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        // Requests never wait for a connection in the pool: if none is idle, one is opened.
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(256)
            .set_host(true)
            .build(connector);
        let credential = RwLock::new(key.map(header));
        let base = url.as_str().parse().expect("a URL with a host is a URI");
        Self { client, base, credential }
    }

    /// Sends another credential from now on, or none.
    pub(crate) fn renew(&self, key: Option<&Zeroizing<String>>) {
        *self.credential.write().unwrap_or_else(PoisonError::into_inner) = key.map(header);
    }

    /// Passes the request on. The answer's head is back when this returns; its body flows on its own.
    pub(crate) async fn forward(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let (mut parts, body) = request.into_parts();
        if declared_length(&parts.headers).is_some_and(|length| length > MAX_BODY as u64) {
            return Err(Refusal::TooLarge(MAX_BODY));
        }
        parts.uri = self.target(&parts.uri).ok_or(Refusal::NotFound)?;
        parts.version = http::Version::HTTP_11;
        parts.extensions = http::Extensions::new();
        strip(&mut parts.headers, &NOT_FORWARDED);
        let credential = self.credential.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(credential) = credential {
            parts.headers.insert(AUTHORIZATION, credential);
        }
        let call = self.client.request(Request::from_parts(parts, Limited::new(body, MAX_BODY)));
        let answer = tokio::time::timeout(FIRST_BYTE, call).await;
        let response = answer.map_err(|_| Refusal::UpstreamTimeout)?.map_err(|error| {
            if is_too_large(&error) { Refusal::TooLarge(MAX_BODY) } else { Refusal::Upstream }
        })?;
        let (mut parts, body) = response.into_parts();
        if parts.headers.contains_key(TRANSFER_ENCODING) {
            // RFC 9112, 6.3: the encoding decides; a length beside it would cut the answer.
            parts.headers.remove(CONTENT_LENGTH);
        }
        strip(&mut parts.headers, &NOT_RETURNED);
        parts.version = http::Version::HTTP_11;
        parts.extensions = http::Extensions::new();
        Ok(Response::from_parts(parts, streamed(body, BETWEEN_BYTES)))
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

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn strip(headers: &mut HeaderMap, names: &[&'static str]) {
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in nominated {
        headers.remove(name);
    }
    for name in names {
        headers.remove(*name);
    }
}

fn is_too_large(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
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
mod tests {
    use super::*;

    fn target(base: &str, asked: &str) -> String {
        let upstream = Upstream::new(&base.parse().unwrap(), None, &Roots::public());
        upstream.target(&asked.parse().unwrap()).unwrap().to_string()
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
        let upstream = Upstream::new(&"http://h".parse().unwrap(), None, &Roots::public());
        assert!(upstream.target(&"*".parse().unwrap()).is_none());
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
            ("accept", "text/event-stream"),
        ]
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
        strip(&mut headers, &NOT_FORWARDED);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("accept"));
    }
}
