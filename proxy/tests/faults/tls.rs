//! A client with TLS that sends exactly the bytes it is given, and the proxy with a certificate from files.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::support::{Bench, Setup};

/// A certificate in a folder that goes away with it.
pub(crate) struct Certificate(tempfile::TempDir);

impl Certificate {
    pub(crate) fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("chain.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self(folder)
    }

    /// Starts the proxy with it.
    pub(crate) fn serve(&self, setup: Setup) -> Bench {
        let path = |name: &str| self.0.path().join(name).display().to_string();
        let setup = setup.set("TLS_MODE", "files").set("TLS_CERT_FILE", &path("chain.pem"));
        let setup = setup.set("TLS_KEY_FILE", &path("key.pem"));
        setup.set("FORCE_HTTPS", "true").start()
    }
}

/// Of a client that believes anybody, with one protocol to agree on (RFC 7301).
pub(crate) fn config(protocol: &[u8]) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config
}

/// An open connection.
pub(crate) struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    /// With one protocol to agree on.
    pub(crate) fn open(port: u16, protocol: &[u8]) -> Self {
        let config = config(protocol);
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        assert_eq!(stream.conn.alpn_protocol(), Some(protocol));
        Self(stream)
    }

    /// Whether the other end took them; it may have closed.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).and_then(|()| self.0.flush()).is_ok()
    }

    /// Everything that arrives until the other end closes, or so many bytes.
    pub(crate) fn read_to_end(&mut self, most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < most {
            let more = self.read_some();
            if more.is_empty() {
                break;
            }
            all.extend(more);
        }
        all
    }

    /// What arrives next; nothing: the other end has closed.
    pub(crate) fn read_some(&mut self) -> Vec<u8> {
        let mut buffer = [0; 16 * 1024];
        match self.0.read(&mut buffer) {
            Ok(length) => buffer[..length].to_vec(),
            Err(error) if is_end(error.kind()) => Vec::new(),
            Err(error) => panic!("neither bytes nor an end: {error}"),
        }
    }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe)
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
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
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
