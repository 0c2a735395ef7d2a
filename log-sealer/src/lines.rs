//! From a message of OTLP to lines of OTLP/JSON (OpenTelemetry protocol, "JSON Protobuf Encoding"): one document
//! a line, `{"resourceLogs":[…]}` and its like, one for each resource of the message.
//!
//! Nothing is decoded on the way: what is on the wire is written as JSON, field by field, as
//! [`schema`](crate::otlp::schema) says. So a message takes its own length and that of its lines, whatever is in
//! it, and both are wiped.

use std::io::Write as _;
use std::sync::Arc;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::buffer::Buffer;
use crate::counts::{Counts, widest};
use crate::error::Refused;
use crate::metrics::select::Clear;
use crate::otlp::Signal;
use crate::otlp::schema::{Field, Is, Kind, Numeric};
use crate::otlp::wire::{self, Value};

/// The most that one message may become, and that one segment may hold, in bytes. Readers refuse to decompress
/// more.
pub(crate) const MAX: usize = 16 << 20;

/// The most log records, spans and data points in one message.
pub(crate) const ITEMS: usize = 65_536;

/// How deep values may nest: an array or map in an array or map. Written as JSON, each costs up to four of the
/// 128 levels that JSON parsers customarily allow.
const DEPTH: usize = 24;

const NANOSECONDS: u64 = 1_000_000_000;

/// What one message became. Wiped when dropped; without `Debug`.
pub(crate) struct Lines {
    /// Whole lines, each ended by `\n`. Shared with whoever watches them, if anybody does.
    pub(crate) text: Arc<Zeroizing<Vec<u8>>>,
    /// How much is in them.
    pub(crate) counts: Counts,
    /// The earliest and the latest time in them, in Unix seconds: when log records happened, or were observed,
    /// when spans began and ended, and of when data points are.
    pub(crate) times: Option<(u64, u64)>,
}

/// Encodes a message: an `ExportLogsServiceRequest` or its like. Metrics that may leave in the clear go to `clear`
/// instead, where there is one.
///
/// # Errors
///
/// [`Refused::Malformed`], [`Refused::TooMuch`], [`Refused::TooDeep`].
pub(crate) fn encode(
    signal: Signal,
    message: &[u8],
    clear: Option<&mut Clear>,
) -> Result<Lines, Refused> {
    let out = Buffer::new(message.len().saturating_mul(2), MAX);
    let mut encoder = Encoder { out, counts: Counts::default(), times: None, clear };
    let request = signal.request();
    let mut rest = message;
    while !rest.is_empty() {
        let (number, value) = wire::field(&mut rest)?;
        if let Some(field) = request.numbered(number) {
            encoder.line(field, value)?;
        }
    }
    let Encoder { out, counts, times, clear: _ } = encoder;
    Ok(Lines { text: Arc::new(out.finish()), counts, times })
}

/// The depth in a message of this kind that is in something of that depth.
///
/// # Errors
///
/// [`Refused::TooDeep`].
pub(crate) fn deeper(kind: Kind, depth: usize) -> Result<usize, Refused> {
    // the only way round in the schema leads through values
    let depth = depth + usize::from(kind == Kind::AnyValue);
    if depth > DEPTH { Err(Refused::TooDeep(DEPTH)) } else { Ok(depth) }
}

struct Encoder<'a> {
    out: Buffer,
    counts: Counts,
    times: Option<(u64, u64)>,
    clear: Option<&'a mut Clear>,
}

