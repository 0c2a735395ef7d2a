//! From a message of OTLP logs to lines of OTLP/JSON (OpenTelemetry protocol, "JSON Protobuf Encoding"): one
//! document a line, `{"resourceLogs":[…]}`, one for each resource of the message.

use std::io;

use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use serde::Serialize;
use zeroize::{Zeroize as _, Zeroizing};

use crate::decoded::Decoded;
use crate::error::Refused;
use crate::weigh;

/// The most that one message may become, and that one segment may hold, in bytes. Readers refuse to decompress
/// more.
pub(crate) const MAX: usize = 16 << 20;

/// What one message became. Wiped when dropped; without `Debug`.
pub(crate) struct Lines {
    /// Whole lines, each ended by `\n`.
    pub(crate) text: Zeroizing<Vec<u8>>,
    /// Log records in them.
    pub(crate) records: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    resource_logs: [&'a ResourceLogs; 1],
}

/// Encodes a message.
///
/// # Errors
///
/// [`Refused::Malformed`], [`Refused::TooMuch`], [`Refused::TooDeep`].
pub(crate) fn encode(message: &[u8]) -> Result<Lines, Refused> {
    let records = weigh::records(message)?;
    let decoded = Decoded::new(message)?;
    let mut buffer = Buffer::with_capacity(message.len().saturating_mul(2).min(MAX));
    for resource_logs in decoded.resource_logs() {
        if resource_logs.scope_logs.iter().all(|scope| scope.log_records.is_empty()) {
            continue;
        }
        let document = Document { resource_logs: [resource_logs] };
        // these types are strings, numbers and lists of them: only the buffer can refuse
        serde_json::to_writer(&mut buffer, &document).map_err(|_| Refused::TooMuch)?;
        buffer.push(b"\n").map_err(|_| Refused::TooMuch)?;
    }
    Ok(Lines { text: buffer.finish(), records })
}

/// A vector that ends at [`MAX`] and wipes what it leaves behind when it grows.
struct Buffer(Zeroizing<Vec<u8>>);

impl Buffer {
    fn with_capacity(capacity: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(capacity)))
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = self.0.len() + bytes.len();
        if length > MAX {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if length > self.0.capacity() {
            self.move_to(length.next_power_of_two());
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// The bytes, in no more room than they need: what waits in the queue is counted by its length.
    fn finish(mut self) -> Zeroizing<Vec<u8>> {
        self.move_to(self.0.len());
        self.0
    }

    fn move_to(&mut self, capacity: usize) {
        let mut to = Vec::with_capacity(capacity);
        to.extend_from_slice(&self.0);
        let mut from = std::mem::replace(&mut *self.0, to);
        from.zeroize();
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ScopeLogs};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use prost::Message as _;
    use serde_json::{Value as Json, json};

    use super::*;

    fn value(value: Value) -> Option<AnyValue> {
        Some(AnyValue { value: Some(value) })
    }

    fn attribute(key: &str, of: Value) -> KeyValue {
        KeyValue { key: key.to_owned(), value: value(of), ..Default::default() }
    }

    fn text(text: &str) -> Value {
        Value::StringValue(text.to_owned())
    }

    fn resource(name: &str, log_records: Vec<LogRecord>) -> ResourceLogs {
        ResourceLogs {
            resource: Some(Resource {
                attributes: vec![attribute("service.name", text(name))],
                ..Default::default()
            }),
            scope_logs: vec![ScopeLogs { log_records, ..Default::default() }],
            ..Default::default()
        }
    }

    fn documents(resource_logs: Vec<ResourceLogs>) -> (Vec<Json>, usize) {
        let lines = encode(&ExportLogsServiceRequest { resource_logs }.encode_to_vec());
        let lines = lines.ok().unwrap();
        let text = std::str::from_utf8(&lines.text).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), lines.records)
    }

    #[test]
    fn each_resource_is_one_line_whatever_its_records_hold() {
        let record = |body: &str| LogRecord { body: value(text(body)), ..Default::default() };
        let (documents, records) = documents(vec![
            resource("a", vec![record("two\nlines\r\n"), record("\u{2028}")]),
            resource("nothing", vec![]),
            resource("b", vec![record("x")]),
        ]);
        assert_eq!(records, 3);
        assert_eq!(documents.len(), 2);
        let body = "/resourceLogs/0/scopeLogs/0/logRecords/0/body/stringValue";
        assert_eq!(documents[0].pointer(body), Some(&json!("two\nlines\r\n")));
    }

