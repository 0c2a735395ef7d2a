//! The keys and authorities under all parts of a world.
//!
//! Must not know: servers. Binaries that run one part each derive the same foundation from the
//! same seed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StartError;
use crate::identity::IdentityProvider;
use crate::pki::amd::AmdAuthority;
use crate::pki::microsoft::UvmSigner;
use crate::pki::tls::TlsAuthority;
use crate::pki::{KeyRing, PkiError, certificate};
use crate::seed::Seed;
use crate::tcb::Product;

/// The file with the AMD roots.
pub const AMD_ROOT: &str = "amd-root.pem";
/// The file with ASK and ARK of every product.
pub const AMD_CHAIN: &str = "amd-chain.pem";
/// The file with the root of the HTTPS servers.
pub const TLS_CA: &str = "tls-ca.pem";
/// The file with everything that a verifier needs: the ARKs, their ASKs, and the root of the image's signer.
pub const ANCHORS: &str = "anchors.pem";
/// The file with the did:x509 of the image's signer.
pub const UVM_DID: &str = "uvm-did.txt";
/// The file with the HOST_DATA of the first group, hexadecimal.
pub const HOST_DATA: &str = "host-data.txt";

/// Everything that derives from the seed and is slow to derive.
#[derive(Debug)]
pub struct Foundation {
    /// Private keys.
    pub keys: Arc<KeyRing>,
    /// The authority of the HTTPS servers.
    pub tls: TlsAuthority,
    /// The signer of utility VM images.
    pub uvm: UvmSigner,
    pub(crate) provider: IdentityProvider,
    pub(super) state: Option<PathBuf>,
}

impl Foundation {
    /// Derives the foundation. Blocks for seconds when `state` does not hold the keys yet.
    ///
    /// # Errors
    /// [`PkiError`] when a key cannot be derived.
    pub fn derive(seed: Seed, state: Option<PathBuf>) -> Result<Self, PkiError> {
        let keys = KeyRing::new(seed, state.clone());
        Ok(Self {
            tls: TlsAuthority::derive(&keys)?,
            uvm: UvmSigner::derive(&keys)?,
            provider: IdentityProvider::derive(&keys)?,
            keys: Arc::new(keys),
            state,
        })
    }

    /// AMD's authority for a product. Blocks for seconds when its keys are not cached.
    ///
    /// # Errors
    /// [`PkiError`] when a key cannot be derived.
    pub fn amd(&self, product: Product) -> Result<Arc<AmdAuthority>, PkiError> {
        Ok(Arc::new(AmdAuthority::derive(&self.keys, product)?))
    }

    /// A ring of the same seed and cache, for a service that owns one.
    #[must_use]
    pub fn key_ring(&self) -> KeyRing {
        KeyRing::new(self.keys.seed().clone(), self.state.clone())
    }

    /// The identity provider.
    #[must_use]
    pub fn provider(&self) -> &IdentityProvider {
        &self.provider
    }

    /// The keys of another world, for faults that show what does not belong here.
    #[must_use]
    pub fn foreign(&self) -> KeyRing {
        let seed = Seed::new(format!("{}/foreign", self.keys.seed()));
        KeyRing::new(seed, self.state.clone())
    }

    /// Writes the anchors of this world: what a verifier has to trust.
    ///
    /// # Errors
    /// [`StartError`] when a file cannot be written.
    pub fn write_anchors(
        &self,
        folder: &Path,
        authorities: &[Arc<AmdAuthority>],
    ) -> Result<(), StartError> {
        let roots = certificate::to_pem_chain(authorities.iter().map(|amd| amd.ark()))?;
        let chain =
            authorities.iter().map(|amd| amd.chain_pem()).collect::<Result<String, PkiError>>()?;
        write(folder, AMD_ROOT, &roots)?;
        let endorser = certificate::to_pem_chain(self.uvm.chain().last())?;
        write(folder, ANCHORS, &format!("{chain}{endorser}"))?;
        write(folder, AMD_CHAIN, &chain)?;
        self.write_tls_ca(folder)?;
        write(folder, UVM_DID, self.uvm.did())
    }

    /// Writes the HOST_DATA of a group.
    ///
    /// # Errors
    /// [`StartError`] when the file cannot be written.
    pub fn write_host_data(&self, folder: &Path, host_data: &[u8; 32]) -> Result<(), StartError> {
        write(folder, HOST_DATA, &hex::encode(host_data))
    }

    /// Writes the root of the HTTPS servers alone.
    ///
    /// # Errors
    /// [`StartError`] when the file cannot be written.
    pub fn write_tls_ca(&self, folder: &Path) -> Result<(), StartError> {
        write(folder, TLS_CA, &self.tls.root_pem()?)
    }
}

/// Writes one text file of a world's folder, which is created when it is missing.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> Result<(), StartError> {
    let path = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, text))
        .map_err(|source| StartError::File { path, source })
}

/// The URL of an HTTPS server; the default port is left out.
#[must_use]
pub fn https_url(host: &str, port: u16) -> String {
    match port {
        443 => format!("https://{host}"),
        _ => format!("https://{host}:{port}"),
    }
}
