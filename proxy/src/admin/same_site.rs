//! Whether a request that changes something was made by a page of ours, as the browser itself says.
//!
//! Cookies are `SameSite=Strict` and forms carry tokens; this is the third fence, and the only one before a login. A site
//! has many origins (every port of this machine is one site), and only the one that a page of ours has will do.
//!
//! People come through `pmc connect`, so that a page's origin is an address of their machine, which the server has never
//! heard of: what counts first is `Sec-Fetch-Site`, which compares what the browser sees (Fetch Metadata, W3C). Browsers
//! have said that since 2023; of an older one the origin counts, and it must be this server's.

use http::header::{HeaderName, HeaderValue, ORIGIN};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, Uri};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether no page of somebody else made it. A program that is no browser says nothing, and has no cookies to steal.
/// `host`: where the client believes to be.
pub(super) fn is_ours(headers: &HeaderMap, host: Option<&str>, is_encrypted: bool) -> bool {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter().peekable();
    if sites.peek().is_some() {
        return sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
    }
    let is_here = |origin: &HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        let Some(origin) = origin else { return false };
        let (Some(scheme), Some(authority)) = (origin.scheme(), origin.authority()) else {
            return false;
        };
        // Where TLS ends in a proxy before this one that is not trusted, nothing is known of it.
        let is_scheme = !is_encrypted || *scheme == Scheme::HTTPS;
        let Some(host) = host.and_then(|host| host.parse::<Authority>().ok()) else { return false };
        is_scheme && place(authority, scheme) == place(&host, scheme)
    };
    headers.get_all(ORIGIN).iter().all(is_here)
}

/// Host and port (RFC 6454, 4).
fn place(authority: &Authority, scheme: &Scheme) -> (String, u16) {
    let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    (authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(default))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(headers: &[(&'static str, &'static str)], is_encrypted: bool) -> bool {
        let host = headers.iter().find(|(name, _)| *name == "host").map(|(_, value)| *value);
        let pairs = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        is_ours(&pairs.collect(), host, is_encrypted)
    }

    #[test]
    fn what_a_browser_says_of_another_site_counts() {
        let fetched =
            |site| ours(&[("host", "h"), ("origin", "http://x"), ("sec-fetch-site", site)], true);
        assert!(fetched("same-origin") && fetched("none"), "through a forwarder");
        for foreign in ["cross-site", "same-site", "what", ""] {
            assert!(!fetched(foreign), "{foreign}");
        }
        assert!(ours(&[("host", "h")], true), "no browser");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (host, origin, is_encrypted) in [
            ("h:1", "https://h:1", true),
            ("Group.example", "https://group.EXAMPLE:443", true),
            ("h:443", "https://h", true),
            ("h", "http://h", false),
            ("h", "https://h", false),
            ("127.0.0.1:8080", "http://127.0.0.1:8080", false),
            ("[::1]:8080", "http://[::1]:8080", false),
        ] {
            assert!(ours(&[("host", host), ("origin", origin)], is_encrypted), "{host} {origin}");
        }
        for (host, origin, is_encrypted) in [
            ("h:1", "https://evil.example", true),
            ("h:1", "null", true),
            ("h:1", "", true),
            ("h:1", "h:1", true),
            ("h:1", "https://h:2", true),
            ("h", "http://h", true),
            ("h", "https://h:80", true),
            ("localhost:8080", "http://localhost:3000", false),
            ("localhost:8080", "http://127.0.0.1:8080", false),
            ("127.0.0.1:8080", "http://127.0.0.1.evil.example:8080", false),
            ("group.example", "http://127.0.0.1:8787", true),
        ] {
            assert!(!ours(&[("host", host), ("origin", origin)], is_encrypted), "{host} {origin}");
        }
        assert!(!ours(&[("origin", "http://h")], false), "who does not say where");
        let two = [("host", "h"), ("origin", "http://h"), ("origin", "http://x")];
        assert!(!ours(&two, false));
    }
}
