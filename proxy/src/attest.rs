//! The proxy's client of `attest-sidecar`.

use attestation::Evidence;
use attestation::merkle::{Hash, Inclusion};
use proto::attest::attest_client::AttestClient;
use proto::attest::evidence_request::Purpose;
use proto::attest::token_request::Runtime;
use proto::attest::{
    CertificateRuntime, ChannelRuntime, EvidenceRequest, ProveChannelsRequest, TlsCertificate,
    TlsChannel, TokenReply, TokenRequest,
};
use service::listen::Local;
use tonic::transport::Channel;

/// The longest answer: evidence with its endorsements and policy, and the places of a whole batch.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Why `attest-sidecar` gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttestError {
    /// It refused, or is not there.
    #[error("attest-sidecar refused or is not there")]
    Call(#[from] Box<tonic::Status>),
    /// Its answer lacks what was asked for.
    #[error("the answer of attest-sidecar lacks {0}")]
    Incomplete(&'static str),
}

impl AttestError {
    /// Whether it is only busy, so that the same call may succeed at once.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Call(status) if status.code() == tonic::Code::ResourceExhausted)
    }
}

/// What a proof of one connection speaks of.
#[derive(Clone, Copy)]
pub(crate) struct ChannelFacts {
    pub(crate) nonce: [u8; 32],
    pub(crate) exporter: [u8; 32],
    pub(crate) spki_sha256: [u8; 32],
    pub(crate) certificate_sha256: [u8; 32],
    pub(crate) manifest_sha256: [u8; 32],
}

/// The client. Clones share a connection.
#[derive(Clone)]
pub(crate) struct AttestSidecar(AttestClient<Channel>);

impl AttestSidecar {
    pub(crate) fn new(address: &Local) -> Self {
        let channel = service::grpc::channel(address);
        Self(AttestClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }

    /// Evidence for a certificate.
    pub(crate) async fn certificate_evidence(
        &self,
        spki_sha256: &[u8; 32],
        not_after: u64,
    ) -> Result<Evidence, AttestError> {
        let spki_sha256 = spki_sha256.to_vec();
        let purpose = Purpose::TlsCertificate(TlsCertificate { spki_sha256, not_after });
        let request = EvidenceRequest { purpose: Some(purpose) };
        let reply = self.0.clone().get_evidence(request).await.map_err(Box::new)?.into_inner();
        evidence(reply.evidence)
    }

    /// Evidence for connections, and the place of each in it, in their order.
    pub(crate) async fn channel_evidence(
        &self,
        channels: Vec<ChannelFacts>,
    ) -> Result<(Evidence, Vec<Inclusion>), AttestError> {
        let count = channels.len();
        let channels = channels.into_iter().map(|facts| TlsChannel {
            nonce: facts.nonce.to_vec(),
            exporter: facts.exporter.to_vec(),
            spki_sha256: facts.spki_sha256.to_vec(),
            certificate_sha256: facts.certificate_sha256.to_vec(),
            manifest_sha256: facts.manifest_sha256.to_vec(),
        });
        let request = ProveChannelsRequest { channels: channels.collect() };
        let reply = self.0.clone().prove_channels(request).await.map_err(Box::new)?.into_inner();
        let inclusions: Option<Vec<_>> = reply.inclusions.into_iter().map(inclusion).collect();
        let inclusions = inclusions.filter(|all| all.len() == count);
        let inclusions = inclusions.ok_or(AttestError::Incomplete("whole inclusion proofs"))?;
        Ok((evidence(reply.evidence)?, inclusions))
    }

    /// A token about a certificate and the manifest, with the request that a client may send to MAA itself.
    pub(crate) async fn certificate_token(
        &self,
        spki_sha256: &[u8; 32],
        not_after: u64,
        manifest_sha256: &[u8; 32],
    ) -> Result<TokenReply, AttestError> {
        self.token(Runtime::Certificate(CertificateRuntime {
            spki_sha256: spki_sha256.to_vec(),
            not_after,
            manifest_sha256: manifest_sha256.to_vec(),
        }))
        .await
    }

    /// A token about one connection.
    pub(crate) async fn channel_token(
        &self,
        facts: &ChannelFacts,
    ) -> Result<TokenReply, AttestError> {
        self.token(Runtime::Channel(ChannelRuntime {
            nonce: facts.nonce.to_vec(),
            exporter_sha256: attestation::crypto::sha256(&facts.exporter).to_vec(),
            manifest_sha256: facts.manifest_sha256.to_vec(),
        }))
        .await
    }

    async fn token(&self, runtime: Runtime) -> Result<TokenReply, AttestError> {
        let request = TokenRequest { runtime: Some(runtime), ..Default::default() };
        Ok(self.0.clone().get_token(request).await.map_err(Box::new)?.into_inner())
    }
}

fn evidence(reply: Option<proto::attest::Evidence>) -> Result<Evidence, AttestError> {
    let evidence = reply.ok_or(AttestError::Incomplete("evidence"))?;
    let part = |bytes: Vec<u8>| (!bytes.is_empty()).then_some(bytes);
    Ok(Evidence {
        report: evidence.report,
        vek: evidence.vek,
        chain: part(evidence.chain),
        crl: part(evidence.crl),
        uvm: part(evidence.uvm),
        cce_policy: part(evidence.cce_policy),
    })
}

fn inclusion(proof: proto::attest::Inclusion) -> Option<Inclusion> {
    let path: Result<Vec<Hash>, _> = proof.path.into_iter().map(Hash::try_from).collect();
    Some(Inclusion { index: proof.index, size: proof.size, path: path.ok()? })
}
