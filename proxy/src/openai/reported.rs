//! What a model server says that a call used: the `usage` objects of OpenAI's and Anthropic's APIs.
//!
//! Sources: OpenAI's API reference (chat, completions, embeddings, responses, transcriptions) and Anthropic's (messages).
//! A member that is no number is as good as absent: an answer that was paid for is never refused over it.
//!
//! Must not know how an answer was read.

use serde_json::{Map, Value};

use crate::usage::Usage;

/// The numbers that were there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reported {
    prompt: Option<u64>,
    completion: Option<u64>,
    cached: Option<u64>,
    total: Option<u64>,
    milliseconds: Option<u64>,
}

impl Reported {
    /// From the text of a `usage` member. `None` if it is no object.
    pub(crate) fn read(raw: &[u8]) -> Option<Self> {
        let usage: Map<String, Value> = serde_json::from_slice(raw).ok()?;
        let count = |name: &str| usage.get(name).and_then(whole);
        let detail = |of: &str| usage.get(of)?.get("cached_tokens").and_then(whole);
        let read = count("cache_read_input_tokens");
        let written = count("cache_creation_input_tokens");
        // Anthropic counts what came from the cache and what went into it beside `input_tokens`, OpenAI within.
        let input = count("input_tokens").map(|fresh| {
            fresh.saturating_add(read.unwrap_or(0)).saturating_add(written.unwrap_or(0))
        });
        let cached = detail("prompt_tokens_details").or_else(|| detail("input_tokens_details"));
        Some(Self {
            prompt: count("prompt_tokens").or(input),
            completion: count("completion_tokens").or_else(|| count("output_tokens")),
            cached: cached.or(read),
            total: count("total_tokens"),
            milliseconds: usage.get("seconds").and_then(milliseconds),
        })
    }

    /// Takes what was said later. Numbers of one stream are sums up to there, so a later one replaces an earlier one.
    pub(crate) fn renew(&mut self, later: &Self) {
        let pairs = [
            (&mut self.prompt, later.prompt),
            (&mut self.completion, later.completion),
            (&mut self.cached, later.cached),
            (&mut self.total, later.total),
            (&mut self.milliseconds, later.milliseconds),
        ];
        for (number, later) in pairs {
            *number = later.or(*number);
        }
    }

    /// Takes the length of the audio from `duration`, where `usage` does not say it.
    pub(crate) fn duration(&mut self, duration: &Value) {
        self.milliseconds = self.milliseconds.or_else(|| milliseconds(duration));
    }

    /// Tokens of the prompt, if they were said.
    pub(crate) fn prompt(&self) -> Option<u64> {
        self.prompt
    }

    /// Tokens of the answer, if they were said.
    pub(crate) fn completion(&self) -> Option<u64> {
        self.completion
    }

    /// As the ledger has it. Case 77: where no total is said, it is the sum.
    pub(crate) fn usage(&self) -> Usage {
        let prompt = self.prompt.unwrap_or(0);
        let completion = self.completion.unwrap_or(0);
        let sum = prompt.saturating_add(completion);
        Usage {
            prompt,
            completion,
            // A part is not larger than the whole, whatever is said: it is priced apart.
            cached: self.cached.unwrap_or(0).min(prompt),
            total: self.total.filter(|total| *total > 0).unwrap_or(sum),
            audio_milliseconds: self.milliseconds.unwrap_or(0),
            ..Usage::default()
        }
    }
}

/// More tokens than any call can use: what is said beyond it is a mistake, and counts as this.
const MOST: f64 = 1e12;

/// A number of tokens. Fractions are cut off, what is negative is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 1e12, which a u64 holds"
)]
fn whole(value: &Value) -> Option<u64> {
    let number = value.as_f64()?;
    Some(number.clamp(0.0, MOST) as u64)
}

/// Seconds, as a number or, in OpenAI's `verbose_json`, as text.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 1e12, which a u64 holds"
)]
fn milliseconds(value: &Value) -> Option<u64> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    let milliseconds = (seconds * 1000.0).round();
    (!milliseconds.is_nan()).then(|| milliseconds.clamp(0.0, MOST) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(text: &str) -> Usage {
        Reported::read(text.as_bytes()).unwrap().usage()
    }

    fn tokens(prompt: u64, completion: u64, cached: u64, total: u64) -> Usage {
        Usage { prompt, completion, cached, total, ..Usage::default() }
    }

    #[test]
    fn case_74_75_77_the_shapes_of_openai() {
        let chat = r#"{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30,
            "prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":null}"#;
        assert_eq!(usage(chat), tokens(10, 20, 4, 30));
        assert_eq!(usage(r#"{"total_tokens":50}"#), tokens(0, 0, 0, 50));
        assert_eq!(usage(r#"{"prompt_tokens":1,"completion_tokens":2}"#), tokens(1, 2, 0, 3));
        assert_eq!(
            usage(r#"{"prompt_tokens":1,"completion_tokens":2,"total_tokens":0}"#),
            tokens(1, 2, 0, 3)
        );
        let response = r#"{"input_tokens":7,"input_tokens_details":{"cached_tokens":5},"output_tokens":3,"total_tokens":10}"#;
        assert_eq!(usage(response), tokens(7, 3, 5, 10));
    }

    #[test]
    fn the_cache_of_anthropic_is_part_of_the_prompt() {
        let message = r#"{"input_tokens":5,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"output_tokens":9}"#;
        assert_eq!(usage(message), tokens(1105, 9, 1000, 1114));
        let null = r#"{"input_tokens":5,"cache_creation_input_tokens":null,"output_tokens":1}"#;
        assert_eq!(usage(null), tokens(5, 1, 0, 6));
    }

    #[test]
    fn seconds_of_audio() {
        let said = |text: &str| usage(text).audio_milliseconds;
        assert_eq!(said(r#"{"type":"duration","seconds":9}"#), 9000);
        assert_eq!(said(r#"{"seconds":0.25}"#), 250);
        let mut reported = Reported::default();
        reported.duration(&Value::from("8.47"));
        assert_eq!(reported.usage().audio_milliseconds, 8470);
        reported.duration(&Value::from(1));
        assert_eq!(reported.usage().audio_milliseconds, 8470, "what was said first stays");
    }

    #[test]
    fn case_59_nothing_that_is_said_is_an_error() {
        for odd in ["null", "[]", "7", "\"x\"", "{", ""] {
            assert_eq!(Reported::read(odd.as_bytes()), None, "{odd}");
        }
        assert_eq!(usage(r#"{"prompt_tokens":null,"completion_tokens":[1]}"#), Usage::default());
        let odd = r#"{"prompt_tokens":-5,"completion_tokens":2.9,"total_tokens":1e300,"prompt_tokens_details":[]}"#;
        assert_eq!(usage(odd), tokens(0, 2, 0, 1_000_000_000_000));
        let more_cached = r#"{"prompt_tokens":5,"prompt_tokens_details":{"cached_tokens":6}}"#;
        assert_eq!(usage(more_cached), tokens(5, 0, 5, 5));
    }

    #[test]
    fn later_numbers_replace_earlier_ones() {
        let mut reported = Reported::read(br#"{"input_tokens":10,"output_tokens":1}"#).unwrap();
        reported.renew(&Reported::read(br#"{"output_tokens":25}"#).unwrap());
        assert_eq!(reported.usage(), tokens(10, 25, 0, 35));
    }
}
