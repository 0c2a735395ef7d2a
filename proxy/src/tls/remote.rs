//! A TLS key that signs in `skr-sidecar`: what a handshake needs of it here.
//!
//! Handshakes are computed without pauses (`rustls::sign::Signer` is no future), so the thread that computes one
//! waits here for the signature, as it would for an RSA signature of its own. A thread with a runtime of its own asks
//! `skr-sidecar`, so that the answer does not need the thread that waits. Threads that wait are as many as serve
//! clients ([`crate::workers`]), which bounds what a flood of handshakes asks of `skr-sidecar`; and while `skr-sidecar` does not
//! answer, handshakes fail at once instead of holding up what runs.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use attestation::crypto::sha256;
use proto::skr::SignTlsRequest;
use proto::skr::skr_client::SkrClient;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{AlgorithmIdentifier, SubjectPublicKeyInfoDer, alg_id};
use service::listen::Local;
use tokio::sync::mpsc;

/// How long one handshake may wait for its signature.
const DEADLINE: Duration = Duration::from_millis(750);

/// For how long handshakes fail at once after one had to wait for [`DEADLINE`].
const PAUSE: Duration = Duration::from_secs(1);

/// Handshakes that may wait at once. More threads than that serve no clients.
const QUEUE: usize = 256;

/// How keys sign in TLS 1.3 (RFC 8446 section 4.2.3), by the algorithm of their SubjectPublicKeyInfo. The first one
/// that a client offers is taken.
const KINDS: [(AlgorithmIdentifier, SignatureAlgorithm, &[SignatureScheme]); 3] = [
    (alg_id::ECDSA_P256, SignatureAlgorithm::ECDSA, &[SignatureScheme::ECDSA_NISTP256_SHA256]),
    (alg_id::ECDSA_P384, SignatureAlgorithm::ECDSA, &[SignatureScheme::ECDSA_NISTP384_SHA384]),
    (
        alg_id::RSA_ENCRYPTION,
        SignatureAlgorithm::RSA,
        &[
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
        ],
    ),
];

/// The public half of the key, and the way to its signatures. Clones are the same key.
#[derive(Clone, Debug)]
pub(crate) struct RemoteKey {
    spki: SubjectPublicKeyInfoDer<'static>,
    spki_sha256: [u8; 32],
    algorithm: SignatureAlgorithm,
    schemes: &'static [SignatureScheme],
    signatures: Signatures,
}

impl RemoteKey {
    /// The key with this SubjectPublicKeyInfo (DER); `None` if TLS 1.3 here cannot use that kind.
    pub(crate) fn new(spki: &[u8], signatures: Signatures) -> Option<Self> {
        let named = algorithm(spki)?;
        let (_, algorithm, schemes) = KINDS.iter().find(|(kind, ..)| kind.as_ref() == named)?;
        Some(Self {
            spki: SubjectPublicKeyInfoDer::from(spki.to_vec()),
            spki_sha256: sha256(spki),
            algorithm: *algorithm,
            schemes,
            signatures,
        })
    }

    /// SHA-256 of the SubjectPublicKeyInfo: how `skr-sidecar` knows it.
    pub(crate) fn spki_sha256(&self) -> &[u8; 32] {
        &self.spki_sha256
    }
}

/// The content of the AlgorithmIdentifier in a SubjectPublicKeyInfo (RFC 5280 section 4.1).
fn algorithm(spki: &[u8]) -> Option<&[u8]> {
    sequence(sequence(spki)?)
}

/// The content of the SEQUENCE that DER begins with; what follows it is left alone.
fn sequence(der: &[u8]) -> Option<&[u8]> {
    let (length, rest) = match der {
        [0x30, length @ 0..=0x7f, rest @ ..] => (usize::from(*length), rest),
        [0x30, 0x81, length, rest @ ..] => (usize::from(*length), rest),
        [0x30, 0x82, high, low, rest @ ..] => {
            (usize::from(u16::from_be_bytes([*high, *low])), rest)
        }
        _ => return None,
    };
    rest.get(..length)
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = *self.schemes.iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(RemoteSigner { key: self.clone(), scheme }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.spki.as_ref()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

#[derive(Debug)]
struct RemoteSigner {
    key: RemoteKey,
    scheme: SignatureScheme,
}

impl Signer for RemoteSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let request = SignTlsRequest {
            spki_sha256: self.key.spki_sha256.to_vec(),
            scheme: u16::from(self.scheme).into(),
            message: message.to_vec(),
        };
        let failed = || rustls::Error::General("no signature came from skr-sidecar".to_owned());
        self.key.signatures.get(request).ok_or_else(failed)
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// A question, and where its answer is waited for. `None`: there is no signature.
type Job = (SignTlsRequest, SyncSender<Option<Vec<u8>>>);

/// The way to `skr-sidecar`, for threads that cannot pause. Clones share it.
#[derive(Clone)]
pub(crate) struct Signatures {
    jobs: mpsc::Sender<Job>,
    closed_until: Arc<Mutex<Option<Instant>>>,
}

impl std::fmt::Debug for Signatures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signatures")
    }
}

