//! What is refused by its head, whoever sends it: what no upstream should have to understand.
//!
//! Hyper has read the head before: it has refused what cannot be framed, and dropped a length beside an encoding (RFC 9112,
//! 6.3). Must not know what a body says.

use http::header::{TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Uri};

use crate::error::Refusal;

/// The longest header, name and value, and the longest path with its query, in bytes (`proxy.md` case 69).
const LONGEST: usize = 8190;

/// Refuses it, or not.
pub(crate) fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let target = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    if target.len() > LONGEST {
        return Err(Refusal::Malformed("The path is longer than 8190 bytes"));
    }
    if !target.is_ascii() {
        return Err(Refusal::Malformed("The path has bytes that are not ASCII: write them as %xx"));
    }
    let too_long = |(name, value): (&http::HeaderName, &HeaderValue)| {
        name.as_str().len() + value.len() > LONGEST
    };
    if headers.iter().any(too_long) {
        return Err(Refusal::Malformed("A header is longer than 8190 bytes"));
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if encodings.next().is_some_and(|value| !is_chunked(value)) || encodings.next().is_some() {
        return Err(Refusal::Malformed("Transfer-Encoding must be chunked, once"));
    }
    // No connection becomes a tunnel: nothing in one could be metered, padded or held to a list of models. An offer of HTTP/2
    // without TLS may be ignored (RFC 9110, 7.8), and is.
    let offers_only_http2 = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"h2c");
    if !headers.get_all(UPGRADE).iter().all(offers_only_http2) {
        return Err(Refusal::Upgrade);
    }
    Ok(())
}
