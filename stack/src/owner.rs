//! What the owner of a group knows of the keys in their vault: public halves, read as `az keyvault key show` does.

use attestation::encoding::from_b64u;
use attestation::policy::OwnerKey;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use serde_json::Value;
use service::outbound::{Call, Limits, Outbound};
use service::roots::Roots;
use sim::vault::Service;
use sim::world::World;

use crate::group::Places;
use crate::stack::StartError;

/// The name of the owner's key in the vault.
pub(crate) const KID: &str = "owner";

/// SubjectPublicKeyInfo of a key on P-256 (RFC 5480 section 2), up to the coordinates of its point.
const P256: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// Their signing key.
pub(crate) async fn public_key(
    world: &World,
    identity: &str,
    places: &Places,
) -> Result<OwnerKey, StartError> {
    let key = vault_key(world, identity, places, KID).await?;
    spki(&key).ok_or_else(|| StartError::Unexpected("the vault shows no owner's key".to_owned()))
}

/// The public half of a key in the vault of these places as JWK, read with an identity that may.
pub(crate) async fn vault_key(
    world: &World,
    identity: &str,
    places: &Places,
    kid: &str,
) -> Result<Value, StartError> {
    let unexpected = |what: &dyn std::error::Error| {
        StartError::Unexpected(format!("the key {kid} of the vault: {}", service::chain(what)))
    };
    let roots = Roots::from_file(&places.tls_roots).map_err(|error| unexpected(&error))?;
    let token =
        world.access_token(identity, Service::KeyVault).map_err(|error| unexpected(&error))?;
    let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
    let bearer = bearer.map_err(|error| unexpected(&error))?;
    let url = format!("{}/keys/{kid}?api-version=7.4", places.vault);
    let url = url.parse().map_err(|_| StartError::Unexpected(format!("{url} is no URL")))?;
    let vault = Outbound::new("the vault", &roots, Limits::default());
    let answer = vault.repeatedly(&Call::get(url).header(AUTHORIZATION, bearer)).await;
    let answer = answer.map_err(|error| unexpected(&error))?;
    let answer: Value = serde_json::from_slice(&answer.body).map_err(|error| unexpected(&error))?;
    let key = answer.get("key").cloned();
    key.ok_or_else(|| StartError::Unexpected(format!("the vault shows no key {kid}")))
}

fn spki(key: &Value) -> Option<OwnerKey> {
    let coordinate = |name: &str| from_b64u(key.get(name)?.as_str()?);
    let spki = [P256.to_vec(), coordinate("x")?, coordinate("y")?].concat();
    OwnerKey::from_spki(&spki).ok()
}
