//! The four roles of one container group, and how each finds its neighbours and the outside world.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use proto::info::info_client::InfoClient;
use proto::info::{GetInfoRequest, RoleInfo};

use crate::process::{RoleProcess, is_healthy};
use crate::stack::StartError;

/// How long a role may take until it is ready.
const READY: Duration = Duration::from_secs(60);

/// A role of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// Owns the SNP device.
    AttestSidecar,
    /// Owns the vault.
    SkrSidecar,
    /// Owns the log sinks.
    LogSealer,
    /// Owns clients and upstream.
    Proxy,
}

impl RoleName {
    /// All, in the order in which they need each other.
    pub const ALL: [Self; 4] =
        [Self::AttestSidecar, Self::LogSealer, Self::SkrSidecar, Self::Proxy];

    /// Its name: of the crate, the binary, the container.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AttestSidecar => "attest-sidecar",
            Self::SkrSidecar => "skr-sidecar",
            Self::LogSealer => "log-sealer",
            Self::Proxy => "proxy",
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a group finds the outside world, and where it puts its own things.
#[derive(Clone, Debug)]
pub struct Places {
    /// The group's own folder: sockets, logs, what the roles print.
    pub folder: PathBuf,
    /// Socket of the security processor.
    pub device: PathBuf,
    /// What the platform mounts.
    pub security_context: PathBuf,
    /// The metadata service, without a slash at the end.
    pub imds: String,
    /// The attestation service, without a slash at the end.
    pub maa: String,
    /// The vault, without a slash at the end.
    pub vault: String,
    /// The authorities that attestation service and vault are certified by.
    pub tls_roots: PathBuf,
    /// The model server.
    pub upstream: String,
    /// The credential for it.
    pub upstream_key: String,
    /// The name of the owner's key in the vault.
    pub owner_kid: String,
    /// The file of API keys.
    pub keys_file: PathBuf,
    /// The readers of the sealed log: age recipients.
    pub log_recipients: String,
    /// The port that clients reach on 127.0.0.1; 0 for a free one.
    pub port: u16,
    /// Variables of a role beside those that every group has, or instead of them.
    pub variables: Vec<(RoleName, &'static str, String)>,
}

impl Places {
    /// The socket of a role's gRPC listener.
    #[must_use]
    pub fn socket(&self, role: RoleName) -> PathBuf {
        self.folder.join(format!("{role}.sock"))
    }

    /// Where sealed log segments go.
    #[must_use]
    pub fn sealed_logs(&self) -> PathBuf {
        self.folder.join("sealed-logs")
    }

    /// Where they wait for that.
    #[must_use]
    pub fn log_spool(&self) -> PathBuf {
        self.folder.join("log-spool")
    }

    fn unix(&self, role: RoleName) -> String {
        format!("unix:{}", self.socket(role).display())
    }

