//! What the log itself says about those who watch it: a record for every opening and every closing, through the same queue as all
//! others. It does not go by this role's own log pipeline, which may be off.
//!
//! A record here is seen by whoever else watches, and causes none.

use serde_json::{Value, json};
use service::Identity;
use service::clock::unix_now;
use zeroize::Zeroizing;

use crate::counts::Counts;
use crate::lines::Lines;

/// `INFO` (OpenTelemetry protocol, logs.proto, `SeverityNumber`).
const INFO: u32 = 9;

/// Something to put on record.
pub(super) struct Event {
    /// Its name.
    pub(super) name: &'static str,
    /// For people.
    pub(super) says: &'static str,
    /// Names and values.
    pub(super) attributes: Vec<(&'static str, Value)>,
}

/// A text that somebody else chose.
pub(super) fn text(text: &str) -> Value {
    json!({"stringValue": text})
}

/// A number.
pub(super) fn number(number: u64) -> Value {
    json!({"intValue": number.to_string()})
}

/// The event as a line of OTLP/JSON.
pub(super) fn lines(identity: &Identity, event: Event) -> Lines {
    let now = unix_now();
    let attribute = |(key, value): (&str, Value)| json!({"key": key, "value": value});
    let resource = [
        ("service.name", text(identity.role)),
        ("service.version", text(identity.version)),
        ("service.instance.id", text(&identity.boot_id)),
    ];
    let record = json!({
        "timeUnixNano": format!("{now}000000000"),
        "severityNumber": INFO,
        "severityText": "INFO",
        "eventName": event.name,
        "body": text(event.says),
        "attributes": event.attributes.into_iter().map(attribute).collect::<Vec<_>>(),
    });
    let line = json!({"resourceLogs": [{
        "resource": {"attributes": resource.map(attribute)},
        "scopeLogs": [{"logRecords": [record]}],
    }]});
    let text = Zeroizing::new(format!("{line}\n").into_bytes());
    let counts = Counts { records: 1, ..Counts::default() };
    Lines { text: text.into(), counts, times: Some((now, now)) }
}
