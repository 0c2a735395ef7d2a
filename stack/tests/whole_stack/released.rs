//! `TLS_MODE=released`: a certificate of an ordinary authority, whose key the owner's vault releases into the group.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use attestation::crypto::sha256;
use attestation::encoding::from_b64u;
use client::Connector;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
use rsa::pkcs1::EncodeRsaPublicKey as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use sim::vault::KeySpec;
use sim::world::{GroupConfig, WorldConfig, aci_release_policy};
use stack::{Group, RoleName, StartError};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{PROGRAM, Running, fail, http_post, pmc, start_with, text};
use crate::tls::is_of_the_version;

/// The vault's keys for TLS: one on a curve; `example-rsa` is the other kind.
fn with_site(world: &mut WorldConfig) {
    world.groups.push(GroupConfig::new("site"));
    let policy = aci_release_policy("${MAA}", "${HOST_DATA}");
    let spec = serde_json::json!(
        {"name": "site", "kty": "EC-HSM", "crv": "P-256", "release_policy": policy}
    );
    let spec: KeySpec = serde_json::from_value(spec).unwrap();
    world.vault.as_mut().unwrap().keys.push(spec);
}

/// An authority that clients believe, as they believe those of the public web.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).unwrap();
        let (certificate, pem) = (own.der().clone(), own.pem());
        Self { issuer: Issuer::new(params, key), certificate, pem }
    }

    /// Writes a chain for a public key, and says what its leaf is.
    fn issue(&self, key: &impl PublicKeyData, file: &Path) -> CertificateDer<'static> {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let params = CertificateParams::new(names).unwrap();
        let leaf = params.signed_by(key, &self.issuer).unwrap();
        let next = file.with_extension("next");
        std::fs::write(&next, format!("{}{}", leaf.pem(), self.pem)).unwrap();
        std::fs::rename(next, file).unwrap();
        leaf.der().clone()
    }

    /// An ordinary client: it knows this authority and nothing of attestation.
    fn client(&self, version: &'static rustls::SupportedProtocolVersion) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(service::roots::provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    /// The leaf that a handshake showed, which proved its key.
    async fn shown(&self, group: &Group) -> std::io::Result<CertificateDer<'static>> {
        let stream = connect(&self.client(&rustls::version::TLS13), group).await?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap();
        Ok(certificates[0].clone().into_owned())
    }
}

