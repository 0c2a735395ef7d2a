//! `TLS_MODE=released`: a certificate chain from a file, for a key of the owner's vault that signs in `skr-sidecar`.
//!
//! A chain of a public authority lets clients that know nothing of attestation connect. For everybody else nothing
//! changes: proofs are bound to connections, never to the key alone.
//!
//! The path of the file is measured, its content is not, and need not be: a chain whose leaf is not for the vault's
//! key is refused, whoever put it there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto::skr::HoldTlsKeyRequest;
use proto::skr::skr_client::SkrClient;
use rustls::sign::CertifiedKey;
use service::listen::Local;
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::Channel;

use super::leaf::{Chain, Leaf, LeafError};
use super::remote::{RemoteKey, Signatures, SignaturesError};
use super::rotation::Current;
use super::{Versions, server_config};

/// The first key is waited for this long; then the process gives up and is started anew.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often the file is looked at.
const POLL: Duration = Duration::from_secs(5);

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReleasedError {
    #[error(transparent)]
    Chain(#[from] LeafError),
    #[error(
        "the key of the certificate in {0} is neither RSA nor EC on P-256 or P-384: have a chain issued for another key, and name that in TLS_KID"
    )]
    Kind(String),
    #[error("the task that reads the chain's file broke off")]
    BrokeOff,
    #[error("the threads for signatures cannot be set up")]
    Signatures(#[from] SignaturesError),
    /// Trying again does not help.
    #[error("skr-sidecar has no key for the certificate: {0}")]
    Refused(String),
    #[error("skr-sidecar has no key for the certificate yet")]
    NotYet(#[source] Box<tonic::Status>),
    #[error("skr-sidecar had no key for the certificate within {} s", PATIENCE.as_secs())]
    Patience,
}

/// Who makes leaves of chains.
struct Maker {
    file: PathBuf,
    skr: SkrClient<Channel>,
    signatures: Signatures,
}

/// Reads the chain, waits until `skr-sidecar` has its key, and follows the file from then on.
pub(crate) async fn follow(skr: &Local, file: PathBuf) -> Result<Current, ReleasedError> {
    let client = SkrClient::new(service::grpc::channel(skr));
    let maker = Maker { file, skr: client, signatures: Signatures::start(skr)? };
    let first = tokio::time::timeout(PATIENCE, maker.make_until_done());
    let first = first.await.map_err(|_| ReleasedError::Patience)??;
    let (sender, receiver) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = sender.closed() => return,
            }
            let shown = sender.borrow().certificate_sha256;
            match maker.newer_than(&shown).await {
                Ok(None) => {}
                Ok(Some(next)) => {
                    tracing::info!(not_after = next.not_after, "the chain was renewed");
                    sender.send_replace(Arc::new(next));
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the chain file cannot be used; the one before stays");
                }
            }
        }
    });
    Ok(Current::following(receiver))
}

impl Maker {
    async fn make_until_done(&self) -> Result<Leaf, ReleasedError> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.make(self.chain().await?).await {
                Err(error @ ReleasedError::NotYet(_)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the TLS key is not there yet; trying again");
                }
                done => return done,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// The leaf of the file's chain, unless it is that one.
    async fn newer_than(&self, shown: &[u8; 32]) -> Result<Option<Leaf>, ReleasedError> {
        let chain = self.chain().await?;
        if chain.leaf_sha256() == *shown {
            return Ok(None);
        }
        self.make(chain).await.map(Some)
    }

    /// The file may lie on storage of the host's, which may answer when it likes.
    async fn chain(&self) -> Result<Chain, ReleasedError> {
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || Chain::read(&file)).await;
        Ok(read.map_err(|_| ReleasedError::BrokeOff)??)
    }

    async fn make(&self, chain: Chain) -> Result<Leaf, ReleasedError> {
        let named = || Path::display(&self.file).to_string();
        let key = RemoteKey::new(&chain.spki, self.signatures.clone());
        let key = key.ok_or_else(|| ReleasedError::Kind(named()))?;
        self.hold(key.spki_sha256()).await?;
        let certified = CertifiedKey::new(chain.certificates.clone(), Arc::new(key));
        let config = server_config(certified, Versions::Tls13).map_err(LeafError::Tls)?;
        Ok(chain.into_leaf(config))
    }

    async fn hold(&self, spki_sha256: &[u8; 32]) -> Result<(), ReleasedError> {
        let request = HoldTlsKeyRequest { spki_sha256: spki_sha256.to_vec() };
        match self.skr.clone().hold_tls_key(request).await {
            Ok(_) => Ok(()),
            Err(status) if is_final(status.code()) => {
                Err(ReleasedError::Refused(status.message().to_owned()))
            }
            Err(status) => Err(ReleasedError::NotYet(Box::new(status))),
        }
    }
}

/// Whether the same question gets the same answer, as long as nobody changes configuration, chain or vault.
fn is_final(code: Code) -> bool {
    matches!(code, Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented)
}

