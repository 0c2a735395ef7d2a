//! From a batch of lines to a sealed segment: zstd (RFC 8878), padding, age (age-encryption.org/v1).
//!
//! `age -d | zstd -d` gives the lines back. Between the two stands padding, so that a segment's length says
//! little about how much was logged: a zstd skippable frame (RFC 8878, section 3.1.2), which every decoder
//! passes over, fills the compressed data up to a length of a small set, see [`padded`].
//!
//! `age` brings its own primitives (X25519, ChaCha20-Poly1305, HKDF-SHA-256 of RustCrypto) beside the group's
//! one provider: the value of the format is that its reader needs none of our software, and the provider
//! offers no way to write it that would not be a second implementation of age.
//!
//! Plaintext buffers of this file are wiped; the working memory of zstd and of age is theirs.

use std::io::{self, Write as _};

use zeroize::Zeroizing;
use zstd::zstd_safe::compress_bound;

use crate::intake::Batch;
use crate::recipients::Recipients;

/// zstd's own default.
const LEVEL: i32 = 3;

/// First of the sixteen magic numbers of skippable frames, as it stands in the file.
const SKIPPABLE: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();

/// Magic number and length of a skippable frame.
const FRAME_HEADER: usize = 8;

/// Lengths below this are padded to it.
const SMALLEST: usize = 4 << 10;

/// Up to here lengths are powers of two, from here on multiples of this.
const STEP: usize = 1 << 20;

