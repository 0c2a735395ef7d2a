//! OTLP/JSON in (OpenTelemetry protocol, "JSON Protobuf Encoding"): from text to the message that it stands for,
//! as it would be on the wire.
//!
//! What the specification leaves to senders is taken in every form: 64-bit integers as strings or numbers,
//! members that are null, unknown members. Enumerations are numbers, as it demands.
//!
//! No text is kept but in the buffer that is wiped; what the parser sets aside to undo escapes is its own.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::{self, Alphabet};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};
use zeroize::Zeroizing;

use super::schema::{Field, Is, Kind, Numeric};
use super::wire::{FIXED32, FIXED64, VARINT, Writer};
use crate::buffer::Buffer;
use crate::error::Refused;
use crate::lines;

/// How protobuf's JSON may write bytes: either alphabet, padded or not.
const fn base64(alphabet: &Alphabet) -> GeneralPurpose {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}

const STANDARD: GeneralPurpose = base64(&alphabet::STANDARD);
const URL_SAFE: GeneralPurpose = base64(&alphabet::URL_SAFE);

/// From a text to the message of this kind.
///
/// # Errors
///
/// [`Refused::Malformed`], [`Refused::TooMuch`], [`Refused::TooDeep`].
pub(super) fn to_wire(kind: Kind, json: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let out = Writer::new(Buffer::new(json.len(), lines::MAX));
    let mut wire = Wire { out, refused: None };
    let mut text = serde_json::Deserializer::from_slice(json);
    let read = Object { kind, depth: 0, wire: &mut wire }.deserialize(&mut text);
    match read.and_then(|()| text.end()) {
        Ok(()) => Ok(wire.out.finish()),
        Err(_) => Err(wire.refused.unwrap_or(Refused::Malformed)),
    }
}

/// What is written.
struct Wire {
    out: Writer,
    /// Why nothing more is: errors of the parser cannot carry it.
    refused: Option<Refused>,
}

impl Wire {
    /// A number by itself, as it is in a packed list.
    fn number(&mut self, numeric: Numeric, number: Json) -> Result<(), Refused> {
        match numeric {
            Numeric::Double => self.out.raw(&number.real().to_le_bytes()),
            Numeric::Fixed32 => self.out.raw(&number.whole::<u32>()?.to_le_bytes()),
            Numeric::Fixed64 => self.out.raw(&number.whole::<u64>()?.to_le_bytes()),
            Numeric::SFixed64 => self.out.raw(&number.whole::<i64>()?.to_le_bytes()),
            Numeric::UInt32 => self.out.varint(number.whole::<u32>()?.into()),
            Numeric::UInt64 => self.out.varint(number.whole()?),
            Numeric::Int32 => self.out.varint(i64::from(number.whole::<i32>()?).cast_unsigned()),
            Numeric::Int64 => self.out.varint(number.whole::<i64>()?.cast_unsigned()),
            Numeric::SInt32 => {
                let number = number.whole::<i32>()?;
                self.out.varint(((number << 1) ^ (number >> 31)).cast_unsigned().into())
            }
        }
    }

    /// A field with a number.
    fn numbered(&mut self, field: &Field, number: Json) -> Result<(), Refused> {
        let Is::Number(numeric) = field.is else { return Err(Refused::Malformed) };
        let wire_type = match numeric {
            Numeric::Double | Numeric::Fixed64 | Numeric::SFixed64 => FIXED64,
            Numeric::Fixed32 => FIXED32,
            Numeric::Int32
            | Numeric::Int64
            | Numeric::UInt32
            | Numeric::UInt64
            | Numeric::SInt32 => VARINT,
        };
        self.out.key(field.number, wire_type)?;
        self.number(numeric, number)
    }

    /// A field that JSON writes as a string.
    fn text(&mut self, field: &Field, text: &str) -> Result<(), Refused> {
        match field.is {
            Is::Text | Is::Texts => self.out.bytes(field.number, text.as_bytes()),
            Is::Hex => {
                let bytes = hex::decode(text).map_err(|_| Refused::Malformed)?;
                self.out.bytes(field.number, &Zeroizing::new(bytes))
            }
            Is::Base64 => {
                let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
                let bytes = engine.decode(text).map_err(|_| Refused::Malformed)?;
                self.out.bytes(field.number, &Zeroizing::new(bytes))
            }
            Is::Number(_) => self.numbered(field, Json::read(text)?),
            Is::Bool | Is::Numbers(_) | Is::One(_) | Is::Many(_) => Err(Refused::Malformed),
        }
    }

    /// Says to the parser what was said here.
    fn said<T, E: Error>(&mut self, outcome: Result<T, Refused>) -> Result<T, E> {
        outcome.map_err(|why| E::custom(self.refused.insert(why)))
    }
}

