//! How much a message of OTLP logs will take once it is decoded, found out before it is.
//!
//! Two bytes on the wire can become a struct of two hundred in memory, so a bound on the message bounds
//! nothing. This walks the wire format (protobuf, "Encoding"; opentelemetry-proto 1.x for the schema) without
//! keeping anything, counts, and refuses what is too much. It does not check what decoding checks: field types
//! and UTF-8.

use std::mem::size_of;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::error::Refused;

/// The most that one message may take in memory, in bytes. While vectors grow it can be three times as much.
/// 8192 records with ten attributes each, a collector's usual batch, take two thirds of it.
const DECODED: usize = 32 << 20;

/// The most log records in one message.
pub(crate) const RECORDS: usize = 65_536;

/// How deep values may nest: an array or map in an array or map. Written as JSON, each costs up to four of the
/// 128 levels that JSON parsers customarily allow.
const DEPTH: usize = 24;

/// What a string or byte field costs beside its bytes: its header, and the allocator's rounding.
const STRING: usize = 64;

/// Counts the log records of a message, an `ExportLogsServiceRequest`.
///
/// # Errors
///
/// [`Refused::Malformed`], [`Refused::TooMuch`], [`Refused::TooDeep`].
pub(crate) fn records(message: &[u8]) -> Result<usize, Refused> {
    let mut scale = Scale { bytes: 0, records: 0 };
    scale.walk(Kind::Request, message, 0)?;
    Ok(scale.records)
}

/// The messages of which log records are made.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Request,
    ResourceLogs,
    Resource,
    EntityRef,
    ScopeLogs,
    Scope,
    LogRecord,
    KeyValue,
    AnyValue,
    Array,
    KeyValueList,
}

impl Kind {
    /// The message that this one's field holds; `None` for strings and bytes.
    fn child(self, field: u32) -> Option<Self> {
        Some(match (self, field) {
            (Self::Request, 1) => Self::ResourceLogs,
            (Self::ResourceLogs, 1) => Self::Resource,
            (Self::ResourceLogs, 2) => Self::ScopeLogs,
            (Self::Resource, 3) => Self::EntityRef,
            (Self::ScopeLogs, 1) => Self::Scope,
            (Self::ScopeLogs, 2) => Self::LogRecord,
            (Self::LogRecord, 5) | (Self::KeyValue, 2) | (Self::Array, 1) => Self::AnyValue,
            (Self::Resource | Self::KeyValueList, 1) | (Self::Scope, 3) | (Self::LogRecord, 6) => {
                Self::KeyValue
            }
            (Self::AnyValue, 5) => Self::Array,
            (Self::AnyValue, 6) => Self::KeyValueList,
            _ => return None,
        })
    }

    /// What one takes in memory, without what it points to.
    fn size(self) -> usize {
        match self {
            Self::Request => 0,
            Self::ResourceLogs => size_of::<ResourceLogs>(),
            Self::Resource => size_of::<Resource>(),
            Self::EntityRef => size_of::<EntityRef>(),
            Self::ScopeLogs => size_of::<ScopeLogs>(),
            Self::Scope => size_of::<InstrumentationScope>(),
            Self::LogRecord => size_of::<LogRecord>(),
            Self::KeyValue => size_of::<KeyValue>(),
            Self::AnyValue => size_of::<AnyValue>(),
            Self::Array => size_of::<ArrayValue>(),
            Self::KeyValueList => size_of::<KeyValueList>(),
        }
    }
}

struct Scale {
    bytes: usize,
    records: usize,
}

impl Scale {
    /// Its own depth is bounded too: the only way round in the schema leads through `AnyValue`, which counts.
    fn walk(&mut self, kind: Kind, mut rest: &[u8], depth: usize) -> Result<(), Refused> {
        self.add(kind.size())?;
        let depth = depth + usize::from(kind == Kind::AnyValue);
        if depth > DEPTH {
            return Err(Refused::TooDeep(DEPTH));
        }
        self.records += usize::from(kind == Kind::LogRecord);
        if self.records > RECORDS {
            return Err(Refused::TooMuch);
        }
        while !rest.is_empty() {
            let (number, value) = field(&mut rest)?;
            match (value, kind.child(number)) {
                (Some(message), Some(child)) => self.walk(child, message, depth)?,
                (Some(bytes), None) => self.add(STRING + bytes.len())?,
                (None, _) => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, bytes: usize) -> Result<(), Refused> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > DECODED { Err(Refused::TooMuch) } else { Ok(()) }
    }
}

/// Takes one field off: its number, and its bytes if it is a string, bytes or a message.
fn field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Option<&'a [u8]>), Refused> {
    let (number, wire_type) = decode_key(rest).map_err(|_| Refused::Malformed)?;
    let (length, is_value) = match wire_type {
        WireType::Varint => (varint(rest).map(|_| 0)?, false),
        WireType::ThirtyTwoBit => (4, false),
        WireType::SixtyFourBit => (8, false),
        WireType::LengthDelimited => (varint(rest)?, true),
        // groups: none in this schema, and the only ones that nest without a length
        WireType::StartGroup | WireType::EndGroup => return Err(Refused::Malformed),
    };
    let length = usize::try_from(length).map_err(|_| Refused::Malformed)?;
    let (value, after) = rest.split_at_checked(length).ok_or(Refused::Malformed)?;
    *rest = after;
    Ok((number, is_value.then_some(value)))
}

