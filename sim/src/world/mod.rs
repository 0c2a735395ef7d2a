//! The whole outside world, or any part of it, in one process.
//!
//! Must not know: what runs in the groups. [`World::start`] binds every server (port 0 is
//! allowed), writes the anchors that verifiers need into a folder, and hands out the real
//! addresses; dropping the world, or [`World::stop`], ends it.

mod config;
mod foundation;
mod group;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::{join, join_all};

pub use config::{
    ANY_PORT, BlobServerConfig, GroupConfig, HttpsConfig, ModelServerConfig, VaultServerConfig,
    WorldConfig, aci_release_policy,
};
pub use foundation::{
    AMD_CHAIN, AMD_ROOT, ANCHORS, Foundation, HOST_DATA, TLS_CA, UVM_DID, https_url,
};
pub use group::Group;

use crate::blob::{self, BlobConfig};
use crate::clock;
use crate::device::DeviceError;
use crate::entra::{self, Cluster, EntraConfig};
use crate::faults::{
    BlobFault, BlobReadFault, IdentityFault, KdsFault, MaaFault, ModelFault, Switch, VaultFault,
};
use crate::http::serve::{self, Server};
use crate::http::tls::{self, TlsError};
use crate::identity::{Identity, STORAGE_RESOURCE};
use crate::jose::JoseError;
use crate::kds::{self, Kds, KdsCalls, KdsFaults};
use crate::maa::{self, MaaConfig};
use crate::model::{self, Records};
use crate::pki::PkiError;
use crate::pki::amd::AmdAuthority;
use crate::tally::Tally;
use crate::tcb::Product;
use crate::template::{self, TemplateError};
use crate::uvm::UvmError;
use crate::vault::{self, KeySpec, Permission, Service, SetupError, VaultConfig};

