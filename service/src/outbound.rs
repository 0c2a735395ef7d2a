//! Calls to an outside party: bounded in time and size, repeated only where that is safe, and with errors
//! that say which party failed and whether it is worth trying again.
//!
//! No proxy is used, whatever the environment says; no redirect is followed; no cookie is kept.

use std::fmt;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, StatusCode};
use reqwest::{Client, Method, Url};
use time::PrimitiveDateTime;
use time::macros::format_description;
use tokio::time::Instant;

use crate::body::{self, BodyError};
use crate::clock;
use crate::roots::Roots;

/// The longest upstream text that an error repeats.
const EXCERPT: usize = 2048;

/// How long the answer to a call that is judged by its status is read.
const REST: Duration = Duration::from_secs(1);

/// Where Azure's services name a request, so that their operators find it again.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");

/// The longest name of a request that an error repeats.
const LONGEST_REQUEST_ID: usize = 128;

/// One outside party and the bounds for calls to it.
#[derive(Clone, Debug)]
pub struct Outbound {
    party: &'static str,
    client: Client,
    limits: Limits,
}

/// Bounds of one call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first try to the last byte of the last answer.
    pub deadline: Duration,
    /// One try.
    pub attempt: Duration,
    /// Tries in all, for calls that may be repeated.
    pub attempts: usize,
    /// The longest answer that is read, in bytes.
    pub answer: usize,
}

impl Default for Limits {
    /// 30 s in all, 10 s a try, 3 tries, 1 MiB.
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            attempt: Duration::from_secs(10),
            attempts: 3,
            answer: 1 << 20,
        }
    }
}

/// A call to make. It can be sent more than once, so its body is whole. Bodies and headers hold secrets: `Debug` does
/// not show them.
#[derive(Clone)]
pub struct Call {
    /// GET, POST, …
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers beyond those that HTTP itself needs.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
}

impl Call {
    /// A GET without headers.
    #[must_use]
    pub fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A POST of JSON.
    #[must_use]
    pub fn post_json(url: Url, body: Bytes) -> Self {
        let json = http::HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, json)]);
        Self { method: Method::POST, url, headers, body }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: http::HeaderName, value: http::HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

/// A 2xx answer. Its `Debug` shows neither headers nor body, which may hold a token.
#[derive(Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, url, .. } = self;
        let url = url.as_str();
        f.debug_struct("Call").field("method", method).field("url", &url).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Why a call gave no 2xx answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// No connection, or it broke off.
    #[error("{party} cannot be reached")]
    Unreachable {
        /// Who.
        party: &'static str,
        /// Why; its text may hold the URL, never a header or a body.
        source: reqwest::Error,
    },
    /// No whole answer in time.
    #[error("{party} did not answer in time")]
    TimedOut {
        /// Who.
        party: &'static str,
    },
    /// An answer longer than the limit.
    #[error("{party} answered with more than {limit} bytes")]
    TooLarge {
        /// Who.
        party: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// Another status than 2xx.
    #[error(
        "{party} refused: {excerpt}: http response status equal to {status}{}",
        shown_request(request_id.as_deref())
    )]
    Refused {
        /// Who.
        party: &'static str,
        /// The status.
        status: StatusCode,
        /// The beginning of its answer.
        excerpt: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
        /// What it calls this request: visible ASCII.
        request_id: Option<Box<str>>,
    },
}

/// How an error names the request of a party that refused it: behind everything that the party said.
#[must_use]
pub fn shown_request(id: Option<&str>) -> String {
    id.map_or_else(String::new, |id| format!(" (request id {id})"))
}

impl OutboundError {
    /// Whether the same call may succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::TooLarge { .. } => false,
            Self::Refused { status, .. } => {
                status.is_server_error()
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || *status == StatusCode::REQUEST_TIMEOUT
            }
        }
    }

    /// How long the party asked to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::TooLarge { .. } => None,
        }
    }
}

