//! Who may use the forwarder: programs of this machine, and with a token only those that were told it.
//!
//! A web page in a browser of this machine can send requests to loopback as well. Its `Host` is its own name if the name
//! was made to resolve to loopback; its `Origin` is in every request whose answer it could read; and of the others
//! (pictures, links, fetches without an answer) browsers say with `Sec-Fetch-Site` whether another site made them.

use attestation::crypto::sha256;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};

use crate::forwarder::refusal::Refusal;

/// Who made a browser send a request (Fetch Metadata). No page can set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a local client must say: the first segment of its path. It stands in the base URL, since every OpenAI client
/// keeps that unchanged, and `Authorization` is the API key's.
#[derive(Clone)]
pub struct Token {
    /// Comparing digests says nothing about how much of a guess was right.
    sha256: [u8; 32],
}

/// A text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be {SHORTEST} to {LONGEST} characters of A-Z, a-z, 0-9, - and _: `--make-token FILE` writes one"
)]
pub struct NotAToken;

/// Characters of the shortest token.
const SHORTEST: usize = 22;

/// Characters of the longest token.
const LONGEST: usize = 128;

impl Token {
    /// From its text.
    ///
    /// # Errors
    ///
    /// [`NotAToken`].
    pub fn new(text: &str) -> Result<Self, NotAToken> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        let fits = (SHORTEST..=LONGEST).contains(&text.len()) && text.bytes().all(plain);
        fits.then(|| Self { sha256: sha256(text.as_bytes()) }).ok_or(NotAToken)
    }

    fn is(&self, text: &str) -> bool {
        verify_slices_are_equal(&self.sha256, &sha256(text.as_bytes())).is_ok()
    }
}

/// A request that may pass.
pub(super) struct Admitted {
    /// What stands before the path at the server: nothing, or `/` and the token.
    pub(super) prefix: String,
    /// What the server is asked.
    pub(super) path: PathAndQuery,
}

pub(super) fn admit(request: &Parts, token: Option<&Token>) -> Result<Admitted, Refusal> {
    let host = request.headers.get(HOST).and_then(|host| host.to_str().ok());
    // RFC 9112, 3.2.2: a whole URL in the request line is what counts.
    let named = request.uri.authority().map(http::uri::Authority::as_str);
    if !host.is_some_and(is_loopback) || !named.is_none_or(is_loopback) {
        return Err(Refusal::ForeignHost);
    }
    if !request.headers.get_all(ORIGIN).iter().all(is_of_this_machine) {
        return Err(Refusal::ForeignOrigin);
    }
    let is_silent = !request.headers.contains_key(ORIGIN);
    if is_silent && !request.headers.get_all(SEC_FETCH_SITE).iter().all(is_nobodys_page) {
        return Err(Refusal::ForeignOrigin);
    }
    let asked = request.uri.path_and_query().cloned();
    let asked = asked.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let Some(token) = token else { return Ok(Admitted { prefix: String::new(), path: asked }) };
    let rest = asked.as_str().strip_prefix('/').ok_or(Refusal::NoPath)?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (said, path) = rest.split_at(end);
    if !token.is(said) {
        return Err(Refusal::WrongToken);
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let path = format!("{slash}{path}").parse().map_err(|_| Refusal::NoPath)?;
    Ok(Admitted { prefix: format!("/{said}"), path })
}

/// A page of the web whose name was made to resolve to loopback still sends its own name as Host.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "127.0.0.1" | "localhost" | "[::1]")
}

/// A page that this machine served itself. `null` is the origin of files and of frames without one: nobody's.
fn is_of_this_machine(origin: &HeaderValue) -> bool {
    let url = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    url.is_some_and(|url| {
        url.scheme().is_some()
            && url.authority().is_some_and(|authority| is_loopback(authority.as_str()))
    })
}

