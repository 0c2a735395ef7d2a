//! The messages of OTLP as a table (opentelemetry-proto 1.x: common, resource, logs, trace and metrics): the
//! number of each field, its name in JSON, and what it holds.
//!
//! Protobuf becomes JSON by it, and JSON protobuf, without a struct between the two: a few megabytes on the wire
//! cannot become a gigabyte in memory, and nothing that was said is kept in more places than must be wiped.
//! Fields that are not here are passed over, as the protocol wants it.
//!
//! Must not know what a field means.

use self::Is::{Base64, Bool, Hex, Many, Number, Numbers, One, Text, Texts};
use self::Kind as K;
use self::Numeric as N;

macro_rules! field {
    ($number:literal, $name:literal, $is:expr) => {
        Field { number: $number, name: $name, member: concat!("\"", $name, "\":"), is: $is }
    };
}
/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    LogsRequest,
    ResourceLogs,
    ScopeLogs,
    LogRecord,
    TraceRequest,
    ResourceSpans,
    ScopeSpans,
    Span,
    SpanEvent,
    SpanLink,
    SpanStatus,
    MetricsRequest,
    ResourceMetrics,
    ScopeMetrics,
    Metric,
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
    NumberPoint,
    HistogramPoint,
    ExponentialPoint,
    Buckets,
    SummaryPoint,
    Quantile,
    Exemplar,
    Resource,
    EntityRef,
    Scope,
    KeyValue,
    AnyValue,
    Array,
    KeyValueList,
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    /// Its name in JSON.
    pub(crate) name: &'static str,
    /// The name as it begins a member of a JSON object: in quotes, with a colon.
    pub(crate) member: &'static str,
    pub(crate) is: Is,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Is {
    /// A string.
    Text,
    /// Any number of strings.
    Texts,
    /// Bytes that JSON writes as hexadecimal digits: ids of traces and spans, unlike protobuf's own mapping.
    Hex,
    /// Bytes that JSON writes as base64.
    Base64,
    Bool,
    Number(Numeric),
    /// Any number of numbers.
    Numbers(Numeric),
    /// A message.
    One(Kind),
    /// Any number of messages.
    Many(Kind),
}

impl Is {
    /// Whether the field may stand in a message more than once.
    pub(crate) fn is_list(self) -> bool {
        match self {
            Texts | Numbers(_) | Many(_) => true,
            Text | Hex | Base64 | Bool | Number(_) | One(_) => false,
        }
    }
}

/// Protobuf's numbers. Those of 64 bits are strings in JSON; an enumeration is an `Int32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numeric {
    Int32,
    Int64,
    UInt32,
    UInt64,
    SInt32,
    Fixed32,
    Fixed64,
    SFixed64,
    Double,
}