/// A world that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Keys and certificates.
    #[error("keys and certificates")]
    Pki(#[from] PkiError),
    /// The endorsement of the utility VM.
    #[error("endorsement of the utility VM")]
    Uvm(#[from] UvmError),
    /// TLS.
    #[error("TLS")]
    Tls(#[from] TlsError),
    /// A vault.
    #[error("vault")]
    Vault(#[from] SetupError),
    /// A placeholder in a release policy.
    #[error("release policy of key {key:?}")]
    Template {
        /// Which key.
        key: String,
        /// Why.
        #[source]
        source: TemplateError,
    },
    /// A device socket.
    #[error("device")]
    Device(#[from] DeviceError),
    /// A listener.
    #[error("cannot listen on {address}: is the port taken?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the world's folder.
    #[error("cannot write {}: check that the folder is writable", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The derivation was interrupted by the end of the runtime.
    #[error("interrupted")]
    Interrupted,
}

/// A running HTTP simulator with its switch.
#[derive(Debug)]
pub struct Running<F> {
    /// Its URL, by the host name of its configuration.
    pub url: String,
    /// How it misbehaves.
    pub faults: Switch<F>,
    server: Server,
}

impl<F> Running<F> {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

/// A running authority of workload identities.
#[derive(Debug)]
pub struct RunningEntra {
    /// Its URL, and its switch.
    pub running: Running<IdentityFault>,
    /// The cluster that it takes assertions of.
    pub cluster: Cluster,
    /// How often it was asked for a token.
    pub calls: Tally,
}

/// A running storage account.
#[derive(Debug)]
pub struct RunningBlob {
    /// Its URL, and its switch.
    pub running: Running<BlobFault>,
    /// How it misbehaves when something is read.
    pub reads: Switch<BlobReadFault>,
    /// How many blocks came, those that it refused or hid included.
    pub appends: Tally,
}

/// A running world.
#[derive(Debug)]
pub struct World {
    folder: PathBuf,
    foundation: Arc<Foundation>,
    maa: Option<Running<MaaFault>>,
    entra: Option<RunningEntra>,
    vault: Option<Running<VaultFault>>,
    managed_hsm: Option<Running<VaultFault>>,
    blob: Option<RunningBlob>,
    model: Option<Running<ModelFault>>,
    kds: Option<Running<KdsFault>>,
    key_distribution: Arc<Kds>,
    records: Records,
    groups: Vec<Group>,
}

impl World {
    /// Starts everything that the configuration names. The first start of a seed searches for
    /// RSA keys, which takes half a minute without cache.
    ///
    /// # Errors
    /// [`StartError`] with the first thing that fails; what was started is stopped again.
    pub async fn start(config: WorldConfig) -> Result<Self, StartError> {
        let (seed, state) = (config.seed.clone(), config.state.clone());
        let foundation = blocking(move || Foundation::derive(seed, state)).await?;
        let foundation = Arc::new(foundation);
        let groups = group::derive(&config.groups, &foundation).await?;

        let authorities = authorities(&groups, &foundation).await?;
        foundation.write_anchors(&config.folder, &authorities)?;

        let own = groups.iter().filter(|group| group.own);
        let kds = Arc::new(Kds {
            machines: own.map(|group| group.machine.clone()).collect(),
            revoked: config.revoked.clone(),
            keys: foundation.key_ring(),
            foreign: foundation.foreign(),
            faults: KdsFaults::default(),
            calls: KdsCalls::default(),
        });
        let kds_server = kds_server(config.kds.as_ref(), &foundation, &kds).await?;
        let maa = maa_server(config.maa.as_ref(), &foundation, &authorities).await?;
        let groups = group::start(groups, &config.folder, &foundation, &kds).await?;
        let entra = entra_server(config.entra.as_ref(), &foundation, &groups).await?;
        let values = template_values(maa.as_ref(), &groups);
        let vault = vault_server(&config.vault, &config, &foundation, &values, maa.as_ref());
        let vault = vault.await?;
        let hsm = vault_server(&config.managed_hsm, &config, &foundation, &values, maa.as_ref());
        let managed_hsm = hsm.await?;
        let blob = blob_server(config.blob.as_ref(), &foundation, &groups).await?;
        let (model, records) = model_server(config.model).await?;
        Ok(Self {
            folder: config.folder,
            foundation,
            maa,
            entra,
            vault,
            managed_hsm,
            blob,
            model,
            kds: kds_server,
            key_distribution: kds,
            records,
            groups,
        })
    }

    /// The folder with `anchors.pem`, `amd-root.pem`, `amd-chain.pem`, `tls-ca.pem`, `uvm-did.txt`,
    /// `host-data.txt` and one folder a group below `groups/`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keys and authorities that everything derives from.
    #[must_use]
    pub fn foundation(&self) -> &Foundation {
        &self.foundation
    }

    /// The attestation service.
    #[must_use]
    pub fn maa(&self) -> Option<&Running<MaaFault>> {
        self.maa.as_ref()
    }

    /// The authority of workload identities.
    #[must_use]
    pub fn entra(&self) -> Option<&RunningEntra> {
        self.entra.as_ref()
    }

    /// The Key Vault.
    #[must_use]
    pub fn vault(&self) -> Option<&Running<VaultFault>> {
        self.vault.as_ref()
    }

    /// The Managed HSM.
    #[must_use]
    pub fn managed_hsm(&self) -> Option<&Running<VaultFault>> {
        self.managed_hsm.as_ref()
    }

    /// The storage account.
    #[must_use]
    pub fn blob(&self) -> Option<&RunningBlob> {
        self.blob.as_ref()
    }

    /// The model server.
    #[must_use]
    pub fn model(&self) -> Option<&Running<ModelFault>> {
        self.model.as_ref()
    }

    /// What the model server was asked.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// The key distribution service on its own HTTPS listener.
    #[must_use]
    pub fn kds(&self) -> Option<&Running<KdsFault>> {
        self.kds.as_ref()
    }

    /// The key distribution services of AMD and Azure themselves, on whichever listeners they answer: their
    /// faults, and how often they were asked.
    #[must_use]
    pub fn key_distribution(&self) -> &Kds {
        &self.key_distribution
    }

    /// All container groups, in the order of the configuration.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group of that name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name() == name)
    }

    /// An access token as a managed identity gets it, for an operator's tools.
    ///
    /// # Errors
    /// [`JoseError`] when it cannot be signed.
    pub fn access_token(&self, identity: &str, service: Service) -> Result<String, JoseError> {
        let identity = Identity::derive(self.foundation.keys.seed(), identity);
        self.foundation.provider.issue(&identity, service.resource(), clock::now())
    }

    /// An access token for storage, for a reader's tools.
    ///
    /// # Errors
    /// [`JoseError`] when it cannot be signed.
    pub fn storage_token(&self, identity: &str) -> Result<String, JoseError> {
        let identity = Identity::derive(self.foundation.keys.seed(), identity);
        self.foundation.provider.issue(&identity, STORAGE_RESOURCE, clock::now())
    }

    /// The query of a signature for a container of the storage account: its permissions, such as `rl`, and its end in ISO
    /// 8601.
    #[must_use]
    pub fn storage_signature(&self, container: &str, permissions: &str, expiry: &str) -> String {
        let key = self.foundation.keys.seed().bytes(blob::KEY);
        blob::sas::issue(&key, container, permissions, expiry)
    }

    /// Ends everything and waits until the last connection is gone.
    pub async fn stop(self) {
        let servers = [
            self.maa.map(|running| running.server),
            self.entra.map(|entra| entra.running.server),
            self.vault.map(|running| running.server),
            self.managed_hsm.map(|running| running.server),
            self.blob.map(|blob| blob.running.server),
            self.model.map(|running| running.server),
            self.kds.map(|running| running.server),
        ];
        // All at once: each may use up its grace.
        let servers = join_all(servers.into_iter().flatten().map(Server::stop));
        join(servers, join_all(self.groups.into_iter().map(Group::stop))).await;
    }
}

/// Binds first, so that the app can know its own URL.
async fn start_https<F>(
    foundation: &Foundation,
    https: &HttpsConfig,
    faults: Switch<F>,
    app: impl FnOnce(&str) -> Result<axum::Router, StartError>,
) -> Result<Running<F>, StartError> {
    let listener = bind(https.listen).await?;
    let failed = |source| StartError::Listen { address: https.listen, source };
    let address = listener.local_addr().map_err(failed)?;
    let url = https_url(&https.host, address.port());
    let identity = foundation.tls.server(&foundation.keys, &https.names())?;
    let app = app(&url)?;
    let server = serve::serve(listener, Some(tls::server(&identity)?), app).map_err(failed)?;
    Ok(Running { url, faults, server })
}

async fn bind(address: SocketAddr) -> Result<tokio::net::TcpListener, StartError> {
    serve::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

/// The authorities of the groups on genuine machines, one a product; Milan's without groups.
async fn authorities(
    groups: &[group::Derived],
    foundation: &Arc<Foundation>,
) -> Result<Vec<Arc<AmdAuthority>>, StartError> {
    let own = groups.iter().filter(|group| group.own).map(|group| group.machine.authority());
    let known: BTreeMap<&str, _> = own.map(|amd| (amd.product().name(), amd)).collect();
    if known.is_empty() {
        let foundation = Arc::clone(foundation);
        return Ok(vec![blocking(move || foundation.amd(Product::Milan)).await?]);
    }
    Ok(known.into_values().collect())
}

async fn kds_server(
    https: Option<&HttpsConfig>,
    foundation: &Foundation,
    kds: &Arc<Kds>,
) -> Result<Option<Running<KdsFault>>, StartError> {
    let Some(https) = https else { return Ok(None) };
    let app = kds::router(Arc::clone(kds));
    start_https(foundation, https, kds.faults.certificates.clone(), |_| Ok(app)).await.map(Some)
}

async fn maa_server(
    https: Option<&HttpsConfig>,
    foundation: &Foundation,
    authorities: &[Arc<AmdAuthority>],
) -> Result<Option<Running<MaaFault>>, StartError> {
    let Some(https) = https else { return Ok(None) };
    let faults = Switch::<MaaFault>::default();
    let started = start_https(foundation, https, faults.clone(), |url| {
        let config = MaaConfig {
            issuer: url.to_owned(),
            amd_roots: authorities.iter().map(|amd| amd.ark().clone()).collect(),
            uvm_did: foundation.uvm.did().to_owned(),
            faults,
        };
        Ok(maa::router(config, &foundation.keys)?)
    });
    started.await.map(Some)
}

async fn entra_server(
    https: Option<&HttpsConfig>,
    foundation: &Arc<Foundation>,
    groups: &[Group],
) -> Result<Option<RunningEntra>, StartError> {
    let Some(https) = https else { return Ok(None) };
    let keys = Arc::clone(foundation);
    let cluster = blocking(move || Ok(Cluster::derive(&keys.keys)?)).await?;
    let (faults, calls) = (Switch::default(), Tally::default());
    let running = start_https(foundation, https, faults.clone(), |url| {
        Ok(entra::router(EntraConfig {
            url: url.to_owned(),
            cluster: cluster.clone(),
            provider: foundation.provider().clone(),
            identities: groups.iter().flat_map(Group::identities).cloned().collect(),
            faults,
            calls: calls.clone(),
        }))
    });
    Ok(Some(RunningEntra { running: running.await?, cluster, calls }))
}

async fn blob_server(
    config: Option<&BlobServerConfig>,
    foundation: &Foundation,
    groups: &[Group],
) -> Result<Option<RunningBlob>, StartError> {
    let Some(config) = config else { return Ok(None) };
    let (faults, reads, appends) = (Switch::default(), Switch::default(), Tally::default());
    let identities = groups.iter().flat_map(Group::identities);
    let app = blob::router(BlobConfig {
        provider: foundation.provider().clone(),
        contributors: identities.map(|identity| identity.object_id.clone()).collect(),
        containers: BTreeSet::from([config.container.clone()]),
        max_blocks: config.max_blocks,
        max_page: config.max_page,
        key: foundation.keys.seed().bytes(blob::KEY),
        faults: faults.clone(),
        reads: reads.clone(),
        appends: appends.clone(),
    });
    let running = start_https(foundation, &config.https, faults, |_| Ok(app)).await?;
    Ok(Some(RunningBlob { running, reads, appends }))
}

async fn vault_server(
    server: &Option<VaultServerConfig>,
    config: &WorldConfig,
    foundation: &Foundation,
    values: &BTreeMap<String, String>,
    maa: Option<&Running<MaaFault>>,
) -> Result<Option<Running<VaultFault>>, StartError> {
    let Some(server) = server else { return Ok(None) };
    let faults = Switch::<VaultFault>::default();
    let keys = fill_keys(&server.keys, values)?;
    let access = access(server, config, foundation);
    let host = config.maa.as_ref().map(|maa| maa.host.clone());
    let resolve = host.zip(maa.map(Running::address)).into_iter().collect();
    let started = start_https(foundation, &server.https, faults.clone(), |url| {
        let config = VaultConfig {
            base_url: url.to_owned(),
            names: server.https.names(),
            service: server.service,
            keys,
            access,
            resolve,
            foreign: Arc::new(foundation.foreign()),
            faults,
        };
        Ok(vault::router(config, Arc::clone(&foundation.keys), &foundation.tls)?)
    });
    Ok(Some(started.await?))
}

/// Every group's identities may read and release; whatever else, the configuration says.
fn access(
    server: &VaultServerConfig,
    config: &WorldConfig,
    foundation: &Foundation,
) -> BTreeMap<String, BTreeSet<Permission>> {
    let granted = server.access.clone().unwrap_or_else(|| {
        let names = config.groups.iter().flat_map(|group| group.identities.iter().cloned());
        names.map(|name| (name, BTreeSet::from([Permission::Get, Permission::Release]))).collect()
    });
    let object_id = |name: &str| Identity::derive(foundation.keys.seed(), name).object_id;
    granted.iter().map(|(name, granted)| (object_id(name), granted.clone())).collect()
}

/// Fills placeholders in the release policies.
///
/// # Errors
/// [`StartError::Template`] for a name without value.
pub fn fill_keys(
    keys: &[KeySpec],
    values: &BTreeMap<String, String>,
) -> Result<Vec<KeySpec>, StartError> {
    keys.iter()
        .map(|key| {
            let policy = key.release_policy.as_ref();
            let policy = policy.map(|policy| template::fill(policy, values)).transpose();
            let failed = |source| StartError::Template { key: key.name.clone(), source };
            Ok(KeySpec { release_policy: policy.map_err(failed)?, ..key.clone() })
        })
        .collect()
}

/// `MAA`, `HOST_DATA` of the first group, and `HOST_DATA:<name>` of each.
fn template_values(maa: Option<&Running<MaaFault>>, groups: &[Group]) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    if let Some(maa) = maa {
        values.insert("MAA".to_owned(), maa.url.clone());
    }
    if let Some(group) = groups.first() {
        values.insert("HOST_DATA".to_owned(), hex::encode(group.host_data()));
    }
    for group in groups {
        let name = format!("HOST_DATA:{}", group.name());
        values.insert(name, hex::encode(group.host_data()));
    }
    values
}

async fn model_server(
    config: Option<ModelServerConfig>,
) -> Result<(Option<Running<ModelFault>>, Records), StartError> {
    let Some(config) = config else { return Ok((None, Records::default())) };
    let (records, faults) = (config.model.records.clone(), config.model.faults.clone());
    let listener = bind(config.listen).await?;
    let server = serve::serve(listener, None, model::router(config.model))
        .map_err(|source| StartError::Listen { address: config.listen, source })?;
    Ok((Some(Running { url: server.url(), faults, server }), records))
}

/// Key searches take too long for a thread that serves connections.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PkiError> + Send + 'static,
) -> Result<T, StartError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(StartError::Interrupted),
    }
}
