//! The server's TLS key: it signs handshakes of TLS 1.3 here, so that it need not leave this process.
//!
//! What it signs has exactly one form (RFC 8446 section 4.4.3): 64 spaces, the context string of a server, a zero
//! byte and a hash. So a caller cannot have it sign a certificate, a token, or a client's part of a handshake.
//!
//! Must not know who connects to whom.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attestation::crypto::sha256;
use rustls::SignatureScheme;
use rustls::sign::SigningKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::time::Instant;

use crate::held::Held;
use crate::key::{self, KeyError, Published};
use crate::kid::KeyId;
use crate::release::{ReleaseError, Releases};

/// What a server's CertificateVerify signs, but for the hash at its end.
const CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";

/// Spaces before it.
const PADDING: usize = 64;

/// The transcript's hashes of TLS 1.3's cipher suites: SHA-256 and SHA-384.
const HASHES: [usize; 2] = [32, 48];

/// Schemes of TLS 1.3 for the kinds of key that are taken.
const SCHEMES: [SignatureScheme; 5] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
];

/// How long a caller waits for the key of the start.
const FIRST: Duration = Duration::from_secs(20);

/// The vault is asked for a newer version this seldom.
const PAUSE: Duration = Duration::from_secs(5);

/// Newer versions that are kept: handshakes that began with the one before may still run.
const NEWER: usize = 2;

/// One key. The provider zeroes its memory when it is dropped.
pub(crate) struct TlsKey {
    key: Arc<dyn SigningKey>,
    spki_sha256: [u8; 32],
}

/// Why there is no signature, or no key to sign with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// There is none.
    #[error("no TLS key is configured: name it in TLS_KID")]
    NotConfigured,
    /// The vault has not released it yet.
    #[error("the vault has not released it yet: the log of skr-sidecar says why")]
    NotYet,
    /// The vault has another key than the caller means.
    #[error(
        "the newest version of TLS_KID in the vault is another key than that of the certificate: put the chain that was issued for it into TLS_CERT_FILE, or name the right version in TLS_KID"
    )]
    OtherKey,
    /// The vault was asked a moment ago.
    #[error("the vault was asked for a newer version a moment ago: try again in {} seconds", PAUSE.as_secs())]
    Pause,
    /// A newer version could not be released.
    #[error("the newest version of the key was not released")]
    Release(#[from] ReleaseError),
    /// The task that signs ended without an answer.
    #[error("the task that signs broke off")]
    BrokeOff,
    /// The digest of a public key is none.
    #[error("spki_sha256 must have 32 bytes")]
    Digest,
    /// It is not what a server signs in a handshake.
    #[error(
        "only the content of a server's CertificateVerify of TLS 1.3 is signed (RFC 8446 section 4.4.3)"
    )]
    Message,
    /// The key does not sign by this scheme.
    #[error("the key does not sign by this scheme")]
    Scheme,
    /// The provider did not sign.
    #[error("signing failed")]
    Signing(#[source] rustls::Error),
}

impl TlsKey {
    /// Takes over what the vault released.
    pub(crate) fn new(published: &Published, released: &[u8]) -> Result<Self, KeyError> {
        const NEEDED: KeyError = KeyError::Unfit("RSA, or EC on P-256 or P-384");
        key::check(published, released)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(released));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).map_err(|_| NEEDED)?;
        key.choose_scheme(&SCHEMES).ok_or(NEEDED)?;
        let spki_sha256 = sha256(&key.public_key().ok_or(NEEDED)?);
        Ok(Self { key, spki_sha256 })
    }

    fn sign(&self, scheme: SignatureScheme, message: &[u8]) -> Result<Vec<u8>, TlsError> {
        if !is_certificate_verify(message) {
            return Err(TlsError::Message);
        }
        let offered = SCHEMES.contains(&scheme).then_some(scheme).ok_or(TlsError::Scheme)?;
        let signer = self.key.choose_scheme(&[offered]).ok_or(TlsError::Scheme)?;
        signer.sign(message).map_err(TlsError::Signing)
    }
}

fn is_certificate_verify(message: &[u8]) -> bool {
    let Some((padding, rest)) = message.split_at_checked(PADDING) else { return false };
    let hash = rest.strip_prefix(CONTEXT);
    padding.iter().all(|byte| *byte == b' ')
        && hash.is_some_and(|hash| HASHES.contains(&hash.len()))
}

/// The versions of the key that are at hand.
pub(crate) struct TlsKeys {
    releases: Arc<Releases>,
    kid: KeyId,
    first: Held<TlsKey>,
    newer: Mutex<Vec<Arc<TlsKey>>>,
    /// When the vault was last asked for a newer one. Held while it is asked: one asks, others wait.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl TlsKeys {
    /// Starts to release the key. Must be called inside a runtime.
    pub(crate) fn start(releases: Arc<Releases>, kid: KeyId) -> Self {
        let first = Held::start(releases.clone(), kid.clone(), TlsKey::new);
        Self { releases, kid, first, newer: Mutex::default(), asked: tokio::sync::Mutex::default() }
    }