/// A batch could not be sealed. Nothing of it is in the text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    #[error("compression failed")]
    Compress(#[source] io::Error),
    #[error("encryption failed")]
    Encrypt(#[from] age::EncryptError),
    #[error("writing the encrypted segment to memory failed")]
    Write(#[source] io::Error),
}

/// Seals a batch for its readers. Takes tens of milliseconds for a megabyte; call it where blocking is allowed.
///
/// # Errors
///
/// [`SealError`].
///
/// # Panics
///
/// `age` panics for a recipient that is a point of small order, with which nothing can be kept secret.
pub(crate) fn seal(batch: &Batch, recipients: &Recipients) -> Result<Vec<u8>, SealError> {
    let plaintext = compress(batch).map_err(SealError::Compress)?;
    let encryptor = age::Encryptor::with_recipients(recipients.iter())?;
    let mut sealed = Vec::with_capacity(plaintext.len() + plaintext.len() / 1024 + SMALLEST);
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(SealError::Write)?;
    writer.write_all(&plaintext).and_then(|()| writer.finish()).map_err(SealError::Write)?;
    Ok(sealed)
}

/// One zstd frame with all lines, and one skippable frame of zeros.
fn compress(batch: &Batch) -> io::Result<Zeroizing<Vec<u8>>> {
    let length: usize = batch.lines.iter().map(|lines| lines.len()).sum();
    // room for everything from the start: a vector that grows leaves its past behind
    let room = padded(compress_bound(length));
    let to = Zeroizing::new(Vec::with_capacity(room));
    let mut encoder = zstd::Encoder::new(Wiped(to), LEVEL)?;
    for lines in &batch.lines {
        encoder.write_all(lines)?;
    }
    let Wiped(mut data) = encoder.finish()?;
    let end = padded(data.len());
    if let Some(rest) = end.checked_sub(data.len() + FRAME_HEADER) {
        data.extend_from_slice(&SKIPPABLE);
        let rest = u32::try_from(rest).map_err(io::Error::other)?;
        data.extend_from_slice(&rest.to_le_bytes());
        data.resize(end, 0);
    }
    Ok(data)
}

/// The length that data of this length is padded to: the next power of two from 4 KiB to 1 MiB, then the next
/// multiple of 1 MiB. A gap that the frame's own header would not fit into goes to the length after that.
fn padded(length: usize) -> usize {
    let step = |length: usize| {
        if length <= STEP {
            length.next_power_of_two().max(SMALLEST)
        } else {
            length.next_multiple_of(STEP)
        }
    };
    if step(length) == length { length } else { step(length + FRAME_HEADER) }
}

/// A wiped vector as something to write to.
struct Wiped(Zeroizing<Vec<u8>>);

impl io::Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use age::x25519::Identity;

    use super::*;

    fn batch(text: &[u8]) -> Batch {
        let lines = text.chunks(1000).map(|chunk| Zeroizing::new(chunk.to_vec()).into()).collect();
        Batch { lines, ..Batch::default() }
    }

    fn decrypt(sealed: &[u8], identity: &Identity) -> Vec<u8> {
        let decryptor = age::Decryptor::new(sealed).unwrap();
        let identity: &dyn age::Identity = identity;
        let mut out = Vec::new();
        decryptor.decrypt(std::iter::once(identity)).unwrap().read_to_end(&mut out).unwrap();
        out
    }

    /// Bytes that do not compress (xorshift).
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    #[test]
    fn every_reader_opens_it_and_nobody_else() {
        let [a, b, stranger] = [0; 3].map(|_| Identity::generate());
        let list = format!("{} {}", a.to_public(), b.to_public()).parse().unwrap();
        let text = b"{\"resourceLogs\":[]}\n".repeat(500);
        let sealed = seal(&batch(&text), &list).unwrap();
        for identity in [a, b] {
            let plaintext = decrypt(&sealed, &identity);
            assert_eq!(zstd::decode_all(plaintext.as_slice()).unwrap(), text);
        }
        let stranger: &dyn age::Identity = &stranger;
        let refused = age::Decryptor::new(&*sealed).unwrap().decrypt(std::iter::once(stranger));
        assert!(matches!(refused.err(), Some(age::DecryptError::NoMatchingKeys)));
    }

    #[test]
    fn lengths_are_of_a_small_set() {
        assert_eq!(padded(0), 4096);
        assert_eq!(padded(4088), 4096);
        assert_eq!(padded(4089), 8192, "a header of eight bytes does not fit");
        assert_eq!(padded(4096), 4096);
        assert_eq!(padded(4097), 8192);
        assert_eq!(padded(STEP - 8), STEP);
        assert_eq!(padded(STEP - 7), 2 * STEP);
        assert_eq!(padded(STEP), STEP);
        assert_eq!(padded(STEP + 1), 2 * STEP);
        assert_eq!(padded(5 * STEP - 7), 6 * STEP);
    }

    #[test]
    fn plaintexts_have_those_lengths_and_decompress_to_what_went_in() {
        for length in [0, 1, 100, 3000, 4066, 4067, 4070, 4080, 5000, 70_000, 1_048_000, 1_100_000]
        {
            let text = noise(length);
            let plaintext = compress(&batch(&text)).unwrap();
            assert_eq!(padded(plaintext.len()), plaintext.len(), "{length}");
            assert!(plaintext.len() < 2 * (length + SMALLEST), "{length}: {}", plaintext.len());
            assert_eq!(zstd::decode_all(plaintext.as_slice()).unwrap(), text, "{length}");
        }
    }

    #[test]
    fn the_longest_segment_is_within_what_readers_take() {
        const READERS_TAKE: usize = 18 << 20;
        let list = std::iter::repeat_with(|| Identity::generate().to_public().to_string());
        let list = list.take(16).collect::<Vec<_>>().join(" ").parse().unwrap();
        let sealed = seal(&batch(&noise(crate::lines::MAX)), &list).unwrap();
        assert!(
            sealed.len() > crate::lines::MAX && sealed.len() < READERS_TAKE,
            "{}",
            sealed.len()
        );
    }

    #[test]
    fn how_much_was_logged_does_not_show() {
        let line = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":null}]}]}]}"#;
        let lengths: Vec<usize> =
            [1, 10, 1000].map(|n| compress(&batch(&line.repeat(n))).unwrap().len()).into();
        assert_eq!(lengths, [4096; 3]);
    }
}
