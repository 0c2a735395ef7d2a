//! What is set aside for a call until it is known what it used.
//!
//! Must not know what is set aside already, or what anything costs.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method};

use crate::endpoint::Endpoint;
use crate::money::Money;
use crate::usage::Usage;

/// Tokens of an answer whose length the request does not say. Most are shorter.
const ANSWER: u32 = 4096;

/// Bytes of a request for each token of it: what English text has.
const BYTES_PER_TOKEN: u64 = 4;

/// The most tokens that the body of a request is taken for: as many as the context of the models holds. What is longer
/// has images in it.
const MOST_TOKENS: u64 = 131_072;

/// The length of a body that does not say its length, in bytes, until more is known: [`Demand::measured`].
const UNKNOWN_LENGTH: u64 = 64 * 1024;

/// Bytes of audio for each millisecond: 128 kbit/s.
const AUDIO_BYTES_PER_MILLISECOND: u64 = 16;

/// The most money that is set aside for one call: sums of it never come to an end.
const MOST_MONEY: Money = Money::from_nanos(1_000_000_000_000_000);

/// What a call will use, as nearly as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Tokens of the prompt.
    prompt: u64,
    /// Tokens of the answer, or of all of them.
    answer: u64,
    /// Whether there will be an answer that has tokens.
    is_answered: bool,
    /// Bytes of audio.
    audio: u64,
    /// Money.
    pub(crate) money: Money,
    /// Whether the length of its body was said.
    is_measured: bool,
    /// Whether it goes to the upstream at all, so that it takes a budget that is not spent.
    pub(crate) is_paid: bool,
}

impl Demand {
    /// Of a request that never reaches the upstream.
    pub(crate) const NOTHING: Self = Self {
        prompt: 0,
        answer: 0,
        is_answered: false,
        audio: 0,
        money: Money::ZERO,
        is_measured: false,
        is_paid: false,
    };

    /// Of a request to the upstream, as far as its head tells: [`Demand::answering`] is for what its body says. Its money is
    /// another's to say: [`Demand::priced`].
    pub(crate) fn of(endpoint: Endpoint, method: &Method, headers: &HeaderMap) -> Self {
        let mut paid = Self { is_paid: true, ..Self::NOTHING };
        if endpoint == Endpoint::Other && matches!(*method, Method::GET | Method::HEAD) {
            return paid;
        }
        let length =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        paid.is_measured = length.is_some();
        let length: u64 = length.unwrap_or(UNKNOWN_LENGTH);
        let prompt = Self::tokens_of(length);
        match endpoint {
            Endpoint::Transcriptions | Endpoint::Translations => {
                Self { is_answered: true, audio: length, ..paid }
            }
            Endpoint::Embeddings => Self { prompt, ..paid },
            Endpoint::Chat
            | Endpoint::Completions
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::Other => Self { is_answered: true, prompt, ..paid },
        }
    }

    /// The same with a body of so many bytes, if its head did not say how many.
    pub(crate) fn measured(self, length: u64) -> Self {
        if self.is_measured {
            return self;
        }
        let prompt = if self.prompt > 0 { Self::tokens_of(length) } else { 0 };
        let audio = if self.audio > 0 { length } else { 0 };
        Self { prompt, audio, is_measured: true, ..self }
    }

    /// The same, with so many answers, each of so many tokens at most; `None`: that is not said.
    pub(crate) fn answering(self, tokens: Option<u32>, answers: u32) -> Self {
        if !self.is_answered {
            return self;
        }
        let answer = u64::from(tokens.unwrap_or(ANSWER)) * u64::from(answers);
        Self { answer, ..self }
    }

    /// All its tokens.
    pub(crate) fn tokens(&self) -> u64 {
        self.prompt.saturating_add(self.answer)
    }

