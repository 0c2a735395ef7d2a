//! A party outside that proves nothing to us: the reader's collector of logs, a storage account. It is reached by HTTP/1.1
//! over TLS, or on this machine in the clear.
//!
//! No proxy is used, whatever the environment says; no redirect is followed. Must not know what such a party is asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// Why a party cannot be asked. No text holds a path, a query or a header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutgoingError {
    /// Not the URL of a party.
    #[error("must be https://host[:port], or http:// on this machine")]
    Url,
    /// No certificates in PEM.
    #[error("holds no certificates in PEM")]
    Roots,
    /// No connection.
    #[error("it cannot be reached")]
    Unreachable(#[source] io::Error),
    /// It does not speak HTTP, or broke off.
    #[error("it broke off")]
    Http(#[source] hyper::Error),
}

/// Where requests go.
pub(crate) struct Party {
    /// As it stands in the header `Host`.
    authority: HeaderValue,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Party {
    /// The party at a URL's host; its path is nobody's business here. Believes the public web's authorities, or those in
    /// `roots` (PEM) instead.
    pub(crate) fn new(url: &Url, roots: Option<&[u8]>) -> Result<Self, OutgoingError> {
        let host = match url.host().ok_or(OutgoingError::Url)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        };
        let tls = match url.scheme() {
            "https" => {
                let name = ServerName::try_from(host.clone()).map_err(|_| OutgoingError::Url)?;
                Some((connector(roots)?, name))
            }
            "http" if is_local(url) => None,
            _ => return Err(OutgoingError::Url),
        };
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(OutgoingError::Url);
        }
        let port = url.port_or_known_default().ok_or(OutgoingError::Url)?;
        let authority = authority(url).parse().map_err(|_| OutgoingError::Url)?;
        Ok(Self { authority, host, port, tls })
    }

    /// Where `localhost` is, without asking a resolver: what goes there in the clear stays here (RFC 6761, section 6.3).
    fn loopback(&self) -> Option<[SocketAddr; 2]> {
        let is_asked = self.tls.is_none() && self.host == "localhost";
        let at = |ip: IpAddr| SocketAddr::new(ip, self.port);
        is_asked.then(|| [at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())])
    }

    /// A new connection. The caller bounds the time.
    pub(crate) async fn connect(&self) -> Result<Line, OutgoingError> {
        let stream = match self.loopback() {
            Some(addresses) => TcpStream::connect(&addresses[..]).await,
            None => TcpStream::connect((self.host.as_str(), self.port)).await,
        };
        let stream = stream.map_err(OutgoingError::Unreachable)?;
        match &self.tls {
            None => Line::over(stream, &self.authority).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                let stream = stream.map_err(OutgoingError::Unreachable)?;
                Line::over(stream, &self.authority).await
            }
        }
    }
}

/// Whether a URL's host is this machine, without asking a resolver.
pub(crate) fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Host and port as they stand in a URL: the port only where it is not the scheme's own.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// An open connection. It ends when this is dropped.
pub(crate) struct Line {
    sender: SendRequest<Full<Bytes>>,
    authority: HeaderValue,
    driver: JoinHandle<()>,
}

impl Line {
    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        authority: &HeaderValue,
    ) -> Result<Self, OutgoingError> {
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(OutgoingError::Http)?;
        // How it ends, the requests on it hear.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, authority: authority.clone(), driver })
    }

    /// Sends one request and hears the head of its answer. The caller bounds the time.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, OutgoingError> {
        request.headers_mut().insert(HOST, self.authority.clone());
        self.sender.ready().await.map_err(OutgoingError::Http)?;
        self.sender.send_request(request).await.map_err(OutgoingError::Http)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A body of at most `limit` bytes; `None` if it is longer, or breaks off.
#[expect(clippy::disallowed_methods, reason = "the limit is around the body")]
pub(crate) async fn read_at_most(body: Incoming, limit: usize) -> Option<Bytes> {
    Some(Limited::new(body, limit).collect().await.ok()?.to_bytes())
}

fn connector(roots: Option<&[u8]>) -> Result<TlsConnector, OutgoingError> {
    let mut store = RootCertStore::empty();
    match roots {
        None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| OutgoingError::Roots)?;
                store.add(certificate).map_err(|_| OutgoingError::Roots)?;
            }
        }
    }
    if store.is_empty() {
        return Err(OutgoingError::Roots);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| OutgoingError::Roots)?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(url: &str) -> Result<Party, OutgoingError> {
        Party::new(&Url::parse(url).unwrap(), None)
    }

    #[test]
    fn what_goes_to_this_machine_in_the_clear_asks_no_resolver() {
        let addresses = party("http://LOCALHOST:1").unwrap().loopback().unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
        for named in ["https://localhost", "https://a.example", "http://127.0.0.1"] {
            assert!(party(named).unwrap().loopback().is_none(), "{named}");
        }
    }

    #[test]
    fn a_party_is_reached_by_tls_or_is_on_this_machine() {
        for good in ["https://a.example/x?y", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert!(party(good).is_ok(), "{good}");
        }
        for bad in ["http://a.example", "http://10.0.0.1", "ftp://localhost", "https://u:p@a"] {
            assert!(matches!(party(bad), Err(OutgoingError::Url)), "{bad}");
        }
        let url = Url::parse("https://a.example").unwrap();
        assert!(matches!(Party::new(&url, Some(b"none")), Err(OutgoingError::Roots)));
        assert!(matches!(Party::new(&url, Some(b"")), Err(OutgoingError::Roots)));
    }

    #[test]
    fn a_party_is_called_as_in_its_url() {
        for (url, called) in [
            ("https://A.example/", "a.example"),
            ("https://a.example:443", "a.example"),
            ("http://[::1]:80", "[::1]"),
            ("http://[::1]:81", "[::1]:81"),
        ] {
            assert_eq!(authority(&Url::parse(url).unwrap()), called);
        }
    }
}
