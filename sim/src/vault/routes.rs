//! The HTTP side of a vault.
//!
//! Must not know: how a release is composed, or what a policy means. Every request is checked in
//! the service's order: access token, permission, API version, then the rest.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Service;
use super::access::{Access, Permission};
use super::error::Refusal;
use super::material::{KeyKind, Material};
use super::release::{Release, ReleaseRequest};
use super::store::{KeyParameters, KeyStore, KeyVersion, NewKey};
use super::target::TargetVerifier;
use crate::clock;
use crate::faults::{Switch, VaultFault};
use crate::http::{answer, body};
use crate::identity::IdentityProvider;
use crate::pki::tls::{JwsIdentity, TlsAuthority};
use crate::pki::{KeyRing, PkiError};

const API_VERSIONS: [&str; 4] = ["7.3", "7.4", "7.5", "7.6"];
const MAX_BODY: usize = 256 * 1024;

/// A running vault.
pub(super) struct Vault {
    pub(super) base_url: String,
    pub(super) names: Vec<String>,
    pub(super) service: Service,
    pub(super) provider: IdentityProvider,
    pub(super) access: Access,
    pub(super) signer: JwsIdentity,
    pub(super) targets: TargetVerifier,
    pub(super) store: Mutex<KeyStore>,
    pub(super) keys: Arc<KeyRing>,
    pub(super) foreign: Arc<KeyRing>,
    pub(super) foreign_signer: OnceLock<JwsIdentity>,
    /// The JWS of the last release, for the fault that sends it again.
    pub(super) previous: Mutex<Option<String>>,
    pub(super) faults: Switch<VaultFault>,
}

/// What a path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Operation {
    Get { version: Option<String> },
    Create,
    Import,
    Update { version: Option<String> },
    Release { version: Option<String> },
}

impl Operation {
    /// An empty version segment means the newest, as Azure's client libraries write it.
    fn of(method: &Method, path: &str) -> Option<(Self, String)> {
        let mut segments = path.strip_prefix("/keys/")?.split('/');
        let name = segments.next().filter(|name| !name.is_empty())?.to_owned();
        let rest: Vec<&str> = segments.collect();
        let version = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let operation = match (method, rest.as_slice()) {
            (&Method::GET, []) => Self::Get { version: None },
            (&Method::GET, [id]) => Self::Get { version: version(id) },
            (&Method::PUT, []) => Self::Import,
            (&Method::POST, ["create"]) => Self::Create,
            (&Method::PATCH, []) => Self::Update { version: None },
            (&Method::PATCH, [id]) => Self::Update { version: version(id) },
            (&Method::POST, ["release"]) => Self::Release { version: None },
            (&Method::POST, [id, "release"]) => Self::Release { version: version(id) },
            _ => return None,
        };
        Some((operation, name))
    }

    const fn permission(&self) -> Permission {
        match self {
            Self::Get { .. } => Permission::Get,
            Self::Create => Permission::Create,
            Self::Import => Permission::Import,
            Self::Update { .. } => Permission::Update,
            Self::Release { .. } => Permission::Release,
        }
    }
}

pub(super) async fn dispatch(State(vault): State<Arc<Vault>>, request: Request) -> Response {
    let (service, tenant) = (vault.service, vault.provider.tenant().to_owned());
    match vault.handle(request).await {
        Ok(response) => response,
        Err(refusal) => refusal.respond(service, &tenant),
    }
}

