//! A fake of `attest-sidecar`. Its tokens hold what a vault has to read in them: the key to wrap for.

use std::path::Path;
use std::sync::{Arc, Mutex};

use attestation::encoding::to_b64u;
use proto::attest::attest_server::{Attest, AttestServer};
use proto::attest::token_request::Runtime;
use proto::attest::{
    CompatibleReportReply, CompatibleReportRequest, EvidenceReply, EvidenceRequest,
    ProveChannelsReply, ProveChannelsRequest, TokenFailure, TokenReply, TokenRequest,
};
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// How it behaves.
#[derive(Clone, Default)]
pub(crate) enum Mood {
    #[default]
    Good,
    /// Every call fails like this.
    Fails(Status),
    /// No token, of this kind, with MAA's status, for this reason.
    NoToken(TokenFailure, u32, &'static str),
    /// No call is answered until it behaves otherwise.
    Stalls,
}

#[derive(Clone)]
pub(crate) struct FakeAttest {
    mood: watch::Sender<Mood>,
    reports: Arc<Mutex<Vec<Vec<u8>>>>,
    tokens: Arc<Mutex<Vec<TokenRequest>>>,
    stalled: watch::Sender<usize>,
}

/// Counts calls that are being stalled.
struct Stalled<'a>(&'a watch::Sender<usize>);

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|stalled| *stalled -= 1);
    }
}

impl FakeAttest {
    pub(crate) fn start(socket: &Path) -> Self {
        let fake = Self {
            mood: watch::Sender::default(),
            reports: Arc::default(),
            tokens: Arc::default(),
            stalled: watch::Sender::new(0),
        };
        let incoming = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        let router =
            tonic::transport::Server::builder().add_service(AttestServer::new(fake.clone()));
        tokio::spawn(router.serve_with_incoming(incoming));
        fake
    }

    pub(crate) fn be(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// The runtime data of every report, in order.
    pub(crate) fn reports(&self) -> Vec<Vec<u8>> {
        self.reports.lock().unwrap().clone()
    }

    /// What every token was asked for, in order.
    pub(crate) fn tokens(&self) -> Vec<TokenRequest> {
        self.tokens.lock().unwrap().clone()
    }

    /// Resolves when this many calls are being stalled.
    pub(crate) async fn stalls(&self, calls: usize) {
        self.stalled.subscribe().wait_for(|stalled| *stalled == calls).await.unwrap();
    }

    async fn mood(&self) -> Result<Option<TokenReply>, Status> {
        let mut moods = self.mood.subscribe();
        if matches!(*moods.borrow(), Mood::Stalls) {
            self.stalled.send_modify(|stalled| *stalled += 1);
            let _stalled = Stalled(&self.stalled);
            moods.wait_for(|mood| !matches!(mood, Mood::Stalls)).await.unwrap();
        }
        let mood = moods.borrow().clone();
        match mood {
            Mood::Good | Mood::Stalls => Ok(None),
            Mood::NoToken(kind, failure_status, why) => Ok(Some(TokenReply {
                failure: why.to_owned(),
                failure_kind: kind.into(),
                failure_status,
                ..Default::default()
            })),
            Mood::Fails(status) => Err(status),
        }
    }
}

/// The report that it always gives.
pub(crate) fn report() -> Vec<u8> {
    (0..=u8::MAX).cycle().take(1184).collect()
}

#[tonic::async_trait]
impl Attest for FakeAttest {
    async fn get_evidence(
        &self,
        _: Request<EvidenceRequest>,
    ) -> Result<Response<EvidenceReply>, Status> {
        Err(Status::unimplemented("skr-sidecar asks for no evidence"))
    }

    async fn prove_channels(
        &self,
        _: Request<ProveChannelsRequest>,
    ) -> Result<Response<ProveChannelsReply>, Status> {
        Err(Status::unimplemented("skr-sidecar has no connections to prove"))
    }

    async fn get_token(
        &self,
        request: Request<TokenRequest>,
    ) -> Result<Response<TokenReply>, Status> {
        let request = request.into_inner();
        self.tokens.lock().unwrap().push(request.clone());
        let claims = match &request.runtime {
            Some(Runtime::ReleaseKey(key)) => {
                json!({"n": to_b64u(&key.modulus), "e": to_b64u(&key.exponent)})
            }
            _ => json!({}),
        };
        let token = format!("e30.{}.AA", to_b64u(claims.to_string().as_bytes()));
        let good = || TokenReply { token, ..Default::default() };
        Ok(Response::new(self.mood().await?.unwrap_or_else(good)))
    }

    async fn get_compatible_report(
        &self,
        request: Request<CompatibleReportRequest>,
    ) -> Result<Response<CompatibleReportReply>, Status> {
        self.reports.lock().unwrap().push(request.into_inner().runtime_data);
        self.mood().await?;
        Ok(Response::new(CompatibleReportReply {
            report: report(),
            certificates: "VCEK\nASK\nARK\n".to_owned(),
            endorsed_tcb: "7308000000000003".to_owned(),
            uvm_endorsements: "0oRZ+/==".to_owned(),
        }))
    }
}
