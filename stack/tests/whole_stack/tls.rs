//! The server's side of TLS: what a client may ask for and does not get.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::start;

/// A client that believes any certificate and would gladly resume.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let provider = service::roots::provider();
        let algorithms = &provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        service::roots::provider().signature_verification_algorithms.supported_schemes()
    }
}

fn config(versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    ClientConfig::builder_with_provider(service::roots::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible))
        .with_no_client_auth()
}

async fn connect(
    address: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config.clone()).connect(name, stream).await
}

/// Whether the server said that it was the version of TLS that it did not take.
pub(crate) fn is_of_the_version(error: &std::io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<Error>());
    error == Some(&Error::AlertReceived(AlertDescription::ProtocolVersion))
}

/// One request, so that tickets, had the server any, would have come.
async fn health(stream: &mut TlsStream<TcpStream>) -> String {
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await.unwrap();
    answer
}

/// Without a ticket there is no early data either: RFC 8446 section 2.3.
#[tokio::test]
async fn nothing_is_resumed() {
    let running = start().await;
    let url = running.stack.group.url().await.unwrap();
    let address = url.trim_start_matches("https://");
    let config = Arc::new(config(&[&rustls::version::TLS13]));
    for _ in 0..3 {
        let mut stream = connect(address, &config).await.unwrap();
        assert!(health(&mut stream).await.contains("\"status\":\"healthy\""));
        let session = stream.get_ref().1;
        assert_ne!(session.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(
            session.tls13_tickets_received(),
            0,
            "a ticket would let a handshake be skipped, and early data be sent"
        );
    }
    running.stop().await;
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let running = start().await;
    let url = running.stack.group.url().await.unwrap();
    let config = Arc::new(config(&[&rustls::version::TLS12]));
    let refused = connect(url.trim_start_matches("https://"), &config).await.unwrap_err();
    assert!(is_of_the_version(&refused), "{refused}");
    running.stop().await;
}

/// The certificate brings its own evidence, for discovery: genuine, and bound to its key and end of life.
#[tokio::test]
async fn the_certificate_carries_evidence_for_its_key() {
    use attestation::certificate::Certificate;
    use attestation::evidence::ID_PE_CMW;
    use attestation::{Evidence, Expect, appraise, binding, crypto, verify};

    let running = start().await;
    let shown = running.stack.connector().await.unwrap().record().await.unwrap().certificate;
    let certificate = Certificate::from_der(&shown).unwrap();
    let value = certificate.extension(&ID_PE_CMW).unwrap();
    let evidence = Evidence::from_certificate_extension(value).unwrap();
    let spki = crypto::sha256(&certificate.spki().unwrap());
    let now = service::clock::unix_now();
    let guest = verify(&evidence, &running.stack.anchors().unwrap(), now).unwrap();
    let bound = Expect::Value(binding::tls_certificate(&spki, certificate.validity().1));
    let mut policy = running.stack.policy();
    policy.endorsement = Expect::unchecked("a certificate has no room for it");
    policy.owner_key = Expect::unchecked("the owner signs proofs of connections");
    policy.measurement = Some(Expect::unchecked("not what this test is about"));
    assert!(appraise(guest, &policy, &bound).is_ok());
    running.stop().await;
}
