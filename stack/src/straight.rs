//! Straight to the proxy, as a program does that verifies nothing: HTTP/1.1 or HTTP/2 over TLS 1.3, one connection a
//! value. For load, and for looking at what such a client gets.
//!
//! It believes any certificate, so nothing that matters may be sent on it: what it asks of simulated groups, it may.

use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// How long a connection or an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Which HTTP to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What a request got instead of an answer.
#[derive(Debug, thiserror::Error)]
pub enum StraightError {
    /// No connection.
    #[error("no connection")]
    Connect(#[from] std::io::Error),
    /// It shows no certificate, or has no exporter.
    #[error("the handshake has no certificate or exporter")]
    Handshake,
    /// HTTP failed.
    #[error("HTTP failed")]
    Http(#[from] hyper::Error),
    /// The answer is too long or broke off.
    #[error("the answer cannot be read")]
    Answer(#[source] service::body::BodyError<hyper::Error>),
    /// It took too long.
    #[error("it took longer than {} s", PATIENCE.as_secs())]
    TimedOut,
}

impl StraightError {
    /// Whether the server said that it has not looked at the request, so that it may be sent again (RFC 9113, 8.7).
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        let Self::Http(error) = self else { return false };
        let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
        error.is_canceled()
            || cause.is_some_and(|error| {
                let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
                let gone = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
                error.is_remote() && (refused || gone)
            })
    }
}

/// What a client sees of a handshake.
#[derive(Clone)]
pub struct Seen {
    /// The certificate that the server showed (DER).
    pub certificate: Vec<u8>,
    /// RFC 9266 `tls-exporter`.
    pub exporter: [u8; 32],
}

/// A connection.
pub struct Straight {
    sender: Sender,
    /// `None` without TLS.
    pub seen: Option<Seen>,
    host: String,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Straight {
    /// By TLS.
    ///
    /// # Errors
    ///
    /// [`StraightError`].
    pub async fn tls(server: SocketAddr, version: Version) -> Result<Self, StraightError> {
        within(Box::pin(async {
            let (stream, seen) = handshake(server, version, None).await?;
            Self::over(stream, version, Some(seen), server).await
        }))
        .await
    }

    /// Without TLS, by HTTP/1.1: to a forwarder.
    ///
    /// # Errors
    ///
    /// [`StraightError`].
    pub async fn plain(server: SocketAddr) -> Result<Self, StraightError> {
        within(async { Self::over(tcp(server, None).await?, Version::Http1, None, server).await })
            .await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        version: Version,
        seen: Option<Seen>,
        server: SocketAddr,
    ) -> Result<Self, StraightError> {
        let io = TokioIo::new(stream);
        // The task of a connection ends with its sender, or with the server.
        let sender = match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Version::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        };
        Ok(Self { sender, seen, host: server.to_string() })
    }

    /// Whether it takes another request.
    pub async fn is_ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// The same connection once more, for a request beside others. HTTP/1.1 has one request at a time.
    #[must_use]
    pub fn beside(&self) -> Option<Self> {
        match &self.sender {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self {
                sender: Sender::Http2(sender.clone()),
                seen: self.seen.clone(),
                host: self.host.clone(),
            }),
        }
    }

    /// Sends a request whose URI is a path, and reads the whole answer.
    ///
    /// # Errors
    ///
    /// [`StraightError`].
    pub async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, StraightError> {
        within(Box::pin(async {
            let answer = match &mut self.sender {
                Sender::Http1(sender) => {
                    if let Ok(host) = HeaderValue::from_str(&self.host) {
                        request.headers_mut().insert(HOST, host);
                    }
                    sender.send_request(request).await?
                }
                Sender::Http2(sender) => {
                    if let Ok(uri) =
                        format!("https://{}{}", self.host, request.uri()).parse::<Uri>()
                    {
                        *request.uri_mut() = uri;
                    }
                    sender.send_request(request).await?
                }
            };
            let (parts, body) = answer.into_parts();
            let body = service::body::read(body, MAX_ANSWER).await;
            Ok(Response::from_parts(parts, body.map_err(StraightError::Answer)?))
        }))
        .await
    }
}

/// A TLS connection, before a byte of HTTP. `from` is the address to come from, where several are to be had.
///
/// # Errors
///
/// [`StraightError`].
pub async fn handshake(
    server: SocketAddr,
    version: Version,
    from: Option<IpAddr>,
) -> Result<(TlsStream<TcpStream>, Seen), StraightError> {
    let stream = tcp(server, from).await?;
    let connector = TlsConnector::from(Arc::new(client_config(version)?));
    let stream = connector.connect(ServerName::from(server.ip()), stream).await?;
    let seen = see(stream.get_ref().1).ok_or(StraightError::Handshake)?;
    Ok((stream, seen))
}

/// Whether an answer is the last one of its HTTP/1.1 connection.
#[must_use]
pub fn is_last<B>(answer: &Response<B>) -> bool {
    answer.headers().get(CONNECTION).is_some_and(|value| value == "close")
}

pub(crate) async fn within<T>(
    work: impl Future<Output = Result<T, StraightError>>,
) -> Result<T, StraightError> {
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| StraightError::TimedOut)?
}

async fn tcp(server: SocketAddr, from: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn see(session: &rustls::ClientConnection) -> Option<Seen> {
    let exporter =
        session.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).ok()?;
    let certificate = session.peer_certificates()?.first()?.to_vec();
    Some(Seen { certificate, exporter })
}

fn client_config(version: Version) -> Result<ClientConfig, StraightError> {
    let mut config = ClientConfig::builder_with_provider(service::roots::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = match version {
        Version::Http1 => vec![b"http/1.1".to_vec()],
        Version::Http2 => vec![b"h2".to_vec()],
    };
    Ok(config)
}

/// Accepts any certificate; the handshake must still be signed with its key.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::InvalidCertificate(CertificateError::BadSignature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = service::roots::provider();
        let algorithms = &provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        service::roots::provider().signature_verification_algorithms.supported_schemes()
    }
}