/// A number as it stands in the text.
#[derive(Clone, Copy)]
enum Json {
    Whole(i128),
    Real(f64),
}

impl Json {
    /// A number that is written as a string.
    fn read(text: &str) -> Result<Self, Refused> {
        let whole = text.parse().map(Self::Whole);
        // Rust's own names for what is not finite are not JSON's
        let real = match text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => text.parse().ok().filter(|number: &f64| number.is_finite()),
        };
        whole.ok().or(real.map(Self::Real)).ok_or(Refused::Malformed)
    }

    fn whole<T: TryFrom<i128>>(self) -> Result<T, Refused> {
        /// Up to here every whole number is one of those that this can be.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let whole = match self {
            Self::Whole(whole) => whole,
            #[expect(clippy::cast_possible_truncation, reason = "it is whole, and small enough")]
            Self::Real(real) if real.fract() == 0.0 && real.abs() <= EXACT => real as i128,
            Self::Real(_) => return Err(Refused::Malformed),
        };
        T::try_from(whole).map_err(|_| Refused::Malformed)
    }

    #[expect(clippy::cast_precision_loss, reason = "the nearest one, as of any decimal number")]
    fn real(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }
}

/// A message as an object of JSON.
struct Object<'a> {
    kind: Kind,
    /// How many values it is in.
    depth: usize,
    wire: &'a mut Wire,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { kind, depth, wire } = self;
        let depth = wire.said(lines::deeper(kind, depth))?;
        while let Some(field) = map.next_key_seed(Name(kind))? {
            match field {
                Some(field) => map.next_value_seed(Member { field, depth, wire: &mut *wire })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The name of a member.
struct Name(Kind);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.named(name))
    }
}

/// What a member holds.
struct Member<'a> {
    field: &'static Field,
    depth: usize,
    wire: &'a mut Wire,
}

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.name)
    }

    /// `null`: as if it were not there.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if self.field.is != Is::Bool {
            return Err(E::invalid_type(Unexpected::Bool(value), &self));
        }
        let key = self.wire.out.key(self.field.number, VARINT);
        let written = key.and_then(|()| self.wire.out.varint(value.into()));
        self.wire.said(written)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        let written = self.wire.numbered(self.field, Json::Whole(value.into()));
        self.wire.said(written)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        let written = self.wire.numbered(self.field, Json::Whole(value.into()));
        self.wire.said(written)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        let written = self.wire.numbered(self.field, Json::Real(value));
        self.wire.said(written)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let written = self.wire.text(self.field, text);
        self.wire.said(written)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        if self.field.is.is_list() {
            return Err(Error::invalid_type(Unexpected::Map, &self));
        }
        let Self { field, depth, wire } = self;
        message(field, depth, wire, map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self { field, depth, wire } = self;
        if let Is::Numbers(numeric) = field.is {
            let opened = wire.out.open(field.number);
            let at = wire.said(opened)?;
            while list.next_element_seed(Packed { numeric, wire: &mut *wire })?.is_some() {}
            let closed = wire.out.close(at);
            return wire.said(closed);
        }
        if !field.is.is_list() {
            return Err(Error::invalid_type(Unexpected::Seq, &field.name));
        }
        while list.next_element_seed(Element { field, depth, wire: &mut *wire })?.is_some() {}
        Ok(())
    }
}

/// One of many: as a member, but never null, nor a list.
struct Element<'a> {
    field: &'static Field,
    depth: usize,
    wire: &'a mut Wire,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field.name)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let written = self.wire.text(self.field, text);
        self.wire.said(written)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Self { field, depth, wire } = self;
        message(field, depth, wire, map)
    }
}

/// A field that holds a message, or one of several.
fn message<'de, A: MapAccess<'de>>(
    field: &Field,
    depth: usize,
    wire: &mut Wire,
    map: A,
) -> Result<(), A::Error> {
    let (Is::One(kind) | Is::Many(kind)) = field.is else {
        return Err(Error::invalid_type(Unexpected::Map, &field.name));
    };
    let opened = wire.out.open(field.number);
    let at = wire.said(opened)?;
    Object { kind, depth, wire: &mut *wire }.visit_map(map)?;
    let closed = wire.out.close(at);
    wire.said(closed)
}

/// One of many numbers.
struct Packed<'a> {
    numeric: Numeric,
    wire: &'a mut Wire,
}

impl Packed<'_> {
    fn write<E: Error>(self, number: Result<Json, Refused>) -> Result<(), E> {
        let written = number.and_then(|number| self.wire.number(self.numeric, number));
        self.wire.said(written)
    }
}

impl<'de> DeserializeSeed<'de> for Packed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl Visitor<'_> for Packed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.write(Ok(Json::Whole(value.into())))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.write(Ok(Json::Whole(value.into())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.write(Ok(Json::Real(value)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.write(Json::read(text))
    }
}

#[cfg(test)]
mod tests;
