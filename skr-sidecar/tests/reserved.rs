//! Reserved keys: released by the role for itself, after however many refusals, and used for one purpose each.

#![expect(clippy::unwrap_used, reason = "a test ends when its world fails")]

mod world;

use attestation::encoding::to_b64u;
use attestation::owner::{OwnerKey, OwnerStatement};
use attestation::wire::OwnerSignature;
use p256::pkcs8::EncodePrivateKey as _;
use proto::skr::{
    GetOwnerKeyRequest, GetStateKeyRequest, HoldTlsKeyRequest, ReleaseKeyRequest,
    SignEvidenceRequest, SignTlsRequest,
};
use serde_json::json;
use tonic::Code;

use world::World;
use world::vault::{Key, Misdeed};

fn ec_key() -> Key {
    use p256::elliptic_curve::sec1::ToEncodedPoint as _;
    let key = p256::SecretKey::random(&mut rand::thread_rng());
    let point = key.public_key().to_encoded_point(false);
    let published = json!({
        "kty": "EC-HSM", "crv": "P-256",
        "x": to_b64u(point.x().unwrap()), "y": to_b64u(point.y().unwrap()),
    });
    Key { published, secret: key.to_pkcs8_der().unwrap().as_bytes().to_vec(), policy: None }
}

fn spki_sha256(key: &Key) -> Vec<u8> {
    use p256::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
    let key = p256::SecretKey::from_pkcs8_der(&key.secret).unwrap();
    let spki = key.public_key().to_public_key_der().unwrap();
    attestation::crypto::sha256(spki.as_bytes()).to_vec()
}

async fn world_with(name: &'static str) -> World {
    world_of(name, "kept").await
}

async fn world_of(name: &'static str, kid: &'static str) -> World {
    World::start_with(move |vault| {
        let pairs = [("KEY_VAULT_URL", format!("https://{vault}")), (name, kid.to_owned())];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    })
    .await
}

fn statement(report_data: usize, manifest_sha256: usize) -> SignEvidenceRequest {
    SignEvidenceRequest {
        report_data: vec![7; report_data],
        manifest_sha256: vec![9; manifest_sha256],
    }
}

/// The key is asked for until the vault gives it; what asks for a signature meanwhile waits.
#[tokio::test]
async fn the_owners_key_signs_once_the_vault_releases_it() {
    let world = world_with("OWNER_KID").await;
    let key = ec_key();
    world.vault.misbehave([Misdeed::Refuse(403, "{}", Vec::new())]);
    world.vault.hold(key);
    let reply = world.role.keys().sign_evidence(statement(64, 32)).await.unwrap().into_inner();
    let spki = world.role.keys().get_owner_key(GetOwnerKeyRequest {}).await.unwrap();
    let pinned = OwnerKey::from_spki(&spki.into_inner().spki).unwrap();
    let signature = OwnerSignature { kid: reply.kid, alg: "ES256".to_owned(), sig: reply.sig };
    let said = OwnerStatement { signature, manifest_sha256: [9; 32] };
    assert!(said.verify(&pinned, &[7; 64]).is_ok());
    assert!(said.verify(&pinned, &[8; 64]).is_err());

    for (report_data, manifest) in [(63, 32), (65, 32), (0, 32), (64, 31), (64, 0)] {
        let status = world.role.keys().sign_evidence(statement(report_data, manifest)).await;
        assert_eq!(status.err().unwrap().code(), Code::InvalidArgument);
    }
    // It was released once, and is not handed out.
    let request = ReleaseKeyRequest { kid: "kept".to_owned(), ..Default::default() };
    let refused = world.role.keys().release_key(request).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(world.vault.requests().iter().all(|asked| asked.uri().path() == "/keys/kept/release"));
}

