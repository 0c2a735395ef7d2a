//! gRPC for the other roles: keys, signatures by reserved keys, who this process is, and its health; and beside them
//! the reference's service, which tells about itself by reflection.

use std::sync::Arc;
use std::time::Duration;

use proto::info::info_server::{Info, InfoServer};
use proto::info::{GetInfoRequest, RoleInfo};
use proto::skr::skr_server::{Skr, SkrServer};
use proto::skr::{
    GetOwnerKeyReply, GetOwnerKeyRequest, GetSecretsReply, GetSecretsRequest, GetStateKeyReply,
    GetStateKeyRequest, HoldTlsKeyReply, HoldTlsKeyRequest, ReleaseKeyReply, ReleaseKeyRequest,
    SignEvidenceReply, SignEvidenceRequest, SignTlsReply, SignTlsRequest,
};
use service::health::Health;
use service::listen::Listener;
use service::{BoxError, Shutdown, grpc};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use crate::error::{Error, grpc_status};
use crate::held::Held;
use crate::key_provider::{self, KeyProvider};
use crate::owner::{OwnerError, OwnerKey};
use crate::release::{self, Releases};
use crate::secrets::{Sealed, SecretsError};
use crate::state::{StateError, StateKeys};
use crate::tls::{TlsError, TlsKeys};

/// The longest request, in bytes: names, of keys or of secrets, and a release policy.
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
    /// The sealed secrets; `None` if none are configured.
    pub(crate) secrets: Option<Sealed>,
    /// Keys of stored state; `None` if no key is configured to derive them of.
    pub(crate) state: Option<StateKeys>,
    /// The reference's service.
    pub(crate) key_provider: KeyProvider,
}

/// Serves until the signal to stop, then finishes what runs.
///
/// # Errors
///
/// The transport failed as a whole, or the description of the reference's service is damaged.
pub(crate) async fn serve(
    listener: Listener,
    shutdown: &Shutdown,
    health: &Health,
    services: Services,
) -> Result<(), BoxError> {
    let Services { info, releases, owner, tls, secrets, state, key_provider } = services;
    let keys = Keys { releases, owner, tls, secrets, state };
    let skr = SkrServer::new(keys).max_decoding_message_size(LONGEST_REQUEST);
    let router = grpc::server()
        .add_service(health.service())
        .add_service(InfoServer::new(Who(info)))
        .add_service(skr)
        .add_service(key_provider::service(key_provider))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok(grpc::serve(router, listener, shutdown).await?)
}

/// What callers of the reference's service may ask about it. The other services are for roles, which know them.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::key_provider::DESCRIPTORS)
}

struct Keys {
    releases: Arc<Releases>,
    owner: Option<Held<OwnerKey>>,
    tls: Option<TlsKeys>,
    secrets: Option<Sealed>,
    state: Option<StateKeys>,
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

    /// Values by name. A name that is not among them is no error: an operator may leave any out. The reply's copies are
    /// not zeroed.
    fn values(&self, names: &[String]) -> Result<GetSecretsReply, SecretsError> {
        let Some(sealed) = &self.secrets else { return Ok(GetSecretsReply::default()) };
        let secrets = sealed.current()?;
        let value = |name: &String| Some((name.clone(), secrets.values.get(name)?.to_string()));
        Ok(GetSecretsReply {
            configured: true,
            version: secrets.version.get(),
            values: names.iter().filter_map(value).collect(),
        })
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
        request: Request<GetSecretsRequest>,
    ) -> Result<Response<GetSecretsReply>, Status> {
        // It is asked until they are open; why they are not, whoever opens them has logged.
        let reply = self.values(&request.get_ref().names).map_err(Error::Secrets);
        reply.map(Response::new).map_err(|error| grpc_status(&error))
    }

    async fn get_state_key(
        &self,
        request: Request<GetStateKeyRequest>,
    ) -> Result<Response<GetStateKeyReply>, Status> {
        let version = &request.get_ref().version;
        let derived = async {
            let state = self.state.as_ref().ok_or(StateError::NotConfigured)?;
            state.derived(version).await
        };
        // The reply's copy is not zeroed.
        let reply = derived.await.map(|key| GetStateKeyReply {
            version: key.version().to_owned(),
            key: key.bytes().to_vec(),
        });
        answer("GetStateKey", reply.map_err(Error::State))
    }
}

struct Who(RoleInfo);

#[tonic::async_trait]
impl Info for Who {
    async fn get(&self, _: Request<GetInfoRequest>) -> Result<Response<RoleInfo>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}
