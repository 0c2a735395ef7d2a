//! Setting up a vault: its configuration, and the keys that exist from the start.
//!
//! Must not know: requests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use axum::Router;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Service;
use super::access::{Access, Permission};
use super::error::Refusal;
use super::material::{Curve, KeyKind, Material, MaterialError};
use super::routes::{self, Vault};
use super::store::{KeyParameters, KeyStore, NewKey};
use super::target::{ClientError, TargetVerifier};
use crate::clock;
use crate::encoding::b64u;
use crate::faults::{Control, Switch, VaultFault};
use crate::identity::IdentityProvider;
use crate::json::set;
use crate::pki::tls::TlsAuthority;
use crate::pki::{KeyRing, PkiError};

/// A key that exists from the start. Without `jwk` its material derives from the seed and the
/// key's name; its version derives from both and its place in the list.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    /// Name in the vault.
    pub name: String,
    /// `RSA-HSM`, `EC-HSM` or `oct-HSM`; without `-HSM` the key cannot be exportable.
    pub kty: String,
    /// Bits of an RSA or oct key.
    #[serde(default)]
    pub key_size: Option<usize>,
    /// Curve of an EC key.
    #[serde(default)]
    pub crv: Option<Curve>,
    /// A private JWK with the material.
    #[serde(default)]
    pub jwk: Option<Map<String, Value>>,
    /// What the key may do.
    #[serde(default)]
    pub key_ops: Option<Vec<String>>,
    /// The release policy; it makes the key exportable.
    #[serde(default)]
    pub release_policy: Option<Value>,
    /// Whether the policy can never be changed.
    #[serde(default = "immutable")]
    pub immutable: bool,
}

const fn immutable() -> bool {
    true
}

/// What a vault is given.
#[derive(Debug)]
pub struct VaultConfig {
    /// Its own URL, the beginning of key ids; no slash at the end.
    pub base_url: String,
    /// The host names that the certificate of its signatures is valid for.
    pub names: Vec<String>,
    /// Which service it is.
    pub service: Service,
    /// Keys from the start.
    pub keys: Vec<KeySpec>,
    /// Permissions by object id.
    pub access: BTreeMap<String, BTreeSet<Permission>>,
    /// Addresses of attestation services that the system's resolver does not know.
    pub resolve: Vec<(String, SocketAddr)>,
    /// Keys of another world, for the fault that signs with them.
    pub foreign: Arc<KeyRing>,
    /// How it misbehaves.
    pub faults: Switch<VaultFault>,
}

/// A vault that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A key or certificate of its own.
    #[error("the vault's keys")]
    Pki(#[from] PkiError),
    /// Its outgoing side.
    #[error("the vault's client")]
    Client(#[from] ClientError),
    /// The material of a configured key.
    #[error("key {name:?}")]
    Material {
        /// Which key.
        name: String,
        /// Why.
        #[source]
        source: MaterialError,
    },
    /// A configured key that the service would not make either.
    #[error("key {name:?} is refused: {message}")]
    Refused {
        /// Which key.
        name: String,
        /// Why.
        message: String,
    },
}

/// All routes of a vault.
///
/// # Errors
/// [`SetupError`] when a key cannot be derived, or the service would not take one.
pub fn router(
    config: VaultConfig,
    keys: Arc<KeyRing>,
    authority: &TlsAuthority,
) -> Result<Router, SetupError> {
    let control = Control::default().with("vault", &config.faults);
    let mut store = KeyStore::default();
    for (position, spec) in config.keys.iter().enumerate() {
        add(&mut store, spec, position, &keys, config.service)?;
    }
    let vault = Vault {
        provider: IdentityProvider::derive(&keys).map_err(PkiError::Key)?,
        signer: authority.jws_signer(&keys, config.service.signer_name(), &config.names)?,
        targets: TargetVerifier::new(authority.root(), &config.resolve)?,
        access: Access { granted: config.access },
        base_url: config.base_url,
        names: config.names,
        service: config.service,
        store: Mutex::new(store),
        keys,
        foreign: config.foreign,
        foreign_signer: OnceLock::new(),
        previous: Mutex::new(None),
        faults: config.faults,
    };
    Ok(Router::new().fallback(routes::dispatch).with_state(Arc::new(vault)).merge(control.router()))
}

fn add(
    store: &mut KeyStore,
    spec: &KeySpec,
    position: usize,
    keys: &KeyRing,
    service: Service,
) -> Result<(), SetupError> {
    let material = match &spec.jwk {
        Some(jwk) => Material::from_jwk(jwk),
        None => derive(spec, keys)?,
    };
    let failed = |source| SetupError::Material { name: spec.name.clone(), source };
    let refused = |refusal: Refusal| SetupError::Refused {
        name: spec.name.clone(),
        message: match refusal {
            Refusal::BadParameter(message) | Refusal::Conflict(message) => message,
            other => format!("{other:?}"),
        },
    };
    let mut parameters = json!({
        "kty": spec.kty,
        "attributes": {"exportable": spec.release_policy.is_some()},
    });
    if let Some(operations) = &spec.key_ops {
        set(&mut parameters, "key_ops", operations.clone());
    }
    if let Some(policy) = &spec.release_policy {
        let data = b64u(policy.to_string().as_bytes());
        let policy = json!({"data": data, "immutable": spec.immutable});
        set(&mut parameters, "release_policy", policy);
    }
    let parameters: KeyParameters =
        serde_json::from_value(parameters).map_err(|_| failed(MaterialError::Unusable))?;
    let mut new = NewKey::check(&parameters, &spec.kty, material.map_err(failed)?, service)
        .map_err(refused)?;
    // A restarted vault has the same versions, since others hold key ids in their configuration.
    new.id =
        hex::encode(keys.seed().bytes::<16>(&format!("vault/version/{position}/{}", spec.name)));
    store.add(&spec.name, new, clock::now()).map_err(refused)?;
    Ok(())
}

/// RSA keys go through the key ring, which caches them.
fn derive(spec: &KeySpec, keys: &KeyRing) -> Result<Result<Material, MaterialError>, SetupError> {
    let label = format!("vault/key/{}", spec.name);
    Ok(match KeyKind::read(&spec.kty, spec.key_size, spec.crv) {
        Ok(KeyKind::Rsa { bits }) => {
            Ok(Material::Rsa(Box::new(keys.rsa(&label, bits).map_err(PkiError::Key)?)))
        }
        Ok(kind) => Material::generate(kind, &mut keys.seed().rng(&label)),
        Err(error) => Err(error),
    })
}
