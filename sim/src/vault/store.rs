//! The keys of a vault: names, versions, attributes, release policies.
//!
//! Must not know: HTTP or callers. The rules are those that Key Vault enforces when keys are
//! made; their numbers (`AKV.SKR.…`) were seen on the service.

use std::collections::BTreeMap;

use rand::RngCore as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Service;
use super::error::Refusal;
use super::material::{Curve, KeyKind, Material};
use super::release_policy::ReleasePolicy;
use crate::encoding::{b64u, from_b64u};
use crate::json::set;

const MAX_KEYS: usize = 512;
const MAX_VERSIONS: usize = 32;
const MAX_NAME: usize = 127;
const POLICY_TYPE: &str = "application/json; charset=utf-8";
/// `key_ops` that the service knows.
const OPERATIONS: [&str; 8] =
    ["sign", "verify", "encrypt", "decrypt", "wrapKey", "unwrapKey", "import", "export"];

/// One version of a key.
#[derive(Clone)]
pub(super) struct KeyVersion {
    pub(super) id: String,
    pub(super) material: Material,
    kty: String,
    operations: Vec<String>,
    enabled: bool,
    pub(super) exportable: bool,
    created: u64,
    updated: u64,
    pub(super) policy: Option<StoredPolicy>,
    tags: Option<Value>,
}

/// A release policy as it is kept.
#[derive(Clone)]
pub(super) struct StoredPolicy {
    pub(super) policy: ReleasePolicy,
    data: Vec<u8>,
    content_type: String,
    immutable: bool,
}

