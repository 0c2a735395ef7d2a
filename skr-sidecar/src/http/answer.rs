//! Answers over HTTP: one JSON document a body, in the form that callers of the reference implementation get
//! (contract `skr.md` part 1.1).

use std::io::{self, Write};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};
use service::http::Answer;

use crate::error::{self, Error};
use crate::secret;
use crate::strict::Head;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");

/// 200 with this value. The bytes are zeroed once they are sent: some are keys.
pub(crate) fn ok<T: Serialize>(value: &T) -> Answer {
    json(StatusCode::OK, value)
}

/// A failure: its head and `{"error": text}`.
pub(crate) fn failure(error: &Error, head: Head) -> Answer {
    #[derive(Serialize)]
    struct Failure {
        error: String,
    }

    let mut answer = json(head.status, &Failure { error: error::http_text(error) });
    if let Some(pause) = head.retry_after {
        answer.headers_mut().insert(RETRY_AFTER, pause.as_secs().into());
    }
    answer
}

/// There is nothing at this path for this method.
pub(crate) fn not_found() -> Answer {
    let mut answer = Response::new(Full::from("404 page not found"));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer.headers_mut().insert(CONTENT_TYPE, TEXT);
    answer
}

/// It is at `location`.
pub(crate) fn moved(status: StatusCode, location: HeaderValue) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer.headers_mut().insert(LOCATION, location);
    answer
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    let body = secret::json_with(value, || HtmlSafe(CompactFormatter));
    let mut answer = Response::new(Full::new(Bytes::from_owner(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

/// JSON that could stand in HTML: `<`, `>`, `&` and the two line separators of Unicode are escaped.
struct HtmlSafe(CompactFormatter);

impl Formatter for HtmlSafe {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            let mut characters = special.chars();
            let code = characters.next().map_or(0, u32::from);
            self.0.write_string_fragment(writer, plain)?;
            write!(writer, "\\u{code:04x}")?;
            rest = characters.as_str();
        }
        self.0.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_what_html_would_read() {
        let json =
            secret::json_with(&["<a href=\"&\">", "\u{2028}\u{2029}", "plain ä", ""], || {
                HtmlSafe(CompactFormatter)
            });
        assert_eq!(
            std::str::from_utf8(&json).unwrap(),
            r#"["\u003ca href=\"\u0026\"\u003e","\u2028\u2029","plain ä",""]"#
        );
    }
}
