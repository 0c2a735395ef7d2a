//! A release as callers ask for it, over both protocols.

use proto::skr::ReleaseKeyRequest;
use serde_json::{Value, json};

use super::World;
use super::client::{Answer, post};
use super::vault::Key;

/// The sample of the contract.
pub(crate) fn oct_key() -> Key {
    let ops = ["encrypt", "decrypt", "wrapKey", "unwrapKey"];
    let published = json!({"kty": "oct-HSM", "key_ops": ops});
    Key { published, secret: (0..32).collect(), policy: None }
}

/// [`oct_key`] as it is handed out.
pub(crate) const OCT_JWK: &str = r#"{"k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","key_ops":["encrypt","decrypt","wrapKey","unwrapKey"],"kty":"oct"}"#;

/// What callers send.
pub(crate) fn request(world: &World) -> Value {
    json!({"maa_endpoint": "maa.test", "akv_endpoint": world.vault.host(), "kid": "tls"})
}

/// A release over HTTP.
pub(crate) async fn release(world: &World) -> Answer {
    post(world.role.http(), "/key/release", &request(world)).await
}

/// A release by gRPC.
pub(crate) async fn release_by_grpc(world: &World, kid: &str) -> Result<Vec<u8>, tonic::Status> {
    let request = ReleaseKeyRequest { kid: kid.to_owned(), ..Default::default() };
    world.role.keys().release_key(request).await.map(|reply| reply.into_inner().jwk)
}
