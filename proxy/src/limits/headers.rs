//! What is left of a limit, in the headers that clients read: those of the proxy before this one, and OpenAI's.
//!
//! Must not know how anything is counted.

use std::fmt::Write as _;
use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use service::clock::unix_now;

/// A limit and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    /// How long until there is more: for requests, when the oldest leaves the window; for tokens, when all have left.
    pub(crate) reset: Duration,
}

/// How the key of a request stands: its own limits, else those of all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) requests: Quota,
    pub(crate) tokens: Option<Quota>,
}

impl Standing {
    /// Writes it over whatever the upstream says of its own limits.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let Quota { limit, remaining, reset } = self.requests;
        let until = unix_now().saturating_add(whole_seconds(reset));
        for (name, number) in [
            ("x-ratelimit-limit", limit),
            ("x-ratelimit-remaining", remaining),
            ("x-ratelimit-reset", until),
            ("x-ratelimit-limit-requests", limit),
            ("x-ratelimit-remaining-requests", remaining),
        ] {
            headers.insert(HeaderName::from_static(name), number.into());
        }
        headers.insert(HeaderName::from_static("x-ratelimit-reset-requests"), duration(reset));
        match self.tokens {
            Some(tokens) => tokens.write_tokens(headers),
            // The upstream's would be the operator's business.
            None => {
                for name in TOKENS {
                    headers.remove(name);
                }
            }
        }
    }
}

const TOKENS: [&str; 3] =
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];

impl Quota {
    pub(super) fn write_tokens(&self, headers: &mut HeaderMap) {
        let [limit, remaining, reset] = TOKENS.map(HeaderName::from_static);
        headers.insert(limit, self.limit.into());
        headers.insert(remaining, self.remaining.into());
        headers.insert(reset, duration(self.reset));
    }
}

/// Rounded up, so that who waits that long need not wait again.
pub(crate) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// As OpenAI writes durations: `120ms`, `1s`, `8.64s`, `6m0s`, `1h0m0s`.
fn duration(wait: Duration) -> HeaderValue {
    let mut text = String::new();
    let milliseconds = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let written = if seconds == 0 && rest > 0 {
        write!(text, "{rest}ms")
    } else {
        if hours > 0 {
            let _ = write!(text, "{hours}h");
        }
        if seconds >= 60 {
            let _ = write!(text, "{minutes}m");
        }
        let _ = write!(text, "{}", seconds % 60);
        if rest > 0 {
            let _ = write!(text, ".{}", format!("{rest:03}").trim_end_matches('0'));
        }
        write!(text, "s")
    };
    debug_assert!(written.is_ok(), "writing to a String cannot fail");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("1s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_openai_does() {
        for (milliseconds, text) in [
            (0, "0s"),
            (120, "120ms"),
            (1000, "1s"),
            (8640, "8.64s"),
            (59_999, "59.999s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
            (3_661_500, "1h1m1.5s"),
        ] {
            assert_eq!(duration(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(duration(Duration::from_micros(1)), "1ms");
    }

    #[test]
    fn the_upstreams_word_does_not_pass() {
        let names = ["x-ratelimit-limit", "x-ratelimit-limit-tokens", "x-ratelimit-reset-requests"];
        let mut headers: HeaderMap =
            names.map(|name| (HeaderName::from_static(name), 77.into())).into_iter().collect();
        let quota = Quota { limit: 5, remaining: 4, reset: Duration::from_millis(1500) };
        Standing { requests: quota, tokens: None }.write(&mut headers);
        assert_eq!(headers["x-ratelimit-limit"], "5");
        assert_eq!(headers["x-ratelimit-remaining"], "4");
        assert_eq!(headers["x-ratelimit-reset-requests"], "1.5s");
        assert!(!headers.contains_key("x-ratelimit-limit-tokens"));
        Standing { requests: quota, tokens: Some(quota) }.write(&mut headers);
        assert_eq!(headers["x-ratelimit-remaining-tokens"], "4");
        let reset: u64 = headers["x-ratelimit-reset"].to_str().unwrap().parse().unwrap();
        assert!((unix_now()..unix_now() + 5).contains(&(reset - 1)), "{reset}");
    }
}