async fn connect(
    client: &TlsConnector,
    group: &Group,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let url = group.url().await.unwrap();
    let stream = TcpStream::connect(url.trim_start_matches("https://")).await?;
    client.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The public half of a key of the vault.
struct PublicHalf {
    bytes: Vec<u8>,
    algorithm: &'static rcgen::SignatureAlgorithm,
}

impl PublicKeyData for PublicHalf {
    fn der_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

/// The public half of a key as the vault shows it, as an authority takes it.
async fn public_half(running: &Running, kid: &str) -> PublicHalf {
    let jwk = running.stack.vault_key(kid).await.unwrap();
    let part = |name: &str| from_b64u(jwk[name].as_str().unwrap()).unwrap();
    if jwk["kty"].as_str().unwrap().starts_with("RSA") {
        let number = |name| rsa::BigUint::from_bytes_be(&part(name));
        let key = rsa::RsaPublicKey::new(number("n"), number("e")).unwrap();
        let bytes = key.to_pkcs1_der().unwrap().as_bytes().to_vec();
        PublicHalf { bytes, algorithm: &rcgen::PKCS_RSA_SHA256 }
    } else {
        let bytes = [vec![4], part("x"), part("y")].concat();
        PublicHalf { bytes, algorithm: &rcgen::PKCS_ECDSA_P256_SHA256 }
    }
}

async fn group(running: &Running, folder: &Path, kid: &str) -> Result<Group, StartError> {
    let mut places = running.stack.places_of("site", folder).unwrap();
    let chain = folder.join("chain.pem").display().to_string();
    places.variables = vec![
        (RoleName::Proxy, "TLS_MODE", "released".to_owned()),
        (RoleName::Proxy, "TLS_CERT_FILE", chain),
        (RoleName::SkrSidecar, "TLS_KID", kid.to_owned()),
    ];
    Group::start(PROGRAM.into(), places, |_| {}).await
}

fn running(group: Result<Group, StartError>) -> Group {
    group.unwrap_or_else(|error| fail(&error))
}

#[tokio::test]
async fn a_released_key_serves_and_proves() {
    let stack = start_with(with_site).await;
    let authority = Authority::new();
    for kid in ["site", "example-rsa"] {
        let folder = tempfile::tempdir().unwrap();
        let key = public_half(&stack, kid).await;
        let leaf = authority.issue(&key, &folder.path().join("chain.pem"));
        let group = running(group(&stack, folder.path(), kid).await);

        assert_eq!(authority.shown(&group).await.unwrap(), leaf, "{kid}: for ordinary clients");
        let older = connect(&authority.client(&rustls::version::TLS12), &group).await;
        assert!(is_of_the_version(&older.unwrap_err()), "{kid}");

        // For everybody else it is proved like any other connection.
        let url = group.url().await.unwrap();
        let words = [vec!["verify".to_owned(), url.clone()], stack.trusting()].concat();
        let verified = pmc(&words).await;
        assert_eq!(verified.status.code(), Some(0), "{kid}: {}", text(&verified));
        assert!(text(&verified).contains("released"), "{}", text(&verified));
        let connector = Connector::new(
            url.parse().unwrap(),
            stack.stack.anchors().unwrap(),
            stack.stack.policy(),
        );
        assert!(connector.connect().await.is_ok(), "{kid}");
        assert_eq!(connector.record().await.unwrap().certificate, leaf.as_ref());

        the_generic_routes_refuse(&stack, &group, kid).await;
        assert!(group.stop().await.is_empty());
    }
    stack.stop().await;
}

async fn the_generic_routes_refuse(stack: &Running, group: &Group, kid: &str) {
    let host = |url: &str| url.trim_start_matches("https://").to_owned();
    let places = stack.stack.group.places();
    for spelling in [kid.to_owned(), kid.to_uppercase(), format!("{kid}/0a")] {
        let body = serde_json::json!({
            "maa_endpoint": host(&places.maa), "akv_endpoint": host(&places.vault), "kid": spelling,
        });
        let address = group.skr_url().await.unwrap().trim_start_matches("http://").to_owned();
        let (status, answer) = http_post(&address, "/key/release", "", &body.to_string()).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, 403, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains("reserved"), "{answer}");
    }
}

#[tokio::test]
async fn a_chain_for_another_key_is_refused_with_a_reason() {
    let stack = start_with(with_site).await;
    let folder = tempfile::tempdir().unwrap();
    Authority::new().issue(&KeyPair::generate().unwrap(), &folder.path().join("chain.pem"));
    let refused = group(&stack, folder.path(), "site").await.err().unwrap();
    let StartError::Role { role, printed } = refused else { fail(&refused) };
    assert_eq!(role, RoleName::Proxy);
    for words in ["another key than that of the certificate", "TLS_CERT_FILE", "TLS_KID"] {
        assert!(printed.contains(words), "{words:?} is not in {printed}");
    }
    stack.stop().await;
}

/// A renewed chain is shown to new connections without a restart; one that does not fit changes nothing; and a
/// restarted `skr-sidecar` has the key again.
#[tokio::test]
async fn a_renewed_chain_is_picked_up() {
    let stack = start_with(with_site).await;
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let chain = folder.path().join("chain.pem");
    let key = public_half(&stack, "site").await;
    let first = authority.issue(&key, &chain);
    let mut group = running(group(&stack, folder.path(), "site").await);
    assert_eq!(authority.shown(&group).await.unwrap(), first);

    // Whoever can write the file cannot make another key serve.
    authority.issue(&KeyPair::generate().unwrap(), &chain);
    group.crash(RoleName::SkrSidecar).await.unwrap();
    group.until_ready(RoleName::SkrSidecar).await.unwrap_or_else(|error| fail(&error));
    assert_eq!(eventually(&authority, &group, |_| true).await, sha256(&first));

    let second = authority.issue(&key, &chain);
    assert_ne!(first, second);
    let wanted = sha256(&second);
    assert_eq!(eventually(&authority, &group, |shown| shown == wanted).await, wanted);
    assert!(group.stop().await.is_empty());
    stack.stop().await;
}

/// The digest of the first leaf that pleases, of connections made one after the other.
async fn eventually(
    authority: &Authority,
    group: &Group,
    pleases: impl Fn([u8; 32]) -> bool,
) -> [u8; 32] {
    let found = async {
        loop {
            if let Ok(shown) = authority.shown(group).await
                && pleases(sha256(&shown))
            {
                return sha256(&shown);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap()
}
