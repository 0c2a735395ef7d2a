//! The role, run in this process, between fakes that speak the real protocols: `attest-sidecar` on a Unix
//! socket, the identity service by HTTP, a vault by TLS. The vault wraps and signs with another implementation
//! than the one that unwraps and verifies.

#![allow(dead_code, reason = "each test file uses its own part of the world")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends when its world fails"
)]

pub(crate) mod attest;
pub(crate) mod client;
pub(crate) mod envelope;
pub(crate) mod http;
pub(crate) mod identity;
pub(crate) mod release;
pub(crate) mod vault;

use std::path::Path;

use proto::info::info_client::InfoClient;
use proto::info::{GetInfoRequest, RoleInfo};
use proto::skr::skr_client::SkrClient;
use service::env::Environment;
use service::{BoxError, Process, Role as _, Shutdown};
use skr_sidecar::SkrSidecar;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use self::attest::FakeAttest;
use self::identity::FakeIdentity;
use self::vault::FakeVault;

/// Everything, running.
pub(crate) struct World {
    pub(crate) attest: FakeAttest,
    pub(crate) identity: FakeIdentity,
    pub(crate) vault: FakeVault,
    pub(crate) role: Role,
    folder: tempfile::TempDir,
}

/// The role, running.
pub(crate) struct Role {
    pub(crate) info: RoleInfo,
    pub(crate) channel: Channel,
    pub(crate) shutdown: Shutdown,
    pub(crate) served: JoinHandle<Result<(), String>>,
}

impl World {
    /// With the fake vault as the configured one.
    pub(crate) async fn start() -> Self {
        Self::start_with(|vault| vec![("KEY_VAULT_URL".to_owned(), format!("https://{vault}"))])
            .await
    }

    /// With variables of one's own, which may depend on the vault's `host:port`.
    pub(crate) async fn start_with(variables: impl FnOnce(&str) -> Vec<(String, String)>) -> Self {
        Self::start_believing("", variables).await
    }

    /// With an authority (PEM) beside that of the fake vault.
    pub(crate) async fn start_believing(
        authority: &str,
        variables: impl FnOnce(&str) -> Vec<(String, String)>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let attest = FakeAttest::start(&folder.path().join("attest.sock"));
        let identity = FakeIdentity::start().await;
        let vault = FakeVault::start().await;
        let authorities = format!("{}{authority}", vault.authority());
        std::fs::write(folder.path().join("ca.pem"), authorities).unwrap();
        let mut environment = environment(folder.path(), &identity);
        environment.extend(variables(&vault.host()));
        let role = Role::start(environment).await;
        Self { attest, identity, vault, role, folder }
    }
}

fn environment(folder: &Path, identity: &FakeIdentity) -> Vec<(String, String)> {
    let folder = folder.display();
    [
        ("LOG_SEALER", "off".to_owned()),
        ("SKR_LISTEN", format!("unix:{folder}/skr.sock")),
        ("SKR_HTTP_LISTEN", "127.0.0.1:0".to_owned()),
        ("ATTEST_SIDECAR", format!("unix:{folder}/attest.sock")),
        ("SKR_IDENTITY_ENDPOINT", identity.url()),
        ("SSL_CERT_FILE", format!("{folder}/ca.pem")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

impl Role {
    /// Starts it and waits until it says where it listens.
    pub(crate) async fn start(environment: Vec<(String, String)>) -> Self {
        let environment: Environment = environment.into_iter().collect();
        let (config, process) = Process::embedded::<SkrSidecar>(&environment).await.unwrap();
        let shutdown = process.shutdown.clone();
        let channel = service::grpc::channel(SkrSidecar::health(&config).address());
        let served = SkrSidecar::serve(config, process);
        let served = tokio::spawn(async { served.await.map_err(|e: BoxError| e.to_string()) });
        let info = loop {
            assert!(!served.is_finished(), "the role ended instead of serving");
            match InfoClient::new(channel.clone()).get(GetInfoRequest {}).await {
                Ok(info) => break info.into_inner(),
                Err(_) => tokio::task::yield_now().await,
            }
        };
        Self { info, channel, shutdown, served }
    }

    /// Where it answers HTTP.
    pub(crate) fn http(&self) -> std::net::SocketAddr {
        self.info.listening["http"].parse().unwrap()
    }

    /// Its keys by gRPC.
    pub(crate) fn keys(&self) -> SkrClient<Channel> {
        SkrClient::new(self.channel.clone())
    }
}
