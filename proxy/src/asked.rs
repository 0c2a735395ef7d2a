//! What is known of a request before anybody looks at what it asks for. Every request carries one among its extensions.
//!
//! Must not know whose key a request brings.

use std::net::IpAddr;

use http::{HeaderValue, Request};

use crate::settings::Numbers;

/// Who asks, and how the request is called.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The client's address, as far as it is known: forged by whoever sits on the way, if they like.
    pub(crate) address: IpAddr,
    /// Whether it came encrypted, here or to a trusted proxy before.
    pub(crate) is_encrypted: bool,
    /// The limits that hold for it, whatever becomes of them meanwhile.
    pub(crate) numbers: Numbers,
    /// What the request is called, in its answer and in the log.
    pub(crate) id: RequestId,
}

impl Asked {
    /// The one of this request.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<&Self> {
        request.extensions().get()
    }
}

/// The name of one request, as OpenAI has it: `req_` and 32 hexadecimal digits.
///
/// It is random and always ours: what a client calls its requests may be anything, and is neither logged nor said again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId([u8; 36]);

impl RequestId {
    /// Another one.
    pub(crate) fn new() -> Self {
        let mut random = [0; 16];
        // Without random numbers requests are called alike, which is no reason to refuse any.
        let _ = aws_lc_rs::rand::fill(&mut random);
        let mut text = *b"req_00000000000000000000000000000000";
        if let Some(digits) = text.get_mut(4..) {
            let _ = hex::encode_to_slice(random, digits);
        }
        Self(text)
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// As the value of a header.
    pub(crate) fn to_header(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or(HeaderValue::from_static("req_"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_and_differ() {
        let (one, other) = (RequestId::new(), RequestId::new());
        assert_ne!(one, other);
        let digits = one.as_str().strip_prefix("req_").unwrap();
        assert!(digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_eq!(one.to_header(), one.as_str());
    }
}