impl Encoder<'_> {
    /// A document of one resource, unless there is nothing in it.
    fn line(&mut self, field: &Field, resource: Value<'_>) -> Result<(), Refused> {
        let (start, before) = (self.out.len(), self.counts);
        if let (Some(clear), Value::Bytes(resource)) = (&mut self.clear, resource) {
            clear.begin(resource);
        }
        self.out.push(b"{")?;
        self.out.push(field.member.as_bytes())?;
        self.out.push(b"[")?;
        self.value(field.is, resource, 0)?;
        self.out.push(b"]}\n")?;
        if self.counts == before {
            self.out.truncate(start);
        }
        Ok(())
    }

    /// A message, as an object.
    fn message(&mut self, kind: Kind, message: &[u8], depth: usize) -> Result<(), Refused> {
        let depth = deeper(kind, depth)?;
        self.count(kind)?;
        // a bit for each number, see the schema's tests
        let mut seen = 0_u32;
        let mut timed = false;
        let mut rest = message;
        self.out.push(b"{")?;
        while !rest.is_empty() {
            let (number, value) = wire::field(&mut rest)?;
            let Some(field) = kind.numbered(number) else { continue };
            let before = seen;
            seen |= 1 << number;
            if before == seen {
                // of a list, and written with it; of nothing else would an encoder write two
                if field.is.is_list() {
                    continue;
                }
                return Err(Refused::Malformed);
            }
            if before != 0 {
                if kind == Kind::AnyValue {
                    return Err(Refused::Malformed);
                }
                self.out.push(b",")?;
            }
            self.out.push(field.member.as_bytes())?;
            if field.is.is_list() {
                self.list(field, value, rest, depth)?;
            } else {
                self.value(field.is, value, depth)?;
                timed |= self.time(kind, number, value, timed);
            }
        }
        self.out.push(b"}")
    }

    /// A list: its first elements, and those that come later in the message.
    fn list(
        &mut self,
        field: &Field,
        first: Value<'_>,
        mut rest: &[u8],
        depth: usize,
    ) -> Result<(), Refused> {
        self.out.push(b"[")?;
        let start = self.out.len();
        self.elements(field.is, first, start, depth)?;
        while !rest.is_empty() {
            let (number, value) = wire::field(&mut rest)?;
            if number == field.number {
                self.elements(field.is, value, start, depth)?;
            }
        }
        self.out.push(b"]")
    }

    /// One element of the list that began at `start`, or numbers that are packed.
    fn elements(
        &mut self,
        is: Is,
        value: Value<'_>,
        start: usize,
        depth: usize,
    ) -> Result<(), Refused> {
        if let (Is::Many(Kind::Metric), Value::Bytes(metric)) = (is, value)
            && let Some(clear) = &mut self.clear
            && clear.takes(metric)?
        {
            return Ok(());
        }
        let (Is::Numbers(numeric), Value::Bytes(mut packed)) = (is, value) else {
            self.comma(start)?;
            return self.value(is, value, depth);
        };
        while !packed.is_empty() {
            let number = match numeric {
                Numeric::Double | Numeric::Fixed64 | Numeric::SFixed64 => {
                    Value::Fixed64(u64::from_le_bytes(wire::fixed(&mut packed)?))
                }
                Numeric::Fixed32 => Value::Fixed32(u32::from_le_bytes(wire::fixed(&mut packed)?)),
                Numeric::Int32
                | Numeric::Int64
                | Numeric::UInt32
                | Numeric::UInt64
                | Numeric::SInt32 => Value::Varint(wire::varint(&mut packed)?),
            };
            self.comma(start)?;
            self.number(numeric, number)?;
        }
        Ok(())
    }

    fn comma(&mut self, start: usize) -> Result<(), Refused> {
        if self.out.len() == start { Ok(()) } else { self.out.push(b",") }
    }

    fn value(&mut self, is: Is, value: Value<'_>, depth: usize) -> Result<(), Refused> {
        match (is, value) {
            (Is::Text | Is::Texts, Value::Bytes(text)) => self.text(text),
            (Is::Hex, Value::Bytes(bytes)) => self.hex(bytes),
            (Is::Base64, Value::Bytes(bytes)) => {
                self.quoted(|out| write!(out, "{}", Base64Display::new(bytes, &STANDARD)))
            }
            (Is::Bool, Value::Varint(0)) => self.out.push(b"false"),
            (Is::Bool, Value::Varint(_)) => self.out.push(b"true"),
            (Is::Number(numeric) | Is::Numbers(numeric), number) => self.number(numeric, number),
            (Is::One(kind) | Is::Many(kind), Value::Bytes(message)) => {
                self.message(kind, message, depth)
            }
            _ => Err(Refused::Malformed),
        }
    }

    fn text(&mut self, text: &[u8]) -> Result<(), Refused> {
        let text = std::str::from_utf8(text).map_err(|_| Refused::Malformed)?;
        serde_json::to_writer(&mut self.out, text).map_err(|_| Refused::TooMuch)
    }

    fn hex(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.out.push(b"\"")?;
        let mut digits = [0; 2];
        for byte in bytes {
            hex::encode_to_slice([*byte], &mut digits).map_err(|_| Refused::Malformed)?;
            self.out.push(&digits)?;
        }
        self.out.push(b"\"")
    }

    fn number(&mut self, numeric: Numeric, number: Value<'_>) -> Result<(), Refused> {
        match (numeric, number) {
            (Numeric::Double, Value::Fixed64(bits)) => self.double(f64::from_bits(bits)),
            (Numeric::Fixed64, Value::Fixed64(bits)) | (Numeric::UInt64, Value::Varint(bits)) => {
                self.quoted(|out| write!(out, "{bits}"))
            }
            (Numeric::SFixed64, Value::Fixed64(bits)) | (Numeric::Int64, Value::Varint(bits)) => {
                self.quoted(|out| write!(out, "{}", bits.cast_signed()))
            }
            (Numeric::Fixed32, Value::Fixed32(bits)) => self.plain(bits),
            // of a longer one the lower half counts (protobuf, "Encoding")
            (Numeric::UInt32, Value::Varint(bits)) => self.plain(lower(bits)),
            (Numeric::Int32, Value::Varint(bits)) => self.plain(lower(bits).cast_signed()),
            (Numeric::SInt32, Value::Varint(bits)) => {
                let bits = lower(bits);
                self.plain((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed())
            }
            _ => Err(Refused::Malformed),
        }
    }

    /// JSON has no number for some: protobuf's mapping has their names.
    fn double(&mut self, number: f64) -> Result<(), Refused> {
        match number {
            f64::INFINITY => self.out.push(b"\"Infinity\""),
            f64::NEG_INFINITY => self.out.push(b"\"-Infinity\""),
            _ if number.is_nan() => self.out.push(b"\"NaN\""),
            _ => self.plain(number),
        }
    }

    fn plain(&mut self, number: impl serde::Serialize) -> Result<(), Refused> {
        serde_json::to_writer(&mut self.out, &number).map_err(|_| Refused::TooMuch)
    }

    fn quoted(
        &mut self,
        write: impl FnOnce(&mut Buffer) -> std::io::Result<()>,
    ) -> Result<(), Refused> {
        self.out.push(b"\"")?;
        write(&mut self.out).map_err(|_| Refused::TooMuch)?;
        self.out.push(b"\"")
    }

    fn count(&mut self, kind: Kind) -> Result<(), Refused> {
        match kind {
            Kind::LogRecord => self.counts.records += 1,
            Kind::Span => self.counts.spans += 1,
            _ if is_point(kind) => self.counts.points += 1,
            _ => return Ok(()),
        }
        if self.counts.all() > ITEMS { Err(Refused::TooMuch) } else { Ok(()) }
    }

    /// Whether this was the time of what the message is about.
    fn time(&mut self, kind: Kind, number: u32, value: Value<'_>, timed: bool) -> bool {
        let counts = match (kind, number) {
            (Kind::LogRecord, 1) | (Kind::Span, 7 | 8) => true,
            // encoders write fields by their numbers: when it happened is known by now, if it is at all
            (Kind::LogRecord, 11) => !timed,
            (point, 3) => is_point(point),
            _ => false,
        };
        let Value::Fixed64(nanoseconds) = value else { return false };
        if !counts || nanoseconds == 0 {
            return false;
        }
        let seconds = nanoseconds / NANOSECONDS;
        self.times = widest(self.times, Some((seconds, seconds)));
        true
    }
}

fn is_point(kind: Kind) -> bool {
    use Kind::{ExponentialPoint, HistogramPoint, NumberPoint, SummaryPoint};
    matches!(kind, NumberPoint | HistogramPoint | ExponentialPoint | SummaryPoint)
}

/// The lower half.
fn lower(bits: u64) -> u32 {
    let [a, b, c, d, ..] = bits.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
pub(crate) mod tests;