/// A page that came from here, or no page: somebody typed the address. `same-site` is another port of this machine.
fn is_nobodys_page(site: &HeaderValue) -> bool {
    matches!(site.as_bytes(), b"same-origin" | b"none")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const TOKEN: &str = "abcdefghijklmnopqrstuv-_0";

    fn parts(path: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn code(outcome: Result<Admitted, Refusal>) -> &'static str {
        outcome.map_or_else(|refusal| refusal.code(), |_| "")
    }

    #[test]
    fn only_names_of_this_machine_are_local() {
        for good in ["127.0.0.1:8787", "localhost", "localhost:1", "[::1]:8787", "[::1]"] {
            assert_eq!(code(admit(&parts("/v1", &[("host", good)]), None)), "", "{good}");
        }
        for bad in ["evil.example", "evil.example:8787", "127.0.0.1.evil.example", "127.0.0.1@evil"]
        {
            let code = code(admit(&parts("/v1", &[("host", bad)]), None));
            assert_eq!(code, "foreign_host", "{bad}");
        }
        let whole = parts("http://evil.example/v1", &[("host", "localhost")]);
        assert_eq!(code(admit(&whole, None)), "foreign_host");
        assert_eq!(code(admit(&parts("/v1", &[]), None)), "foreign_host");
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        let from = |origin| parts("/v1", &[("host", "localhost"), ("origin", origin)]);
        for good in ["http://localhost:3000", "http://127.0.0.1:8787", "https://[::1]"] {
            assert_eq!(code(admit(&from(good), None)), "", "{good}");
        }
        for bad in ["https://evil.example", "null", "localhost", "http://localhost.evil.example"] {
            assert_eq!(code(admit(&from(bad), None)), "foreign_origin", "{bad}");
        }
        let two = parts(
            "/v1",
            &[("host", "localhost"), ("origin", "http://localhost"), ("origin", "https://evil")],
        );
        assert_eq!(code(admit(&two, None)), "foreign_origin");
    }

    #[test]
    fn what_a_page_of_another_site_sends_without_its_origin_is_refused() {
        let local = ("host", "localhost");
        let from = |site| parts("/v1/models", &[local, ("sec-fetch-site", site)]);
        for good in ["same-origin", "none"] {
            assert_eq!(code(admit(&from(good), None)), "", "{good}");
        }
        for bad in ["cross-site", "same-site", "", "none, none"] {
            assert_eq!(code(admit(&from(bad), None)), "foreign_origin", "{bad}");
        }
        let two = [local, ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
        assert_eq!(code(admit(&parts("/v1", &two), None)), "foreign_origin");
        // A page of this machine, on another port: its origin says so.
        let own = [local, ("origin", "http://localhost:3000"), ("sec-fetch-site", "same-site")];
        assert_eq!(code(admit(&parts("/v1", &own), None)), "");
    }

    #[test]
    fn a_token_is_the_first_segment_and_does_not_go_on() {
        let token = Token::new(TOKEN).unwrap();
        let ask = |path: &str| admit(&parts(path, &[("host", "localhost")]), Some(&token));
        for (asked, path) in [
            (format!("/{TOKEN}/v1/models?a=b"), "/v1/models?a=b"),
            (format!("/{TOKEN}"), "/"),
            (format!("/{TOKEN}?a"), "/?a"),
        ] {
            let admitted = ask(&asked).unwrap_or_else(|refusal| panic!("{asked}: {refusal}"));
            assert_eq!(admitted.path.as_str(), path);
            assert_eq!(admitted.prefix, format!("/{TOKEN}"));
        }
        for wrong in ["/v1/models", "/", "//v1", &format!("/{TOKEN}x/v1"), &format!("/v1/{TOKEN}")]
        {
            assert_eq!(code(ask(wrong)), "wrong_token", "{wrong}");
        }
    }

    #[test]
    fn a_token_is_long_and_fits_a_path() {
        for bad in ["", "short", &format!("{TOKEN}/"), &"a".repeat(129), &format!("{TOKEN}ä")] {
            assert!(Token::new(bad).is_err(), "{bad}");
        }
    }
}
