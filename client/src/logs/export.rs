//! What was verified, to the reader's own collector: OTLP/HTTP with JSON (OpenTelemetry protocol, "OTLP/HTTP").
//!
//! Documents of one signal are put together up to a bound and sent one after the other, each until the collector has it
//! or says that it never will. What is sent leaves the sealed world: https, or a collector of this machine.
//!
//! Must not know what a document says.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;

use super::document::Signal;
use crate::outgoing::{OutgoingError, Party, read_at_most};

/// A request is sent when its documents reach this many bytes.
const FULL: usize = 1 << 20;

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The shortest and, apart from jitter, the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Tries after the first one.
const TRIES: usize = 7;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Why something did not reach the collector.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Not the URL of a collector.
    #[error("must be https://host[:port][/path], or http:// on this machine")]
    Url,
    /// No headers of HTTP.
    #[error("line {0} is no header: write `name: value`")]
    Header(usize),
    /// No certificates in PEM.
    #[error("holds no certificates in PEM")]
    Roots,
    /// A document cannot be put together with others.
    #[error("a document cannot be sent")]
    Document,
    /// It cannot be reached.
    #[error("the collector cannot be reached")]
    Unreachable(#[source] std::io::Error),
    /// It does not speak HTTP.
    #[error("the collector broke off")]
    Http(#[source] hyper::Error),
    /// It did not answer.
    #[error("the collector did not answer in time")]
    TimedOut,
    /// It cannot take it now.
    #[error("the collector is busy: status {0}")]
    Busy(StatusCode, Option<Duration>),
    /// It never will.
    #[error("the collector refuses: status {0}")]
    Refused(StatusCode),
}

impl From<OutgoingError> for ExportError {
    fn from(error: OutgoingError) -> Self {
        match error {
            OutgoingError::Url => Self::Url,
            OutgoingError::Roots => Self::Roots,
            OutgoingError::Unreachable(source) => Self::Unreachable(source),
            OutgoingError::Http(source) => Self::Http(source),
        }
    }
}

impl ExportError {
    /// Whether another try may succeed (OpenTelemetry protocol, "Retryable Response Codes").
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Http(_) | Self::TimedOut | Self::Busy(..) => true,
            Self::Url | Self::Header(_) | Self::Roots | Self::Document | Self::Refused(_) => false,
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Requests that the collector took.
    pub requests: u64,
    /// Records, spans and points that it says it did not keep.
    pub rejected: u64,
}

/// Sends documents to a collector.
pub struct Exporter {
    collector: Collector,
    waiting: Vec<Box<RawValue>>,
    signal: Signal,
    bytes: usize,
    exported: Exported,
}

/// Where requests go.
struct Collector {
    party: Party,
    /// What stands before `/v1/logs`.
    base: String,
    /// What every request carries, such as a credential.
    headers: HeaderMap,
}

impl Exporter {
    /// Sends to `<url>/v1/logs` and its like. Believes the public web's authorities, or those in `roots` (PEM) instead.
    ///
    /// # Errors
    ///
    /// [`ExportError::Url`], [`ExportError::Roots`].
    pub fn new(url: &str, roots: Option<&[u8]>) -> Result<Self, ExportError> {
        Ok(Self {
            collector: Collector::new(url, roots)?,
            waiting: Vec::new(),
            signal: Signal::Logs,
            bytes: 0,
            exported: Exported::default(),
        })
    }

    /// Sends these headers as well: lines of `name: value`. A credential, say; values have no `Debug`.
    ///
    /// # Errors
    ///
    /// [`ExportError::Header`]; the text is not repeated.
    pub fn with_headers(mut self, text: &str) -> Result<Self, ExportError> {
        for (line, number) in text.lines().zip(1..) {
            let header = line.split_once(':').and_then(|(name, value)| {
                let name: HeaderName = name.trim().parse().ok()?;
                let mut value: HeaderValue = value.trim().parse().ok()?;
                value.set_sensitive(true);
                (name != HOST && name != CONTENT_LENGTH).then_some((name, value))
            });
            let (name, value) = header.ok_or(ExportError::Header(number))?;
            self.collector.headers.insert(name, value);
        }
        Ok(self)
    }

    /// Takes a document; it may be sent later.
    ///
    /// # Errors
    ///
    /// [`ExportError`], also about documents that were taken before.
    pub async fn take(&mut self, signal: Signal, document: &str) -> Result<(), ExportError> {
        let [list, ..] = signal.lists();
        let mut members: std::collections::BTreeMap<&str, Vec<Box<RawValue>>> =
            serde_json::from_str(document).map_err(|_| ExportError::Document)?;
        let resources = members.remove(list).ok_or(ExportError::Document)?;
        if signal != self.signal || self.bytes + document.len() > FULL {
            self.send().await?;
        }
        self.signal = signal;
        self.bytes += document.len();
        self.waiting.extend(resources);
        Ok(())
    }

    /// Sends what waits.
    ///
    /// # Errors
    ///
    /// [`ExportError`].
    pub async fn finish(&mut self) -> Result<Exported, ExportError> {
        self.send().await?;
        Ok(self.exported)
    }

    async fn send(&mut self) -> Result<(), ExportError> {
        self.bytes = 0;
        if self.waiting.is_empty() {
            return Ok(());
        }
        let [list, ..] = self.signal.lists();
        let resources: Vec<&str> = self.waiting.iter().map(|one| one.get()).collect();
        let body = Bytes::from(format!("{{\"{list}\":[{}]}}", resources.join(",")));
        self.waiting.clear();
        let path = match self.signal {
            Signal::Logs => "/v1/logs",
            Signal::Traces => "/v1/traces",
            Signal::Metrics => "/v1/metrics",
        };
        let rejected = self.collector.deliver(path, body).await?;
        self.exported.requests += 1;
        self.exported.rejected = self.exported.rejected.saturating_add(rejected);
        Ok(())
    }
}

impl Collector {
    fn new(url: &str, roots: Option<&[u8]>) -> Result<Self, ExportError> {
        let url = Url::parse(url).map_err(|_| ExportError::Url)?;
        if url.query().is_some() {
            return Err(ExportError::Url);
        }
        let base = url.path().trim_end_matches('/').to_owned();
        Ok(Self { party: Party::new(&url, roots)?, base, headers: HeaderMap::new() })
    }

    /// Tries until the collector has it, and says how much of it it did not keep.
    async fn deliver(&self, path: &str, body: Bytes) -> Result<u64, ExportError> {
        let (shortest, longest) = PAUSES;
        let mut pauses = ExponentialBuilder::new()
            .with_min_delay(shortest)
            .with_max_delay(longest)
            .with_max_times(TRIES)
            .with_jitter()
            .build();
        loop {
            let tried = tokio::time::timeout(PATIENCE, self.post(path, body.clone())).await;
            let error = match tried.unwrap_or(Err(ExportError::TimedOut)) {
                Ok(rejected) => return Ok(rejected),
                Err(error) => error,
            };
            let Some(pause) = pauses.next().filter(|_| error.may_pass()) else { return Err(error) };
            let asked = match error {
                ExportError::Busy(_, asked) => asked.map(|asked| asked.min(longest)),
                _ => None,
            };
            tokio::time::sleep(asked.map_or(pause, |asked| asked.max(pause))).await;
        }
    }

    async fn post(&self, path: &str, body: Bytes) -> Result<u64, ExportError> {
        let mut request = Request::post(format!("{}{path}", self.base))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|_| ExportError::Url)?;
        request.headers_mut().extend(self.headers.clone());
        let mut line = self.party.connect().await?;
        read(line.send(request).await?).await
    }
}

