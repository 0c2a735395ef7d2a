//! Who asks for what: the parts of a request that pages look at.

use std::net::IpAddr;
use std::time::Instant;

use http::header::{ACCEPT, COOKIE, HOST};
use http::request::Parts;
use http::{HeaderMap, Method};

use super::error::AdminError;
use super::form::Form;
use super::same_site;
use crate::asked::Asked;
use crate::connection::Connection;

/// The name of the cookie that holds a session's token.
pub(crate) const COOKIE_NAME: &str = "admin_session";

/// A request without its body.
pub(super) struct Asking<'a> {
    /// HEAD counts as GET.
    pub(super) method: Method,
    /// Whether it was HEAD: nobody sees the page, so that what is shown once is not used up (RFC 9110, 9.2.1).
    pub(super) is_head: bool,
    /// As it was sent.
    pub(super) path: &'a str,
    pub(super) query: Form,
    pub(super) headers: &'a HeaderMap,
    /// Where the client believes to be: `Host`, or `:authority` of HTTP/2.
    host: Option<&'a str>,
    /// Whose it is. Sessions and guesses are counted by it.
    pub(super) address: IpAddr,
    /// Whether it came encrypted, here or to a trusted proxy before.
    pub(super) encrypted: bool,
    /// Whether TLS ends in this process.
    pub(super) has_channel: bool,
    /// Whether evidence was sent to a program on this connection.
    pub(super) proved: bool,
    pub(super) now: Instant,
}

impl<'a> Asking<'a> {
    pub(super) fn new(connection: &Connection, parts: &'a Parts) -> Self {
        let is_head = parts.method == Method::HEAD;
        let method = if is_head { Method::GET } else { parts.method.clone() };
        let (asked, has_channel) = (parts.extensions.get::<Asked>(), connection.channel.is_some());
        Self {
            method,
            is_head,
            path: parts.uri.path(),
            query: Form::urlencoded(parts.uri.query().unwrap_or_default().as_bytes()),
            headers: &parts.headers,
            host: host(parts),
            address: asked.map_or(connection.peer.ip().to_canonical(), |asked| asked.address),
            encrypted: asked.map_or(has_channel, |asked| asked.is_encrypted),
            has_channel,
            proved: connection.is_proved_to_a_program(),
            now: Instant::now(),
        }
    }

    /// Whether a person asks, in a browser.
    pub(super) fn wants_page(&self) -> bool {
        self.accepts("text/html") && !self.path.starts_with("/admin/api/")
    }

    /// Whether a program asks for JSON by its name.
    pub(super) fn wants_json(&self) -> bool {
        self.accepts("application/json") && !self.accepts("text/html")
    }

    fn accepts(&self, kind: &str) -> bool {
        let mut all = self.headers.get_all(ACCEPT).iter();
        all.any(|value| value.to_str().is_ok_and(|value| value.contains(kind)))
    }

    /// The tokens of sessions that the request brings.
    pub(super) fn session_cookies(&self) -> impl Iterator<Item = &str> {
        let cookies = self.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies.flat_map(|value| value.split(';')).filter_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == COOKIE_NAME).then_some(value)
        })
    }

    /// Refuses what a page of another site made.
    pub(super) fn is_of_our_site(&self) -> Result<(), AdminError> {
        if same_site::is_ours(self.headers, self.host, self.encrypted) {
            Ok(())
        } else {
            Err(AdminError::OtherSite)
        }
    }

    /// `/admin/keys/{id}` and `/admin/keys/{id}/{action}`, the id decoded.
    pub(super) fn key_path(&self) -> Option<(String, &'a str)> {
        let rest = self.path.strip_prefix("/admin/keys/")?;
        let (id, action) = rest.split_once('/').unwrap_or((rest, ""));
        let id = decode(id).filter(|id| !id.is_empty())?;
        Some((id, action))
    }

    /// The way from this page up to the root. Links are relative, so that they hold behind a forwarder whose paths begin with
    /// a token.
    pub(super) fn up(&self) -> String {
        "../".repeat(self.path.matches('/').count().saturating_sub(1))
    }

    /// The server's address as its client wrote it, or else as it is configured. `X-Forwarded-Host` is
    /// never asked, since anybody can set it.
    pub(super) fn base_url(&self, hostname: &str) -> String {
        let scheme = if self.encrypted { "https" } else { "http" };
        format!("{scheme}://{}", self.host.unwrap_or(hostname))
    }
}

/// What cannot be a host is none.
fn host(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = parts.uri.authority().map(http::uri::Authority::as_str).or(header);
    host.filter(|host| host.parse::<http::uri::Authority>().is_ok())
}

/// A key's id as a segment of a path (RFC 3986, 2).
pub(super) fn encode(id: &str) -> String {
    let mut out = String::new();
    for byte in id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(byte.into()),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// `None` for what no [`encode`] made, however it is spelt.
pub(super) fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            bytes.extend(hex::decode(digits).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_keys_file_may_be_anything_and_come_back_the_same() {
        for id in ["key_12ab34cd", "a b/c?d#e%", "../x", "schlüssel", "\"><script>"] {
            let segment = encode(id);
            assert!(segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_~%".contains(&b)));
            assert_eq!(decode(&segment).as_deref(), Some(id));
        }
        for broken in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }
}