/// The parameters of create, import and update, as far as they are looked at.
#[derive(Debug, Default, Deserialize)]
pub(super) struct KeyParameters {
    pub(super) kty: Option<String>,
    pub(super) key_size: Option<usize>,
    pub(super) crv: Option<Curve>,
    pub(super) key_ops: Option<Vec<String>>,
    /// A private JWK: import only.
    pub(super) key: Option<Map<String, Value>>,
    /// Whether an import goes into the HSM.
    #[serde(rename = "Hsm", alias = "hsm")]
    pub(super) hsm: Option<bool>,
    #[serde(default)]
    pub(super) attributes: Attributes,
    pub(super) release_policy: Option<PolicyParameters>,
    pub(super) tags: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Attributes {
    pub(super) enabled: Option<bool>,
    pub(super) exportable: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PolicyParameters {
    #[serde(rename = "contentType")]
    pub(super) content_type: Option<String>,
    /// base64url of the policy's JSON.
    pub(super) data: String,
    #[serde(default)]
    pub(super) immutable: bool,
}

impl PolicyParameters {
    fn store(&self, service: Service) -> Result<StoredPolicy, Refusal> {
        let data = from_b64u(&self.data)
            .map_err(|_| Refusal::bad("release_policy.data is not base64url"))?;
        let policy =
            ReleasePolicy::parse(&data).map_err(|error| Refusal::bad(error.to_string()))?;
        let data = match service {
            Service::KeyVault => policy.canonical().into_bytes(),
            Service::ManagedHsm => data,
        };
        Ok(StoredPolicy {
            policy,
            data,
            content_type: self.content_type.clone().unwrap_or_else(|| POLICY_TYPE.to_owned()),
            immutable: self.immutable,
        })
    }
}

impl StoredPolicy {
    fn show(&self) -> Value {
        json!({
            "contentType": self.content_type,
            "data": b64u(&self.data),
            "immutable": self.immutable,
        })
    }

    /// The form inside a release.
    pub(super) fn show_released(&self) -> Value {
        json!({"data": b64u(&self.data), "immutable": self.immutable})
    }
}

/// A key that is ready to be stored: everything about it was checked.
pub(super) struct NewKey {
    /// The version's identifier: 32 hexadecimal digits.
    pub(super) id: String,
    material: Material,
    kty: String,
    operations: Vec<String>,
    enabled: bool,
    exportable: bool,
    policy: Option<StoredPolicy>,
    tags: Option<Value>,
}

impl NewKey {
    /// Checks the parameters of a new key. The material is the caller's: generated, or imported.
    pub(super) fn check(
        parameters: &KeyParameters,
        kty: &str,
        material: Material,
        service: Service,
    ) -> Result<Self, Refusal> {
        let hsm = kty.ends_with("-HSM");
        if matches!(material, Material::Oct(_)) && service == Service::KeyVault {
            return Err(Refusal::bad("keys of type oct exist in a Managed HSM only"));
        }
        let exportable = parameters.attributes.exportable.unwrap_or(false);
        match (exportable, parameters.release_policy.is_some()) {
            (true, false) => {
                return Err(Refusal::bad(
                    "AKV.SKR.1004: Exportable keys must have release policy.",
                ));
            }
            (false, true) => {
                return Err(Refusal::bad(
                    "AKV.SKR.1005: Non-exportable keys must not have release policy.",
                ));
            }
            (true, true) if !hsm => {
                return Err(Refusal::bad("AKV.SKR.1006: Exportable keys must be HSM keys."));
            }
            _ => {}
        }
        let operations = match &parameters.key_ops {
            Some(operations) => operations.clone(),
            None => material.default_operations().iter().map(|&name| name.to_owned()).collect(),
        };
        if let Some(unknown) = operations.iter().find(|name| !OPERATIONS.contains(&name.as_str())) {
            return Err(Refusal::bad(format!("unknown key operation {unknown:?}")));
        }
        let policy = parameters.release_policy.as_ref();
        let mut id = [0; 16];
        rand::thread_rng().fill_bytes(&mut id);
        Ok(Self {
            id: hex::encode(id),
            kty: format!("{}{}", material.kty(), if hsm { "-HSM" } else { "" }),
            material,
            operations,
            enabled: parameters.attributes.enabled.unwrap_or(true),
            exportable,
            policy: policy.map(|policy| policy.store(service)).transpose()?,
            tags: parameters.tags.clone(),
        })
    }
}

/// All keys of one vault.
#[derive(Default)]
pub(super) struct KeyStore {
    keys: BTreeMap<String, Vec<KeyVersion>>,
}

impl KeyStore {
    /// Adds a version; the first makes the key.
    pub(super) fn add(
        &mut self,
        name: &str,
        new: NewKey,
        now: u64,
    ) -> Result<&KeyVersion, Refusal> {
        check_name(name)?;
        if self.keys.len() >= MAX_KEYS && !self.keys.contains_key(name) {
            return Err(Refusal::Conflict("the simulated vault is full".to_owned()));
        }
        let versions = self.keys.entry(name.to_owned()).or_default();
        if versions.len() >= MAX_VERSIONS {
            return Err(Refusal::Conflict("the key has too many versions".to_owned()));
        }
        versions.push(KeyVersion {
            id: new.id,
            material: new.material,
            kty: new.kty,
            operations: new.operations,
            enabled: new.enabled,
            exportable: new.exportable,
            created: now,
            updated: now,
            policy: new.policy,
            tags: new.tags,
        });
        versions.last().ok_or(Refusal::Internal)
    }

    /// A version, the newest when none is named.
    pub(super) fn get(&self, name: &str, version: Option<&str>) -> Result<&KeyVersion, Refusal> {
        self.keys
            .get(name)
            .and_then(|versions| match version {
                None => versions.last(),
                Some(id) => versions.iter().find(|version| version.id == id),
            })
            .ok_or_else(|| not_found(name, version))
    }

    /// Changes attributes, operations, tags or, while it is not immutable, the release policy.
    pub(super) fn update(
        &mut self,
        name: &str,
        version: Option<&str>,
        parameters: &KeyParameters,
        service: Service,
        now: u64,
    ) -> Result<&KeyVersion, Refusal> {
        let found = self.keys.get_mut(name).and_then(|versions| match version {
            None => versions.last_mut(),
            Some(id) => versions.iter_mut().find(|version| version.id == id),
        });
        let key = found.ok_or_else(|| not_found(name, version))?;
        if parameters.attributes.exportable.is_some_and(|wanted| wanted != key.exportable) {
            return Err(Refusal::bad(
                "AKV.SKR.1003: The exportable attribute of an existing key cannot be changed.",
            ));
        }
        if let Some(policy) = &parameters.release_policy {
            if !key.exportable {
                return Err(Refusal::bad(
                    "AKV.SKR.1005: Non-exportable keys must not have release policy.",
                ));
            }
            if key.policy.as_ref().is_some_and(|policy| policy.immutable) {
                return Err(Refusal::bad(
                    "AKV.SKR.1020: Immutable Key Release Policy cannot be modified.",
                ));
            }
            key.policy = Some(policy.store(service)?);
        }
        if let Some(enabled) = parameters.attributes.enabled {
            key.enabled = enabled;
        }
        if let Some(tags) = &parameters.tags {
            key.tags = Some(tags.clone());
        }
        key.updated = now;
        Ok(key)
    }
}

impl KeyVersion {
    /// Whether the key may be released, policy aside.
    pub(super) fn releasable(&self) -> Result<&StoredPolicy, Refusal> {
        if !self.enabled {
            let message = "Operation release is not allowed on a disabled key.";
            return Err(Refusal::Forbidden(message.to_owned()));
        }
        self.policy.as_ref().filter(|_| self.exportable).ok_or_else(|| {
            Refusal::Forbidden("Operation release is not allowed: not exportable.".to_owned())
        })
    }

    /// Kind, for a key that takes this one's place.
    pub(super) fn kind(&self) -> KeyKind {
        self.material.kind()
    }

    /// The members of the JWK that the service shows.
    pub(super) fn jwk(&self, base_url: &str, name: &str) -> Map<String, Value> {
        let mut jwk = self.material.public_members();
        jwk.insert("kid".to_owned(), json!(format!("{base_url}/keys/{name}/{}", self.id)));
        jwk.insert("kty".to_owned(), json!(self.kty));
        jwk.insert("key_ops".to_owned(), json!(self.operations));
        jwk
    }

    pub(super) fn attributes(&self) -> Value {
        json!({
            "enabled": self.enabled,
            "created": self.created,
            "updated": self.updated,
            "recoveryLevel": "CustomizedRecoverable+Purgeable",
            "recoverableDays": 7,
            "exportable": self.exportable,
        })
    }

    pub(super) fn tags(&self) -> Option<&Value> {
        self.tags.as_ref()
    }

    /// The KeyBundle of the API.
    pub(super) fn bundle(&self, base_url: &str, name: &str) -> Value {
        let mut bundle = json!({"key": self.jwk(base_url, name), "attributes": self.attributes()});
        if let Some(tags) = &self.tags {
            set(&mut bundle, "tags", tags.clone());
        }
        if let Some(policy) = &self.policy {
            set(&mut bundle, "release_policy", policy.show());
        }
        bundle
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(known) {
        Ok(())
    } else {
        Err(Refusal::bad("the key name may hold letters, digits and dashes"))
    }
}

fn not_found(name: &str, version: Option<&str>) -> Refusal {
    Refusal::KeyNotFound(match version {
        None => name.to_owned(),
        Some(version) => format!("{name}/{version}"),
    })
}
