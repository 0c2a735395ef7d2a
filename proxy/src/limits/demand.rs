//! What is set aside for a call until it is known what it used.
//!
//! Must not know what is set aside already, or what anything costs.

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method};

use crate::endpoint::Endpoint;
use crate::money::Money;
use crate::usage::Usage;

/// Tokens of an answer. Most are shorter.
const ANSWER: u64 = 1024;

/// Bytes of a request for each token of it: what English text has.
const BYTES_PER_TOKEN: u64 = 4;

/// The most tokens that the body of a request is taken for: as many as the context of the models holds. What is longer
/// has images in it.
const MOST_TOKENS: u64 = 131_072;

/// The length of a body that does not say its length, in bytes.
const UNKNOWN_LENGTH: u64 = 64 * 1024;

/// Bytes of audio for each millisecond: 128 kbit/s.
const AUDIO_BYTES_PER_MILLISECOND: u64 = 16;

/// What a call will use, as nearly as its head tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Tokens.
    pub(crate) tokens: u64,
    /// Bytes of audio.
    audio: u64,
    /// Money.
    pub(crate) money: Money,
    /// Whether it goes to the upstream at all, so that it takes a budget that is not spent.
    pub(crate) is_paid: bool,
}

impl Demand {
    /// Of a request that never reaches the upstream.
    pub(crate) const NOTHING: Self =
        Self { tokens: 0, audio: 0, money: Money::ZERO, is_paid: false };

    /// Of a request to the upstream. Its money is another's to say: [`Demand::priced`].
    pub(crate) fn of(endpoint: Endpoint, method: &Method, headers: &HeaderMap) -> Self {
        let paid = Self { is_paid: true, ..Self::NOTHING };
        if endpoint == Endpoint::Other && matches!(*method, Method::GET | Method::HEAD) {
            return paid;
        }
        let length =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let length = length.unwrap_or(UNKNOWN_LENGTH);
        match endpoint {
            Endpoint::Transcriptions | Endpoint::Translations => {
                Self { tokens: ANSWER, audio: length, ..paid }
            }
            Endpoint::Chat
            | Endpoint::Completions
            | Endpoint::Embeddings
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::Other => {
                let tokens = (length / BYTES_PER_TOKEN).min(MOST_TOKENS) + ANSWER;
                Self { tokens, ..paid }
            }
        }
    }

    /// As usage, to be priced.
    pub(crate) fn usage(&self) -> Usage {
        let completion = self.tokens.min(ANSWER);
        Usage {
            prompt: self.tokens - completion,
            completion,
            total: self.tokens,
            audio_bytes: self.audio,
            audio_milliseconds: self.audio / AUDIO_BYTES_PER_MILLISECOND,
            ..Usage::default()
        }
    }

    /// The same, with so much money to be set aside.
    pub(crate) fn priced(self, money: Money) -> Self {
        Self { money, ..self }
    }

    /// Of so many tokens, at a billionth of a euro each.
    #[cfg(test)]
    pub(super) fn of_tokens(tokens: u64) -> Self {
        let money = Money::from_nanos(i64::try_from(tokens).unwrap());
        Self { tokens, money, audio: 0, is_paid: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(endpoint: Endpoint, method: &Method, length: Option<&str>) -> (u64, u64, bool) {
        let headers = length.map(|length| (CONTENT_LENGTH, length.parse().unwrap()));
        let demand = Demand::of(endpoint, method, &headers.into_iter().collect());
        let usage = demand.usage();
        assert_eq!(usage.prompt + usage.completion, demand.tokens);
        (demand.tokens, usage.audio_bytes, demand.is_paid)
    }

    #[test]
    fn the_body_and_an_answer_are_set_aside() {
        let post = Method::POST;
        assert_eq!(of(Endpoint::Chat, &post, Some("4000")), (2024, 0, true));
        assert_eq!(of(Endpoint::Chat, &post, None), (17_408, 0, true));
        let most = 131_072 + 1024;
        for length in ["50000000", "18446744073709551615"] {
            assert_eq!(of(Endpoint::Chat, &post, Some(length)).0, most);
        }
        assert_eq!(of(Endpoint::Transcriptions, &post, Some("1048576")), (1024, 1_048_576, true));
        assert_eq!(of(Endpoint::Other, &post, Some("0")), (1024, 0, true));
        assert_eq!(of(Endpoint::Other, &Method::GET, None), (0, 0, true));
    }
}