#[tokio::test]
async fn without_an_owner_nothing_is_signed() {
    let world = World::start().await;
    let spki = world.role.keys().get_owner_key(GetOwnerKeyRequest {}).await.unwrap();
    assert!(spki.into_inner().spki.is_empty());
    let refused = world.role.keys().sign_evidence(statement(64, 32)).await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("OWNER_KID"), "{}", refused.message());
    let hold = HoldTlsKeyRequest { spki_sha256: vec![0; 32] };
    let refused = world.role.keys().hold_tls_key(hold).await.err().unwrap();
    assert!(refused.message().contains("TLS_KID"), "{}", refused.message());
}

fn handshake(spki_sha256: Vec<u8>, context: &str) -> SignTlsRequest {
    let message = format!("{}TLS 1.3, {context} CertificateVerify\0", " ".repeat(64));
    let message = [message.into_bytes(), vec![0xab; 32]].concat();
    // ecdsa_secp256r1_sha256
    SignTlsRequest { spki_sha256, scheme: 0x0403, message }
}

#[tokio::test]
async fn the_tls_key_signs_handshakes_and_a_newer_version_takes_over() {
    let world = world_with("TLS_KID").await;
    let (old, new) = (ec_key(), ec_key());
    world.vault.hold(old.clone());
    let hold = |key: &Key| HoldTlsKeyRequest { spki_sha256: spki_sha256(key) };
    world.role.keys().hold_tls_key(hold(&old)).await.unwrap();
    let mut keys = world.role.keys();
    keys.sign_tls(handshake(spki_sha256(&old), "server")).await.unwrap();
    let refused = keys.sign_tls(handshake(spki_sha256(&old), "client")).await.err().unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = keys.sign_tls(handshake(spki_sha256(&new), "server")).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable, "not the key that is at hand");

    // The certificate was renewed for a newer version; handshakes that began with the old one go on.
    world.vault.hold(new.clone());
    keys.hold_tls_key(hold(&new)).await.unwrap();
    keys.sign_tls(handshake(spki_sha256(&new), "server")).await.unwrap();
    keys.sign_tls(handshake(spki_sha256(&old), "server")).await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_another_key_is_told_from_a_key_that_is_late() {
    let world = world_with("TLS_KID").await;
    world.vault.hold(ec_key());
    let other = HoldTlsKeyRequest { spki_sha256: spki_sha256(&ec_key()) };
    let refused = world.role.keys().hold_tls_key(other.clone()).await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("TLS_CERT_FILE"), "{}", refused.message());
    let asked = world.vault.requests().len();
    let refused = world.role.keys().hold_tls_key(other).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable, "the vault is not asked without end");
    assert_eq!(world.vault.requests().len(), asked);
}

/// What is derived depends on the version; the key itself is handed to nobody.
#[tokio::test]
async fn a_key_of_stored_state_is_derived_of_the_version_that_is_asked_for() {
    let world = world_of("STATE_KID", "kept/0a").await;
    world.vault.hold(ec_key());
    let derived = async |version: &str| {
        let request = GetStateKeyRequest { version: version.to_owned() };
        world.role.keys().get_state_key(request).await.map(tonic::Response::into_inner)
    };
    let current = derived("").await.ok().unwrap();
    assert_eq!(current.key.len(), 32);
    assert_eq!(current.version, "0a");
    let again = derived(&current.version).await.ok().unwrap();
    assert!(again.key == current.key && again.version == current.version);
    let older = derived("0b").await.ok().unwrap();
    assert!(older.version == "0b" && older.key != current.key);
    assert_eq!(derived("../x").await.err().unwrap().code(), Code::InvalidArgument);
    let request = ReleaseKeyRequest { kid: "kept".to_owned(), ..Default::default() };
    let refused = world.role.keys().release_key(request).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn without_a_state_key_nothing_is_derived() {
    let world = world_with("OWNER_KID").await;
    let asked = world.role.keys().get_state_key(GetStateKeyRequest::default()).await;
    assert_eq!(asked.err().unwrap().code(), Code::FailedPrecondition);
}
