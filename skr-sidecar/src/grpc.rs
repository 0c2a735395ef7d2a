//! gRPC for the other roles: keys, signatures by reserved keys, who this process is, and its health.

use std::sync::Arc;
use std::time::Duration;

use proto::info::info_server::{Info, InfoServer};
use proto::info::{GetInfoRequest, RoleInfo};
use proto::skr::skr_server::{Skr, SkrServer};
use proto::skr::{
    GetOwnerKeyReply, GetOwnerKeyRequest, GetSecretsReply, GetSecretsRequest, HoldTlsKeyReply,
    HoldTlsKeyRequest, ReleaseKeyReply, ReleaseKeyRequest, SignEvidenceReply, SignEvidenceRequest,
    SignTlsReply, SignTlsRequest,
};
use service::health::Health;
use service::listen::Listener;
use service::{Shutdown, grpc};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use crate::error::{Error, grpc_status};
use crate::held::Held;
use crate::owner::{OwnerError, OwnerKey};
use crate::release::{self, Releases};
use crate::tls::{TlsError, TlsKeys};

/// The longest request, in bytes: names, and a release policy.
const LONGEST_REQUEST: usize = 64 * 1024;

/// How long a signature of the owner may wait for the key: a moment after the start, it is not released yet.
const OWNER: Duration = Duration::from_secs(8);

/// What there is to call.
pub(crate) struct Services {
    /// Who this process is.
    pub(crate) info: RoleInfo,
    /// Releases of keys.
    pub(crate) releases: Arc<Releases>,
    /// The owner's key; `None` if none is configured.
    pub(crate) owner: Option<Held<OwnerKey>>,
    /// The key of TLS; `None` if none is configured.
    pub(crate) tls: Option<TlsKeys>,
}

/// Serves until the signal to stop, then finishes what runs.
///
/// # Errors
///
/// The transport failed as a whole.
pub(crate) async fn serve(
    listener: Listener,
    shutdown: &Shutdown,
    health: &Health,
    services: Services,
) -> Result<(), tonic::transport::Error> {
    let Services { info, releases, owner, tls } = services;
    let keys = Keys { releases, owner, tls };
    let skr = SkrServer::new(keys).max_decoding_message_size(LONGEST_REQUEST);
    let router = grpc::server()
        .add_service(health.service())
        .add_service(InfoServer::new(Who(info)))
        .add_service(skr);
    grpc::serve(router, listener, shutdown).await
}

struct Keys {
    releases: Arc<Releases>,
    owner: Option<Held<OwnerKey>>,
    tls: Option<TlsKeys>,
}

impl Keys {
    fn tls(&self) -> Result<&TlsKeys, TlsError> {
        self.tls.as_ref().ok_or(TlsError::NotConfigured)
    }

    async fn owner_key(&self) -> Result<GetOwnerKeyReply, OwnerError> {
        let Some(owner) = &self.owner else { return Ok(GetOwnerKeyReply { spki: Vec::new() }) };
        let none = if owner.is_refused() { OwnerError::Refused } else { OwnerError::NotYet };
        let key = owner.within(Duration::ZERO).await.ok_or(none)?;
        Ok(GetOwnerKeyReply { spki: key.spki().to_vec() })
    }

    async fn owners_word(
        &self,
        request: SignEvidenceRequest,
    ) -> Result<SignEvidenceReply, OwnerError> {
        let SignEvidenceRequest { report_data, manifest_sha256 } = request;
        let report_data = report_data.try_into().map_err(|_| OwnerError::Length)?;
        let manifest_sha256 = manifest_sha256.try_into().map_err(|_| OwnerError::Length)?;
        let owner = self.owner.as_ref().ok_or(OwnerError::NotConfigured)?;
        let key = owner.within(OWNER).await.ok_or(OwnerError::NotYet)?;
        let signed = key.sign(&report_data, &manifest_sha256)?;
        Ok(SignEvidenceReply { kid: signed.kid, sig: signed.signature })
    }
}

/// The answer to a call, or its status; a failure is logged by its method and code.
fn answer<T>(method: &'static str, outcome: Result<T, Error>) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|error| {
        let status = grpc_status(&error);
        tracing::warn!(method, code = ?status.code(), "a call failed");
        status
    })
}

#[tonic::async_trait]
impl Skr for Keys {
    async fn release_key(
        &self,
        request: Request<ReleaseKeyRequest>,
    ) -> Result<Response<ReleaseKeyReply>, Status> {
        let ReleaseKeyRequest { kid, vault, maa, release_policy, cache_seconds } =
            request.into_inner();
        let request = release::Request {
            kid: &kid,
            vault: &vault,
            maa: &maa,
            access_token: Zeroizing::default(),
            policy: &release_policy,
            keep: Duration::from_secs(cache_seconds.into()),
        };
        let released = self.releases.release(request).await;
        let reply = released.map(|jwk| ReleaseKeyReply { jwk: jwk.into_bytes() });
        answer("ReleaseKey", reply.map_err(Error::Release))
    }

    async fn get_owner_key(
        &self,
        _: Request<GetOwnerKeyRequest>,
    ) -> Result<Response<GetOwnerKeyReply>, Status> {
        // It is asked every few seconds; why there is no key, whoever releases it has logged.
        let reply = self.owner_key().await.map_err(Error::Owner);
        reply.map(Response::new).map_err(|error| grpc_status(&error))
    }

    async fn sign_evidence(
        &self,
        request: Request<SignEvidenceRequest>,
    ) -> Result<Response<SignEvidenceReply>, Status> {
        let reply = self.owners_word(request.into_inner()).await;
        answer("SignEvidence", reply.map_err(Error::Owner))
    }

    async fn hold_tls_key(
        &self,
        request: Request<HoldTlsKeyRequest>,
    ) -> Result<Response<HoldTlsKeyReply>, Status> {
        let held = async { self.tls()?.hold(&request.get_ref().spki_sha256).await };
        let held = held.await.map(|()| HoldTlsKeyReply {});
        answer("HoldTlsKey", held.map_err(Error::Tls))
    }

    async fn sign_tls(
        &self,
        request: Request<SignTlsRequest>,
    ) -> Result<Response<SignTlsReply>, Status> {
        let SignTlsRequest { spki_sha256, scheme, message } = request.get_ref();
        let signed = async { self.tls()?.sign(spki_sha256, *scheme, message).await };
        let reply = signed.await.map(|signature| SignTlsReply { signature });
        answer("SignTls", reply.map_err(Error::Tls))
    }

    async fn get_secrets(
        &self,
        _: Request<GetSecretsRequest>,
    ) -> Result<Response<GetSecretsReply>, Status> {
        Ok(Response::new(GetSecretsReply::default()))
    }
}

struct Who(RoleInfo);

#[tonic::async_trait]
impl Info for Who {
    async fn get(&self, _: Request<GetInfoRequest>) -> Result<Response<RoleInfo>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}