impl Kind {
    /// Its fields.
    pub(crate) fn fields(self) -> &'static [Field] {
        match self {
            K::LogsRequest => const { &[field!(1, "resourceLogs", Many(K::ResourceLogs))] },
            K::ResourceLogs => RESOURCE_LOGS,
            K::ScopeLogs => SCOPE_LOGS,
            K::LogRecord => LOG_RECORD,
            K::TraceRequest => const { &[field!(1, "resourceSpans", Many(K::ResourceSpans))] },
            K::ResourceSpans => RESOURCE_SPANS,
            K::ScopeSpans => SCOPE_SPANS,
            K::Span => SPAN,
            K::SpanEvent => SPAN_EVENT,
            K::SpanLink => SPAN_LINK,
            K::SpanStatus => SPAN_STATUS,
            K::MetricsRequest => {
                const { &[field!(1, "resourceMetrics", Many(K::ResourceMetrics))] }
            }
            K::ResourceMetrics => RESOURCE_METRICS,
            K::ScopeMetrics => SCOPE_METRICS,
            K::Metric => METRIC,
            K::Gauge => const { &[field!(1, "dataPoints", Many(K::NumberPoint))] },
            K::Sum => SUM,
            K::Histogram => HISTOGRAM,
            K::ExponentialHistogram => EXPONENTIAL_HISTOGRAM,
            K::Summary => const { &[field!(1, "dataPoints", Many(K::SummaryPoint))] },
            K::NumberPoint => NUMBER_POINT,
            K::HistogramPoint => HISTOGRAM_POINT,
            K::ExponentialPoint => EXPONENTIAL_POINT,
            K::Buckets => BUCKETS,
            K::SummaryPoint => SUMMARY_POINT,
            K::Quantile => QUANTILE,
            K::Exemplar => EXEMPLAR,
            K::Resource => RESOURCE,
            K::EntityRef => ENTITY_REF,
            K::Scope => SCOPE,
            K::KeyValue => KEY_VALUE,
            K::AnyValue => ANY_VALUE,
            K::Array => const { &[field!(1, "values", Many(K::AnyValue))] },
            K::KeyValueList => const { &[field!(1, "values", Many(K::KeyValue))] },
        }
    }

    /// The field of this number.
    pub(crate) fn numbered(self, number: u32) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.number == number)
    }

    /// The field of this name in JSON. That of the protocol's source is one too: OTLP says that it is not valid,
    /// and what is not known would be passed over in silence.
    pub(crate) fn named(self, name: &str) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.name == name || is_snake_case_of(name, field.name))
    }
}

fn is_snake_case_of(snake: &str, camel: &str) -> bool {
    let mut snake = snake.chars();
    let follows = camel.chars().all(|c| {
        let first = if c.is_ascii_uppercase() { snake.next() == Some('_') } else { true };
        first && snake.next() == Some(c.to_ascii_lowercase())
    });
    follows && snake.next().is_none()
}

const RESOURCE_LOGS: &[Field] = &[
    field!(1, "resource", One(K::Resource)),
    field!(2, "scopeLogs", Many(K::ScopeLogs)),
    field!(3, "schemaUrl", Text),
];

const SCOPE_LOGS: &[Field] = &[
    field!(1, "scope", One(K::Scope)),
    field!(2, "logRecords", Many(K::LogRecord)),
    field!(3, "schemaUrl", Text),
];

const LOG_RECORD: &[Field] = &[
    field!(1, "timeUnixNano", Number(N::Fixed64)),
    field!(2, "severityNumber", Number(N::Int32)),
    field!(3, "severityText", Text),
    field!(5, "body", One(K::AnyValue)),
    field!(6, "attributes", Many(K::KeyValue)),
    field!(7, "droppedAttributesCount", Number(N::UInt32)),
    field!(8, "flags", Number(N::Fixed32)),
    field!(9, "traceId", Hex),
    field!(10, "spanId", Hex),
    field!(11, "observedTimeUnixNano", Number(N::Fixed64)),
    field!(12, "eventName", Text),
];

const RESOURCE_SPANS: &[Field] = &[
    field!(1, "resource", One(K::Resource)),
    field!(2, "scopeSpans", Many(K::ScopeSpans)),
    field!(3, "schemaUrl", Text),
];

const SCOPE_SPANS: &[Field] = &[
    field!(1, "scope", One(K::Scope)),
    field!(2, "spans", Many(K::Span)),
    field!(3, "schemaUrl", Text),
];

const SPAN: &[Field] = &[
    field!(1, "traceId", Hex),
    field!(2, "spanId", Hex),
    field!(3, "traceState", Text),
    field!(4, "parentSpanId", Hex),
    field!(5, "name", Text),
    field!(6, "kind", Number(N::Int32)),
    field!(7, "startTimeUnixNano", Number(N::Fixed64)),
    field!(8, "endTimeUnixNano", Number(N::Fixed64)),
    field!(9, "attributes", Many(K::KeyValue)),
    field!(10, "droppedAttributesCount", Number(N::UInt32)),
    field!(11, "events", Many(K::SpanEvent)),
    field!(12, "droppedEventsCount", Number(N::UInt32)),
    field!(13, "links", Many(K::SpanLink)),
    field!(14, "droppedLinksCount", Number(N::UInt32)),
    field!(15, "status", One(K::SpanStatus)),
    field!(16, "flags", Number(N::Fixed32)),
];

