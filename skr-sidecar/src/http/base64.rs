//! Base64 as callers write it: the standard alphabet with padding, line breaks skipped (RFC 4648 section 4).

use base64::alphabet::STANDARD;
use base64::engine::general_purpose;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, Engine as _};
use zeroize::Zeroizing;

/// Stray bits in the last character are let pass, as callers are used to.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Where the text is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("illegal base64 data at input byte {0}")]
pub(crate) struct NotBase64(usize);

/// Encodes, on one line.
pub(crate) fn encode(bytes: &[u8]) -> String {
    general_purpose::STANDARD.encode(bytes)
}

/// Decodes.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, NotBase64> {
    let kept = || text.bytes().enumerate().filter(|(_, byte)| !matches!(byte, b'\r' | b'\n'));
    // It may be a key.
    let stripped: Zeroizing<Vec<u8>> = Zeroizing::new(kept().map(|(_, byte)| byte).collect());
    LENIENT.decode(stripped.as_slice()).map_err(|error| {
        let at = match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
            // An unfinished group is reported where it begins, a missing second `=` where it is missed.
            DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => {
                if stripped.ends_with(b"=") { stripped.len() } else { stripped.len() / 4 * 4 }
            }
        };
        NotBase64(kept().nth(at).map_or(text.len(), |(at, _)| at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_alphabet_with_padding_is_read_and_line_breaks_are_skipped() {
        for (text, bytes) in [
            ("", b"".as_slice()),
            ("YQ==", b"a"),
            ("YR==", b"a"),
            ("+/+/", &[0xfb, 0xff, 0xbf]),
            ("Y\r\nWI\n=", b"ab"),
        ] {
            assert_eq!(decode(text).as_deref(), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_place() {
        for (text, at) in [
            ("YQ", 0),
            ("YWJjYQ", 4),
            ("YQ=", 3),
            ("-_-_", 0),
            ("YW\nJ!", 4),
            ("YQ== ", 4),
            ("Y", 0),
            ("ä", 0),
        ] {
            assert_eq!(decode(text), Err(NotBase64(at)), "{text:?}");
        }
    }
}
