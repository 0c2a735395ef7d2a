//! The text encodings of the simulated protocols (RFC 4648).
//!
//! Must not know: what the bytes mean. Azure is lenient about base64url padding on the way in
//! (Microsoft's own sidecar pads, most clients do not) and never pads on the way out, except
//! inside attestation requests.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const URL_SAFE_ANY_PAD: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Text that is not what its encoding says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not base64url (RFC 4648 section 5), padded or not.
    #[error("not base64url")]
    Base64Url(#[source] base64::DecodeError),
    /// Not standard base64 (RFC 4648 section 4) with padding.
    #[error("not base64")]
    Base64(#[source] base64::DecodeError),
}

/// base64url without padding (RFC 4648 section 5; RFC 7515 section 2).
#[must_use]
pub fn b64u(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads base64url, with or without padding.
///
/// # Errors
/// [`DecodeError::Base64Url`] when the text is anything else.
pub fn from_b64u(text: &str) -> Result<Vec<u8>, DecodeError> {
    URL_SAFE_ANY_PAD.decode(text).map_err(DecodeError::Base64Url)
}

/// Standard base64 with padding (RFC 4648 section 4).
#[must_use]
pub fn b64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads standard base64 with padding.
///
/// # Errors
/// [`DecodeError::Base64`] when the text is anything else.
pub fn from_b64(text: &str) -> Result<Vec<u8>, DecodeError> {
    STANDARD.decode(text).map_err(DecodeError::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_read_with_and_without_padding_and_never_as_standard_base64() {
        assert_eq!(from_b64u("-_8").unwrap(), [0xfb, 0xff]);
        assert_eq!(from_b64u("-_8=").unwrap(), [0xfb, 0xff]);
        assert!(from_b64u("+/8=").is_err());
        assert!(from_b64("-_8=").is_err());
        assert_eq!(b64u(&[0xfb, 0xff]), "-_8");
        assert_eq!(b64(&[0xfb, 0xff]), "+/8=");
    }
}
