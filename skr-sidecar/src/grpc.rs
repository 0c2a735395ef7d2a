//! gRPC for the other roles: keys, who this process is, and its health.

use std::sync::Arc;

use proto::info::info_server::{Info, InfoServer};
use proto::info::{GetInfoRequest, RoleInfo};
use proto::skr::skr_server::{Skr, SkrServer};
use proto::skr::{ReleaseKeyReply, ReleaseKeyRequest};
use service::health::Health;
use service::listen::Listener;
use service::{Shutdown, grpc};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use crate::error::{Error, grpc_status};
use crate::release::{self, Releases};

/// The longest request, in bytes: three names.
const LONGEST_REQUEST: usize = 16 * 1024;

/// Serves until the signal to stop, then finishes what runs.
///
/// # Errors
///
/// The transport failed as a whole.
pub(crate) async fn serve(
    listener: Listener,
    shutdown: &Shutdown,
    health: &Health,
    info: RoleInfo,
    releases: Arc<Releases>,
) -> Result<(), tonic::transport::Error> {
    let skr = SkrServer::new(Keys(releases)).max_decoding_message_size(LONGEST_REQUEST);
    let router = grpc::server()
        .add_service(health.service())
        .add_service(InfoServer::new(Who(info)))
        .add_service(skr);
    grpc::serve(router, listener, shutdown).await
}

struct Keys(Arc<Releases>);

#[tonic::async_trait]
impl Skr for Keys {
    async fn release_key(
        &self,
        request: Request<ReleaseKeyRequest>,
    ) -> Result<Response<ReleaseKeyReply>, Status> {
        let ReleaseKeyRequest { kid, vault, maa } = request.into_inner();
        let request = release::Request {
            kid: &kid,
            vault: &vault,
            maa: &maa,
            access_token: Zeroizing::default(),
        };
        match self.0.release(request).await {
            Ok(jwk) => Ok(Response::new(ReleaseKeyReply { jwk: jwk.into_bytes() })),
            Err(error) => {
                let status = grpc_status(&Error::Release(error));
                tracing::warn!(method = "ReleaseKey", code = ?status.code(), "a call failed");
                Err(status)
            }
        }
    }
}

struct Who(RoleInfo);

#[tonic::async_trait]
impl Info for Who {
    async fn get(&self, _: Request<GetInfoRequest>) -> Result<Response<RoleInfo>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}
