//! The variables of this role and what they mean. All but the envelope of the sealed secrets are measured: each decides
//! whom the role believes, whom it asks, or where it answers.

use std::path::PathBuf;
use std::str::FromStr;

use service::env::{Class, Reader, Var};
use service::listen::Local;
use service::roots::{self, Roots};

use crate::doors::{Door, Doors};
use crate::host::{Host, HttpsUrl};
use crate::identity::{ClientId, Endpoint};
use crate::reserved::{self, Reserved};
use crate::secrets::{self, Settings};
use crate::strict::Statuses;
use crate::vault_hosts::HostList;
use crate::workload_identity::Workload;
use crate::wrapping_key::Wrap;

/// The table of variables.
pub(crate) const VARS: &[Var] = &[
    measured(
        "SKR_LISTEN",
        Some("127.0.0.1:50000"),
        "Where this role answers gRPC: host:port on loopback, unix:/path, or `off`.",
    ),
    measured(
        "SKR_HTTP_LISTEN",
        Some("127.0.0.1:9000"),
        "Where this role answers HTTP, for callers of Microsoft's sidecar: host:port on loopback, unix:/path, or `off`.",
    ),
    measured(
        "ATTEST_SIDECAR",
        Some("127.0.0.1:50051"),
        "Where attest-sidecar answers gRPC: host:port on loopback, or unix:/path.",
    ),
    measured(
        "KEY_VAULT_URL",
        None,
        "The vault of gRPC calls that name none, such as https://name.vault.azure.net. It gets the identity's token, whatever its domain.",
    ),
    measured(
        "MAA_ENDPOINT",
        None,
        "The MAA instance of calls that name none, such as https://sharedeus.eus.attest.azure.net. Without it, the one that attest-sidecar is configured for.",
    ),
    measured(
        "SKR_VAULT_HOSTS",
        None,
        "Vaults outside Azure's own domains that may get the identity's token: host or host:port, separated by commas.",
    ),
    measured(
        "SKR_WRAP",
        Some("RSA_AES_KEY_WRAP_256"),
        "How vaults are asked to wrap released keys: RSA_AES_KEY_WRAP_256 or RSA_AES_KEY_WRAP_384. An answer by another mechanism is refused.",
    ),
    measured(
        "SKR_IDENTITY_ENDPOINT",
        Some("http://169.254.169.254"),
        "Where tokens of the managed identity come from.",
    ),
    measured(
        "AZURE_CLIENT_ID",
        None,
        "Client id of the user-assigned identity to use. Without it, the group's only one. With AZURE_TENANT_ID and AZURE_FEDERATED_TOKEN_FILE, the workload identity's.",
    ),
    measured(
        "AZURE_TENANT_ID",
        None,
        "The directory of a workload identity, which then stands for the managed identity.",
    ),
    measured(
        "AZURE_FEDERATED_TOKEN_FILE",
        None,
        "The file in which the cluster keeps the workload identity's assertion; read for each token.",
    ),
    measured(
        "AZURE_AUTHORITY_HOST",
        Some("https://login.microsoftonline.com"),
        "Where a workload identity's assertion is exchanged. It goes nowhere else.",
    ),
    measured(
        "SKR_WRAP_KEYS",
        None,
        "Folder of the keys that WrapKey of the reference's gRPC service may use: an absolute path. Without it that method is refused. Whoever can write there can have secrets wrapped for a key of their own: it must lie in the image.",
    ),
    reserved::OWNER_VAR,
    reserved::TLS_VAR,
    reserved::SECRETS_VAR,
    reserved::STATE_VAR,
    secrets::SIGNER_VAR,
    secrets::GROUP_VAR,
    secrets::MIN_VERSION_VAR,
    secrets::ENVELOPE_VAR,
    secrets::FILE_VAR,
    measured(
        "SKR_STATUS",
        Some("reference"),
        "`reference`: HTTP statuses as callers of Microsoft's sidecar know them. `strict`: 502, 503 and 504 where a party failed, is busy or late.",
    ),
    roots::VAR,
];

const fn measured(name: &'static str, default: Option<&'static str>, help: &'static str) -> Var {
    Var { name, class: Class::Measured, default, help }
}

/// What the variables say.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where gRPC and HTTP are answered.
    pub(crate) doors: Doors,
    /// Where `attest-sidecar` answers.
    pub(crate) attest_sidecar: Local,
    /// The vault of calls that name none.
    pub(crate) vault: Option<Host>,
    /// The MAA instance of calls that name none.
    pub(crate) maa: Option<Host>,
    /// Vaults outside Azure's domains that may get the identity's token.
    pub(crate) vault_hosts: Vec<Host>,
    /// How released keys are wrapped.
    pub(crate) wrap: Wrap,
    /// Where the identity's token comes from.
    pub(crate) identity_endpoint: Endpoint,
    /// Whose token.
    pub(crate) client_id: Option<ClientId>,
    /// The identity of a pod, which stands for the managed one.
    pub(crate) workload: Option<Workload>,
    /// Keys of the vault that are used in this process only.
    pub(crate) reserved: Reserved,
    /// Where WrapKey may read keys.
    pub(crate) wrap_keys: Option<PathBuf>,
    /// How sealed secrets are opened; `None` if there are none.
    pub(crate) secrets: Option<Settings>,
    /// Which statuses failures have over HTTP.
    pub(crate) statuses: Statuses,
    /// Whom to believe.
    pub(crate) roots: Roots,
}

/// A folder, by its absolute path.
struct Folder(PathBuf);

impl FromStr for Folder {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = PathBuf::from(text);
        if path.is_absolute() { Ok(Self(path)) } else { Err("is to be an absolute path") }
    }
}

impl Config {
    /// Reads every variable, then says whether all were good.
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let grpc = env.parse::<Door>("SKR_LISTEN");
        let http = env.parse::<Door>("SKR_HTTP_LISTEN");
        let attest_sidecar = env.parse("ATTEST_SIDECAR");
        let vault = env.optional("KEY_VAULT_URL").map(|HttpsUrl(host)| host);
        let maa = env.optional("MAA_ENDPOINT").map(|HttpsUrl(host)| host);
        let vault_hosts = env.optional("SKR_VAULT_HOSTS").unwrap_or_default();
        let wrap = env.parse("SKR_WRAP");
        let identity_endpoint = env.parse("SKR_IDENTITY_ENDPOINT");
        let client_id = env.optional("AZURE_CLIENT_ID");
        let workload = Workload::read(env, client_id.as_ref());
        let wrap_keys = env.optional("SKR_WRAP_KEYS").map(|Folder(path)| path);
        let reserved = Reserved::read(env, vault.is_some());
        let secrets = Settings::read(env, reserved.secrets.clone());
        let statuses = env.parse("SKR_STATUS");
        let roots = Roots::read(env);
        let doors = grpc.zip(http).map(|(grpc, http)| Doors::new(grpc, http));
        if matches!(doors, Some(None)) {
            env.refuse(
                "SKR_LISTEN",
                &"is off, and so is SKR_HTTP_LISTEN: nothing would be answered",
            );
        }
        let HostList(vault_hosts) = vault_hosts;
        Some(Self {
            doors: doors??,
            attest_sidecar: attest_sidecar?,
            vault,
            maa,
            vault_hosts,
            wrap: wrap?,
            identity_endpoint: identity_endpoint?,
            client_id,
            workload,
            statuses: statuses?,
            wrap_keys,
            reserved,
            secrets,
            roots: roots?,
        })
    }
}
