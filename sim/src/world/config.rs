//! What a world is made of.
//!
//! Must not know: how it is started. Every part is optional; addresses default to a free port on
//! loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::blob;
use crate::model::ModelConfig;
use crate::report::Report;
use crate::security_context::DEFAULT_POLICY;
use crate::seed::Seed;
use crate::tcb::{Product, Tcb};
use crate::uvm::{self, UvmForm};
use crate::vault::{KeySpec, Permission, Service};

/// A free port on loopback.
pub const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// One world.
#[derive(Debug, Clone)]
pub struct WorldConfig {
    /// Where everything derives from.
    pub seed: Seed,
    /// Where anchors, sockets and security contexts are written.
    pub folder: PathBuf,
    /// The cache of derived RSA keys; without one, every start searches for them.
    pub state: Option<PathBuf>,
    /// The attestation service.
    pub maa: Option<HttpsConfig>,
    /// The authority of workload identities: those of all groups, by their names.
    pub entra: Option<HttpsConfig>,
    /// The Key Vault.
    pub vault: Option<VaultServerConfig>,
    /// The Managed HSM.
    pub managed_hsm: Option<VaultServerConfig>,
    /// Blob Storage, where every identity of every group may write.
    pub blob: Option<BlobServerConfig>,
    /// The model server.
    pub model: Option<ModelServerConfig>,
    /// The key distribution service on a listener of its own; it also answers beside every
    /// metadata service.
    pub kds: Option<HttpsConfig>,
    /// Serials on AMD's revocation list.
    pub revoked: Vec<u32>,
    /// The container groups, each with device, security context and metadata service.
    pub groups: Vec<GroupConfig>,
}

impl WorldConfig {
    /// A world with one group, an attestation service, an empty Key Vault and a model.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            groups: vec![GroupConfig::new("group")],
            maa: Some(HttpsConfig::default()),
            vault: Some(VaultServerConfig::new(Service::KeyVault)),
            model: Some(ModelServerConfig::default()),
            ..Self::empty(folder)
        }
    }

    /// A world with nothing in it.
    #[must_use]
    pub fn empty(folder: impl Into<PathBuf>) -> Self {
        Self {
            seed: Seed::default(),
            folder: folder.into(),
            state: None,
            maa: None,
            entra: None,
            vault: None,
            managed_hsm: None,
            blob: None,
            model: None,
            kds: None,
            revoked: Vec::new(),
            groups: Vec::new(),
        }
    }
}

/// An HTTPS server.
#[derive(Debug, Clone)]
pub struct HttpsConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The name in its URL; its certificate is valid for this, for `localhost` and for
    /// 127.0.0.1. Clients have to be able to resolve it.
    pub host: String,
}

impl Default for HttpsConfig {
    fn default() -> Self {
        Self { listen: ANY_PORT, host: "127.0.0.1".to_owned() }
    }
}

impl HttpsConfig {
    /// The names of the certificate, without repetition, [`Self::host`] first.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = vec![self.host.clone()];
        for name in ["localhost", "127.0.0.1"] {
            if self.host != name {
                names.push(name.to_owned());
            }
        }
        names
    }
}

/// A vault with its keys.
#[derive(Debug, Clone)]
pub struct VaultServerConfig {
    /// Where, and under which name.
    pub https: HttpsConfig,
    /// Which of the two services.
    pub service: Service,
    /// Keys from the start. Release policies may say `${MAA}`, `${HOST_DATA}` (of the first
    /// group) and `${HOST_DATA:<group>}`.
    pub keys: Vec<KeySpec>,
    /// Permissions by the name of an identity. `None` lets every identity of every group read
    /// keys and have them released.
    pub access: Option<BTreeMap<String, BTreeSet<Permission>>>,
}

impl VaultServerConfig {
    /// An empty vault on a free port.
    #[must_use]
    pub fn new(service: Service) -> Self {
        Self { https: HttpsConfig::default(), service, keys: Vec::new(), access: None }
    }
}

/// A storage account.
#[derive(Debug, Clone)]
pub struct BlobServerConfig {
    /// Where, and under which name.
    pub https: HttpsConfig,
    /// Its one container.
    pub container: String,
    /// The most blocks of one blob.
    pub max_blocks: usize,
    /// The most blobs of one page of a list.
    pub max_page: usize,
}

impl Default for BlobServerConfig {
    fn default() -> Self {
        Self {
            https: HttpsConfig::default(),
            container: "logs".to_owned(),
            max_blocks: blob::MAX_BLOCKS,
            max_page: blob::MAX_PAGE,
        }
    }
}

/// The model server.
#[derive(Debug, Clone)]
pub struct ModelServerConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it does.
    pub model: ModelConfig,
}

impl Default for ModelServerConfig {
    fn default() -> Self {
        Self { listen: ANY_PORT, model: ModelConfig::default() }
    }
}

/// One container group on one machine.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// Names the group's folder; letters, digits and dashes.
    pub name: String,
    /// The machine that the group runs on; groups with the same machine share its chip.
    pub machine: String,
    /// The seed of the machine's AMD keys, when it is not the world's: an impostor.
    pub machine_seed: Option<Seed>,
    /// The machine's product.
    pub product: Product,
    /// The machine's firmware; that of Azure's machines when `None`.
    pub tcb: Option<Tcb>,
    /// The enforcement policy, Rego text.
    pub policy: String,
    /// The launch measurement; that of the default image when `None`.
    pub measurement: Option<[u8; 48]>,
    /// The measurement that Microsoft endorses; the launch measurement when `None`.
    pub endorsed_measurement: Option<[u8; 48]>,
    /// The security version in the endorsement.
    pub uvm_svn: u32,
    /// The form of the endorsement.
    pub uvm_form: UvmForm,
    /// Whether the guest may be debugged.
    pub debug: bool,
    /// A last change to every report before it is signed, whatever it makes of it.
    pub amend: fn(&mut Report),
    /// How long the device takes for a report.
    pub time_per_report: Duration,
    /// The managed identities; the first is the one without a `client_id`.
    pub identities: Vec<String>,
    /// Where the metadata service listens.
    pub imds: SocketAddr,
}

impl GroupConfig {
    /// A group as Azure runs it, on a machine of its own, with one identity of its name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            machine: name.to_owned(),
            machine_seed: None,
            product: Product::Milan,
            tcb: None,
            policy: DEFAULT_POLICY.to_owned(),
            measurement: None,
            endorsed_measurement: None,
            uvm_svn: uvm::DEFAULT_SVN,
            uvm_form: UvmForm::default(),
            debug: false,
            amend: |_| {},
            time_per_report: Duration::from_millis(5),
            identities: vec![name.to_owned()],
            imds: ANY_PORT,
        }
    }
}

/// The release policy that a deployment should have: a compliant image, not debuggable, at the
/// lowest privilege level, with exactly this enforcement policy. Both arguments may be
/// placeholders.
#[must_use]
pub fn aci_release_policy(authority: &str, host_data: &str) -> Value {
    json!({
        "version": "1.0.0",
        "anyOf": [{
            "authority": authority,
            "allOf": [
                {"claim": "x-ms-attestation-type", "equals": "sevsnpvm"},
                {"claim": "x-ms-compliance-status", "equals": "azure-compliant-uvm"},
                {"claim": "x-ms-sevsnpvm-is-debuggable", "equals": "false"},
                {"claim": "x-ms-sevsnpvm-vmpl", "equals": "0"},
                {"claim": "x-ms-sevsnpvm-hostdata", "equals": host_data},
            ],
        }],
    })
}