    /// As usage, to be priced.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            prompt: self.prompt,
            completion: self.answer,
            total: self.tokens(),
            audio_bytes: self.audio,
            audio_milliseconds: self.audio / AUDIO_BYTES_PER_MILLISECOND,
            ..Usage::default()
        }
    }

    /// The same, with so much money to be set aside.
    pub(crate) fn priced(self, money: Money) -> Self {
        Self { money: money.min(MOST_MONEY), ..self }
    }

    /// Of so many tokens, at a billionth of a euro each.
    fn tokens_of(length: u64) -> u64 {
        length.div_ceil(BYTES_PER_TOKEN).min(MOST_TOKENS)
    }

    #[cfg(test)]
    pub(super) fn of_tokens(tokens: u64) -> Self {
        let money = Money::from_nanos(i64::try_from(tokens).unwrap());
        Self { prompt: tokens, money, is_paid: true, ..Self::NOTHING }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(endpoint: Endpoint, method: &Method, length: Option<&str>) -> Demand {
        let headers = length.map(|length| (CONTENT_LENGTH, length.parse().unwrap()));
        Demand::of(endpoint, method, &headers.into_iter().collect())
    }

    #[test]
    fn a_head_tells_the_prompt_and_the_audio() {
        let told = |endpoint, method, length| {
            let demand = of(endpoint, &method, length);
            (demand.tokens(), demand.usage().audio_bytes, demand.is_paid)
        };
        let post = Method::POST;
        assert_eq!(told(Endpoint::Chat, post.clone(), Some("4001")), (1001, 0, true));
        assert_eq!(told(Endpoint::Chat, post.clone(), None), (16_384, 0, true));
        for length in ["50000000", "18446744073709551615"] {
            assert_eq!(told(Endpoint::Chat, post.clone(), Some(length)).0, MOST_TOKENS);
        }
        let mebibyte = Some("1048576");
        assert_eq!(told(Endpoint::Transcriptions, post.clone(), mebibyte), (0, 1_048_576, true));
        assert_eq!(told(Endpoint::Other, post, Some("0")), (0, 0, true));
        assert_eq!(told(Endpoint::Other, Method::GET, None), (0, 0, true));
    }

    #[test]
    fn a_body_that_did_not_say_its_length_is_measured_later() {
        let measured = |endpoint, said| {
            let demand = of(endpoint, &Method::POST, said).measured(52_428_800);
            (demand.tokens(), demand.usage().audio_bytes)
        };
        assert_eq!(measured(Endpoint::Chat, None), (MOST_TOKENS, 0));
        assert_eq!(measured(Endpoint::Transcriptions, None), (0, 52_428_800));
        assert_eq!(measured(Endpoint::Chat, Some("400")), (100, 0), "it was said");
        assert_eq!(Demand::NOTHING.measured(100), Demand { is_measured: true, ..Demand::NOTHING });
    }

    #[test]
    fn what_is_asked_for_is_added_where_there_is_an_answer() {
        let answer = |endpoint, method, tokens, answers| {
            let demand = of(endpoint, &method, Some("0")).answering(tokens, answers);
            assert_eq!(demand.usage().completion, demand.tokens());
            demand.tokens()
        };
        assert_eq!(answer(Endpoint::Chat, Method::POST, Some(7), 3), 21);
        assert_eq!(answer(Endpoint::Chat, Method::POST, None, 2), 8192);
        assert_eq!(answer(Endpoint::Translations, Method::POST, None, 1), 4096);
        assert_eq!(answer(Endpoint::Embeddings, Method::POST, Some(7), 1), 0);
        assert_eq!(answer(Endpoint::Other, Method::GET, None, 1), 0);
        let most = u64::from(u32::MAX) * u64::from(u32::MAX);
        assert_eq!(answer(Endpoint::Chat, Method::POST, Some(u32::MAX), u32::MAX), most);
        let dear = Demand::NOTHING.priced(Money::from_nanos(i64::MAX));
        assert_eq!(dear.money, MOST_MONEY, "so that sums are exact");
    }
}
