//! Which certification authorities a role believes when it calls an outside party by TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::env::{Class, Reader, Var};

/// The variable's row, for the tables of roles that call out.
pub const VAR: Var = Var {
    name: "SSL_CERT_FILE",
    class: Class::Measured,
    default: None,
    help: "PEM file of the authorities to believe instead of the public web's. It must lie in the image: what the host can write, it can replace.",
};

/// The authorities, loaded.
#[derive(Clone, Debug)]
pub struct Roots {
    store: Arc<RootCertStore>,
    public: bool,
}

/// The file of authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// It cannot be read or is no PEM.
    #[error("cannot read certificates from {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: rustls_pki_types::pem::Error,
    },
    /// One of its certificates is none.
    #[error("a certificate in {path} cannot be used")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: rustls::Error,
    },
    /// There is none in it.
    #[error("no certificate in {path}")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Roots {
    /// Reads [`VAR`]: the file it names, or Mozilla's list as `webpki-roots` carries it.
    pub fn read(env: &mut Reader<'_>) -> Option<Self> {
        let Some(path) = env.optional::<PathBuf>(VAR.name) else {
            return Some(Self::public());
        };
        Self::from_file(&path).inspect_err(|why| env.refuse(VAR.name, why)).ok()
    }

    /// The public web's authorities.
    #[must_use]
    pub fn public() -> Self {
        let store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Self { store: Arc::new(store), public: true }
    }

    /// The authorities of a PEM file, and no others.
    ///
    /// # Errors
    ///
    /// [`RootsError`]; an empty file is one, never "believe nobody" or "believe everybody".
    pub fn from_file(path: &Path) -> Result<Self, RootsError> {
        let unreadable = |source| RootsError::Unreadable { path: path.to_owned(), source };
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
            store
                .add(certificate.map_err(unreadable)?)
                .map_err(|source| RootsError::Invalid { path: path.to_owned(), source })?;
        }
        if store.is_empty() {
            return Err(RootsError::Empty { path: path.to_owned() });
        }
        Ok(Self { store: Arc::new(store), public: false })
    }

    /// Whether these are the public web's.
    #[must_use]
    pub fn are_public(&self) -> bool {
        self.public
    }

    /// The trust anchors themselves, for checks of other chains than TLS's.
    #[must_use]
    pub fn store(&self) -> &Arc<RootCertStore> {
        &self.store
    }

    /// A TLS client configuration that believes these roots: TLS 1.2 or 1.3, no client certificate.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default TLS versions (rustls)")
            .with_root_certificates(self.store.clone())
            .with_no_client_auth()
    }
}

/// The one cryptography provider of the tree.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