    /// Makes sure that the key with this public half is at hand.
    pub(crate) async fn hold(&self, spki_sha256: &[u8]) -> Result<(), TlsError> {
        let wanted: &[u8; 32] = spki_sha256.try_into().map_err(|_| TlsError::Digest)?;
        self.first.within(FIRST).await.ok_or(TlsError::NotYet)?;
        if self.find(wanted).await.is_some() {
            return Ok(());
        }
        let mut asked = self.asked.lock().await;
        if self.find(wanted).await.is_some() {
            return Ok(());
        }
        if asked.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(TlsError::Pause);
        }
        *asked = Some(Instant::now());
        let key = self.releases.release_reserved(&self.kid, TlsKey::new).await?;
        if key.spki_sha256 != *wanted {
            return Err(TlsError::OtherKey);
        }
        let mut newer = self.newer.lock().unwrap_or_else(PoisonError::into_inner);
        newer.insert(0, Arc::new(key));
        newer.truncate(NEWER);
        Ok(())
    }

    /// A server's signature in a handshake, by the key with this public half.
    pub(crate) async fn sign(
        &self,
        spki_sha256: &[u8],
        scheme: u32,
        message: &[u8],
    ) -> Result<Vec<u8>, TlsError> {
        let wanted: &[u8; 32] = spki_sha256.try_into().map_err(|_| TlsError::Digest)?;
        let key = self.find(wanted).await.ok_or(TlsError::NotYet)?;
        let scheme = u16::try_from(scheme).map_err(|_| TlsError::Scheme)?;
        let message = message.to_vec();
        // Milliseconds for a long RSA key, and others wait on this thread.
        let sign = move || key.sign(SignatureScheme::from(scheme), &message);
        tokio::task::spawn_blocking(sign).await.map_err(|_| TlsError::BrokeOff)?
    }

    async fn find(&self, wanted: &[u8; 32]) -> Option<Arc<TlsKey>> {
        let newer = {
            let newer = self.newer.lock().unwrap_or_else(PoisonError::into_inner);
            newer.iter().find(|key| key.spki_sha256 == *wanted).cloned()
        };
        if newer.is_some() {
            return newer;
        }
        let first = self.first.within(Duration::ZERO).await;
        first.filter(|key| key.spki_sha256 == *wanted)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    };
    use p256::pkcs8::EncodePrivateKey as _;
    use serde_json::{Value, json};

    use super::*;

    fn key(kty: &str, der: &[u8]) -> Result<TlsKey, KeyError> {
        let published: Value = json!({"kty": kty});
        TlsKey::new(&serde_json::from_value(published).unwrap(), der)
    }

    fn message(hash: usize) -> Vec<u8> {
        [vec![b' '; PADDING], CONTEXT.to_vec(), vec![0xab; hash]].concat()
    }

    #[test]
    fn a_handshake_is_signed_and_verifies() {
        use p256::elliptic_curve::sec1::ToEncodedPoint as _;
        let secret = p256::SecretKey::random(&mut rand::thread_rng());
        let ec = key("EC-HSM", secret.to_pkcs8_der().unwrap().as_bytes()).ok().unwrap();
        let point = secret.public_key().to_encoded_point(false);
        for hash in HASHES {
            let message = message(hash);
            let signature = ec.sign(SignatureScheme::ECDSA_NISTP256_SHA256, &message).unwrap();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point.as_bytes())
                .verify(&message, &signature)
                .unwrap();
        }
        let wrong = ec.sign(SignatureScheme::RSA_PSS_SHA256, &message(32));
        assert!(matches!(wrong, Err(TlsError::Scheme)));
    }

    #[test]
    fn an_rsa_key_signs_by_pss_only() {
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
        use aws_lc_rs::rsa::{KeyPair, KeySize};
        use aws_lc_rs::signature::KeyPair as _;
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let rsa = key("RSA-HSM", der.as_ref()).ok().unwrap();
        let message = message(48);
        let signature = rsa.sign(SignatureScheme::RSA_PSS_SHA256, &message).unwrap();
        UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, pair.public_key().as_ref())
            .verify(&message, &signature)
            .unwrap();
        // TLS 1.2's scheme would make this an oracle for older protocols.
        let old = rsa.sign(SignatureScheme::RSA_PKCS1_SHA256, &message);
        assert!(matches!(old, Err(TlsError::Scheme)));
    }

    #[test]
    fn nothing_but_a_servers_handshake_is_signed() {
        let secret = p384::SecretKey::random(&mut rand::thread_rng());
        let ec = key("EC", secret.to_pkcs8_der().unwrap().as_bytes()).ok().unwrap();
        let sign = |message: &[u8]| ec.sign(SignatureScheme::ECDSA_NISTP384_SHA384, message);
        assert!(sign(&message(48)).is_ok());
        let client = String::from_utf8(message(0)).unwrap().replace("server", "client");
        let with_hash = |text: &[u8]| [text, &[0xab; 32]].concat();
        let good = message(0);
        for bad in [
            Vec::new(),
            message(0),
            message(31),
            message(33),
            message(64),
            with_hash(client.as_bytes()),
            with_hash(&good[1..]),
            with_hash(&[b" ".as_slice(), &good].concat()),
            with_hash(&[b"\t".as_slice(), &good[1..]].concat()),
            with_hash(&good[..good.len() - 1]),
            b"a certificate to be signed".to_vec(),
        ] {
            assert!(matches!(sign(&bad), Err(TlsError::Message)), "{bad:?}");
        }
    }

    #[test]
    fn other_kinds_of_key_are_refused() {
        use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair};
        let der = EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap();
        let der = der.to_pkcs8v1().unwrap();
        assert!(matches!(key("EC", der.as_ref()).err(), Some(KeyError::Unfit(_))));
        assert!(matches!(key("oct-HSM", &[1; 32]).err(), Some(KeyError::Unfit(_))));
    }
}
