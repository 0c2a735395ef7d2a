//! A fake `attest-sidecar`: it gives whatever bytes a test wants for evidence, since `log-sealer` verifies none.

use std::sync::{Arc, Mutex};

use attestation::Binding;
use attestation::merkle::Tree;
use proto::attest::attest_server::{Attest, AttestServer};
use proto::attest::evidence_request::Purpose;
use proto::attest::{
    CompatibleReportReply, CompatibleReportRequest, Evidence, EvidenceReply, EvidenceRequest,
    Inclusion, LogKey, ProveChannelsReply, ProveChannelsRequest, TokenReply, TokenRequest,
};
use service::Shutdown;
use service::listen::Listener;
use tonic::{Request, Response, Status, async_trait};

/// Makes evidence whose report says these 64 bytes.
pub(crate) type Attester = Arc<dyn Fn([u8; 64]) -> Evidence + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Sidecar(Arc<Inner>);

struct Inner {
    attester: Mutex<Option<Attester>>,
    asked: Mutex<u32>,
    shutdown: Shutdown,
}

impl Sidecar {
    /// Listens; has no evidence yet.
    pub(crate) async fn start(address: &str) -> Self {
        let listener = Listener::bind(&address.parse().unwrap()).await.unwrap();
        let inner = Inner {
            attester: Mutex::default(),
            asked: Mutex::default(),
            shutdown: Shutdown::default(),
        };
        let sidecar = Self(Arc::new(inner));
        let router = service::grpc::server().add_service(AttestServer::new(sidecar.clone()));
        let shutdown = sidecar.0.shutdown.clone();
        tokio::spawn(async move { service::grpc::serve(router, listener, &shutdown).await });
        sidecar
    }

    /// From now on there is evidence, of bytes that nobody would believe.
    pub(crate) fn give_evidence(&self) {
        self.attest_with(Arc::new(|_| Evidence {
            report: vec![1; 1184],
            vek: vec![2; 900],
            chain: vec![3; 2500],
            ..Evidence::default()
        }));
    }

    pub(crate) fn attest_with(&self, attester: Attester) {
        *self.0.attester.lock().unwrap() = Some(attester);
    }

    /// How often evidence was asked for.
    pub(crate) fn asked(&self) -> u32 {
        *self.0.asked.lock().unwrap()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shutdown.fire();
    }
}

fn binding(key: LogKey) -> Option<Binding> {
    Some(Binding::LogKey {
        public_key: key.public_key,
        boot_id: key.boot_id.try_into().ok()?,
        recipients_sha256: key.recipients_sha256.try_into().ok()?,
    })
}

#[async_trait]
impl Attest for Sidecar {
    async fn get_evidence(
        &self,
        request: Request<EvidenceRequest>,
    ) -> Result<Response<EvidenceReply>, Status> {
        *self.0.asked.lock().unwrap() += 1;
        let Some(attester) = self.0.attester.lock().unwrap().clone() else {
            return Err(Status::unavailable("no evidence yet"));
        };
        let Some(Purpose::LogKey(key)) = request.into_inner().purpose else {
            return Err(Status::invalid_argument("not the purpose log-key"));
        };
        let binding = binding(key).ok_or_else(|| Status::invalid_argument("malformed"))?;
        // the second of three that waited together
        let others = [b"before".to_vec(), b"after".to_vec()];
        let tree = Tree::new(&[others[0].clone(), binding.leaf(), others[1].clone()]).unwrap();
        let inclusion = &tree.inclusions[1];
        let report_data = binding.report_data(inclusion).unwrap();
        Ok(Response::new(EvidenceReply {
            evidence: Some(attester(report_data)),
            inclusion: Some(Inclusion {
                index: inclusion.index,
                size: inclusion.size,
                path: inclusion.path.iter().map(|hash| hash.to_vec()).collect(),
            }),
        }))
    }

    async fn prove_channels(
        &self,
        _: Request<ProveChannelsRequest>,
    ) -> Result<Response<ProveChannelsReply>, Status> {
        Err(Status::unimplemented("no connections here"))
    }

    async fn get_token(&self, _: Request<TokenRequest>) -> Result<Response<TokenReply>, Status> {
        Err(Status::unimplemented("no tokens here"))
    }

    async fn get_compatible_report(
        &self,
        _: Request<CompatibleReportRequest>,
    ) -> Result<Response<CompatibleReportReply>, Status> {
        Err(Status::unimplemented("no such reports here"))
    }
}
