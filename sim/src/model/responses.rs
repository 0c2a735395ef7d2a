//! `/v1/responses`, the part of it that carries text.
//!
//! Must not know: faults or records. Shapes and event names are those of OpenAI's API reference.

use serde_json::{Value, json};

use super::Question;
use super::prompt::{Answer, tokens};
use super::reply::{ApiError, Event, Reply};
use crate::clock;
use crate::json;

pub(super) fn respond(question: &Question) -> Result<Reply, ApiError> {
    let limit = question.number(&["max_output_tokens"]);
    let answer = match question.body.get("input") {
        Some(Value::String(text)) => Answer::repeat(text, tokens(text), limit),
        Some(Value::Array(items)) => Answer::to_messages(items, limit),
        _ => return Err(ApiError::invalid("input must be a text or a list of messages")),
    };
    if !question.streams() {
        return Ok(Reply::json(response(question, &answer, true)));
    }
    Ok(Reply::Events { events: events(question, &answer), done: false })
}

fn response(question: &Question, answer: &Answer, complete: bool) -> Value {
    let (status, output, usage) = if complete {
        let usage = json!({
            "input_tokens": answer.prompt_tokens,
            "input_tokens_details": {"cached_tokens": answer.cached_tokens()},
            "output_tokens": answer.completion_tokens(),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.prompt_tokens + answer.completion_tokens(),
        });
        let status = if answer.cut { "incomplete" } else { "completed" };
        (status, vec![message(question, &answer.text(), "completed")], usage)
    } else {
        ("in_progress", Vec::new(), Value::Null)
    };
    let details =
        if complete && answer.cut { json!({"reason": "max_output_tokens"}) } else { Value::Null };
    json!({
        "id": question.id("resp_"),
        "object": "response",
        "created_at": clock::now(),
        "status": status,
        "error": null,
        "incomplete_details": details,
        "model": question.model,
        "output": output,
        "usage": usage,
    })
}

fn message(question: &Question, text: &str, status: &str) -> Value {
    let content = if status == "completed" { vec![output_text(text)] } else { Vec::new() };
    json!({
        "type": "message",
        "id": question.id("msg_"),
        "status": status,
        "role": "assistant",
        "content": content,
    })
}

fn output_text(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": []})
}

fn events(question: &Question, answer: &Answer) -> Vec<Event> {
    let (item, text) = (question.id("msg_"), answer.text());
    let place = |mut data: Value| {
        json::set(&mut data, "item_id", item.as_str());
        json::set(&mut data, "output_index", 0);
        json::set(&mut data, "content_index", 0);
        data
    };
    let whole = |complete| json!({"response": response(question, answer, complete)});
    let listed = |status| json!({"output_index": 0, "item": message(question, &text, status)});
    let mut events = vec![
        ("response.created", whole(false)),
        ("response.in_progress", whole(false)),
        ("response.output_item.added", listed("in_progress")),
        ("response.content_part.added", place(json!({"part": output_text("")}))),
    ];
    events.extend(
        answer.pieces().map(|piece| ("response.output_text.delta", place(json!({"delta": piece})))),
    );
    let last = if answer.cut { "response.incomplete" } else { "response.completed" };
    events.extend([
        ("response.output_text.done", place(json!({"text": text}))),
        ("response.content_part.done", place(json!({"part": output_text(&text)}))),
        ("response.output_item.done", listed("completed")),
        (last, whole(true)),
    ]);
    events
        .into_iter()
        .enumerate()
        .map(|(number, (name, mut data))| {
            json::set(&mut data, "type", name);
            json::set(&mut data, "sequence_number", number);
            Event { name: Some(name), data }
        })
        .collect()
}
