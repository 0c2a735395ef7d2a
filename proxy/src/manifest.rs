//! What the group says about itself, kept up to date by asking the other roles.
//!
//! The bytes that a proof hashes are the bytes that are sent: the manifest is built once and then only copied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use attestation::crypto::sha256;
use attestation::encoding::to_b64u;
use attestation::wire::{LogHead, Manifest, ManifestTls};
use proto::info::info_client::InfoClient;
use proto::info::{GetInfoRequest, RoleInfo};
use proto::log::log_client::LogClient;
use proto::log::{GetHeadRequest, Head};
use service::Identity;
use service::listen::Local;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::config::AdminAccess;
use crate::owner::Owner;

/// How often the other roles are asked.
const REFRESH: Duration = Duration::from_secs(2);

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A manifest's exact bytes.
#[derive(Clone)]
pub(crate) struct Exact {
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) sha256: [u8; 32],
    /// The digest of the manifest without the log's head, which changes all the time.
    apart_from_log: [u8; 32],
    /// Whether every role believes production roots.
    pub(crate) production: bool,
}

/// Where the current manifest is found.
#[derive(Clone)]
pub(crate) struct CurrentManifest(watch::Receiver<Exact>);

impl CurrentManifest {
    /// The manifest of this moment.
    pub(crate) fn get(&self) -> Exact {
        self.0.borrow().clone()
    }

    /// Resolves when there is one that differs from `other` in more than the log's head.
    pub(crate) async fn differs_from(&mut self, other: &Exact) {
        let differs = |now: &Exact| now.apart_from_log != other.apart_from_log;
        if self.0.wait_for(differs).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The other roles, and what this one contributes itself.
pub(crate) struct Author {
    pub(crate) identity: Identity,
    pub(crate) hostnames: Vec<String>,
    pub(crate) tls_mode: &'static str,
    pub(crate) production: bool,
    admin: AdminAccess,
    roles: Vec<(&'static str, InfoClient<Channel>)>,
    log: Option<LogClient<Channel>>,
    owner: Arc<Owner>,
    /// For the owner's key, before the first manifest is written without.
    patience: Duration,
}

impl Author {
    pub(crate) fn new(
        identity: Identity,
        config: &crate::Config,
        tls_mode: &'static str,
        owner: Arc<Owner>,
    ) -> Self {
        let info = |address: &Local| InfoClient::new(service::grpc::channel(address));
        let log = config.log.as_ref();
        let roles = [
            ("attest-sidecar", Some(&config.attest)),
            ("skr-sidecar", config.skr.as_ref()),
            ("log-sealer", log),
        ];
        Self {
            identity,
            hostnames: config.hostnames.clone(),
            tls_mode,
            production: config.is_production(),
            admin: config.admin,
            roles: roles
                .into_iter()
                .filter_map(|(role, address)| Some((role, info(address?))))
                .collect(),
            log: log.map(|address| LogClient::new(service::grpc::channel(address))),
            owner,
            patience: Duration::from_secs(20),
        }
    }

    /// Waits for the owner's key, within a bound, writes the first manifest and keeps it up to date as long as somebody holds it.
    pub(crate) async fn publish(self) -> CurrentManifest {
        self.owner.first(self.patience).await;
        let (sender, receiver) = watch::channel(self.write().await);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(REFRESH).await;
                let next = self.write().await;
                sender.send_if_modified(|current| {
                    let changed = current.sha256 != next.sha256;
                    if changed {
                        *current = next;
                    }
                    changed
                });
                if sender.is_closed() {
                    return;
                }
            }
        });
        CurrentManifest(receiver)
    }

    async fn write(&self) -> Exact {
        let answers = futures_util::future::join_all(
            self.roles.iter().map(|(role, client)| async move { (*role, info(client).await) }),
        );
        let (answers, head, owner_key) =
            tokio::join!(answers, head(self.log.as_ref()), self.owner.key());
        let identity = &self.identity;
        let own = (identity.role, Some(identity.measured.digest.to_vec()));
        let others = answers
            .iter()
            .map(|(role, answer)| (*role, answer.as_ref().map(|info| info.config_digest.clone())));
        let config: BTreeMap<String, Option<String>> = std::iter::once(own)
            .chain(others)
            .map(|(role, digest)| (role.to_owned(), digest.map(|digest| to_b64u(&digest))))
            .collect();
        let unsealed = |role: &str, names: Vec<String>| -> Vec<String> {
            names.into_iter().map(|name| format!("{role}/{name}")).collect()
        };
        let own = identity.measured.unsealed.iter().map(ToString::to_string).collect();
        let mut all = unsealed(identity.role, own);
        for (role, answer) in &answers {
            all.extend(answer.iter().flat_map(|info| unsealed(role, info.unsealed.clone())));
        }
        // A role that does not answer may believe anything.
        let production = self.production
            && answers
                .iter()
                .all(|(_, answer)| answer.as_ref().is_some_and(|info| info.production_anchors));
        let head = head.unwrap_or_default();
        let mut manifest = Manifest {
            v: 1,
            service: attestation::connection::SERVICE.to_owned(),
            version: identity.version.to_owned(),
            boot_id: identity.boot_id.clone(),
            started: identity.started,
            hostnames: self.hostnames.clone(),
            tls: ManifestTls { mode: self.tls_mode.to_owned() },
            owner_key,
            log_key: (!head.public_key.is_empty()).then_some(head.public_key),
            log_head: head.digest.try_into().ok().map(|digest| LogHead { seq: head.seq, digest }),
            config,
            anchors: if production { "production" } else { "NOT PRODUCTION" }.to_owned(),
            unsealed: all,
            admin: (self.admin == AdminAccess::Public).then(|| "public".to_owned()),
        };
        let bytes = exact(&manifest);
        manifest.log_head = None;
        let apart_from_log = sha256(&exact(&manifest));
        Exact { sha256: sha256(&bytes), bytes: bytes.into(), apart_from_log, production }
    }
}

fn exact(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec(manifest).expect("text and numbers always serialise")
}

async fn info(client: &InfoClient<Channel>) -> Option<RoleInfo> {
    let mut client = client.clone();
    let answer = tokio::time::timeout(PATIENCE, client.get(GetInfoRequest {})).await;
    Some(answer.ok()?.ok()?.into_inner())
}

async fn head(client: Option<&LogClient<Channel>>) -> Option<Head> {
    let mut client = client?.clone();
    let answer = tokio::time::timeout(PATIENCE, client.get_head(GetHeadRequest {})).await;
    Some(answer.ok()?.ok()?.into_inner())
}
