//! Messages as they are on the wire: fields, one after the other (protobuf, "Encoding").
//!
//! Must not know what a field means.

use prost::encoding::{WireType, decode_key, decode_varint};
use zeroize::Zeroizing;

use crate::buffer::Buffer;
use crate::error::Refused;

/// An integer of any length.
pub(crate) const VARINT: u32 = 0;
/// Eight bytes.
pub(crate) const FIXED64: u32 = 1;
/// A length, and as many bytes.
pub(crate) const BYTES: u32 = 2;
/// Four bytes.
pub(crate) const FIXED32: u32 = 5;

/// The length of a message is written before it, and known after it: four bytes are set aside. An integer may
/// be written longer than it need be.
const LENGTH: usize = 4;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// An integer of any length.
    Varint(u64),
    /// Four bytes.
    Fixed32(u32),
    /// Eight bytes.
    Fixed64(u64),
    /// A text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
}

/// Takes one field off: its number, and what it holds.
///
/// # Errors
///
/// [`Refused::Malformed`].
pub(crate) fn field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Value<'a>), Refused> {
    let (number, wire_type) = decode_key(rest).map_err(|_| Refused::Malformed)?;
    let value = match wire_type {
        WireType::Varint => Value::Varint(varint(rest)?),
        WireType::ThirtyTwoBit => Value::Fixed32(u32::from_le_bytes(fixed(rest)?)),
        WireType::SixtyFourBit => Value::Fixed64(u64::from_le_bytes(fixed(rest)?)),
        WireType::LengthDelimited => {
            let length = usize::try_from(varint(rest)?).map_err(|_| Refused::Malformed)?;
            let (bytes, after) = rest.split_at_checked(length).ok_or(Refused::Malformed)?;
            *rest = after;
            Value::Bytes(bytes)
        }
        // groups: none in OTLP, and the only ones that nest without a length
        WireType::StartGroup | WireType::EndGroup => return Err(Refused::Malformed),
    };
    Ok((number, value))
}

/// Takes an integer of any length off.
///
/// # Errors
///
/// [`Refused::Malformed`].
pub(crate) fn varint(rest: &mut &[u8]) -> Result<u64, Refused> {
    decode_varint(rest).map_err(|_| Refused::Malformed)
}

/// Takes bytes of a fixed number off.
///
/// # Errors
///
/// [`Refused::Malformed`].
pub(crate) fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Refused> {
    let (bytes, after) = rest.split_first_chunk().ok_or(Refused::Malformed)?;
    *rest = after;
    Ok(*bytes)
}

/// Writes a message.
pub(crate) struct Writer(Buffer);

impl Writer {
    pub(crate) fn new(to: Buffer) -> Self {
        Self(to)
    }

    /// What was written.
    pub(crate) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0.finish()
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.0.push(bytes)
    }

    /// An integer of any length.
    pub(crate) fn varint(&mut self, mut value: u64) -> Result<(), Refused> {
        while value >= 0x80 {
            self.0.push(&[low_bits(value) | 0x80])?;
            value >>= 7;
        }
        self.0.push(&[low_bits(value)])
    }

    /// What a field begins with.
    pub(crate) fn key(&mut self, number: u32, wire_type: u32) -> Result<(), Refused> {
        self.varint(u64::from((number << 3) | wire_type))
    }

    /// A field of eight bytes.
    pub(crate) fn fixed64(&mut self, number: u32, bits: u64) -> Result<(), Refused> {
        self.key(number, FIXED64)?;
        self.0.push(&bits.to_le_bytes())
    }

    /// A field of a text or of bytes.
    pub(crate) fn bytes(&mut self, number: u32, bytes: &[u8]) -> Result<(), Refused> {
        self.key(number, BYTES)?;
        self.varint(u64::try_from(bytes.len()).map_err(|_| Refused::TooMuch)?)?;
        self.0.push(bytes)
    }

    /// Begins a field whose length is not known yet.
    pub(crate) fn open(&mut self, number: u32) -> Result<usize, Refused> {
        self.key(number, BYTES)?;
        let at = self.0.len();
        self.0.push(&[0; LENGTH])?;
        Ok(at)
    }

    /// Writes how long it became.
    pub(crate) fn close(&mut self, at: usize) -> Result<(), Refused> {
        let length = self.0.len() - at - LENGTH;
        let length = u64::try_from(length).map_err(|_| Refused::TooMuch)?;
        let more = |shift: u32| low_bits(length >> shift) | 0x80;
        self.0.overwrite(at, &[more(0), more(7), more(14), low_bits(length >> 21)]);
        Ok(())
    }
}

/// The seven lowest bits.
fn low_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_taken_off_one_by_one() {
        let message = [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 1, 0, 0, 0];
        let mut rest = &message[..];
        assert_eq!(field(&mut rest), Ok((1, Value::Varint(150))));
        assert_eq!(field(&mut rest), Ok((2, Value::Bytes(b"hi"))));
        assert_eq!(field(&mut rest), Ok((3, Value::Fixed32(1))));
        assert!(rest.is_empty());
    }

    #[test]
    fn what_is_no_field_is_refused() {
        let mut endless = vec![0x0a];
        endless.extend([0xff; 9]);
        endless.push(1);
        for mut bad in [
            &[0xff][..],   // a key that does not end
            &[0x0a, 5, 0], // shorter than it says
            &[0x0a, 0x80], // a length that does not end
            &[0x0d, 0, 0], // a fixed32 of two bytes
            &[0x0b, 0x0c], // a group
            &[0x0f],       // wire type 7
            &[0x00],       // field 0
            &endless,      // a length of 64 bits
        ] {
            assert_eq!(field(&mut bad), Err(Refused::Malformed), "{bad:x?}");
        }
    }
}
