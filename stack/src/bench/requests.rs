//! First and later requests: on a connection that is proved, and on one that is not.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use client::Connector;
use client::connection::{AttestedConnection, RequestBody};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};

use super::BenchError;
use super::figures::{Times, compared};
use super::tls::Effort;
use super::upstream::{DOWNLOAD, LARGE, SHORT};
use crate::straight::{Straight, Version};

const PROMPT: &str = r#"{"model":"gpt-oss-120b","messages":[{"role":"user","content":"Say something short, please."}]}"#;

/// What is asked, with a key of the group.
#[derive(Clone)]
pub(crate) struct Requests {
    authorization: HeaderValue,
}

impl Requests {
    pub(crate) fn new(api_key: &str) -> Result<Self, BenchError> {
        let authorization = format!("Bearer {api_key}").parse();
        let unusable = |_| BenchError::Unexpected("the key does not fit into a header".to_owned());
        Ok(Self { authorization: authorization.map_err(unusable)? })
    }

    /// A short chat.
    pub(crate) fn chat(&self) -> Request<Full<Bytes>> {
        self.request(Method::POST, SHORT, PROMPT)
    }

    /// An answer of [`LARGE`] bytes.
    pub(crate) fn download(&self) -> Request<Full<Bytes>> {
        self.request(Method::GET, DOWNLOAD, "")
    }

    fn request(
        &self,
        method: Method,
        path: &'static str,
        body: &'static str,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from_static(body.as_bytes())));
        *request.method_mut() = method;
        *request.uri_mut() = http::Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, self.authorization.clone());
        request
    }
}

/// Sends on a connection without a proof, and reads the answer to its end.
pub(crate) async fn straight(
    who: &'static str,
    connection: &mut Straight,
    request: Request<Full<Bytes>>,
) -> Result<(), BenchError> {
    let failed = |error| BenchError::Straight(who, error);
    let answer = connection.send(request).await.map_err(failed)?;
    let _ready = connection.is_ready().await;
    good(who, answer.status())
}

async fn attested(
    connector: &Connector,
    connection: &AttestedConnection,
    request: Request<Full<Bytes>>,
) -> Result<(), BenchError> {
    let request: Request<RequestBody> =
        request.map(|body| body.map_err(|never| match never {}).boxed_unsync());
    let answer = connection.send(connector.target(), request).await?;
    let status = answer.status();
    let read = service::body::read(answer.into_body(), LARGE).await;
    read.map_err(|error| BenchError::Unexpected(service::chain(&error)))?;
    good("an attested connection", status)
}

fn good(who: &str, status: StatusCode) -> Result<(), BenchError> {
    let wrong = || BenchError::Unexpected(format!("a request of {who} was answered with {status}"));
    status.is_success().then_some(()).ok_or_else(wrong)
}

/// From dialling to the last byte of the first answer.
pub(crate) async fn first(
    connector: &Connector,
    server: SocketAddr,
    requests: &Requests,
    effort: Effort,
) -> Result<String, BenchError> {
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    for _ in 0..effort.connections {
        let begin = Instant::now();
        let plain = Straight::tls(server, Version::Http2).await;
        let mut plain = plain.map_err(|error| BenchError::Straight("plain TLS", error))?;
        straight("plain TLS", &mut plain, requests.chat()).await?;
        theirs.push(begin.elapsed());

        let begin = Instant::now();
        let connection = connector.connect().await?;
        attested(connector, &connection, requests.chat()).await?;
        ours.push(begin.elapsed());
    }
    Ok(compared("first request", ("attested", &ours), ("plain TLS", &theirs)))
}

/// On connections that are open.
pub(crate) async fn later(
    connector: &Connector,
    server: SocketAddr,
    requests: &Requests,
    effort: Effort,
) -> Result<String, BenchError> {
    let plain = Straight::tls(server, Version::Http2).await;
    let mut plain = plain.map_err(|error| BenchError::Straight("plain TLS", error))?;
    let connection = connector.connect().await?;
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    for _ in 0..effort.requests {
        let begin = Instant::now();
        straight("plain TLS", &mut plain, requests.chat()).await?;
        theirs.push(begin.elapsed());

        let begin = Instant::now();
        attested(connector, &connection, requests.chat()).await?;
        ours.push(begin.elapsed());
    }
    Ok(compared("later requests", ("attested", &ours), ("plain TLS", &theirs)))
}
