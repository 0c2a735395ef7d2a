//! Whether a request that changes something was made by a page of ours, as the browser itself says.
//!
//! Cookies are `SameSite=Strict` and forms carry tokens; this is the third fence, and the only one before a login. People
//! come through `pmc connect`, so that a page's origin is an address of their machine, which the server has never heard
//! of: what counts first is `Sec-Fetch-Site`, which compares what the browser sees (Fetch Metadata, W3C).

use http::header::{HeaderName, ORIGIN};
use http::{HeaderMap, Uri};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether no page of somebody else made it. A program that is no browser says nothing, and has no cookies to steal.
pub(super) fn is_ours(headers: &HeaderMap, host: Option<&str>) -> bool {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
    if sites.peek().is_some() {
        return sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
    }
    let host = host.unwrap_or_default();
    headers.get_all(ORIGIN).iter().all(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        let authority = origin.as_ref().and_then(Uri::authority);
        // A forwarder on the browser's machine puts the server's name in the place of its own.
        authority.is_some_and(|origin| {
            origin.as_str().eq_ignore_ascii_case(host)
                || matches!(origin.host(), "127.0.0.1" | "localhost" | "[::1]")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(headers: &[(&'static str, &'static str)]) -> bool {
        let host = headers.iter().find(|(name, _)| *name == "host").map(|(_, value)| *value);
        let pairs = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        is_ours(&pairs.collect(), host)
    }

    #[test]
    fn what_a_browser_says_of_another_site_counts() {
        assert!(ours(&[("host", "h")]));
        assert!(ours(&[("host", "h:1"), ("origin", "https://h:1")]));
        assert!(ours(&[("host", "group.example"), ("origin", "http://127.0.0.1:8787")]));
        assert!(ours(&[("host", "h"), ("origin", "http://x"), ("sec-fetch-site", "same-origin")]));
        for foreign in ["cross-site", "same-site", "what"] {
            assert!(!ours(&[("host", "h"), ("sec-fetch-site", foreign)]), "{foreign}");
        }
        for foreign in
            ["https://evil.example", "null", "https://h:2", "http://127.0.0.1.evil.example"]
        {
            assert!(!ours(&[("host", "h:1"), ("origin", foreign)]), "{foreign}");
        }
    }
}
