//! TLS 1.3 to a server whose certificate is judged after the handshake, by its evidence.
//!
//! The handshake itself is verified in full: the server must sign it with the key of the certificate that it
//! shows. Whose key that is, the proof on this connection tells, before anything else is sent.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// RFC 9266: the label of `tls-exporter`.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// TLS 1.3 only, HTTP/2 only, no resumption, no early data.
pub(crate) fn client_config() -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let judged_later = Arc::new(JudgedByEvidence(provider.clone()));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider supports TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(judged_later)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// What a connection says about itself once its handshake is done: exporter and leaf certificate.
pub(crate) fn observe(connection: &ClientConnection) -> Option<([u8; 32], Vec<u8>)> {
    let exporter = connection.export_keying_material([0; 32], EXPORTER_LABEL, None).ok()?;
    let leaf = connection.peer_certificates()?.first()?;
    Some((exporter, leaf.to_vec()))
}

/// Accepts any certificate as such, and no signature but a good one by it.
#[derive(Debug)]
struct JudgedByEvidence(Arc<CryptoProvider>);

impl ServerCertVerifier for JudgedByEvidence {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // TLS 1.2 is not offered; its exporter does not bind the connection as the proof needs it.
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
