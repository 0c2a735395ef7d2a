//! A sealed segment: an age file around zstd-compressed lines of OTLP/JSON.

use std::io::{self, BufRead as _, BufReader, Read as _};

use age::DecryptError;

use super::Identities;

/// The longest sealed segment, in bytes.
pub(super) const MAX_SEALED: usize = 18 << 20;

/// The most that a segment may decompress to, in bytes.
const MAX_OPEN: u64 = 16 << 20;

/// The largest window of the compressor, as a power of two: no segment is longer.
const MAX_WINDOW: u32 = 24;

/// Why a segment cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// Not an age file, or one for others.
    #[error("it cannot be decrypted")]
    Decrypt(#[source] DecryptError),
    /// Decryption or decompression broke off.
    #[error("it cannot be decompressed")]
    Decompress(#[source] io::Error),
    /// A decompression bomb.
    #[error("it holds more than {MAX_OPEN} bytes")]
    TooLong,
    /// A line is no OTLP/JSON.
    #[error("its line {line} is no OTLP/JSON document")]
    Line {
        /// The line's number, from 1.
        line: u64,
        /// Why; its text is about the form and repeats no value.
        source: io::Error,
    },
}

/// Lines that went through before something went wrong are not taken back: each chunk of an age file is
/// authenticated before it is decrypted.
pub(super) fn lines<E: From<SegmentError>>(
    sealed: &[u8],
    identities: &Identities,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let decrypted = age::Decryptor::new_buffered(sealed)
        .and_then(|decryptor| decryptor.decrypt(identities.iter()))
        .map_err(SegmentError::Decrypt)?;
    let mut decoder = zstd::Decoder::new(decrypted).map_err(SegmentError::Decompress)?;
    decoder.window_log_max(MAX_WINDOW).map_err(SegmentError::Decompress)?;
    let mut lines = BufReader::new(decoder.take(MAX_OPEN + 1));
    let (mut line, mut open, mut number) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        let length = lines.read_until(b'\n', &mut line).map_err(SegmentError::Decompress)?;
        open += u64::try_from(length).unwrap_or(u64::MAX);
        if open > MAX_OPEN {
            return Err(SegmentError::TooLong.into());
        }
        if length == 0 {
            return Ok(());
        }
        number += 1;
        each(number, line.strip_suffix(b"\n").unwrap_or(&line))?;
    }
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret as _;
    use age::x25519::Identity;

    use super::*;

    fn seal(plaintext: &[u8]) -> (Vec<u8>, Identities) {
        let identity = Identity::generate();
        let sealed = age::encrypt(&identity.to_public(), plaintext).unwrap();
        (sealed, Identities::from_text(identity.to_string().expose_secret()).unwrap())
    }

    fn read(sealed: &[u8], identities: &Identities) -> Result<Vec<Vec<u8>>, SegmentError> {
        let mut all = Vec::new();
        lines(sealed, identities, |_, line| {
            all.push(line.to_vec());
            Ok::<_, SegmentError>(())
        })?;
        Ok(all)
    }

    #[test]
    fn lines_come_out_past_skippable_frames() {
        let mut plaintext = vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9];
        plaintext.extend(zstd::encode_all(&b"a\nb\n\nlast"[..], 3).unwrap());
        plaintext.extend([0x5f, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
        let (sealed, identities) = seal(&plaintext);
        assert_eq!(read(&sealed, &identities).unwrap(), [&b"a"[..], b"b", b"", b"last"]);
    }

    #[test]
    fn a_bomb_is_refused_at_the_bound() {
        let most = usize::try_from(MAX_OPEN).unwrap();
        for (length, good) in [(most, true), (most + 1, false), (most * 40, false)] {
            let mut text = vec![b'x'; length];
            if let Some(last) = text.last_mut() {
                *last = b'\n';
            }
            let (sealed, identities) = seal(&zstd::encode_all(&*text, 3).unwrap());
            assert!(sealed.len() < 100_000, "{}", sealed.len());
            match read(&sealed, &identities) {
                Ok(lines) => assert!(good && lines.len() == 1),
                Err(error) => assert!(!good && matches!(error, SegmentError::TooLong)),
            }
        }
    }

    #[test]
    fn a_window_larger_than_any_segment_is_refused() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        io::Write::write_all(&mut encoder, b"small\n").unwrap();
        let (sealed, identities) = seal(&encoder.finish().unwrap());
        assert!(matches!(read(&sealed, &identities), Err(SegmentError::Decompress(_))));
    }

    #[test]
    fn what_is_damaged_or_for_others_is_an_error() {
        let (sealed, identities) = seal(&zstd::encode_all(&b"a\n"[..], 3).unwrap());
        let (other, strangers) = seal(b"not zstd");
        assert!(matches!(
            read(&sealed, &strangers),
            Err(SegmentError::Decrypt(DecryptError::NoMatchingKeys))
        ));
        assert!(matches!(read(&other, &strangers), Err(SegmentError::Decompress(_))));
        assert!(matches!(read(b"age?", &identities), Err(SegmentError::Decrypt(_))));
        let mut flipped = sealed.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(matches!(read(&flipped, &identities), Err(SegmentError::Decompress(_))));
        let cut = &sealed[..sealed.len() - 1];
        assert!(matches!(read(cut, &identities), Err(SegmentError::Decompress(_))));
    }
}
