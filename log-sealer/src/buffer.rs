//! A vector of bytes that has a bound and leaves nothing behind.

use std::io;

use zeroize::{Zeroize as _, Zeroizing};

use crate::error::Refused;

/// Bytes up to a limit. What it leaves when it grows is wiped, and so is the whole when it is dropped.
pub(crate) struct Buffer {
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
}

impl Buffer {
    /// An empty one with room for that many bytes, or for `limit`, if that is less.
    pub(crate) fn new(capacity: usize, limit: usize) -> Self {
        Self { bytes: Zeroizing::new(Vec::with_capacity(capacity.min(limit))), limit }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// [`Refused::TooMuch`]: the limit is reached; nothing of these was added.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        let length = self.bytes.len() + bytes.len();
        if length > self.limit {
            return Err(Refused::TooMuch);
        }
        if length > self.bytes.capacity() {
            self.move_to(length.next_power_of_two().min(self.limit));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Puts these bytes where as many others were. What would lie beyond the end is left out.
    pub(crate) fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        for (place, byte) in self.bytes.iter_mut().skip(at).zip(bytes) {
            *place = *byte;
        }
    }

    /// Forgets what came after that many bytes. It is wiped with the whole.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    /// The bytes, in no more room than they need: what waits in the queue is counted by its length.
    pub(crate) fn finish(mut self) -> Zeroizing<Vec<u8>> {
        self.move_to(self.bytes.len());
        self.bytes
    }

    fn move_to(&mut self, capacity: usize) {
        let mut to = Vec::with_capacity(capacity);
        to.extend_from_slice(&self.bytes);
        let mut from = std::mem::replace(&mut *self.bytes, to);
        from.zeroize();
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes).map_err(|_| io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_it_was_given_while_it_grows() {
        let mut buffer = Buffer::new(0, 1 << 20);
        for n in 0..1000_u32 {
            buffer.push(&n.to_le_bytes()).unwrap();
        }
        buffer.overwrite(0, &7_u32.to_le_bytes());
        buffer.truncate(3996);
        let bytes = buffer.finish();
        assert_eq!(bytes.len(), bytes.capacity());
        let expected = std::iter::once(7).chain(1..999_u32);
        assert!(bytes.chunks(4).eq(expected.map(u32::to_le_bytes)));
    }

    #[test]
    fn it_has_an_end() {
        let mut buffer = Buffer::new(100, 5);
        assert_eq!(buffer.push(b"1234"), Ok(()));
        assert_eq!(buffer.push(b"56"), Err(Refused::TooMuch));
        assert_eq!(buffer.push(b"5"), Ok(()));
        assert_eq!(**buffer.finish(), *b"12345");
    }
}