const SPAN_EVENT: &[Field] = &[
    field!(1, "timeUnixNano", Number(N::Fixed64)),
    field!(2, "name", Text),
    field!(3, "attributes", Many(K::KeyValue)),
    field!(4, "droppedAttributesCount", Number(N::UInt32)),
];

const SPAN_LINK: &[Field] = &[
    field!(1, "traceId", Hex),
    field!(2, "spanId", Hex),
    field!(3, "traceState", Text),
    field!(4, "attributes", Many(K::KeyValue)),
    field!(5, "droppedAttributesCount", Number(N::UInt32)),
    field!(6, "flags", Number(N::Fixed32)),
];

const SPAN_STATUS: &[Field] = &[field!(2, "message", Text), field!(3, "code", Number(N::Int32))];

const RESOURCE_METRICS: &[Field] = &[
    field!(1, "resource", One(K::Resource)),
    field!(2, "scopeMetrics", Many(K::ScopeMetrics)),
    field!(3, "schemaUrl", Text),
];

const SCOPE_METRICS: &[Field] = &[
    field!(1, "scope", One(K::Scope)),
    field!(2, "metrics", Many(K::Metric)),
    field!(3, "schemaUrl", Text),
];

const METRIC: &[Field] = &[
    field!(1, "name", Text),
    field!(2, "description", Text),
    field!(3, "unit", Text),
    field!(5, "gauge", One(K::Gauge)),
    field!(7, "sum", One(K::Sum)),
    field!(9, "histogram", One(K::Histogram)),
    field!(10, "exponentialHistogram", One(K::ExponentialHistogram)),
    field!(11, "summary", One(K::Summary)),
    field!(12, "metadata", Many(K::KeyValue)),
];

const SUM: &[Field] = &[
    field!(1, "dataPoints", Many(K::NumberPoint)),
    field!(2, "aggregationTemporality", Number(N::Int32)),
    field!(3, "isMonotonic", Bool),
];

const HISTOGRAM: &[Field] = &[
    field!(1, "dataPoints", Many(K::HistogramPoint)),
    field!(2, "aggregationTemporality", Number(N::Int32)),
];

const EXPONENTIAL_HISTOGRAM: &[Field] = &[
    field!(1, "dataPoints", Many(K::ExponentialPoint)),
    field!(2, "aggregationTemporality", Number(N::Int32)),
];

const NUMBER_POINT: &[Field] = &[
    field!(2, "startTimeUnixNano", Number(N::Fixed64)),
    field!(3, "timeUnixNano", Number(N::Fixed64)),
    field!(4, "asDouble", Number(N::Double)),
    field!(5, "exemplars", Many(K::Exemplar)),
    field!(6, "asInt", Number(N::SFixed64)),
    field!(7, "attributes", Many(K::KeyValue)),
    field!(8, "flags", Number(N::UInt32)),
];

const HISTOGRAM_POINT: &[Field] = &[
    field!(2, "startTimeUnixNano", Number(N::Fixed64)),
    field!(3, "timeUnixNano", Number(N::Fixed64)),
    field!(4, "count", Number(N::Fixed64)),
    field!(5, "sum", Number(N::Double)),
    field!(6, "bucketCounts", Numbers(N::Fixed64)),
    field!(7, "explicitBounds", Numbers(N::Double)),
    field!(8, "exemplars", Many(K::Exemplar)),
    field!(9, "attributes", Many(K::KeyValue)),
    field!(10, "flags", Number(N::UInt32)),
    field!(11, "min", Number(N::Double)),
    field!(12, "max", Number(N::Double)),
];

