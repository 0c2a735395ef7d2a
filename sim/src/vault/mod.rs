//! Azure Key Vault and Managed HSM: keys that leave only for guests that a policy describes.
//!
//! Must not know: how evidence is appraised; it believes attestation tokens of the issuers that
//! a key's release policy names, after verifying them as the service does.

mod access;
mod error;
mod material;
mod release;
pub mod release_policy;
mod routes;
mod setup;
mod store;
mod target;
mod wrap;

pub use access::Permission;
pub use material::{Curve, KeyKind, MaterialError};
pub use setup::{KeySpec, SetupError, VaultConfig, router};
pub use target::ClientError;
pub use wrap::WrapAlgorithm;

use serde::{Deserialize, Serialize};

use crate::identity::{MANAGED_HSM_RESOURCE, VAULT_RESOURCE};

/// Which of the two services a vault is. They differ in the audience of access tokens, in the
/// key types they hold, and in what they do to a release policy's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Key Vault, Premium: RSA-HSM and EC-HSM.
    #[default]
    KeyVault,
    /// Managed HSM: oct-HSM as well.
    ManagedHsm,
}

impl Service {
    /// The audience of access tokens.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::KeyVault => VAULT_RESOURCE,
            Self::ManagedHsm => MANAGED_HSM_RESOURCE,
        }
    }

    /// The common name of the certificate that signs releases.
    const fn signer_name(self) -> &'static str {
        match self {
            Self::KeyVault => "vault.azure.net",
            Self::ManagedHsm => "managedhsm.azure.net",
        }
    }

    /// As clients tell them apart: by the host name.
    #[must_use]
    pub fn of_host(host: &str) -> Self {
        if host.contains("managedhsm") { Self::ManagedHsm } else { Self::KeyVault }
    }
}
