//! TLS configurations of the simulated world, both ends (RFC 8446, RFC 5246).
//!
//! Must not know: which server. The provider is passed by hand, so that no process-wide default
//! has to be installed.

use std::sync::Arc;

use der::Encode as _;
use p256::pkcs8::EncodePrivateKey as _;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_cert::Certificate;

use crate::pki::PkiError;
use crate::pki::tls::ServerIdentity;

/// A TLS configuration that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Key or certificate do not encode.
    #[error("TLS key or certificate")]
    Pki(#[from] PkiError),
    /// rustls refuses key, certificate or protocol versions.
    #[error("TLS configuration refused")]
    Config(#[from] rustls::Error),
}

/// TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1.
///
/// # Errors
/// [`TlsError`] when rustls refuses key or certificate.
pub fn server(identity: &ServerIdentity) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = identity.chain.iter().map(certificate).collect::<Result<Vec<_>, _>>()?;
    let key = identity.key.to_pkcs8_der().map_err(PkiError::Pkcs8)?;
    let key = PrivatePkcs8KeyDer::from(key.as_bytes().to_vec());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key.into())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A client that trusts one root and nothing else.
///
/// # Errors
/// [`TlsError`] when rustls refuses the root.
pub fn client(root: &Certificate) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(root)?)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn certificate(certificate: &Certificate) -> Result<CertificateDer<'static>, PkiError> {
    Ok(CertificateDer::from(certificate.to_der()?))
}
