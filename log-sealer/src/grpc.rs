//! What this role answers by gRPC: OTLP, the head of the log and its live view, who it is, whether it is ready.

use attestation::encoding::to_b64u;
use proto::info::info_server::{Info, InfoServer};
use proto::info::{GetInfoRequest, RoleInfo};
use proto::log::log_server::{Log, LogServer};
use proto::log::{GetHeadRequest, Head, WatchRequest, Watched};
use service::Process;
use service::listen::Listener;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status, async_trait};

use crate::live::views::Views;
use crate::otlp::Exports;
use crate::otlp::grpc::{ExportService, Logs, Metrics, Traces};
use crate::signer::Signer;
use crate::spool;

/// Requests that one connection may have open at once: those of a container's exporters.
const STREAMS: u32 = 64;

/// The requests of `Info` and `Log` are empty, or short.
const SHORT: usize = 1024;

/// The server, without its listener. `http` is where the other one listens.
pub(crate) fn router(
    process: &Process,
    grpc: &Listener,
    http: &Listener,
    exports: &Exports,
    log: OfLog,
    production_anchors: bool,
) -> Router {
    let info = RoleInfo { production_anchors, ..info(process, grpc, http) };
    let info = WhoAmI(info);
    service::grpc::server()
        .max_concurrent_streams(STREAMS)
        .add_service(process.health.service())
        .add_service(InfoServer::new(info).max_decoding_message_size(SHORT))
        .add_service(LogServer::new(log).max_decoding_message_size(SHORT))
        .add_service(ExportService::<Logs>::new(exports))
        .add_service(ExportService::<Traces>::new(exports))
        .add_service(ExportService::<Metrics>::new(exports))
}

/// `Log.GetHead` and `Log.Watch`.
pub(crate) struct OfLog {
    public_key: String,
    boot_id: String,
    newest: watch::Receiver<Option<spool::Head>>,
    views: Views,
}

impl OfLog {
    pub(crate) fn new(
        signer: &Signer,
        newest: watch::Receiver<Option<spool::Head>>,
        views: Views,
    ) -> Self {
        let public_key = to_b64u(signer.public_key());
        Self { public_key, boot_id: signer.boot().to_owned(), newest, views }
    }
}

#[async_trait]
impl Log for OfLog {
    type WatchStream = ReceiverStream<Result<Watched, Status>>;

    async fn get_head(&self, _: Request<GetHeadRequest>) -> Result<Response<Head>, Status> {
        let newest = *self.newest.borrow();
        Ok(Response::new(Head {
            public_key: self.public_key.clone(),
            boot_id: self.boot_id.clone(),
            seq: newest.map_or(0, |head| head.seq),
            digest: newest.map_or_else(Vec::new, |head| head.digest.to_vec()),
        }))
    }

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.views.open(request.into_inner()).await.map(Response::new)
    }
}

/// `Info.Get`.
struct WhoAmI(RoleInfo);

#[async_trait]
impl Info for WhoAmI {
    async fn get(&self, _: Request<GetInfoRequest>) -> Result<Response<RoleInfo>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}

fn info(process: &Process, grpc: &Listener, http: &Listener) -> RoleInfo {
    let identity = &process.identity;
    RoleInfo {
        role: identity.role.to_owned(),
        version: identity.version.to_owned(),
        boot_id: identity.boot_id.clone(),
        started: identity.started,
        config_digest: identity.measured.digest.to_vec(),
        // the caller knows whose roots are believed
        production_anchors: false,
        unsealed: identity.measured.unsealed.iter().map(ToString::to_string).collect(),
        listening: [("grpc", grpc), ("http", http)]
            .map(|(protocol, listener)| (protocol.to_owned(), listener.address().to_string()))
            .into(),
    }
}
