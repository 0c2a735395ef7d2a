//! `/v1/chat/completions` and `/v1/completions`.
//!
//! Must not know: faults or records. Shapes are those of OpenAI's API reference.

use serde_json::{Value, json};

use super::Question;
use super::prompt::{Answer, tokens};
use super::reply::{ApiError, Event, Reply};
use crate::clock;
use crate::json;

/// Chat completions, whole or as a stream of chunks.
pub(super) fn chat(question: &Question) -> Result<Reply, ApiError> {
    let messages = question.body.get("messages").and_then(Value::as_array);
    let messages = messages.ok_or_else(|| ApiError::invalid("messages must be an array"))?;
    let limit = question.number(&["max_completion_tokens", "max_tokens"]);
    let answer = Answer::to_messages(messages, limit);
    if question.streams() {
        return Ok(stream(question, &answer, "chat.completion.chunk", "chatcmpl-", chat_delta));
    }
    Ok(Reply::json(json!({
        "id": question.id("chatcmpl-"),
        "object": "chat.completion",
        "created": clock::now(),
        "model": question.model,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": answer.text(), "refusal": null},
            "logprobs": null,
            "finish_reason": finish_reason(&answer),
        }],
        "usage": usage(&answer),
        "system_fingerprint": "fp_sim",
    })))
}

/// Text completions, whole or as a stream.
pub(super) fn completions(question: &Question) -> Result<Reply, ApiError> {
    let prompt = match question.body.get("prompt") {
        Some(Value::String(prompt)) => prompt.clone(),
        Some(Value::Array(prompts)) => {
            let first = prompts.first().and_then(Value::as_str);
            first.ok_or_else(|| ApiError::invalid("prompt must hold text"))?.to_owned()
        }
        _ => return Err(ApiError::invalid("you must provide a prompt")),
    };
    let limit = question.number(&["max_tokens"]);
    let answer = Answer::repeat(&prompt, tokens(&prompt), limit);
    if question.streams() {
        return Ok(stream(question, &answer, "text_completion", "cmpl-", text_delta));
    }
    Ok(Reply::json(json!({
        "id": question.id("cmpl-"),
        "object": "text_completion",
        "created": clock::now(),
        "model": question.model,
        "choices": [{
            "text": answer.text(),
            "index": 0,
            "logprobs": null,
            "finish_reason": finish_reason(&answer),
        }],
        "usage": usage(&answer),
    })))
}

/// A piece of text, or the end with its reason, as a choice.
enum Delta<'a> {
    Begin,
    Piece(String),
    End(&'a str),
}

fn chat_delta(delta: Delta<'_>) -> Option<Value> {
    let (delta, reason) = match delta {
        Delta::Begin => (json!({"role": "assistant", "content": ""}), Value::Null),
        Delta::Piece(piece) => (json!({"content": piece}), Value::Null),
        Delta::End(reason) => (json!({}), json!(reason)),
    };
    Some(json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}))
}

fn text_delta(delta: Delta<'_>) -> Option<Value> {
    let (text, reason) = match delta {
        Delta::Begin => return None,
        Delta::Piece(piece) => (piece, Value::Null),
        Delta::End(reason) => (String::new(), json!(reason)),
    };
    Some(json!({"text": text, "index": 0, "logprobs": null, "finish_reason": reason}))
}

/// One chunk a word. With `stream_options.include_usage` a last chunk without choices carries
/// the usage, and all others say `null`.
fn stream(
    question: &Question,
    answer: &Answer,
    object: &str,
    prefix: &str,
    choice: fn(Delta<'_>) -> Option<Value>,
) -> Reply {
    let options = question.body.get("stream_options");
    let include_usage = options
        .and_then(|options| options.get("include_usage"))
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let (id, created) = (question.id(prefix), clock::now());
    let chunk = |choices: Vec<Value>, usage: Option<Value>| {
        let mut data = json!({
            "id": id,
            "object": object,
            "created": created,
            "model": question.model,
            "choices": choices,
            "system_fingerprint": "fp_sim",
        });
        if let Some(usage) = usage {
            json::set(&mut data, "usage", usage);
        }
        Event { name: None, data }
    };
    let without = include_usage.then_some(Value::Null);
    let deltas = std::iter::once(Delta::Begin)
        .chain(answer.pieces().map(Delta::Piece))
        .chain([Delta::End(finish_reason(answer))]);
    let mut events: Vec<Event> =
        deltas.filter_map(choice).map(|choice| chunk(vec![choice], without.clone())).collect();
    if include_usage {
        events.push(chunk(Vec::new(), Some(usage(answer))));
    }
    Reply::Events { events, done: true }
}

fn finish_reason(answer: &Answer) -> &'static str {
    if answer.cut { "length" } else { "stop" }
}

fn usage(answer: &Answer) -> Value {
    json!({
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens(),
        "total_tokens": answer.prompt_tokens + answer.completion_tokens(),
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens(), "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    })
}