impl Vault {
    async fn handle(self: Arc<Self>, request: Request) -> Result<Response, Refusal> {
        let path = request.uri().path().to_owned();
        let (operation, name) = Operation::of(request.method(), &path).ok_or(Refusal::NotFound)?;
        let fault = match operation {
            Operation::Release { .. } => self.fault(&name).await?,
            _ => None,
        };
        let needed = operation.permission();
        self.access.check(request.headers(), needed, &self.provider, self.service, clock::now())?;
        let version = api_version(request.uri().query().unwrap_or_default())?;
        let bytes = match body::read(request.into_body(), MAX_BODY).await {
            Ok(bytes) => bytes,
            Err(body::BodyError::TooLarge { .. }) => return Err(Refusal::TooLarge),
            Err(body::BodyError::Broken) => return Err(Refusal::bad("the body ended early")),
        };
        let bundle = match operation {
            Operation::Get { version } => {
                let store = self.store();
                store.get(&name, version.as_deref())?.bundle(&self.base_url, &name)
            }
            Operation::Create | Operation::Import => {
                let parameters: KeyParameters = json_body(&bytes)?;
                let import = operation == Operation::Import;
                blocking(move || self.add(&name, &parameters, import)).await?
            }
            Operation::Update { version } => {
                let parameters: KeyParameters = json_body(&bytes)?;
                let (service, now) = (self.service, clock::now());
                let mut store = self.store();
                let key = store.update(&name, version.as_deref(), &parameters, service, now)?;
                key.bundle(&self.base_url, &name)
            }
            Operation::Release { version: key_version } => {
                let request: ReleaseRequest = json_body(&bytes)?;
                return self.release(name, key_version, version, request, fault).await;
            }
        };
        Ok(answer::json(StatusCode::OK, &bundle))
    }

    /// The fault of this release. Those that are a refusal are one here.
    async fn fault(&self, name: &str) -> Result<Option<VaultFault>, Refusal> {
        let Some(mut active) = self.faults.strike() else { return Ok(None) };
        match &active.fault {
            VaultFault::Unauthorized => Err(Refusal::Unauthorized("refused by a fault".to_owned())),
            VaultFault::Forbidden => Err(Refusal::Permission { operation: "release" }),
            VaultFault::NotFound => Err(Refusal::KeyNotFound(name.to_owned())),
            VaultFault::TooManyRequests { retry_after } => Err(Refusal::Throttled(*retry_after)),
            VaultFault::ServerError => Err(Refusal::Internal),
            VaultFault::Stall => {
                active.stall().await;
                Ok(None)
            }
            VaultFault::Truncated
            | VaultFault::Oversized
            | VaultFault::EmptyX5c
            | VaultFault::ForeignX5c
            | VaultFault::WrongEnc
            | VaultFault::WrongKid
            | VaultFault::ShortCiphertext
            | VaultFault::KeySwapped
            | VaultFault::ReplayPrevious => Ok(Some(active.fault)),
        }
    }

    fn add(&self, name: &str, parameters: &KeyParameters, import: bool) -> Result<Value, Refusal> {
        let unusable = |error: super::MaterialError| Refusal::bad(error.to_string());
        let (kty, material) = if import {
            let jwk = parameters.key.as_ref().ok_or_else(|| Refusal::bad("key is missing"))?;
            let material = Material::from_jwk(jwk).map_err(unusable)?;
            let kty = jwk.get("kty").and_then(Value::as_str).unwrap_or_default();
            let hsm = parameters.hsm.unwrap_or(false) || kty.ends_with("-HSM");
            (format!("{}{}", material.kty(), if hsm { "-HSM" } else { "" }), material)
        } else {
            let kty = parameters.kty.clone().ok_or_else(|| Refusal::bad("kty is missing"))?;
            let kind =
                KeyKind::read(&kty, parameters.key_size, parameters.crv).map_err(unusable)?;
            (kty, Material::generate(kind, &mut rand::thread_rng()).map_err(unusable)?)
        };
        let new = NewKey::check(parameters, &kty, material, self.service)?;
        let mut store = self.store();
        let key = store.add(name, new, clock::now())?;
        Ok(key.bundle(&self.base_url, name))
    }