async fn read(answer: http::Response<Incoming>) -> Result<u64, ExportError> {
    let status = answer.status();
    if matches!(status.as_u16(), 429 | 502 | 503 | 504) {
        let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        return Err(ExportError::Busy(status, asked));
    }
    if !status.is_success() {
        return Err(ExportError::Refused(status));
    }
    // It has been taken: an answer that cannot be read says nothing against that.
    let body = read_at_most(answer.into_body(), MAX_ANSWER).await.unwrap_or_default();
    Ok(serde_json::from_slice(&body).map_or(0, |answer| rejected(&answer)))
}

/// `partialSuccess` of an answer: 64-bit integers are strings in OTLP/JSON, and readers take numbers too.
fn rejected(answer: &Value) -> u64 {
    let Some(partial) = answer.get("partialSuccess") else { return 0 };
    ["rejectedLogRecords", "rejectedSpans", "rejectedDataPoints"]
        .into_iter()
        .filter_map(|name| partial.get(name))
        .filter_map(|number| number.as_u64().or_else(|| number.as_str()?.parse().ok()))
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// A collector that gives these answers, one a connection, and what it was sent.
    fn collector(answers: &'static [&'static str]) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/base/", listener.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            answers
                .iter()
                .map(|answer| {
                    let (mut stream, _) = listener.accept().unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let mut request = Vec::new();
                    let mut buffer = [0; 4096];
                    while !is_whole(&request) {
                        let length = stream.read(&mut buffer).unwrap();
                        assert_ne!(length, 0, "the request ends early");
                        request.extend_from_slice(&buffer[..length]);
                    }
                    stream.write_all(answer.as_bytes()).unwrap();
                    String::from_utf8(request).unwrap()
                })
                .collect()
        });
        (url, serving)
    }

    fn is_whole(request: &[u8]) -> bool {
        let text = String::from_utf8_lossy(request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.split("content-length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        body.len() >= length
    }

    const TAKEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

    #[tokio::test]
    async fn documents_of_a_signal_are_put_together() {
        let (url, serving) = collector(&[TAKEN, TAKEN]);
        let exporter = Exporter::new(&url, None).unwrap();
        let mut exporter = exporter.with_headers("Authorization: Bearer a:b\nx-team: c\n").unwrap();
        for document in ["{\"resourceLogs\":[{\"a\":1}]}", "{\"resourceLogs\":[{\"b\":2},{}]}"] {
            exporter.take(Signal::Logs, document).await.unwrap();
        }
        exporter.take(Signal::Traces, "{\"resourceSpans\":[{}]}").await.unwrap();
        let exported = exporter.finish().await.unwrap();
        assert_eq!(exported, Exported { requests: 2, rejected: 0 });
        let requests = serving.join().unwrap();
        assert!(requests[0].starts_with("POST /base/v1/logs HTTP/1.1\r\n"), "{}", requests[0]);
        assert!(requests[0].contains("content-type: application/json\r\n"));
        assert!(requests[0].contains("authorization: Bearer a:b\r\nx-team: c\r\n"));
        assert!(requests[0].ends_with("\r\n\r\n{\"resourceLogs\":[{\"a\":1},{\"b\":2},{}]}"));
        assert!(requests[1].starts_with("POST /base/v1/traces "));
    }

    #[tokio::test]
    async fn a_busy_collector_is_asked_again_and_one_that_refuses_is_not() {
        const BUSY: &str = "HTTP/1.1 503 Busy\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
        const PARTIAL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 46\r\n\r\n\
                               {\"partialSuccess\":{\"rejectedLogRecords\":\"3\"}} ";
        let (url, serving) = collector(&[BUSY, PARTIAL]);
        let mut exporter = Exporter::new(&url, None).unwrap();
        exporter.take(Signal::Logs, "{\"resourceLogs\":[]}").await.unwrap();
        assert_eq!(exporter.finish().await.unwrap(), Exported::default(), "nothing to send");
        exporter.take(Signal::Logs, "{\"resourceLogs\":[{}]}").await.unwrap();
        let exported = exporter.finish().await.unwrap();
        assert_eq!(exported, Exported { requests: 1, rejected: 3 });
        let requests = serving.join().unwrap();
        assert_eq!(requests[0], requests[1]);

        const REFUSES: &str = "HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n";
        let (url, serving) = collector(&[REFUSES]);
        let mut exporter = Exporter::new(&url, None).unwrap();
        exporter.take(Signal::Metrics, "{\"resourceMetrics\":[{}]}").await.unwrap();
        let refused = exporter.finish().await;
        assert!(matches!(refused, Err(ExportError::Refused(StatusCode::BAD_REQUEST))));
        serving.join().unwrap();
    }

    #[tokio::test]
    async fn a_collector_of_this_machine_is_reached_by_its_name() {
        let (url, serving) = collector(&[TAKEN]);
        let mut exporter = Exporter::new(&url.replace("127.0.0.1", "LOCALHOST"), None).unwrap();
        exporter.take(Signal::Logs, "{\"resourceLogs\":[{}]}").await.unwrap();
        assert_eq!(exporter.finish().await.unwrap().requests, 1);
        assert!(serving.join().unwrap()[0].contains("host: localhost:"));
    }

    #[test]
    fn what_is_opened_goes_over_tls_or_stays_on_this_machine() {
        for good in [
            "https://a.example",
            "https://a.example:4318/x",
            "http://127.0.0.1:1",
            "http://[::1]:1",
        ] {
            assert!(Exporter::new(good, None).is_ok(), "{good}");
        }
        for bad in ["http://a.example", "ftp://a", "https://a@b", "https://a/?x", "a", ""] {
            assert!(matches!(Exporter::new(bad, None), Err(ExportError::Url)), "{bad}");
        }
        for (bad, line) in [("a: b\nsecret", 2), ("a b: c", 1), ("host: a", 1), ("", 0)] {
            let outcome = Exporter::new("https://a.example", None).unwrap().with_headers(bad);
            match outcome {
                Ok(_) => assert_eq!(line, 0, "{bad}"),
                Err(error) => assert_eq!(error.to_string().find(&line.to_string()), Some(5)),
            }
        }
        assert!(matches!(
            Exporter::new("https://a.example", Some(b"none")),
            Err(ExportError::Roots)
        ));
    }
}
