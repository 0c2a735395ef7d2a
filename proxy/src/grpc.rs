//! Health and `Info`, by gRPC on loopback.

use std::collections::HashMap;

use proto::info::info_server::{Info, InfoServer};
use proto::info::{GetInfoRequest, RoleInfo};
use service::{Identity, Process};
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};

/// Every gRPC service of this role.
pub(crate) fn router(
    process: &Process,
    listening: HashMap<String, String>,
    production_anchors: bool,
) -> Router {
    let about = About { identity: process.identity.clone(), production_anchors, listening };
    service::grpc::server()
        .add_service(process.health.service())
        .add_service(InfoServer::new(about))
}

struct About {
    identity: Identity,
    production_anchors: bool,
    listening: HashMap<String, String>,
}

#[tonic::async_trait]
impl Info for About {
    async fn get(&self, _: Request<GetInfoRequest>) -> Result<Response<RoleInfo>, Status> {
        let identity = &self.identity;
        Ok(Response::new(RoleInfo {
            role: identity.role.to_owned(),
            version: identity.version.to_owned(),
            boot_id: identity.boot_id.clone(),
            started: identity.started,
            config_digest: identity.measured.digest.to_vec(),
            production_anchors: self.production_anchors,
            unsealed: identity.measured.unsealed.iter().map(ToString::to_string).collect(),
            listening: self.listening.clone(),
        }))
    }
}