impl Outbound {
    /// A caller of `party`, believing `roots` where the URL says https.
    #[must_use]
    pub fn new(party: &'static str, roots: &Roots, limits: Limits) -> Self {
        let client = Client::builder()
            .tls_backend_preconfigured(roots.client_config())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .pool_max_idle_per_host(8)
            .build()
            .expect("a client with a ready TLS configuration has nothing left to fail");
        Self { party, client, limits }
    }

    /// Calls once. For calls that must not be repeated.
    ///
    /// # Errors
    ///
    /// [`OutboundError`].
    pub async fn once(&self, call: &Call) -> Result<Answer, OutboundError> {
        let timed_out = |_| OutboundError::TimedOut { party: self.party };
        tokio::time::timeout(self.limits.attempt, self.attempt(call)).await.map_err(timed_out)?
    }

    /// Calls, and calls again after a transient failure, with jitter and honouring `Retry-After`, within the
    /// deadline. A pause that would end after it is not begun: the caller learns at once what was asked for. For
    /// calls that change nothing at the other side.
    ///
    /// # Errors
    ///
    /// The last [`OutboundError`].
    pub async fn repeatedly(&self, call: &Call) -> Result<Answer, OutboundError> {
        let timed_out = |_| OutboundError::TimedOut { party: self.party };
        let end = Instant::now() + self.limits.deadline;
        tokio::time::timeout_at(end, self.tries(call, end)).await.map_err(timed_out)?
    }

    /// Calls once, and goes by the status alone: whatever follows it, and however slowly, a 2xx is success. Of the rest
    /// as much is read as the limit allows, for a moment, and nothing of it is believed.
    ///
    /// # Errors
    ///
    /// [`OutboundError`]; its excerpt may be cut off.
    pub async fn once_by_status(&self, call: &Call) -> Result<(), OutboundError> {
        let timed_out = |_| OutboundError::TimedOut { party: self.party };
        let sent = tokio::time::timeout(self.limits.attempt, self.send(call));
        let mut response = sent.await.map_err(timed_out)??;
        let mut beginning = Vec::new();
        let reading = async {
            while beginning.len() < self.limits.answer
                && let Ok(Some(more)) = response.chunk().await
            {
                beginning.extend_from_slice(&more);
            }
        };
        let _ = tokio::time::timeout(REST, reading).await;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        Err(self.refused(status, response.headers(), &beginning))
    }

