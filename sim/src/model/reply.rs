//! Answers of the model server: JSON or server-sent events, sound or broken.
//!
//! Must not know: what an endpoint says. Everything that a fault does to an answer happens here.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, SET_COOKIE,
};
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response as HttpResponse, StatusCode,
};
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use serde_json::{Value, json};

use super::record::Watch;
use crate::faults::{Active, ModelFault};

/// One event of a stream (HTML standard, section 9.2).
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// The event's name, where the API has one.
    pub(super) name: Option<&'static str>,
    /// Its data.
    pub(super) data: Value,
}

/// What an endpoint answers.
#[derive(Debug)]
pub(super) enum Reply {
    Json {
        status: StatusCode,
        value: Value,
        retry_after: Option<u32>,
    },
    Text {
        text: String,
    },
    /// `done` says whether `data: [DONE]` ends the stream.
    Events {
        events: Vec<Event>,
        done: bool,
    },
}

impl Reply {
    pub(super) fn json(value: Value) -> Self {
        Self::Json { status: StatusCode::OK, value, retry_after: None }
    }

    /// What it says that was used: the `usage` of the value, of its response or of its message; a later event adds to
    /// those before.
    pub(super) fn usage(&self) -> Option<Value> {
        let of = |value: &Value| {
            ["/usage", "/response/usage", "/message/usage"]
                .into_iter()
                .find_map(|pointer| value.pointer(pointer)?.as_object().cloned())
        };
        let said: Vec<_> = match self {
            Self::Json { value, .. } => of(value).into_iter().collect(),
            Self::Text { .. } => Vec::new(),
            Self::Events { events, .. } => {
                events.iter().filter_map(|event| of(&event.data)).collect()
            }
        };
        said.into_iter()
            .reduce(|mut all, more| {
                all.extend(more);
                all
            })
            .map(Value::Object)
    }

    /// The HTTP answer, after the fault had its way with it.
    pub(super) fn render(
        mut self,
        delay: Duration,
        fault: Option<Active<ModelFault>>,
        watch: Watch,
    ) -> Response {
        let kind = fault.as_ref().map(|active| active.fault.clone());
        if kind == Some(ModelFault::UsageNull) {
            self.each_value(null_usage);
        }
        let mut rendered = match &kind {
            Some(ModelFault::Canned { status, headers, body }) => canned(*status, headers, body),
            _ => self.encode(),
        };
        if kind == Some(ModelFault::SetCookie) {
            let cookie = HeaderValue::from_static("upsess=simulated; Path=/; HttpOnly");
            rendered.headers.append(SET_COOKIE, cookie);
        }
        if kind == Some(ModelFault::Gzip) {
            rendered.compress();
        }
        rendered.respond(delay, fault, watch)
    }

    fn each_value(&mut self, change: fn(&mut Value)) {
        match self {
            Self::Json { value, .. } => change(value),
            Self::Text { .. } => {}
            Self::Events { events, .. } => {
                events.iter_mut().for_each(|event| change(&mut event.data));
            }
        }
    }

    fn encode(self) -> Rendered {
        let mut headers = HeaderMap::new();
        let mut content_type = |value| {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
        };
        let (status, frames, fixed) = match self {
            Self::Json { status, value, retry_after } => {
                content_type("application/json");
                if let Some(seconds) = retry_after {
                    headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
                }
                (status, vec![Bytes::from(value.to_string())], true)
            }
            Self::Text { text } => {
                content_type("text/plain; charset=utf-8");
                (StatusCode::OK, vec![Bytes::from(text)], true)
            }
            Self::Events { events, done } => {
                content_type("text/event-stream; charset=utf-8");
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                let last = done.then(|| Bytes::from_static(b"data: [DONE]\n\n"));
                (StatusCode::OK, events.iter().map(frame).chain(last).collect(), false)
            }
        };
        Rendered { status, headers, frames, fixed }
    }
}

/// An answer in bytes.
struct Rendered {
    status: StatusCode,
    headers: HeaderMap,
    frames: Vec<Bytes>,
    /// Whether the length is announced.
    fixed: bool,
}

impl Rendered {
    fn compress(&mut self) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let written = self.frames.iter().try_for_each(|frame| encoder.write_all(frame));
        if let (Ok(()), Ok(bytes)) = (written, encoder.finish()) {
            self.frames = vec![Bytes::from(bytes)];
            self.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }

    fn respond(
        mut self,
        delay: Duration,
        fault: Option<Active<ModelFault>>,
        watch: Watch,
    ) -> Response {
        watch.status(self.status.as_u16());
        if self.fixed {
            let length: usize = self.frames.iter().map(Bytes::len).sum();
            self.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let mut sending = Sending {
            frames: self.frames.into(),
            sent: 0,
            delay: if self.fixed { Duration::ZERO } else { delay },
            stall: None,
            breaks: false,
            watch,
        };
        if let Some(active) = fault {
            match active.fault {
                ModelFault::StallMidStream { chunks } => sending.stall = Some((chunks, active)),
                ModelFault::ResetAfter { bytes } => sending.cut(bytes),
                _ => {}
            }
        }
        if sending.frames.is_empty() && !sending.breaks {
            sending.watch.finish();
        }
        let body = Body::from_stream(stream::unfold(sending, Sending::next));
        let mut response = HttpResponse::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// An answer on its way.
struct Sending {
    frames: VecDeque<Bytes>,
    sent: usize,
    delay: Duration,
    stall: Option<(usize, Active<ModelFault>)>,
    /// Whether the connection breaks where the frames end.
    breaks: bool,
    watch: Watch,
}

impl Sending {
    /// Keeps the first `bytes` bytes, and breaks the connection there.
    fn cut(&mut self, mut bytes: usize) {
        let mut kept = VecDeque::new();
        for mut frame in self.frames.drain(..) {
            frame.truncate(bytes);
            bytes -= frame.len();
            if !frame.is_empty() {
                kept.push_back(frame);
            }
        }
        self.frames = kept;
        self.breaks = true;
    }

    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        if let Some((chunks, active)) = &mut self.stall
            && self.sent == *chunks
        {
            active.stall().await;
        }
        if self.sent > 0 && !self.delay.is_zero() && !self.frames.is_empty() {
            tokio::time::sleep(self.delay).await;
        }
        let Some(frame) = self.frames.pop_front() else {
            if std::mem::take(&mut self.breaks) {
                self.watch.abandon();
                // What was sent must be on the wire before the connection breaks.
                tokio::task::yield_now().await;
                return Some((Err(io::Error::other("broken by a fault")), self));
            }
            return None;
        };
        self.sent += 1;
        // With an announced length nobody polls past the last frame.
        if self.frames.is_empty() && !self.breaks {
            self.watch.finish();
        }
        Some((Ok(frame), self))
    }
}

fn frame(event: &Event) -> Bytes {
    let data = &event.data;
    Bytes::from(match event.name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    })
}

fn canned(status: u16, headers: &[(String, String)], body: &str) -> Rendered {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) =
            (name.parse::<HeaderName>(), HeaderValue::from_bytes(value.as_bytes()))
        {
            map.append(name, value);
        }
    }
    let frames = if body.is_empty() { Vec::new() } else { vec![Bytes::from(body.to_owned())] };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    Rendered { status, headers: map, fixed: !frames.is_empty(), frames }
}

/// Sets every `usage`, at any depth, to null.
fn null_usage(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                if name == "usage" { *member = Value::Null } else { null_usage(member) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(null_usage),
        _ => {}
    }
}

/// An error in OpenAI's form.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    message: String,
    retry_after: Option<u32>,
    /// Whether the error goes out in the form of the messages API.
    of_messages: bool,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, kind, code: None, message, retry_after: None, of_messages: false }
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    pub(super) fn unauthorized() -> Self {
        let message = "Incorrect API key provided.";
        let error = Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message);
        Self { code: Some("invalid_api_key"), ..error }
    }

    pub(super) fn throttled(retry_after: u32) -> Self {
        let message = "Rate limit reached for requests.";
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "requests", message);
        Self { code: Some("rate_limit_exceeded"), retry_after: Some(retry_after), ..error }
    }

    pub(super) fn server_error() -> Self {
        let message = "The server had an error while processing your request.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("the body is longer than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
    }

    pub(super) fn no_model(name: &str) -> Self {
        let message = format!("The model `{name}` does not exist.");
        let error = Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        Self { code: Some("model_not_found"), ..error }
    }

    pub(super) fn no_route(method: &Method, path: &str) -> Self {
        let message = format!("Invalid URL ({method} {path})");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }

    pub(super) fn of_messages(self) -> Self {
        Self { of_messages: true, ..self }
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        let value = if error.of_messages {
            json!({"type": "error", "error": {"type": error.kind, "message": error.message}})
        } else {
            json!({"error": {
                "message": error.message,
                "type": error.kind,
                "param": null,
                "code": error.code,
            }})
        };
        Self::Json { status: error.status, value, retry_after: error.retry_after }
    }
}