    /// Exactly the environment of a role.
    #[must_use]
    pub fn environment(&self, role: RoleName) -> Vec<(String, String)> {
        let path = |path: &Path| path.display().to_string();
        let attest = self.unix(RoleName::AttestSidecar);
        let vault_host = self.vault.trim_start_matches("https://").to_owned();
        let own: Vec<(&str, String)> = match role {
            RoleName::AttestSidecar => vec![
                ("ATTEST_LISTEN", attest),
                ("ATTEST_DEVICE", format!("socket:{}", self.device.display())),
                ("ATTEST_THIM_URL", format!("{}/metadata/THIM/amd/certification", self.imds)),
                ("ATTEST_AZURE_CACHE_URL", self.imds.clone()),
                ("ATTEST_KDS_URL", self.imds.clone()),
                ("MAA_ENDPOINT", self.maa.clone()),
                ("UVM_SECURITY_CONTEXT_DIR", path(&self.security_context)),
                ("SSL_CERT_FILE", path(&self.tls_roots)),
            ],
            RoleName::LogSealer => vec![
                ("LOG_LISTEN", self.unix(role)),
                ("LOG_HTTP_LISTEN", "127.0.0.1:0".to_owned()),
                ("LOG_RECIPIENTS", self.log_recipients.clone()),
                ("LOG_SINK", format!("folder:{}", self.sealed_logs().display())),
                ("LOG_SPOOL", path(&self.log_spool())),
                ("ATTEST_SIDECAR", attest),
            ],
            RoleName::SkrSidecar => vec![
                ("SKR_LISTEN", self.unix(role)),
                ("SKR_HTTP_LISTEN", "127.0.0.1:0".to_owned()),
                ("SKR_IDENTITY_ENDPOINT", self.imds.clone()),
                ("SKR_VAULT_HOSTS", vault_host),
                ("KEY_VAULT_URL", self.vault.clone()),
                ("OWNER_KID", self.owner_kid.clone()),
                ("MAA_ENDPOINT", self.maa.clone()),
                ("ATTEST_SIDECAR", attest),
                ("SSL_CERT_FILE", path(&self.tls_roots)),
            ],
            RoleName::Proxy => vec![
                ("PROXY_ADDRESS", "127.0.0.1".to_owned()),
                ("PORT", self.port.to_string()),
                ("PROXY_GRPC_LISTEN", self.unix(role)),
                ("UPSTREAM_URL", self.upstream.clone()),
                ("PRIVATEMODE_API_KEY", self.upstream_key.clone()),
                ("API_KEYS_FILE", path(&self.keys_file)),
                ("ATTEST_SIDECAR", attest),
                ("SKR_SIDECAR", self.unix(RoleName::SkrSidecar)),
                // Groups stand beside each other, and are asked more than their limits would let through.
                ("PROXY_METRICS_LISTEN", "off".to_owned()),
                ("RATE_LIMIT_REQUESTS", "1000000000".to_owned()),
                ("IP_RATE_LIMIT_REQUESTS", "1000000000".to_owned()),
            ],
        };
        let sealer = ("LOG_SEALER", self.unix(RoleName::LogSealer));
        let further = self.variables.iter().filter(|(of, ..)| *of == role);
        let further = further.map(|(_, name, value)| (*name, value.clone()));
        let all = own.into_iter().chain([sealer]).chain(further);
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// A running group.
#[derive(Debug)]
pub struct Group {
    program: PathBuf,
    places: Places,
    roles: Vec<RoleProcess>,
}

impl Group {
    /// Starts all four roles at once, as a platform does, and waits until each is ready. `program` is a build of
    /// this crate's binary; `progress` hears of every role that is.
    ///
    /// # Errors
    ///
    /// A role cannot be started, ends, or is not ready in time; the error holds what it printed.
    pub async fn start(
        program: PathBuf,
        places: Places,
        mut progress: impl FnMut(&str),
    ) -> Result<Self, StartError> {
        std::fs::create_dir_all(places.sealed_logs())?;
        std::fs::create_dir_all(places.log_spool())?;
        let mut group = Self { program, places, roles: Vec::new() };
        for role in RoleName::ALL {
            let process = group.spawn(role)?;
            group.roles.push(process);
        }
        for role in RoleName::ALL {
            group.until_ready(role).await?;
            progress(role.name());
        }
        Ok(group)
    }

    fn spawn(&self, role: RoleName) -> std::io::Result<RoleProcess> {
        let output = self.places.folder.join(format!("{role}.out"));
        RoleProcess::start(&self.program, role, &self.places.environment(role), &output)
    }

    /// Waits until a role says that it is ready.
    ///
    /// # Errors
    ///
    /// It ended, or is not ready in time.
    pub async fn until_ready(&mut self, role: RoleName) -> Result<(), StartError> {
        let begin = Instant::now();
        let environment = self.places.environment(role);
        while !is_healthy(&self.program, role, &environment).await {
            let process = self.process(role);
            if process.has_ended() || begin.elapsed() > READY {
                let printed = process.printed();
                return Err(StartError::Role { role, printed });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn process(&mut self, role: RoleName) -> &mut RoleProcess {
        self.roles
            .iter_mut()
            .find(|process| process.role() == role)
            .expect("a group holds every role from its start on")
    }

    /// The process of a role; `None` once it has ended.
    #[must_use]
    pub fn pid(&self, role: RoleName) -> Option<u32> {
        self.roles.iter().find(|process| process.role() == role)?.id()
    }

    /// Where it finds everything.
    #[must_use]
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Everything that all roles printed, from their first start on.
    #[must_use]
    pub fn printed(&self) -> String {
        self.roles.iter().map(RoleProcess::printed).collect()
    }

    /// Ends a role without asking, as a crash would, and starts it again.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub async fn crash(&mut self, role: RoleName) -> Result<(), StartError> {
        self.process(role).kill().await;
        let fresh = self.spawn(role)?;
        *self.process(role) = fresh;
        Ok(())
    }

    /// Ends a role by SIGABRT. Says how it ended; `None`: it does not end.
    pub async fn abort(&mut self, role: RoleName) -> Option<ExitStatus> {
        self.process(role).abort().await
    }

    /// What a role says about itself.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn info(&self, role: RoleName) -> Result<RoleInfo, StartError> {
        let address = self.places.unix(role).parse().expect("a unix: path that this crate made");
        let mut client = InfoClient::new(service::grpc::channel(&address));
        let answer = client.get(GetInfoRequest {}).await;
        Ok(answer.map_err(|status| StartError::Silent(role, Box::new(status)))?.into_inner())
    }

    /// `https://` and the address that clients reach, with the port that the kernel chose.
    ///
    /// # Errors
    ///
    /// The proxy does not answer.
    pub async fn url(&self) -> Result<String, StartError> {
        let info = self.info(RoleName::Proxy).await?;
        let address = info.listening.get("clients").cloned().unwrap_or_default();
        Ok(format!("https://{address}"))
    }

    /// `http://` and the address of skr-sidecar's compatibility routes.
    ///
    /// # Errors
    ///
    /// The role does not answer.
    pub async fn skr_url(&self) -> Result<String, StartError> {
        let info = self.info(RoleName::SkrSidecar).await?;
        let address = info.listening.get("http").cloned().unwrap_or_default();
        Ok(format!("http://{address}"))
    }

    /// Stops all roles in order. Says which did not end well.
    pub async fn stop(mut self) -> Vec<RoleName> {
        let mut unwell = Vec::new();
        for role in RoleName::ALL.into_iter().rev() {
            if !self.process(role).stop().await {
                unwell.push(role);
            }
        }
        unwell
    }
}