/// The thread that asks cannot be started.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct SignaturesError(#[from] std::io::Error);

impl Signatures {
    /// Starts the thread that asks. It ends with the last clone.
    pub(crate) fn start(skr: &Local) -> Result<Self, SignaturesError> {
        let (jobs, questions) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let skr = skr.clone();
        std::thread::Builder::new()
            .name("tls-signatures".to_owned())
            .spawn(move || runtime.block_on(ask(skr, questions)))?;
        Ok(Self { jobs, closed_until: Arc::default() })
    }

    /// Waits for one signature.
    fn get(&self, request: SignTlsRequest) -> Option<Vec<u8>> {
        if self.is_closed() {
            return None;
        }
        let (reply, answer) = sync_channel(1);
        self.jobs.try_send((request, reply)).ok()?;
        let answer = answer.recv_timeout(DEADLINE);
        if answer.is_err() {
            self.close();
        }
        answer.ok().flatten()
    }

    fn is_closed(&self) -> bool {
        let closed = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        closed.is_some_and(|until| Instant::now() < until)
    }

    fn close(&self) {
        tracing::warn!("skr-sidecar does not sign handshakes in time; they fail for a moment");
        let mut closed = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        *closed = Some(Instant::now() + PAUSE);
    }
}

/// Asks all questions at once, each within its deadline, until nobody can ask any more.
async fn ask(skr: Local, mut questions: mpsc::Receiver<Job>) {
    let skr = SkrClient::new(service::grpc::channel(&skr));
    while let Some((request, reply)) = questions.recv().await {
        let mut skr = skr.clone();
        tokio::spawn(async move {
            // Who asked has gone by then.
            let Ok(answer) = tokio::time::timeout(DEADLINE, skr.sign_tls(request)).await else {
                return;
            };
            let signature = answer.map(|answer| answer.into_inner().signature);
            if let Err(status) = &signature {
                let error = status as &dyn std::error::Error;
                tracing::warn!(error, "skr-sidecar did not sign a handshake");
            }
            let _ = reply.send(signature.ok());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spki(params: &rcgen::KeyPair) -> Vec<u8> {
        rcgen::PublicKeyData::subject_public_key_info(params)
    }

    fn key(spki: &[u8]) -> Option<RemoteKey> {
        let nowhere = "unix:/nowhere/at/all.sock".parse().unwrap();
        RemoteKey::new(spki, Signatures::start(&nowhere).unwrap())
    }

    #[test]
    fn each_kind_of_key_signs_by_its_schemes() {
        use SignatureScheme as Scheme;
        for (kind, schemes) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, &[Scheme::ECDSA_NISTP256_SHA256][..]),
            (&rcgen::PKCS_ECDSA_P384_SHA384, &[Scheme::ECDSA_NISTP384_SHA384]),
            (&rcgen::PKCS_RSA_SHA256, &[Scheme::RSA_PSS_SHA256, Scheme::RSA_PSS_SHA512]),
        ] {
            let pair = rcgen::KeyPair::generate_for(kind).unwrap();
            let key = key(&spki(&pair)).unwrap();
            assert_eq!(key.public_key().unwrap().as_ref(), spki(&pair));
            for scheme in schemes {
                assert_eq!(key.choose_scheme(&[*scheme]).unwrap().scheme(), *scheme);
            }
            for foreign in [Scheme::ED25519, Scheme::RSA_PKCS1_SHA256, Scheme::ECDSA_SHA1_Legacy] {
                assert!(key.choose_scheme(&[foreign]).is_none(), "{foreign:?}");
            }
        }
    }

    #[test]
    fn other_kinds_and_damaged_keys_are_none() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert!(key(&spki(&pair)).is_none());
        let good = spki(&rcgen::KeyPair::generate().unwrap());
        for length in 0..26 {
            assert!(key(&good[..length]).is_none(), "{length}");
        }
    }

    /// A handshake fails soon and the next ones at once, whatever `skr-sidecar` does.
    #[test]
    fn without_skr_sidecar_a_handshake_fails() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = key(&spki(&pair)).unwrap();
        let signer = key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
        assert!(signer.sign(b"anything").is_err());
        key.signatures.close();
        assert!(key.signatures.is_closed());
        assert!(signer.sign(b"anything").is_err());
    }
}
