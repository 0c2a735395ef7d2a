//! The model server: OpenAI's HTTP API, with answers that a test can foretell.
//!
//! Must not know: proxies or attestation. Plain HTTP, as the local end of an encrypted upstream.
//!
//! The model repeats the last user message, word by word. A token is a word: a longest run of
//! characters that are not white space. So usage can be compared to the token.

mod audio;
mod chat;
mod embeddings;
mod messages;
mod prompt;
mod record;
mod reply;
mod responses;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::clock;
use crate::faults::{Active, Control, ModelFault, Switch};
use crate::http::body::{self, BodyError};
use record::Watch;
pub use record::{RecordedRequest, Records};
use reply::{ApiError, Reply};

/// Longest JSON body.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// The models that are served when a configuration names none.
pub const DEFAULT_MODELS: [&str; 7] = [
    "gpt-oss-120b",
    "llama-3.3-70b",
    "gemma-3-27b",
    "qwen3-coder-30b-a3b",
    "qwen3-embedding-4b",
    "multilingual-e5",
    "whisper-large-v3",
];

/// What a model server is given.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The key that every request must show as `Authorization: Bearer`; none is asked for
    /// without it.
    pub key: Option<String>,
    /// Models that exist.
    pub models: Vec<String>,
    /// Pause between two chunks of a stream.
    pub delay: Duration,
    /// What was asked, for tests to read.
    pub records: Records,
    /// How it misbehaves.
    pub faults: Switch<ModelFault>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            key: None,
            models: DEFAULT_MODELS.map(str::to_owned).to_vec(),
            delay: Duration::ZERO,
            records: Records::default(),
            faults: Switch::default(),
        }
    }
}

/// All routes of the model server, with `/_sim/requests` and `/_sim/faults`.
pub fn router(config: ModelConfig) -> Router {
    let control = Control::default().with("model", &config.faults);
    let records = config.records.clone();
    let listed = config.records.clone();
    Router::new().fallback(dispatch).with_state(Arc::new(config)).merge(control.router()).route(
        "/_sim/requests",
        get(async move || Json(listed.all())).delete(async move || {
            records.clear();
            StatusCode::NO_CONTENT
        }),
    )
}

/// One call: its place in the record, and the fault that strikes it.
struct Call {
    config: Arc<ModelConfig>,
    watch: Watch,
    fault: Option<Active<ModelFault>>,
}

async fn dispatch(State(config): State<Arc<ModelConfig>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let watch = config.records.begin(&parts);
    let mut call = Call { fault: config.faults.strike(), config, watch };
    if let Some(active) = &mut call.fault
        && active.fault == ModelFault::StallBeforeFirstByte
    {
        active.stall().await;
    }
    let fault = call.fault.as_ref().map(|active| &active.fault);
    let reply = match fault.and_then(refusal_of) {
        Some(error) => Err(error),
        None => call.answer(&parts.method, parts.uri.path(), &parts.headers, body).await,
    };
    let reply = reply.unwrap_or_else(Reply::from);
    call.watch.usage(reply.usage());
    reply.render(call.config.delay, call.fault, call.watch)
}

/// Faults that never look at the request.
fn refusal_of(fault: &ModelFault) -> Option<ApiError> {
    match fault {
        ModelFault::Unauthorized => Some(ApiError::unauthorized()),
        ModelFault::TooManyRequests { retry_after } => Some(ApiError::throttled(*retry_after)),
        ModelFault::ServerError => Some(ApiError::server_error()),
        ModelFault::StallBeforeFirstByte
        | ModelFault::StallMidStream { .. }
        | ModelFault::ResetAfter { .. }
        | ModelFault::Gzip
        | ModelFault::UsageNull
        | ModelFault::SetCookie
        | ModelFault::Canned { .. } => None,
    }
}

impl Call {
    async fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Reply, ApiError> {
        let audio = matches!(path, "/v1/audio/transcriptions" | "/v1/audio/translations");
        if audio && method == Method::POST {
            self.authorize(headers)?;
            return audio::transcribe(headers, body, &self.watch, &self.config.models).await;
        }
        let bytes = body::read(body, MAX_BODY).await.map_err(|error| match error {
            BodyError::TooLarge { limit } => ApiError::too_large(limit),
            BodyError::Broken => ApiError::invalid("the body ended early"),
        })?;
        self.watch.body(&bytes);
        self.authorize(headers)?;
        match (method, path) {
            (&Method::POST, "/v1/chat/completions") => chat::chat(&self.question(&bytes)?),
            (&Method::POST, "/v1/completions") => chat::completions(&self.question(&bytes)?),
            (&Method::POST, "/v1/embeddings") => embeddings::embed(&self.question(&bytes)?),
            (&Method::POST, "/v1/responses") => responses::respond(&self.question(&bytes)?),
            (&Method::POST, "/v1/messages") => messages::respond(&self.question(&bytes)?),
            (&Method::GET, "/v1/models") => Ok(Reply::json(self.model_list())),
            (&Method::GET, path) if path.starts_with("/v1/models/") => {
                let name = path.trim_start_matches("/v1/models/");
                let known = self.config.models.iter().any(|model| model == name);
                known.then(|| Reply::json(model(name))).ok_or_else(|| ApiError::no_model(name))
            }
            _ => Err(ApiError::no_route(method, path)),
        }
    }

    fn authorize(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(key) = &self.config.key else { return Ok(()) };
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if shown == Some(&format!("Bearer {key}")) { Ok(()) } else { Err(ApiError::unauthorized()) }
    }

    /// Reads a JSON request whose `model` exists.
    fn question(&self, bytes: &Bytes) -> Result<Question, ApiError> {
        let body: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|error| ApiError::invalid(&format!("not a JSON object: {error}")))?;
        let model = body.get("model").and_then(Value::as_str);
        let model = model.ok_or_else(|| ApiError::invalid("you must provide a model parameter"))?;
        if !self.config.models.iter().any(|known| known == model) {
            return Err(ApiError::no_model(model));
        }
        Ok(Question { id: record::digest(bytes), model: model.to_owned(), body })
    }

    fn model_list(&self) -> Value {
        let data: Vec<Value> = self.config.models.iter().map(|name| model(name)).collect();
        json!({"object": "list", "data": data})
    }
}

/// A parsed request.
struct Question {
    /// SHA-256 of the body, hexadecimal: the same question gets the same identifiers.
    id: String,
    model: String,
    body: Map<String, Value>,
}

impl Question {
    fn streams(&self) -> bool {
        self.body.get("stream").and_then(Value::as_bool).unwrap_or(false)
    }

    fn id(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.id.get(..24).unwrap_or(&self.id))
    }

    /// The first of several members that is a number.
    fn number(&self, names: &[&str]) -> Option<usize> {
        names
            .iter()
            .find_map(|name| self.body.get(*name)?.as_u64())
            .and_then(|number| usize::try_from(number).ok())
    }
}

fn model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": clock::now(), "owned_by": "sim"})
}