    async fn release(
        self: Arc<Self>,
        name: String,
        key_version: Option<String>,
        api_version: String,
        request: ReleaseRequest,
        fault: Option<VaultFault>,
    ) -> Result<Response, Refusal> {
        let key = self.store().get(&name, key_version.as_deref())?.clone();
        let policy = key.releasable()?.policy.clone();
        let target = self
            .targets
            .verify(&request.target, |issuer| policy.names(issuer), clock::now())
            .await
            .map_err(|_| Refusal::unverified())?;
        if !policy.allows(&target.issuer, &target.claims) {
            return Err(Refusal::policy());
        }
        let vault = Arc::clone(&self);
        let wanted = fault.clone();
        let jws = blocking(move || {
            let release = Release {
                request: &request,
                api_version: &api_version,
                base_url: &vault.base_url,
                name: &name,
                version: key_version.as_deref(),
                signer: vault.signer(wanted.as_ref())?,
                swapped: vault.swapped(&key, wanted.as_ref())?,
                key: &key,
                claims: &target.claims,
                fault: wanted.as_ref(),
            };
            release.answer()
        })
        .await?;
        let previous = lock(&self.previous).replace(jws.clone());
        let jws = match (&fault, previous) {
            (Some(VaultFault::ReplayPrevious), Some(previous)) => previous,
            _ => jws,
        };
        let value = json!({"value": jws});
        Ok(match fault {
            Some(VaultFault::Truncated) => answer::truncated(&value),
            Some(VaultFault::Oversized) => answer::oversized(&value),
            _ => answer::json(StatusCode::OK, &value),
        })
    }

    fn signer(&self, fault: Option<&VaultFault>) -> Result<&JwsIdentity, Refusal> {
        if fault != Some(&VaultFault::ForeignX5c) {
            return Ok(&self.signer);
        }
        if let Some(signer) = self.foreign_signer.get() {
            return Ok(signer);
        }
        let derive = || -> Result<JwsIdentity, PkiError> {
            let authority = TlsAuthority::derive(&self.foreign)?;
            authority.jws_signer(&self.foreign, self.service.signer_name(), &self.names)
        };
        let signer = derive().map_err(|_| Refusal::Internal)?;
        Ok(self.foreign_signer.get_or_init(|| signer))
    }

    fn swapped(
        &self,
        key: &KeyVersion,
        fault: Option<&VaultFault>,
    ) -> Result<Option<Material>, Refusal> {
        if fault != Some(&VaultFault::KeySwapped) {
            return Ok(None);
        }
        let material = match key.kind() {
            KeyKind::Rsa { bits } => self
                .keys
                .rsa("vault/swapped", bits)
                .map(|key| Material::Rsa(Box::new(key)))
                .map_err(|_| Refusal::Internal)?,
            kind => {
                Material::generate(kind, &mut rand::thread_rng()).map_err(|_| Refusal::Internal)?
            }
        };
        Ok(Some(material))
    }

    fn store(&self) -> MutexGuard<'_, KeyStore> {
        lock(&self.store)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Key generation and RSA take too long for a thread that serves connections.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Refusal::Internal))
}

fn api_version(query: &str) -> Result<String, Refusal> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("api-version="))
        .filter(|version| API_VERSIONS.contains(version))
        .map(str::to_owned)
        .ok_or_else(|| Refusal::bad("api-version is missing or not supported"))
}

fn json_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| Refusal::bad(format!("request body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_what_the_service_means_by_them() {
        let of = |method: Method, path: &str| Operation::of(&method, path);
        let release = |version: Option<&str>| {
            Some((Operation::Release { version: version.map(str::to_owned) }, "k".to_owned()))
        };
        assert_eq!(of(Method::POST, "/keys/k/release"), release(None));
        assert_eq!(of(Method::POST, "/keys/k//release"), release(None));
        assert_eq!(of(Method::POST, "/keys/k/v1/release"), release(Some("v1")));
        assert_eq!(of(Method::GET, "/keys/k/release/x/y"), None);
        assert_eq!(of(Method::GET, "/keys/"), None);
        assert_eq!(of(Method::DELETE, "/keys/k"), None);
        assert_eq!(of(Method::PUT, "/keys/k"), Some((Operation::Import, "k".to_owned())));
    }
}
