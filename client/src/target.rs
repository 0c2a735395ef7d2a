//! A server to reach, by its URL.
//!
//! This module must not know how it is reached, nor who must be there.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::Authority;
use rustls_pki_types::ServerName;
use url::{Host, Url};

/// A server to reach: `https://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(crate) authority: Authority,
    pub(crate) name: ServerName<'static>,
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
}

/// Not the URL of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be https://host or https://host:port, without a path")]
pub struct NotATarget;

impl FromStr for Target {
    type Err = NotATarget;

    fn from_str(text: &str) -> Result<Self, NotATarget> {
        let url = Url::parse(text).map_err(|_| NotATarget)?;
        let bare = url.scheme() == "https"
            && matches!(url.path(), "/" | "")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let host = url.host().filter(|_| bare).ok_or(NotATarget)?;
        let dialled = match &host {
            Host::Domain(name) => (*name).to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let name = ServerName::try_from(dialled.clone()).map_err(|_| NotATarget)?;
        let port = url.port_or_known_default().ok_or(NotATarget)?;
        let authority =
            url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        let authority = authority.parse().map_err(|_| NotATarget)?;
        Ok(Self { authority, name, host: dialled.into(), port })
    }
}

impl Target {
    /// Whether a request's URI means this server: a path alone does, or a whole URL of it.
    pub(crate) fn is_named_by(&self, uri: &Uri) -> bool {
        let Some(authority) = uri.authority() else { return uri.scheme().is_none() };
        let url = format!("{}://{authority}", uri.scheme_str().unwrap_or_default());
        url.parse::<Self>().is_ok_and(|named| named == *self)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_bare_https_url() {
        for good in ["https://a.example", "https://127.0.0.1:8443", "https://[::1]:1", "https://a/"]
        {
            let target: Target = good.parse().unwrap();
            assert_eq!(target.to_string(), good.trim_end_matches('/'));
        }
        for bad in
            ["http://a", "https://a/v1", "https://u@a", "https://a?x", "a.example", "https://"]
        {
            assert_eq!(bad.parse::<Target>(), Err(NotATarget), "{bad}");
        }
    }
}