    async fn tries(&self, call: &Call, end: Instant) -> Result<Answer, OutboundError> {
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(self.limits.attempts.saturating_sub(1))
            .with_jitter()
            .build();
        loop {
            let error = match self.once(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let Some(pause) = pauses.next().filter(|_| error.is_transient()) else {
                return Err(error);
            };
            let pause = error.retry_after().map_or(pause, |asked| asked.max(pause));
            if pause >= end.saturating_duration_since(Instant::now()) {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Answer, OutboundError> {
        let response = self.send(call).await?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = body::read(reqwest::Body::from(response), self.limits.answer).await;
        let body = body.map_err(|error| match error {
            BodyError::TooLarge(limit) => OutboundError::TooLarge { party: self.party, limit },
            BodyError::Broken(source) => self.unreachable(source),
        })?;
        if status.is_success() {
            return Ok(Answer { status, headers, body });
        }
        Err(self.refused(status, &headers, &body))
    }

    async fn send(&self, call: &Call) -> Result<reqwest::Response, OutboundError> {
        let Call { method, url, headers, body } = call.clone();
        let request = self.client.request(method, url).headers(headers).body(body);
        request.send().await.map_err(|source| self.unreachable(source))
    }

    fn unreachable(&self, source: reqwest::Error) -> OutboundError {
        OutboundError::Unreachable { party: self.party, source }
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> OutboundError {
        OutboundError::Refused {
            party: self.party,
            status,
            excerpt: String::from_utf8_lossy(body.get(..EXCERPT).unwrap_or(body)).into_owned(),
            retry_after: headers
                .get(RETRY_AFTER)
                .and_then(|value| pause(value.to_str().ok()?.trim(), clock::unix_now())),
            request_id: headers.get(&REQUEST_ID).and_then(|id| request_id(id.to_str().ok()?)),
        }
    }
}

/// How long `Retry-After` asks to wait (RFC 9110 section 10.2.3): seconds, or a date, in its one form that senders may
/// still use. A date that has passed asks for nothing.
fn pause(value: &str, now: u64) -> Option<Duration> {
    let date = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let seconds = value.parse().ok().or_else(|| {
        let date = PrimitiveDateTime::parse(value, date).ok()?;
        let date = u64::try_from(date.assume_utc().unix_timestamp()).ok()?;
        Some(date.saturating_sub(now))
    });
    seconds.map(Duration::from_secs)
}

fn request_id(value: &str) -> Option<Box<str>> {
    let fits = (1..=LONGEST_REQUEST_ID).contains(&value.len());
    let visible = value.bytes().all(|byte| byte.is_ascii_graphic());
    (fits && visible).then(|| value.into())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A party that says these things, one a connection, and hears nothing.
    async fn party(answers: &[&str]) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                let close = "content-length: 2\r\nconnection: close\r\n\r\nok";
                let _ = stream.write_all(format!("HTTP/1.1 {answer}\r\n{close}").as_bytes()).await;
            }
        });
        url
    }

    fn outbound() -> Outbound {
        let deadline = Duration::from_secs(5);
        Outbound::new("party", &Roots::public(), Limits { deadline, ..Limits::default() })
    }

    #[test]
    fn what_is_shown_for_debugging_holds_no_secret() {
        let (header, secret) = (http::header::AUTHORIZATION, "s3cret");
        let url = "https://party.test/path".parse().unwrap();
        let call = Call::post_json(url, secret.into()).header(header, secret.parse().unwrap());
        let shown = format!("{call:?}");
        assert!(shown.contains("party.test/path") && !shown.contains(secret), "{shown}");
        let (status, headers, body) = (StatusCode::OK, call.headers, secret.into());
        let shown = format!("{:?}", Answer { status, headers, body });
        assert!(shown.contains("200") && !shown.contains(secret), "{shown}");
    }

    #[tokio::test]
    async fn a_pause_that_is_asked_for_is_kept() {
        let url = party(&["429 Slow\r\nretry-after: 1", "200 OK"]).await;
        let started = Instant::now();
        let answer = outbound().repeatedly(&Call::get(url)).await.unwrap();
        assert_eq!(answer.body, "ok");
        assert!(started.elapsed() >= Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_pause_beyond_the_deadline_is_told_at_once_and_the_party_left_alone() {
        for asked in ["6", "600", "18446744073709551615"] {
            let throttled = format!("429 Slow\r\nretry-after: {asked}");
            let url = party(&[&throttled, "200 OK"]).await;
            let started = Instant::now();
            let error = outbound().repeatedly(&Call::get(url)).await.unwrap_err();
            assert_eq!(error.retry_after(), Some(Duration::from_secs(asked.parse().unwrap())));
            assert!(error.is_transient());
            assert!(started.elapsed() < Duration::from_secs(4), "{asked}");
        }
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_a_date() {
        let now = 784_111_777;
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:51:37 GMT", Some(120)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Xxx, 06 Nov 1994 08:51:37 GMT", None),
            ("Sunday, 06-Nov-94 08:51:37 GMT", None),
            ("Sun, 06 Nov 1994 08:51:37 CET", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
        ] {
            assert_eq!(pause(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }

    #[tokio::test]
    async fn a_refusal_names_the_request_behind_everything_else() {
        let long = "a".repeat(LONGEST_REQUEST_ID + 1);
        for (id, shown) in [("0f-1", " (request id 0f-1)"), ("a b", ""), (&long, "")] {
            let url = party(&[&format!("403 Forbidden\r\nx-ms-request-id: {id}")]).await;
            let error = outbound().once(&Call::get(url)).await.unwrap_err();
            let said = "party refused: ok: http response status equal to 403 Forbidden";
            assert_eq!(error.to_string(), format!("{said}{shown}"));
        }
    }
}
