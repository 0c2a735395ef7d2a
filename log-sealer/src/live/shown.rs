//! From lines of OTLP/JSON to the records that somebody watches: those that were asked for, each within bounds.
//!
//! Texts stay what their sources wrote, control characters and all: whoever shows them makes them harmless. Must not know
//! who watches.

use proto::log::{Watched, WatchedAttribute, WatchedRecord};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The longest body that is shown, in bytes.
const BODY: usize = 8 << 10;

/// The longest value of an attribute.
const VALUE: usize = 1 << 10;

/// The longest name, or other word.
const WORD: usize = 200;

/// The most attributes of a record.
const ATTRIBUTES: usize = 32;

/// Records in one message: few, since a thread that serves others too makes a page of them, and at their longest far less than
/// the 4 MiB that readers of gRPC take.
const RECORDS: usize = 16;

const _: () = assert!(RECORDS * (BODY + ATTRIBUTES * (VALUE + WORD + 16) + 8 * WORD) < 4 << 20);

/// Which records are wanted.
#[derive(Clone)]
pub(super) struct Filter {
    /// Of this service; of any if it is empty.
    pub(super) service: String,
    /// At least this severe (`SeverityNumber`); 0: any.
    pub(super) least_severity: u32,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default, rename = "resourceLogs")]
    resources: Vec<OfResource>,
}

#[derive(Deserialize)]
struct OfResource {
    #[serde(default)]
    resource: Resource,
    #[serde(default, rename = "scopeLogs")]
    scopes: Vec<OfScope>,
}

#[derive(Default, Deserialize)]
struct Resource {
    #[serde(default)]
    attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
struct OfScope {
    #[serde(default, rename = "logRecords")]
    records: Vec<LogRecord>,
}

#[derive(Deserialize)]
struct Attribute {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: Value,
}

/// OpenTelemetry protocol, logs.proto, as [`lines`](crate::lines) writes it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LogRecord {
    time_unix_nano: Value,
    observed_time_unix_nano: Value,
    severity_number: Value,
    severity_text: String,
    event_name: String,
    body: Value,
    attributes: Vec<Attribute>,
    trace_id: String,
    span_id: String,
}

/// What of these lines is wanted, in messages; the first says how much is missing before.
pub(super) fn messages(lines: &[u8], filter: &Filter, missed: u64) -> Vec<Watched> {
    let mut all = vec![Watched { records: Vec::new(), missed }];
    let documents = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    // what is sealed is our own writing: a line that is no document would be a mistake of ours, and is left out
    for document in documents.filter_map(|line| serde_json::from_slice::<Document>(line).ok()) {
        for OfResource { resource, scopes } in document.resources {
            let service = resource.service();
            if !filter.service.is_empty() && filter.service != service {
                continue;
            }
            let records = scopes.into_iter().flat_map(|scope| scope.records);
            for record in records.filter(|record| record.severity() >= filter.least_severity) {
                if all.last().is_none_or(|message| message.records.len() >= RECORDS) {
                    all.push(Watched::default());
                }
                if let Some(message) = all.last_mut() {
                    message.records.push(record.shown(&service));
                }
            }
        }
    }
    all.retain(|message| message.missed > 0 || !message.records.is_empty());
    all
}

impl Resource {
    fn service(&self) -> String {
        let name = self.attributes.iter().find(|attribute| attribute.key == "service.name");
        name.map(|name| text(&name.value)).unwrap_or_default()
    }
}

impl LogRecord {
    /// The number counts; the source's own word only where there is none.
    fn severity(&self) -> u32 {
        let number = whole(&self.severity_number).and_then(|number| u32::try_from(number).ok());
        number.filter(|number| *number > 0).unwrap_or_else(|| {
            match self.severity_text.to_ascii_lowercase().as_str() {
                "trace" => 1,
                "debug" => 5,
                "info" => 9,
                "warn" | "warning" => 13,
                "error" => 17,
                "fatal" => 21,
                _ => 0,
            }
        })
    }

    fn shown(self, service: &str) -> WatchedRecord {
        let mut cut = self.attributes.len() > ATTRIBUTES;
        let mut within = |text: String, most| within(text, most, &mut cut);
        let times = [&self.time_unix_nano, &self.observed_time_unix_nano];
        let time = times.into_iter().filter_map(whole).find(|time| *time > 0);
        let severity_number = self.severity();
        let attributes = self.attributes.into_iter().take(ATTRIBUTES).map(|attribute| {
            let value = within(text(&attribute.value), VALUE);
            WatchedAttribute { key: within(attribute.key, WORD), value }
        });
        let attributes = attributes.collect();
        WatchedRecord {
            time_unix_nano: time.unwrap_or_default(),
            service: within(service.to_owned(), WORD),
            severity_number,
            severity_text: within(self.severity_text, WORD),
            event_name: within(self.event_name, WORD),
            body: within(text(&self.body), BODY),
            attributes,
            trace_id: within(self.trace_id, WORD),
            span_id: within(self.span_id, WORD),
            cut,
        }
    }
}

