//! Hosts as callers and configuration name them: `host` or `host:port`, and nothing else.
//!
//! What stands here decides whom the identity token is sent to, so a text that two parsers could read in two
//! ways is refused: no scheme, path, query, user or percent sign, no IPv6, and no number that a URL parser
//! would take for an address.

use std::fmt::{self, Display};
use std::str::FromStr;

use rustls_pki_types::ServerName;
use url::Url;

/// RFC 1035 section 2.3.4: the longest name, and the longest label of one.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// The port of `https` (RFC 9110 section 4.2.2). Naming it is the same as naming none.
const HTTPS: u16 = 443;

/// A DNS name in lower case or an IPv4 address, with a port if it is not that of `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    name: String,
    port: Option<u16>,
}

/// Why a text is no bare host. The text itself is not repeated: it comes from a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a bare host such as name.vault.azure.net, with :port if need be, and without scheme or path"
)]
pub(crate) struct NotAHost;

impl FromStr for Host {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(parse_port(port).ok_or(NotAHost)?)),
            None => (text, None),
        };
        let name = name.to_ascii_lowercase();
        let is_name = name.len() <= LONGEST_NAME && name.split('.').all(is_label);
        let host = Self { name, port: port.filter(|port| *port != HTTPS) };
        // "127.1", "0x7f.1" and "2130706433" are names by their letters, and addresses to a URL parser.
        let same_in_url =
            || Url::parse(&host.origin()).is_ok_and(|url| url.host_str() == Some(host.name()));
        if is_name && same_in_url() { Ok(host) } else { Err(NotAHost) }
    }
}

fn is_label(label: &str) -> bool {
    (1..=LONGEST_LABEL).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

impl Host {
    /// The name without the port.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The port, unless it is that of `https`.
    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    /// `https://host[:port]`, without a slash behind it.
    pub(crate) fn origin(&self) -> String {
        format!("https://{self}")
    }

    /// The URL that begins every call to it.
    pub(crate) fn url(&self) -> Url {
        Url::parse(&self.origin()).expect("parsing checked that the origin is a URL")
    }

    /// The name that its certificate must be for.
    pub(crate) fn server_name(&self) -> ServerName<'_> {
        ServerName::try_from(self.name()).expect("parsing left a DNS name or an IPv4 address")
    }
}

impl Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A host that configuration names by its URL, as Azure's portals show it: `https://host[:port]`, with or
/// without a slash behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpsUrl(pub(crate) Host);

/// Why a text is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a URL such as https://name.vault.azure.net, without a path")]
pub(crate) struct NotAnHttpsUrl;

impl FromStr for HttpsUrl {
    type Err = NotAnHttpsUrl;

    fn from_str(text: &str) -> Result<Self, NotAnHttpsUrl> {
        let host = text.strip_prefix("https://").ok_or(NotAnHttpsUrl)?;
        let host = host.strip_suffix('/').unwrap_or(host);
        host.parse().map(Self).map_err(|NotAHost| NotAnHttpsUrl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_hosts_are_read() {
        for (text, display, name) in [
            ("a.vault.azure.net", "a.vault.azure.net", "a.vault.azure.net"),
            ("A.Vault.Azure.NET", "a.vault.azure.net", "a.vault.azure.net"),
            ("a.vault.azure.net:443", "a.vault.azure.net", "a.vault.azure.net"),
            ("localhost:8443", "localhost:8443", "localhost"),
            ("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1"),
        ] {
            let host: Host = text.parse().unwrap();
            assert_eq!((host.to_string().as_str(), host.name()), (display, name));
            assert_eq!(host.url().as_str(), format!("https://{display}/"));
            assert_eq!(host.server_name().to_str(), name);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            " a",
            "a ",
            "https://a.vault.azure.net",
            "a/keys/b",
            "a.vault.azure.net/",
            "a?x=1",
            "a#x",
            "user@a",
            "a:",
            "a:0",
            "a:+1",
            "a:65536",
            "a:1:2",
            "[::1]",
            "a..b",
            ".a",
            "a.",
            "-a",
            "a-.b",
            "a_b",
            "a%2eb",
            "ａ.b",
            "2130706433",
            "127.1",
            "0x7f.1",
            "127.0.0.01",
            "999.1.1.1",
            "evil.test\\.vault.azure.net",
            "a\n",
        ] {
            assert_eq!(text.parse::<Host>(), Err(NotAHost), "{text:?}");
        }
        assert!("a".repeat(63).parse::<Host>().is_ok());
        assert!("a".repeat(64).parse::<Host>().is_err());
        assert!(vec!["a"; 127].join(".").parse::<Host>().is_ok());
        assert!(vec!["a"; 128].join(".").parse::<Host>().is_err());
    }

    #[test]
    fn configured_urls_are_https_and_nothing_but_a_host() {
        let expected = HttpsUrl("a.vault.azure.net".parse().unwrap());
        assert_eq!("https://a.vault.azure.net".parse(), Ok(expected.clone()));
        assert_eq!("https://a.vault.azure.net/".parse(), Ok(expected));
        for text in ["http://a", "a.vault.azure.net", "https://a/keys", "https://a//", "https://"] {
            assert_eq!(text.parse::<HttpsUrl>(), Err(NotAnHttpsUrl), "{text:?}");
        }
    }
}
