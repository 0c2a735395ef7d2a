//! What a group must do for a client, end to end. The same list is held against processes and containers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use client::connection::{AttestedConnection, RequestBody};
use client::{Connector, Target};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use serde_json::{Value, json};

/// The longest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// What does not work.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The group cannot be verified.
    #[error("the group cannot be verified")]
    Unverified(#[from] client::ConnectError),
    /// A request was not sent, or got no answer.
    #[error("{what} got no answer")]
    NoAnswer {
        /// Which request.
        what: &'static str,
        /// Why.
        source: client::SendError,
    },
    /// An answer is not what it should be.
    #[error("{what} answered {actual}")]
    Answer {
        /// Which request.
        what: &'static str,
        /// What it said.
        actual: String,
    },
}

/// A group as a client knows it.
pub struct Endpoint {
    /// How to reach and verify it.
    pub connector: Connector,
    /// A key for it.
    pub api_key: String,
}

/// Verifies the group, then holds chat, stream, embeddings, models and the refusal of a bad key against it, all
/// on one attested connection.
///
/// # Errors
///
/// The first thing that does not work.
pub async fn end_to_end(endpoint: &Endpoint) -> Result<(), CheckError> {
    let connection = endpoint.connector.connect().await?;
    let call = Call {
        connection: &connection,
        target: endpoint.connector.target(),
        key: &endpoint.api_key,
    };

    let chat = call
        .json("chat", "/v1/chat/completions", &chat_request("hello attested world", false))
        .await?;
    let text = chat.pointer("/choices/0/message/content").and_then(Value::as_str);
    expect("chat", text.is_some_and(|text| text.contains("attested")), &chat)?;
    expect("chat", chat.pointer("/usage/total_tokens").is_some_and(Value::is_u64), &chat)?;

    call.stream().await?;

    let input = json!({"model": "qwen3-embedding-4b", "input": ["one", "two"]});
    let embeddings = call.json("embeddings", "/v1/embeddings", &input).await?;
    let vectors = embeddings.pointer("/data").and_then(Value::as_array).map(Vec::len);
    expect("embeddings", vectors == Some(2), &embeddings)?;

    let (status, refused) = Call { key: "pm_wrong", ..call }
        .send("a bad key", "/v1/chat/completions", &chat_request("x", false))
        .await?;
    let message = refused.pointer("/error/message").and_then(Value::as_str);
    let right = status == StatusCode::UNAUTHORIZED && message == Some("Invalid or expired API key");
    expect("a bad key", right, &refused)
}

/// A request to a chat model.
#[must_use]
pub fn chat_request(text: &str, stream: bool) -> Value {
    json!({
        "model": "gpt-oss-120b",
        "stream": stream,
        "messages": [{"role": "user", "content": text}],
    })
}

fn expect(what: &'static str, holds: bool, actual: &Value) -> Result<(), CheckError> {
    if holds { Ok(()) } else { Err(CheckError::Answer { what, actual: actual.to_string() }) }
}

struct Call<'a> {
    connection: &'a AttestedConnection,
    target: &'a Target,
    key: &'a str,
}

impl Call<'_> {
    fn request(&self, path: &str, body: &Value) -> Result<Request<RequestBody>, CheckError> {
        let body = Full::new(Bytes::from(body.to_string()));
        Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(AUTHORIZATION, format!("Bearer {}", self.key))
            .header(CONTENT_TYPE, "application/json")
            .body(body.map_err(|never| match never {}).boxed_unsync())
            .map_err(|error| CheckError::Answer { what: "a request", actual: error.to_string() })
    }

    async fn send(
        &self,
        what: &'static str,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value), CheckError> {
        let response = self
            .connection
            .send(self.target, self.request(path, body)?)
            .await
            .map_err(|source| CheckError::NoAnswer { what, source })?;
        let status = response.status();
        #[expect(clippy::disallowed_methods, reason = "the body is limited")]
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| CheckError::Answer { what, actual: error.to_string() })?;
        let value = serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null);
        Ok((status, value))
    }

    async fn json(
        &self,
        what: &'static str,
        path: &str,
        body: &Value,
    ) -> Result<Value, CheckError> {
        let (status, value) = self.send(what, path, body).await?;
        expect(what, status == StatusCode::OK, &json!({"status": status.as_u16(), "body": value}))?;
        Ok(value)
    }

    /// A stream arrives in pieces, not as a whole at its end.
    async fn stream(&self) -> Result<(), CheckError> {
        let what = "a stream";
        let words = "one two three four five six seven eight nine ten";
        let request = self.request("/v1/chat/completions", &chat_request(words, true))?;
        let begin = Instant::now();
        let response = self
            .connection
            .send(self.target, request)
            .await
            .map_err(|source| CheckError::NoAnswer { what, source })?;
        let mut body = Limited::new(response.into_body(), MAX_ANSWER);
        let mut arrivals: Vec<Duration> = Vec::new();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| CheckError::Answer { what, actual: error.to_string() })?;
            if let Ok(data) = frame.into_data() {
                arrivals.push(begin.elapsed());
                text.extend_from_slice(&data);
            }
        }
        let text = String::from_utf8_lossy(&text);
        let whole = text.contains("data: [DONE]") && text.contains("seven");
        expect(what, whole && arrivals.len() >= 5, &json!({"pieces": arrivals.len(), "text": text}))
    }
}
