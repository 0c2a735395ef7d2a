//! How long a request asks its answer to be, at most: so much is set aside for it before it goes on.
//!
//! Sources: OpenAI's API reference (`max_tokens`, `max_completion_tokens`, `max_output_tokens`, `n`, `best_of`, `prompt`),
//! Anthropic's (`max_tokens`), vLLM's (`prompt_embeds`). Of several members the largest counts, since servers differ in which one they take; a number that
//! cannot be read, or is negative, may be anything to them, and counts as the largest of all.
//!
//! Must not know what is set aside, or for whom.

use crate::openai::members::Value;

/// The most tokens of one answer: as many as the context of the models holds, where they end it.
pub(crate) const MOST_TOKENS: u32 = 131_072;

/// The most answers to one prompt that are counted: as many as vLLM takes by default. OpenAI takes 128.
pub(crate) const MOST_ANSWERS: u32 = 16_384;

/// How long, as far as it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Most {
    /// Tokens of each answer; `None`: nothing is said of them.
    pub(crate) tokens: Option<u32>,
    /// Answers, to all prompts together.
    pub(crate) answers: u32,
}

impl Most {
    /// Of a request that says nothing, or cannot be read.
    pub(crate) const UNSAID: Self = Self { tokens: None, answers: 1 };

    /// Whether that is no longer than this.
    pub(crate) fn covers(self, other: Self) -> bool {
        // What is not said is no more than what is set aside for it.
        let tokens = self.tokens.is_none_or(|own| other.tokens.is_none_or(|its| its <= own));
        tokens && other.answers <= self.answers
    }

    /// From the members that say how many tokens, and how many answers to each prompt, and from the number of prompts.
    /// `None` is one that is there in a form that servers take for different things.
    pub(crate) fn of<'a>(
        tokens: impl IntoIterator<Item = Option<&'a Value>>,
        answers: impl IntoIterator<Item = Option<&'a Value>>,
        prompts: Option<u32>,
    ) -> Self {
        let tokens = tokens.into_iter().filter_map(|said| number(said, MOST_TOKENS));
        let answers = answers.into_iter().filter_map(|said| number(said, MOST_ANSWERS));
        // Where there is no prompt by that name, the request as a whole is one.
        let prompts = prompts.unwrap_or(MOST_ANSWERS).max(1);
        Self { tokens: tokens.max(), answers: answers.max().unwrap_or(1).saturating_mul(prompts) }
    }
}

/// The number that a member says, if it says one. Zero says none: servers take it for that, or answer nothing at all.
fn number(said: Option<&Value>, most: u32) -> Option<u32> {
    let value = match said {
        Some(Value::Absent) => return None,
        Some(value) if value.raw() == Some(b"null") => return None,
        Some(value) => value.read::<f64>(),
        None => None,
    };
    match value.filter(|number| *number >= 0.0) {
        Some(0.0) => None,
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is at least 0 and at most `most`"
        )]
        Some(number) => Some(number.min(f64::from(most)).ceil() as u32),
        None => Some(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Value {
        Value::Raw(text.as_bytes().to_vec())
    }

    #[test]
    fn numbers_are_read_and_bounded() {
        for (text, number) in [
            ("1", Some(1)),
            ("1000", Some(1000)),
            ("1e3", Some(1000)),
            ("10.0", Some(10)),
            ("10.5", Some(11)),
            ("0", None),
            ("-0.0", None),
            ("null", None),
            ("131073", Some(MOST_TOKENS)),
            ("18446744073709551616", Some(MOST_TOKENS)),
            ("1e300", Some(MOST_TOKENS)),
            ("1e999", Some(MOST_TOKENS)),
            ("-1", Some(MOST_TOKENS)),
            ("-1e999", Some(MOST_TOKENS)),
            ("\"7\"", Some(MOST_TOKENS)),
            ("true", Some(MOST_TOKENS)),
            ("[7]", Some(MOST_TOKENS)),
            ("{}", Some(MOST_TOKENS)),
            ("NaN", Some(MOST_TOKENS)),
        ] {
            let most = Most::of([Some(&raw(text))], [], Some(0));
            assert_eq!(most.tokens, number, "{text}");
        }
        let most = Most::of([Some(&Value::TooLong)], [], Some(0));
        assert_eq!(most, Most { tokens: Some(MOST_TOKENS), answers: 1 });
        assert_eq!(Most::of([None], [None], Some(1)).answers, MOST_ANSWERS);
        assert_eq!(Most::of([], [], None).answers, MOST_ANSWERS);
    }

    #[test]
    fn the_largest_counts_for_each_prompt() {
        assert_eq!(Most::of([], [], Some(0)), Most::UNSAID);
        let (tokens, answers) = ([raw("5"), raw("7"), Value::Absent], [raw("0"), raw("3")]);
        let most = |prompts| Most::of(tokens.iter().map(Some), answers.iter().map(Some), prompts);
        assert_eq!(most(Some(1)), Most { tokens: Some(7), answers: 3 });
        assert_eq!(most(Some(20)), Most { tokens: Some(7), answers: 60 });
        assert_eq!(most(Some(u32::MAX)).answers, u32::MAX);
    }

    #[test]
    fn what_is_set_aside_covers_no_more_than_that() {
        let most = |tokens, answers| Most { tokens, answers };
        let promised = most(Some(100), 2);
        assert!(promised.covers(promised) && promised.covers(most(Some(1), 1)));
        assert!(promised.covers(most(None, 2)));
        assert!(!promised.covers(most(Some(101), 2)) && !promised.covers(most(Some(100), 3)));
    }
}
