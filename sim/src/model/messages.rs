//! `/v1/messages`, the part of it that carries text.
//!
//! Must not know: faults or records. Shapes and event names are those of the Messages API.

use serde_json::{Value, json};

use super::Question;
use super::prompt::Answer;
use super::reply::{ApiError, Event, Reply};
use crate::json;

pub(super) fn respond(question: &Question) -> Result<Reply, ApiError> {
    let invalid = |message| ApiError::invalid(message).of_messages();
    let limit = question.number(&["max_tokens"]);
    let limit = limit.ok_or_else(|| invalid("max_tokens: Field required"))?;
    let messages = question.body.get("messages").and_then(Value::as_array);
    let messages = messages.ok_or_else(|| invalid("messages: Field required"))?;
    let answer = Answer::to_messages(messages, Some(limit));
    if question.streams() {
        return Ok(Reply::Events { events: events(question, &answer), done: false });
    }
    let mut message = opening(question, &answer, answer.completion_tokens());
    json::set(&mut message, "content", json!([{"type": "text", "text": answer.text()}]));
    json::set(&mut message, "stop_reason", stop_reason(&answer));
    Ok(Reply::json(message))
}

/// The message before its first word.
fn opening(question: &Question, answer: &Answer, output_tokens: usize) -> Value {
    json!({
        "id": question.id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": question.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": {
            // Here what was cached is no part of the input.
            "input_tokens": answer.prompt_tokens - answer.cached_tokens(),
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": answer.cached_tokens(),
            "output_tokens": output_tokens,
        },
    })
}

fn events(question: &Question, answer: &Answer) -> Vec<Event> {
    let event = |name: &'static str, mut data: Value| {
        json::set(&mut data, "type", name);
        Event { name: Some(name), data }
    };
    let delta = |piece| {
        let delta = json!({"type": "text_delta", "text": piece});
        event("content_block_delta", json!({"index": 0, "delta": delta}))
    };
    let block = json!({"index": 0, "content_block": {"type": "text", "text": ""}});
    let end = json!({
        "delta": {"stop_reason": stop_reason(answer), "stop_sequence": null},
        "usage": {"output_tokens": answer.completion_tokens()},
    });
    let mut events = vec![
        event("message_start", json!({"message": opening(question, answer, 0)})),
        event("content_block_start", block),
    ];
    events.extend(answer.pieces().map(delta));
    events.extend([
        event("content_block_stop", json!({"index": 0})),
        event("message_delta", end),
        event("message_stop", json!({})),
    ]);
    events
}

fn stop_reason(answer: &Answer) -> &'static str {
    if answer.cut { "max_tokens" } else { "end_turn" }
}