fn varint(rest: &mut &[u8]) -> Result<u64, Refused> {
    decode_varint(rest).map_err(|_| Refused::Malformed)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use prost::Message as _;

    use super::*;

    fn value(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    fn message(records: Vec<LogRecord>) -> Vec<u8> {
        let scope_logs = vec![ScopeLogs { log_records: records, ..Default::default() }];
        let resource_logs = vec![ResourceLogs { scope_logs, ..Default::default() }];
        ExportLogsServiceRequest { resource_logs }.encode_to_vec()
    }

    fn nested(depth: usize, wrap: fn(AnyValue) -> Value) -> LogRecord {
        let mut body = value(Value::BoolValue(true));
        for _ in 1..depth {
            body = value(wrap(body));
        }
        LogRecord { body: Some(body), ..Default::default() }
    }

    fn in_array(inner: AnyValue) -> Value {
        Value::ArrayValue(ArrayValue { values: vec![inner] })
    }

    fn in_map(inner: AnyValue) -> Value {
        let entry = KeyValue { value: Some(inner), ..Default::default() };
        Value::KvlistValue(KeyValueList { values: vec![entry] })
    }

    #[test]
    fn records_are_counted() {
        assert_eq!(records(&[]), Ok(0));
        assert_eq!(records(&message(vec![nested(3, in_map); 5])), Ok(5));
    }

    #[test]
    fn what_nests_too_deep_is_refused() {
        for wrap in [in_array, in_map] {
            assert_eq!(records(&message(vec![nested(DEPTH, wrap)])), Ok(1));
            let deeper = message(vec![nested(DEPTH + 1, wrap)]);
            assert_eq!(records(&deeper), Err(Refused::TooDeep(DEPTH)));
        }
    }

    #[test]
    fn small_messages_that_would_grow_are_refused() {
        // two bytes each on the wire
        let many = message(vec![LogRecord::default(); RECORDS]);
        assert!(many.len() < 150_000, "{}", many.len());
        assert_eq!(records(&many), Ok(RECORDS));
        let more = message(vec![LogRecord::default(); RECORDS + 1]);
        assert_eq!(records(&more), Err(Refused::TooMuch));

        let attributes = vec![KeyValue::default(); DECODED / size_of::<KeyValue>()];
        let heavy = message(vec![LogRecord { attributes, ..Default::default() }]);
        assert!(heavy.len() < 2 << 20, "{}", heavy.len());
        assert_eq!(records(&heavy), Err(Refused::TooMuch));
    }

    #[test]
    fn a_collectors_batch_is_accepted() {
        let attribute = |n: usize| KeyValue {
            key: format!("http.request.header.{n}"),
            value: Some(value(Value::StringValue("a value of usual length".to_owned()))),
            ..Default::default()
        };
        let record =
            LogRecord { attributes: (0..10).map(attribute).collect(), ..Default::default() };
        assert_eq!(records(&message(vec![record; 8192])), Ok(8192));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [
            &[0xff][..],   // a key that does not end
            &[0x0a, 5, 0], // shorter than it says
            &[0x0a, 0x80], // a length that does not end
            &[0x0d, 0, 0], // a fixed32 of two bytes
            &[0x0b, 0x0c], // a group
            &[0x0f],       // wire type 7
            &[0x00],       // field 0
        ] {
            assert_eq!(records(bad), Err(Refused::Malformed), "{bad:x?}");
        }
        let mut endless = vec![0x0a];
        endless.extend([0xff; 9]);
        endless.push(1);
        assert_eq!(records(&endless), Err(Refused::Malformed));
    }
}
