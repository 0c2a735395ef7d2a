//! What this role answers by gRPC: OTLP, the head of the log, who it is, whether it is ready.

use attestation::encoding::to_b64u;
use proto::info::info_server::{Info, InfoServer};
use proto::info::{GetInfoRequest, RoleInfo};
use proto::log::log_server::{Log, LogServer};
use proto::log::{GetHeadRequest, Head};
use service::Process;
use service::listen::Listener;
use tokio::sync::watch;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status, async_trait};

use crate::otlp::Exports;
use crate::otlp::grpc::{ExportService, Logs, Metrics, Traces};
use crate::signer::Signer;
use crate::spool;

/// Requests that one connection may have open at once: those of a container's exporters.
const STREAMS: u32 = 64;

/// The requests of `Info` and `Log` are empty.
const EMPTY: usize = 1024;

/// The server, without its listener. `http` is where the other one listens.
pub(crate) fn router(
    process: &Process,
    grpc: &Listener,
    http: &Listener,
    exports: &Exports,
    head: HeadOfLog,
    production_anchors: bool,
) -> Router {
    let info = RoleInfo { production_anchors, ..info(process, grpc, http) };
    let info = WhoAmI(info);
    service::grpc::server()
        .max_concurrent_streams(STREAMS)
        .add_service(process.health.service())
        .add_service(InfoServer::new(info).max_decoding_message_size(EMPTY))
        .add_service(LogServer::new(head).max_decoding_message_size(EMPTY))
        .add_service(ExportService::<Logs>::new(exports))
        .add_service(ExportService::<Traces>::new(exports))
        .add_service(ExportService::<Metrics>::new(exports))
}

/// `Log.GetHead`.
pub(crate) struct HeadOfLog {
    public_key: String,
    boot_id: String,
    newest: watch::Receiver<Option<spool::Head>>,
}

impl HeadOfLog {
    pub(crate) fn new(signer: &Signer, newest: watch::Receiver<Option<spool::Head>>) -> Self {
        let public_key = to_b64u(signer.public_key());
        Self { public_key, boot_id: signer.boot().to_owned(), newest }
    }
}

#[async_trait]
impl Log for HeadOfLog {
    async fn get_head(&self, _: Request<GetHeadRequest>) -> Result<Response<Head>, Status> {
        let newest = *self.newest.borrow();
        Ok(Response::new(Head {
            public_key: self.public_key.clone(),
            boot_id: self.boot_id.clone(),
            seq: newest.map_or(0, |head| head.seq),
            digest: newest.map_or_else(Vec::new, |head| head.digest.to_vec()),
        }))
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