    #[test]
    fn the_encoding_is_the_one_of_otlp() {
        let record = LogRecord {
            time_unix_nano: 1_700_000_000_123_456_789,
            severity_number: 9,
            severity_text: "INFO".into(),
            trace_id: vec![0xab; 16],
            span_id: vec![1; 8],
            attributes: vec![
                attribute("int", Value::IntValue(i64::MIN)),
                attribute("bytes", Value::BytesValue(vec![0xff, 0])),
                attribute("bool", Value::BoolValue(false)),
                attribute("double", Value::DoubleValue(0.5)),
                attribute(
                    "list",
                    Value::ArrayValue(ArrayValue {
                        values: vec![
                            AnyValue { value: Some(Value::IntValue(1)) },
                            AnyValue::default(),
                        ],
                    }),
                ),
                attribute(
                    "map",
                    Value::KvlistValue(KeyValueList {
                        values: vec![attribute("k", Value::DoubleValue(f64::NAN))],
                    }),
                ),
                attribute("infinite", Value::DoubleValue(f64::NEG_INFINITY)),
            ],
            ..Default::default()
        };
        let (documents, _) = documents(vec![resource("s", vec![record])]);
        let record = documents[0].pointer("/resourceLogs/0/scopeLogs/0/logRecords/0").unwrap();
        assert_eq!(record["timeUnixNano"], "1700000000123456789");
        assert_eq!(record["severityNumber"], 9);
        assert_eq!(record["traceId"], "ab".repeat(16));
        assert_eq!(record["spanId"], "01".repeat(8));
        let map =
            json!({"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "NaN"}}]}});
        let expected = json!([
            {"key": "int", "value": {"intValue": "-9223372036854775808"}},
            {"key": "bytes", "value": {"bytesValue": "/wA="}},
            {"key": "bool", "value": {"boolValue": false}},
            {"key": "double", "value": {"doubleValue": 0.5}},
            {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "1"}, {}]}}},
            {"key": "map", "value": map},
            {"key": "infinite", "value": {"stringValue": "-Infinity"}},
        ]);
        assert_eq!(record["attributes"], expected);
    }

    #[test]
    fn the_deepest_value_that_is_accepted_can_be_read() {
        let mut body = text("x");
        let mut refused = None;
        for _ in 0..64 {
            let record = LogRecord { body: value(body.clone()), ..Default::default() };
            let request =
                ExportLogsServiceRequest { resource_logs: vec![resource("s", vec![record])] };
            match encode(&request.encode_to_vec()) {
                Ok(lines) => assert!(serde_json::from_slice::<Json>(&lines.text).is_ok()),
                Err(why) => {
                    refused = Some(why);
                    break;
                }
            }
            body = Value::KvlistValue(KeyValueList { values: vec![attribute("k", body)] });
        }
        assert!(matches!(refused, Some(Refused::TooDeep(_))));
    }

    #[test]
    fn what_becomes_too_long_is_refused() {
        // a control character takes six bytes in JSON
        let record =
            LogRecord { body: value(text(&"\u{1}".repeat(MAX / 6))), ..Default::default() };
        let message = ExportLogsServiceRequest { resource_logs: vec![resource("s", vec![record])] };
        assert_eq!(encode(&message.encode_to_vec()).err(), Some(Refused::TooMuch));
    }

    #[test]
    fn a_string_that_is_no_utf8_is_refused() {
        let record = LogRecord { severity_text: "XYZ".into(), ..Default::default() };
        let message = ExportLogsServiceRequest { resource_logs: vec![resource("s", vec![record])] };
        let mut bytes = message.encode_to_vec();
        let at = bytes.windows(3).position(|window| window == b"XYZ").unwrap();
        bytes[at] = 0xff;
        assert_eq!(encode(&bytes).err(), Some(Refused::Malformed));
    }

    #[test]
    fn a_buffer_keeps_what_it_was_given_while_it_grows() {
        let mut buffer = Buffer::with_capacity(0);
        for n in 0..1000_u32 {
            buffer.push(&n.to_le_bytes()).unwrap();
        }
        let bytes = buffer.finish();
        assert_eq!(bytes.len(), bytes.capacity());
        assert!(bytes.chunks(4).zip(0..1000_u32).all(|(chunk, n)| chunk == n.to_le_bytes()));
    }
}
