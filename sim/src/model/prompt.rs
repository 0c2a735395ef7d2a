//! What the model reads and says: the one rule of tokens and answers.
//!
//! Must not know: the shapes of any endpoint.

use serde_json::Value;

/// Longest answer, in tokens.
const MAX_ANSWER: usize = 8192;
/// What the model says when no user said anything.
const GREETING: &str = "hi";

/// Shortest prompt of which something is cached, in tokens, and the steps in which that grows (OpenAI's prompt caching).
const SHORTEST_CACHED: usize = 1024;
const STEP: usize = 128;

/// A counted answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The words.
    pub(super) words: Vec<String>,
    /// Whether the answer was cut off at its limit.
    pub(super) cut: bool,
    /// Tokens of everything that was read.
    pub(super) prompt_tokens: usize,
}

impl Answer {
    /// Repeats `text`, up to `limit` tokens.
    pub(super) fn repeat(text: &str, prompt_tokens: usize, limit: Option<usize>) -> Self {
        let text = if tokens(text) == 0 { GREETING } else { text };
        let limit = limit.unwrap_or(MAX_ANSWER).min(MAX_ANSWER);
        let mut words: Vec<String> =
            text.split_whitespace().take(limit + 1).map(str::to_owned).collect();
        let cut = words.len() > limit;
        words.truncate(limit);
        Self { words, cut, prompt_tokens }
    }

    /// Answers a conversation: a list of messages with `role` and `content`.
    pub(super) fn to_messages(messages: &[Value], limit: Option<usize>) -> Self {
        let role = |message: &Value| message.get("role").and_then(Value::as_str) == Some("user");
        let last = messages.iter().rev().find(|message| role(message)).map(content);
        let prompt_tokens = messages.iter().map(|message| tokens(&content(message))).sum();
        Self::repeat(&last.unwrap_or_default(), prompt_tokens, limit)
    }

    /// The whole text.
    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }

    /// The text in the pieces of a stream; together they are the text.
    pub(super) fn pieces(&self) -> impl Iterator<Item = String> + '_ {
        self.words
            .iter()
            .enumerate()
            .map(|(position, word)| if position == 0 { word.clone() } else { format!(" {word}") })
    }

    pub(super) fn completion_tokens(&self) -> usize {
        self.words.len()
    }

    /// Tokens of the prompt that were at hand, as if each long prompt had been read before up to its last full step.
    pub(super) fn cached_tokens(&self) -> usize {
        if self.prompt_tokens < SHORTEST_CACHED { 0 } else { self.prompt_tokens / STEP * STEP }
    }
}

/// Tokens of a text: its words.
pub(super) fn tokens(text: &str) -> usize {
    text.split_whitespace().count()
}

/// The text of a message: a string, or the text parts of a list.
fn content(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts: Vec<&str> =
                parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            texts.join(" ")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_user_message_is_repeated_and_every_word_is_counted() {
        let messages = [
            json!({"role": "system", "content": "be  brief"}),
            json!({"role": "user", "content": "first question"}),
            json!({"role": "assistant", "content": "first"}),
            json!({"role": "user", "content": [{"type": "text", "text": "one two\nthree"}]}),
        ];
        let answer = Answer::to_messages(&messages, None);
        assert_eq!(answer.text(), "one two three");
        assert_eq!((answer.prompt_tokens, answer.completion_tokens()), (8, 3));
        assert_eq!(answer.pieces().collect::<String>(), answer.text());
        assert!(!answer.cut);

        let answer = Answer::to_messages(&messages, Some(2));
        assert_eq!((answer.text().as_str(), answer.cut), ("one two", true));
        assert_eq!(Answer::to_messages(&[], None).text(), GREETING);
    }
}