/// 64-bit integers are strings in OTLP/JSON.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// An `AnyValue`: a text as it is, anything else as JSON; nothing as nothing.
fn text(value: &Value) -> String {
    match plain(value) {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// An `AnyValue` as the JSON that one would write for it. How deep it nests has a bound ([`lines`](crate::lines)).
fn plain(value: &Value) -> Value {
    let Some((kind, inner)) = value.as_object().and_then(|object| object.iter().next()) else {
        return Value::Null;
    };
    let list = || inner.get("values").and_then(Value::as_array).into_iter().flatten();
    match kind.as_str() {
        "intValue" => inner
            .as_str()
            .and_then(|digits| digits.parse::<i64>().ok())
            .map_or_else(|| inner.clone(), Value::from),
        "arrayValue" => list().map(plain).collect(),
        "kvlistValue" => {
            let pairs = list().filter_map(|pair| {
                let key = pair.get("key").and_then(Value::as_str)?;
                Some((key.to_owned(), pair.get("value").map_or(Value::Null, plain)))
            });
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        _ => inner.clone(),
    }
}

/// The beginning of a text, and in `cut` whether that is not all.
fn within(mut text: String, most: usize, cut: &mut bool) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        *cut = true;
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lines::encode;
    use crate::otlp::Signal;
    use crate::otlp::tests::wire_of;

    /// What is shown of an export that was accepted.
    fn shown(export: &Value, filter: &Filter) -> Vec<WatchedRecord> {
        let lines = encode(Signal::Logs, &wire_of(Signal::Logs, export), None).ok().unwrap();
        messages(&lines.text, filter, 0).into_iter().flat_map(|message| message.records).collect()
    }

    fn of(service: &str, records: &[Value]) -> Value {
        let name = json!({"key": "service.name", "value": {"stringValue": service}});
        json!({"resource": {"attributes": [name]}, "scopeLogs": [{"logRecords": records}]})
    }

    fn filter(service: &str, least_severity: u32) -> Filter {
        Filter { service: service.to_owned(), least_severity }
    }

    #[test]
    fn a_record_is_shown_with_all_that_people_look_at() {
        let record = json!({
            "timeUnixNano": "1700000000000000001", "severityNumber": 13, "severityText": "careful",
            "eventName": "e", "body": {"stringValue": "one\n\u{202e}two"}, "traceId": "0af7651916cd43dd8448eb211c80319c",
            "attributes": [
                {"key": "n", "value": {"intValue": "-7"}},
                {"key": "map", "value": {"kvlistValue": {"values": [
                    {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": true}, {}]}}},
                ]}}},
                {"key": "none"},
            ],
        });
        let export = json!({"resourceLogs": [of("a", &[record])]});
        let [one] = shown(&export, &filter("", 0)).try_into().ok().unwrap();
        assert_eq!(one.time_unix_nano, 1_700_000_000_000_000_001);
        assert_eq!((one.service.as_str(), one.event_name.as_str()), ("a", "e"));
        assert_eq!((one.severity_number, one.severity_text.as_str()), (13, "careful"));
        assert_eq!(one.body, "one\n\u{202e}two", "as it was written");
        let pairs: Vec<_> = one.attributes.iter().map(|a| (&*a.key, &*a.value)).collect();
        assert_eq!(pairs, [("n", "-7"), ("map", r#"{"list":[true,null]}"#), ("none", "")]);
        assert_eq!(one.trace_id, "0af7651916cd43dd8448eb211c80319c");
        assert!(!one.cut && one.span_id.is_empty());
    }

    #[test]
    fn a_filter_keeps_what_was_asked_for() {
        let record = |body: &str, number: u32, word: &str| json!({"body": {"stringValue": body}, "severityNumber": number, "severityText": word});
        let export = json!({"resourceLogs": [
            of("a", &[record("one", 9, ""), record("two", 17, ""), record("three", 0, "Warning")]),
            of("b", &[record("four", 21, ""), record("five", 0, "")]),
        ]});
        let bodies = |service, least| -> String {
            let shown = shown(&export, &filter(service, least));
            shown.iter().map(|record| format!("{} ", record.body)).collect()
        };
        assert_eq!(bodies("", 0), "one two three four five ");
        assert_eq!(bodies("a", 13), "two three ");
        assert_eq!(bodies("b", 1), "four ");
        assert_eq!(bodies("c", 0), "");
    }

    #[test]
    fn what_is_long_is_cut_between_characters_and_says_so() {
        let attribute =
            json!({"key": "k".repeat(WORD + 1), "value": {"stringValue": "v".repeat(VALUE + 1)}});
        let long = json!({"body": {"stringValue": "\u{e4}".repeat(BODY)}});
        let many = json!({"attributes": vec![attribute; ATTRIBUTES + 1]});
        let records = shown(&json!({"resourceLogs": [of("a", &[long, many])]}), &filter("", 0));
        assert_eq!(records[0].body, "\u{e4}".repeat(BODY / 2));
        assert!(records.iter().all(|record| record.cut));
        let attributes = &records[1].attributes;
        assert_eq!(attributes.len(), ATTRIBUTES);
        assert_eq!((attributes[0].key.len(), attributes[0].value.len()), (WORD, VALUE));
    }

    #[test]
    fn messages_have_a_bound_and_the_first_says_what_is_missing() {
        let records = vec![json!({"body": {"stringValue": "x"}}); RECORDS + 1];
        let export = json!({"resourceLogs": [of("a", &records)]});
        let lines = encode(Signal::Logs, &wire_of(Signal::Logs, &export), None).ok().unwrap();
        let told = |filter: &Filter, missed| -> Vec<_> {
            let messages = messages(&lines.text, filter, missed);
            messages.iter().map(|message| (message.missed, message.records.len())).collect()
        };
        assert_eq!(told(&filter("", 0), 5), [(5, RECORDS), (0, 1)]);
        assert_eq!(told(&filter("b", 0), 5), [(5, 0)]);
        assert_eq!(told(&filter("b", 0), 0), []);
    }
}
