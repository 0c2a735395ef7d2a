//! Values of OTLP/JSON as text that no terminal obeys.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// 64-bit integers are strings in OTLP/JSON, and readers take numbers too.
pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A time in nanoseconds; zero is none.
pub(super) fn nanoseconds(value: &Value) -> Option<u64> {
    number(value).filter(|time| *time != 0)
}

/// A date from nanoseconds, or a dash.
pub(super) fn moment(nanoseconds: Option<u64>) -> String {
    nanoseconds
        .and_then(|time| OffsetDateTime::from_unix_timestamp_nanos(time.into()).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "-".to_owned())
}

/// A date from Unix seconds.
pub(in crate::logs) fn date(unix: u64) -> String {
    i64::try_from(unix)
        .ok()
        .and_then(|unix| OffsetDateTime::from_unix_timestamp(unix).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("second {unix}"))
}

/// An `AnyValue` as text.
pub(super) fn plain(value: &Value) -> String {
    match one_of(value) {
        Some(("stringValue", Value::String(text))) => printable(text),
        _ => quoted(value),
    }
}

/// The same where something follows: strings that could be mistaken for more than one word are in quotes.
pub(super) fn quoted(value: &Value) -> String {
    let Some((kind, inner)) = one_of(value) else { return "null".to_owned() };
    match (kind, inner) {
        ("stringValue", Value::String(text)) => {
            let text = printable(text);
            let word = !text.is_empty() && !text.contains([' ', '"', '=', ',', '[', ']', '{', '}']);
            if word { text } else { format!("\"{}\"", text.replace('"', "\\\"")) }
        }
        ("intValue" | "bytesValue", Value::String(text)) => printable(text),
        ("arrayValue", inner) => {
            let items = list(inner).map(quoted).collect::<Vec<_>>();
            format!("[{}]", items.join(", "))
        }
        ("kvlistValue", inner) => {
            let items = list(inner).map(|item| {
                let key = item.get("key").and_then(Value::as_str).unwrap_or_default();
                format!("{}={}", printable(key), quoted(item.get("value").unwrap_or(&Value::Null)))
            });
            format!("{{{}}}", items.collect::<Vec<_>>().join(", "))
        }
        (_, other) => printable(&other.to_string()),
    }
}

/// The one member that an `AnyValue` has.
fn one_of(value: &Value) -> Option<(&str, &Value)> {
    let (kind, inner) = value.as_object()?.iter().next()?;
    Some((kind, inner))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.get("values").and_then(Value::as_array).into_iter().flatten()
}

/// The text with everything escaped that is not printable: controls, line ends, marks that change the
/// direction of writing. A backslash is escaped too, so that no text can pretend to be an escape.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_dates() {
        assert_eq!(date(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(date(u64::MAX), format!("second {}", u64::MAX));
        assert_eq!(moment(None), "-");
    }
}
