//! A decoded request of OTLP logs, which is wiped when it is dropped.
//!
//! Wiping reaches what this process decoded; buffers of the transport and of the allocator's past keep what
//! they keep. Memory as a whole is encrypted by the hardware; this is the second line.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, EntityRef, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use zeroize::Zeroize as _;

use crate::error::Refused;

/// The request. Without `Debug`, whatever its parts have.
pub(crate) struct Decoded(ExportLogsServiceRequest);

impl Decoded {
    /// Decodes a message that was weighed before.
    ///
    /// # Errors
    ///
    /// [`Refused::Malformed`].
    pub(crate) fn new(message: &[u8]) -> Result<Self, Refused> {
        let request = ExportLogsServiceRequest::decode(message).map_err(|_| Refused::Malformed)?;
        let mut decoded = Self(request);
        decoded.values(&mut write_out_non_finite);
        Ok(decoded)
    }

    /// What it holds, by source.
    pub(crate) fn resource_logs(&self) -> &[ResourceLogs] {
        &self.0.resource_logs
    }

    /// Visits every value. Depth is bounded: the message was weighed.
    fn values(&mut self, visit: &mut dyn FnMut(&mut AnyValue)) {
        for resource_logs in &mut self.0.resource_logs {
            attributes(resource_logs.resource.iter_mut().flat_map(|r| &mut r.attributes), visit);
            for scope_logs in &mut resource_logs.scope_logs {
                attributes(scope_logs.scope.iter_mut().flat_map(|s| &mut s.attributes), visit);
                for record in &mut scope_logs.log_records {
                    attributes(record.attributes.iter_mut(), visit);
                    if let Some(body) = &mut record.body {
                        value(body, visit);
                    }
                }
            }
        }
    }
}

fn attributes<'a>(
    list: impl Iterator<Item = &'a mut KeyValue>,
    visit: &mut dyn FnMut(&mut AnyValue),
) {
    for inner in list.filter_map(|attribute| attribute.value.as_mut()) {
        value(inner, visit);
    }
}

fn value(it: &mut AnyValue, visit: &mut dyn FnMut(&mut AnyValue)) {
    match &mut it.value {
        Some(Value::ArrayValue(array)) => {
            for inner in &mut array.values {
                value(inner, visit);
            }
        }
        Some(Value::KvlistValue(list)) => attributes(list.values.iter_mut(), visit),
        _ => {}
    }
    visit(it);
}

/// JSON has no number for these, and the encoder would write null: the reader gets their names instead.
fn write_out_non_finite(it: &mut AnyValue) {
    if let Some(Value::DoubleValue(number)) = it.value
        && !number.is_finite()
    {
        let name = match number {
            f64::INFINITY => "Infinity",
            f64::NEG_INFINITY => "-Infinity",
            _ => "NaN",
        };
        it.value = Some(Value::StringValue(name.to_owned()));
    }
}

impl Drop for Decoded {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl Decoded {
    /// Wipes every text and every byte string; numbers alone say little.
    fn wipe(&mut self) {
        self.values(&mut |it| match &mut it.value {
            Some(Value::StringValue(text)) => text.zeroize(),
            Some(Value::BytesValue(bytes)) => bytes.zeroize(),
            Some(Value::KvlistValue(list)) => wipe_keys(&mut list.values),
            _ => {}
        });
        for ResourceLogs { resource, scope_logs, schema_url } in &mut self.0.resource_logs {
            schema_url.zeroize();
            if let Some(Resource { attributes, entity_refs, .. }) = resource {
                wipe_keys(attributes);
                entity_refs.iter_mut().for_each(wipe_entity);
            }
            for ScopeLogs { scope, log_records, schema_url } in scope_logs {
                schema_url.zeroize();
                scope.iter_mut().for_each(wipe_scope);
                log_records.iter_mut().for_each(wipe_record);
            }
        }
    }
}

fn wipe_keys(list: &mut [KeyValue]) {
    for attribute in list {
        attribute.key.zeroize();
    }
}

fn wipe_entity(entity: &mut EntityRef) {
    entity.schema_url.zeroize();
    entity.r#type.zeroize();
    entity.id_keys.zeroize();
    entity.description_keys.zeroize();
}

fn wipe_scope(scope: &mut InstrumentationScope) {
    scope.name.zeroize();
    scope.version.zeroize();
    wipe_keys(&mut scope.attributes);
}

fn wipe_record(record: &mut LogRecord) {
    record.severity_text.zeroize();
    record.event_name.zeroize();
    record.trace_id.zeroize();
    record.span_id.zeroize();
    wipe_keys(&mut record.attributes);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};

    use super::*;

    const CANARY: &str = "canary";

    fn attribute(value: Value) -> KeyValue {
        let value = Some(AnyValue { value: Some(value) });
        KeyValue { key: CANARY.to_owned(), value, ..KeyValue::default() }
    }

    /// One attribute of each kind, nested in each other.
    fn attributes() -> Vec<KeyValue> {
        let text = || attribute(Value::StringValue(CANARY.to_owned()));
        let list = KeyValueList { values: vec![text()] };
        let map = AnyValue { value: Some(Value::KvlistValue(list)) };
        let array = Value::ArrayValue(ArrayValue { values: vec![map] });
        vec![text(), attribute(Value::BytesValue(CANARY.into())), attribute(array)]
    }

    fn everywhere() -> ExportLogsServiceRequest {
        let canary = || CANARY.to_owned();
        let entity = EntityRef {
            schema_url: canary(),
            r#type: canary(),
            id_keys: vec![canary()],
            description_keys: vec![canary()],
        };
        let record = LogRecord {
            severity_text: canary(),
            event_name: canary(),
            trace_id: CANARY.into(),
            span_id: CANARY.into(),
            body: attributes().remove(2).value,
            attributes: attributes(),
            ..LogRecord::default()
        };
        let scope = InstrumentationScope {
            name: canary(),
            version: canary(),
            attributes: attributes(),
            ..InstrumentationScope::default()
        };
        let scope_logs =
            ScopeLogs { scope: Some(scope), log_records: vec![record], schema_url: canary() };
        let resource =
            Resource { attributes: attributes(), entity_refs: vec![entity], ..Resource::default() };
        let logs = ResourceLogs {
            resource: Some(resource),
            scope_logs: vec![scope_logs],
            schema_url: canary(),
        };
        ExportLogsServiceRequest { resource_logs: vec![logs] }
    }

    fn canaries(bytes: &[u8]) -> usize {
        bytes.windows(CANARY.len()).filter(|window| *window == CANARY.as_bytes()).count()
    }

    #[test]
    fn nothing_that_was_said_is_left_after_wiping() {
        let message = everywhere().encode_to_vec();
        // seven in each of three lists, two in the body, twelve in fields
        assert_eq!(canaries(&message), 3 * 7 + 2 + 12);
        let mut decoded = Decoded::new(&message).unwrap();
        decoded.wipe();
        assert_eq!(canaries(&decoded.0.encode_to_vec()), 0);
        assert_eq!(decoded.resource_logs()[0].scope_logs[0].log_records.len(), 1);
    }
}
