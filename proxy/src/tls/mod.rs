//! The proxy's side of TLS: which certificate a connection gets, and what that connection is bound to.

pub(crate) mod key;
pub(crate) mod leaf;
pub(crate) mod released;
mod remote;
pub(crate) mod rotation;

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use service::roots::provider;

pub(crate) use leaf::Leaf;

/// RFC 9266: the label and length of `tls-exporter`.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// What a connection can be proved by. Made once, when its handshake is done.
#[derive(Clone)]
pub(crate) struct Channel {
    /// `None` before TLS 1.3, whose exporter RFC 9266 does not give these properties.
    pub(crate) exporter: Option<[u8; 32]>,
    /// The certificate that this very handshake showed.
    pub(crate) leaf: Arc<Leaf>,
}

impl Channel {
    pub(crate) fn of(connection: &rustls::ServerConnection, leaf: Arc<Leaf>) -> Self {
        let is_13 = connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        let exporter = is_13
            .then(|| connection.export_keying_material([0; 32], EXPORTER_LABEL, None).ok())
            .flatten();
        Self { exporter, leaf }
    }
}

/// Which protocol versions a mode speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// TLS 1.3 only.
    Tls13,
    /// TLS 1.2 and up.
    Tls12AndUp,
}

/// A server configuration that shows one certificate and nothing else.
///
/// No tickets, no session storage, no early data: a resumed or early connection would skip the handshake that
/// the proof is about.
pub(crate) fn server_config(
    certified: CertifiedKey,
    versions: Versions,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[_] = match versions {
        Versions::Tls13 => &[&rustls::version::TLS13],
        Versions::Tls12AndUp => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
