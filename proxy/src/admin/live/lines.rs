//! A view for programs: a JSON document a line. What a terminal would obey is escaped, since people look at it there.

use proto::log::{Watched, WatchedRecord};
use serde_json::{Value, json};

use super::End;
use super::feed::Form;
use super::page::time_of;
use crate::printable::printable_json;

/// `{"time": …, "service": …, …}` for a record, `{"missed": n}`, `{"end": why}`; an empty line now and then.
pub(super) struct Lines;

impl Form for Lines {
    fn beginning(&mut self) -> String {
        // so that the answer's first byte comes at once
        "\n".to_owned()
    }

    fn records(&self, watched: &Watched) -> String {
        let missed = (watched.missed > 0).then(|| json!({"missed": watched.missed}));
        missed.into_iter().chain(watched.records.iter().map(document)).map(line).collect()
    }

    fn alive(&self) -> &'static str {
        "\n"
    }

    fn end(&self, why: End) -> String {
        line(json!({"end": why.name()}))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "each is made for this")]
fn line(document: Value) -> String {
    // ends of lines within texts are escaped by JSON itself
    format!("{}\n", printable_json(&document.to_string()))
}

fn document(record: &WatchedRecord) -> Value {
    let attributes = record.attributes.iter();
    let attributes = attributes.map(|one| json!({"key": one.key, "value": one.value}));
    json!({
        "time": time_of(record.time_unix_nano),
        "service": record.service,
        "severity_number": record.severity_number,
        "severity": record.severity_text,
        "event": record.event_name,
        "body": record.body,
        "attributes": attributes.collect::<Vec<_>>(),
        "trace_id": record.trace_id,
        "span_id": record.span_id,
        "cut": record.cut,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line_that_no_terminal_obeys() {
        let record = WatchedRecord {
            time_unix_nano: 1_700_000_000_123_456_789,
            body: "a\nb\u{1b}[2J\u{9b}\u{202e}\u{e4}\"".to_owned(),
            ..WatchedRecord::default()
        };
        let watched = Watched { records: vec![record], missed: 3 };
        let written = Lines.records(&watched);
        let lines: Vec<&str> = written.split_terminator('\n').collect();
        assert_eq!((lines.len(), lines[0]), (2, "{\"missed\":3}"));
        assert!(lines[1].chars().all(|c| !c.is_control() && c != '\u{202e}'), "{written:?}");
        let read: Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(read["body"], "a\nb\u{1b}[2J\u{9b}\u{202e}\u{e4}\"");
        assert_eq!(read["time"], "2023-11-14T22:13:20.123456789Z");
        assert_eq!(Lines.end(End::Time), "{\"end\":\"time\"}\n");
    }
}