const EXPONENTIAL_POINT: &[Field] = &[
    field!(1, "attributes", Many(K::KeyValue)),
    field!(2, "startTimeUnixNano", Number(N::Fixed64)),
    field!(3, "timeUnixNano", Number(N::Fixed64)),
    field!(4, "count", Number(N::Fixed64)),
    field!(5, "sum", Number(N::Double)),
    field!(6, "scale", Number(N::SInt32)),
    field!(7, "zeroCount", Number(N::Fixed64)),
    field!(8, "positive", One(K::Buckets)),
    field!(9, "negative", One(K::Buckets)),
    field!(10, "flags", Number(N::UInt32)),
    field!(11, "exemplars", Many(K::Exemplar)),
    field!(12, "min", Number(N::Double)),
    field!(13, "max", Number(N::Double)),
    field!(14, "zeroThreshold", Number(N::Double)),
];

const BUCKETS: &[Field] =
    &[field!(1, "offset", Number(N::SInt32)), field!(2, "bucketCounts", Numbers(N::UInt64))];

const SUMMARY_POINT: &[Field] = &[
    field!(2, "startTimeUnixNano", Number(N::Fixed64)),
    field!(3, "timeUnixNano", Number(N::Fixed64)),
    field!(4, "count", Number(N::Fixed64)),
    field!(5, "sum", Number(N::Double)),
    field!(6, "quantileValues", Many(K::Quantile)),
    field!(7, "attributes", Many(K::KeyValue)),
    field!(8, "flags", Number(N::UInt32)),
];

const QUANTILE: &[Field] =
    &[field!(1, "quantile", Number(N::Double)), field!(2, "value", Number(N::Double))];

const EXEMPLAR: &[Field] = &[
    field!(2, "timeUnixNano", Number(N::Fixed64)),
    field!(3, "asDouble", Number(N::Double)),
    field!(4, "spanId", Hex),
    field!(5, "traceId", Hex),
    field!(6, "asInt", Number(N::SFixed64)),
    field!(7, "filteredAttributes", Many(K::KeyValue)),
];

const RESOURCE: &[Field] = &[
    field!(1, "attributes", Many(K::KeyValue)),
    field!(2, "droppedAttributesCount", Number(N::UInt32)),
    field!(3, "entityRefs", Many(K::EntityRef)),
];

const ENTITY_REF: &[Field] = &[
    field!(1, "schemaUrl", Text),
    field!(2, "type", Text),
    field!(3, "idKeys", Texts),
    field!(4, "descriptionKeys", Texts),
];

const SCOPE: &[Field] = &[
    field!(1, "name", Text),
    field!(2, "version", Text),
    field!(3, "attributes", Many(K::KeyValue)),
    field!(4, "droppedAttributesCount", Number(N::UInt32)),
];

const KEY_VALUE: &[Field] = &[field!(1, "key", Text), field!(2, "value", One(K::AnyValue))];

/// At most one of these is in a value.
const ANY_VALUE: &[Field] = &[
    field!(1, "stringValue", Text),
    field!(2, "boolValue", Bool),
    field!(3, "intValue", Number(N::Int64)),
    field!(4, "doubleValue", Number(N::Double)),
    field!(5, "arrayValue", One(K::Array)),
    field!(6, "kvlistValue", One(K::KeyValueList)),
    field!(7, "bytesValue", Base64),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_of_a_field_are_known_and_no_others() {
        let number = |kind: Kind, name| kind.named(name).map(|field| field.number);
        assert_eq!(number(K::LogRecord, "observedTimeUnixNano"), Some(11));
        assert_eq!(number(K::LogRecord, "observed_time_unix_nano"), Some(11));
        assert_eq!(number(K::EntityRef, "type"), Some(2));
        for other in
            ["observedtimeunixnano", "ObservedTimeUnixNano", "observed_timeUnixNano", "", "bod"]
        {
            assert_eq!(number(K::LogRecord, other), None, "{other}");
        }
    }

    /// A bit a field is how repetition is noticed.
    #[test]
    fn numbers_are_small() {
        for kind in [K::Span, K::ExponentialPoint, K::LogRecord, K::Metric] {
            assert!(kind.fields().iter().all(|field| field.number < 32));
        }
    }
}
