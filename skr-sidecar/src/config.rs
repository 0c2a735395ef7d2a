//! The variables of this role and what they mean. All but the envelope of the sealed secrets are measured: each decides
//! whom the role believes, whom it asks, or where it answers.

use service::env::{Class, Reader, Var};
use service::listen::Local;
use service::roots::{self, Roots};

use crate::host::{Host, HttpsUrl};
use crate::identity::{ClientId, Endpoint};
use crate::reserved::{self, Reserved};
use crate::secrets::{self, Settings};
use crate::vault_hosts::HostList;

/// The table of variables.
pub(crate) const VARS: &[Var] = &[
    measured(
        "SKR_LISTEN",
        Some("127.0.0.1:50000"),
        "Where this role answers gRPC: host:port on loopback, or unix:/path.",
    ),
    measured(
        "SKR_HTTP_LISTEN",
        Some("127.0.0.1:9000"),
        "Where this role answers HTTP, for callers of Microsoft's sidecar: host:port on loopback, or unix:/path.",
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
        "SKR_IDENTITY_ENDPOINT",
        Some("http://169.254.169.254"),
        "Where tokens of the managed identity come from.",
    ),
    measured(
        "AZURE_CLIENT_ID",
        None,
        "Client id of the user-assigned identity to use. Without it, the group's only one.",
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
    roots::VAR,
];

const fn measured(name: &'static str, default: Option<&'static str>, help: &'static str) -> Var {
    Var { name, class: Class::Measured, default, help }
}

/// What the variables say.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where gRPC is answered.
    pub(crate) listen: Local,
    /// Where HTTP is answered.
    pub(crate) http_listen: Local,
    /// Where `attest-sidecar` answers.
    pub(crate) attest_sidecar: Local,
    /// The vault of calls that name none.
    pub(crate) vault: Option<Host>,
    /// The MAA instance of calls that name none.
    pub(crate) maa: Option<Host>,
    /// Vaults outside Azure's domains that may get the identity's token.
    pub(crate) vault_hosts: Vec<Host>,
    /// Where the identity's token comes from.
    pub(crate) identity_endpoint: Endpoint,
    /// Whose token.
    pub(crate) client_id: Option<ClientId>,
    /// Keys of the vault that are used in this process only.
    pub(crate) reserved: Reserved,
    /// How sealed secrets are opened; `None` if there are none.
    pub(crate) secrets: Option<Settings>,
    /// Whom to believe.
    pub(crate) roots: Roots,
}

impl Config {
    /// Reads every variable, then says whether all were good.
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let listen = env.parse("SKR_LISTEN");
        let http_listen = env.parse("SKR_HTTP_LISTEN");
        let attest_sidecar = env.parse("ATTEST_SIDECAR");
        let vault = env.optional("KEY_VAULT_URL").map(|HttpsUrl(host)| host);
        let maa = env.optional("MAA_ENDPOINT").map(|HttpsUrl(host)| host);
        let vault_hosts = env.optional("SKR_VAULT_HOSTS").unwrap_or_default();
        let identity_endpoint = env.parse("SKR_IDENTITY_ENDPOINT");
        let client_id = env.optional("AZURE_CLIENT_ID");
        let reserved = Reserved::read(env, vault.is_some());
        let secrets = Settings::read(env, reserved.secrets.clone());
        let roots = Roots::read(env);
        let HostList(vault_hosts) = vault_hosts;
        Some(Self {
            listen: listen?,
            http_listen: http_listen?,
            attest_sidecar: attest_sidecar?,
            vault,
            maa,
            vault_hosts,
            identity_endpoint: identity_endpoint?,
            client_id,
            reserved,
            secrets,
            roots: roots?,
        })
    }
}
