//! The stylesheet and the logo: the only files that pages load. They are part of the binary, hold nothing of anybody, and are
//! shown without a session.

use attestation::crypto::sha256;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Response, StatusCode};

use crate::body::{Body, full};

/// A file.
pub(super) struct Asset {
    kind: &'static str,
    bytes: &'static [u8],
}

/// The one stylesheet.
pub(super) static STYLESHEET: Asset =
    Asset { kind: "text/css; charset=utf-8", bytes: include_bytes!("../../static/admin.css") };

/// The logo, 256 by 256 points.
pub(super) static LOGO: Asset =
    Asset { kind: "image/png", bytes: include_bytes!("../../static/logo.png") };

impl Asset {
    /// A name of its content, so that another one is never taken for it.
    pub(super) fn version(&self) -> String {
        hex::encode(sha256(self.bytes)).chars().take(16).collect()
    }

    /// The file, or word that the asking one has it already.
    pub(super) fn response(&self, asking: &HeaderMap) -> Response<Body> {
        let tag = format!("\"{}\"", self.version());
        let known = asking
            .get_all(IF_NONE_MATCH)
            .iter()
            .any(|held| held.to_str().is_ok_and(|held| held.contains(&tag) || held.trim() == "*"));
        let body = if known { Bytes::new() } else { Bytes::from_static(self.bytes) };
        let mut response = Response::new(full(body));
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(ETAG, HeaderValue::try_from(tag).expect("hex is a header"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_file_is_told_so() {
        let response = LOGO.response(&HeaderMap::new());
        let tag = response.headers()[ETAG].clone();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(LOGO.bytes.starts_with(b"\x89PNG"));
        let asking: HeaderMap = [(IF_NONE_MATCH, tag)].into_iter().collect();
        assert_eq!(LOGO.response(&asking).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(STYLESHEET.response(&asking).status(), StatusCode::OK);
    }
}