#[cfg(test)]
mod tests {
    use proto::skr::skr_server::{Skr, SkrServer};
    use proto::skr::{
        GetOwnerKeyReply, GetOwnerKeyRequest, GetSecretsReply, GetSecretsRequest, HoldTlsKeyReply,
        ReleaseKeyReply, ReleaseKeyRequest, SignEvidenceReply, SignEvidenceRequest, SignTlsReply,
        SignTlsRequest,
    };
    use service::Shutdown;
    use service::listen::Listener;
    use tonic::{Request, Response, Status};

    use super::*;

    /// A `skr-sidecar` that holds one key, and says of any other what the real one does.
    struct Holder([u8; 32]);

    type Answer<T> = Result<Response<T>, Status>;

    #[tonic::async_trait]
    impl Skr for Holder {
        async fn hold_tls_key(&self, asked: Request<HoldTlsKeyRequest>) -> Answer<HoldTlsKeyReply> {
            match asked.get_ref().spki_sha256 == self.0 {
                true => Ok(Response::new(HoldTlsKeyReply {})),
                false => Err(Status::failed_precondition("another key")),
            }
        }

        async fn release_key(&self, _: Request<ReleaseKeyRequest>) -> Answer<ReleaseKeyReply> {
            Err(Status::unimplemented("not here"))
        }

        async fn get_owner_key(&self, _: Request<GetOwnerKeyRequest>) -> Answer<GetOwnerKeyReply> {
            Err(Status::unimplemented("not here"))
        }

        async fn sign_evidence(
            &self,
            _: Request<SignEvidenceRequest>,
        ) -> Answer<SignEvidenceReply> {
            Err(Status::unimplemented("not here"))
        }

        async fn sign_tls(&self, _: Request<SignTlsRequest>) -> Answer<SignTlsReply> {
            Err(Status::unimplemented("not here"))
        }

        async fn get_state_key(
            &self,
            _: Request<proto::skr::GetStateKeyRequest>,
        ) -> Answer<proto::skr::GetStateKeyReply> {
            Err(Status::unimplemented("not here"))
        }

        async fn get_secrets(&self, _: Request<GetSecretsRequest>) -> Answer<GetSecretsReply> {
            Err(Status::unimplemented("not here"))
        }
    }

    /// A chain for `key`, in the maker's file.
    fn write(maker: &Maker, key: &rcgen::KeyPair) {
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&maker.file, params.self_signed(key).unwrap().pem()).unwrap();
    }

    fn spki_sha256(key: &rcgen::KeyPair) -> [u8; 32] {
        attestation::crypto::sha256(&rcgen::PublicKeyData::subject_public_key_info(key))
    }

    async fn maker(folder: &Path, holds: [u8; 32], shutdown: &Shutdown) -> Maker {
        let address: Local = format!("unix:{}/skr.sock", folder.display()).parse().unwrap();
        let listener = Listener::bind(address.address()).await.unwrap();
        let router = service::grpc::server().add_service(SkrServer::new(Holder(holds)));
        let shutdown = shutdown.clone();
        tokio::spawn(async move { service::grpc::serve(router, listener, &shutdown).await });
        Maker {
            file: folder.join("chain.pem"),
            skr: SkrClient::new(service::grpc::channel(&address)),
            signatures: Signatures::start(&address).unwrap(),
        }
    }

    /// Whoever can write the file gets nothing by it: only a chain for the vault's key is taken.
    #[tokio::test]
    async fn only_a_chain_for_the_key_is_taken_and_only_a_new_one() {
        let (folder, shutdown) = (tempfile::tempdir().unwrap(), Shutdown::default());
        let (own, other) =
            (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let maker = maker(folder.path(), spki_sha256(&own), &shutdown).await;

        write(&maker, &own);
        let first = maker.make_until_done().await.ok().unwrap();
        assert_eq!(first.spki_sha256, spki_sha256(&own));
        let shown = first.certificate_sha256;
        assert!(maker.newer_than(&shown).await.ok().unwrap().is_none(), "nothing has changed");

        write(&maker, &own);
        let second = maker.newer_than(&shown).await.ok().unwrap().unwrap();
        assert_ne!(second.certificate_sha256, shown);

        write(&maker, &other);
        let refused = maker.newer_than(&shown).await.err().unwrap();
        assert!(matches!(refused, ReleasedError::Refused(why) if why == "another key"));
        let refused = maker.make_until_done().await.err().unwrap();
        assert!(matches!(refused, ReleasedError::Refused(_)), "nor is it waited for");

        write(&maker, &rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
        let refused = maker.newer_than(&shown).await.err().unwrap();
        assert!(matches!(refused, ReleasedError::Kind(_)));
        for text in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"] {
            std::fs::write(&maker.file, text).unwrap();
            let refused = maker.newer_than(&shown).await.err().unwrap();
            assert!(matches!(refused, ReleasedError::Chain(_)), "{text:?}: {refused}");
        }
        std::fs::write(&maker.file, vec![b' '; 256 * 1024 + 1]).unwrap();
        let refused = maker.newer_than(&shown).await.err().unwrap();
        assert!(matches!(refused, ReleasedError::Chain(LeafError::TooLong(_))));
        std::fs::remove_file(&maker.file).unwrap();
        let refused = maker.newer_than(&shown).await.err().unwrap();
        assert!(matches!(refused, ReleasedError::Chain(LeafError::Unopened { .. })));
        shutdown.fire();
    }
}
