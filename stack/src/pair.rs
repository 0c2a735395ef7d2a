//! `attest-sidecar` and `skr-sidecar` as processes, in front of a simulated Azure: what replaces the reference's
//! container, and nothing else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use proto::attest::attest_client::AttestClient;
use serde_json::{Value, json};
use sim::vault::{KeySpec, Service};
use sim::world::{World, WorldConfig};
use tokio::process::{Child, Command};
use tonic::transport::Channel;

use crate::bench::{BenchError, io};
use crate::straight::Straight;

/// The longest that a process may take for its first answer.
const START: Duration = Duration::from_secs(60);

/// How long a process may take to stop.
const STOP: Duration = Duration::from_secs(30);

/// The key that is released.
pub(crate) const KID: &str = "measured";

/// Where the outside world of a pair is, and where the pair puts its own things.
pub(crate) struct Outside {
    pub(crate) world: World,
    folder: PathBuf,
    program: PathBuf,
}

impl Outside {
    /// A world with one group, whose security processor takes no time.
    pub(crate) async fn start(
        program: PathBuf,
        folder: &Path,
        state: PathBuf,
    ) -> Result<Self, BenchError> {
        std::fs::create_dir_all(folder).map_err(io("the folder cannot be made"))?;
        let folder = folder.canonicalize().map_err(io("the folder cannot be found"))?;
        let mut config = WorldConfig::new(folder.join("world"));
        config.state = Some(state);
        config.model = None;
        for group in &mut config.groups {
            group.time_per_report = Duration::ZERO;
        }
        if let Some(vault) = &mut config.vault {
            vault.keys = keys()?;
        }
        let world = World::start(config).await.map_err(crate::StartError::from)?;
        Ok(Self { world, folder, program })
    }

    /// Authorities, attestation service and vault.
    pub(crate) fn parties(&self) -> Result<(PathBuf, String, String), BenchError> {
        let missing = || BenchError::Unexpected("the simulated world is not whole".to_owned());
        let maa = self.world.maa().ok_or_else(missing)?.url.trim_end_matches('/').to_owned();
        let vault = self.world.vault().ok_or_else(missing)?.url.trim_end_matches('/').to_owned();
        Ok((self.world.folder().join("tls-ca.pem"), maa, vault))
    }

    /// An access token of the group's identity, as a caller may have one.
    pub(crate) fn access_token(&self) -> Result<String, BenchError> {
        let token = self.world.access_token("group", Service::KeyVault);
        token.map_err(|error| BenchError::Unexpected(error.to_string()))
    }

    /// What a release is asked for with.
    pub(crate) fn release(&self) -> Result<Value, BenchError> {
        let (_, maa, vault) = self.parties()?;
        let host = |url: &str| url.trim_start_matches("https://").to_owned();
        Ok(json!({"maa_endpoint": host(&maa), "akv_endpoint": host(&vault), "kid": KID}))
    }

    /// Starts both roles at once, and waits until a report came through both. `name` keeps pairs apart.
    pub(crate) async fn pair(&self, name: &str) -> Result<Pair, BenchError> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder).map_err(io("the folder of a pair cannot be made"))?;
        let http = free_port()?;
        let (attest, skr) = self.environments(&folder, http)?;
        let begin = Instant::now();
        let attest = self.role("attest-sidecar", &folder, &attest)?;
        let skr = self.role("skr-sidecar", &folder, &skr)?;
        let mut pair = Pair { attest, skr, http, folder, first: Vec::new() };
        for path in ["/status", "/attest/raw"] {
            pair.until_answered(path, begin).await?;
            pair.first.push(begin.elapsed());
        }
        Ok(pair)
    }

    fn environments(
        &self,
        folder: &Path,
        http: SocketAddr,
    ) -> Result<(Environment, Environment), BenchError> {
        let (roots, maa, vault) = self.parties()?;
        let group = self.world.groups().first();
        let group = group.ok_or_else(|| BenchError::Unexpected("no group".to_owned()))?;
        let path = |path: &Path| path.display().to_string();
        let unix = |name: &str| format!("unix:{}", path(&folder.join(name)));
        let thim = format!("{}/metadata/THIM/amd/certification", group.imds_url());
        let attest = vec![
            ("ATTEST_LISTEN", unix("attest.sock")),
            ("ATTEST_DEVICE", format!("socket:{}", path(group.device_path()))),
            ("ATTEST_CERTIFICATE_SOURCES", "context,thim".to_owned()),
            ("ATTEST_THIM_URL", thim),
            ("MAA_ENDPOINT", maa.clone()),
            ("UVM_SECURITY_CONTEXT_DIR", path(group.context_dir())),
            ("SSL_CERT_FILE", path(&roots)),
            ("LOG_SEALER", "off".to_owned()),
        ];
        let skr = vec![
            ("SKR_LISTEN", unix("skr.sock")),
            ("SKR_HTTP_LISTEN", http.to_string()),
            ("SKR_IDENTITY_ENDPOINT", group.imds_url()),
            ("KEY_VAULT_URL", vault),
            ("MAA_ENDPOINT", maa),
            ("ATTEST_SIDECAR", unix("attest.sock")),
            ("SSL_CERT_FILE", path(&roots)),
            ("LOG_SEALER", "off".to_owned()),
        ];
        Ok((attest, skr))
    }

    fn role(
        &self,
        name: &'static str,
        folder: &Path,
        environment: &Environment,
    ) -> Result<RoleChild, BenchError> {
        RoleChild::start(&self.program, name, folder, environment)
    }
}

/// Variables of a role.
pub(crate) type Environment = Vec<(&'static str, String)>;

/// Both roles, running.
pub(crate) struct Pair {
    pub(crate) attest: RoleChild,
    pub(crate) skr: RoleChild,
    /// Where `skr-sidecar` answers HTTP.
    pub(crate) http: SocketAddr,
    /// From the start of both to the first answer of `/status`, and of `/attest/raw`.
    pub(crate) first: Vec<Duration>,
    folder: PathBuf,
}

impl Pair {
    /// An open connection to `skr-sidecar`.
    pub(crate) async fn connect(&self) -> Result<Straight, BenchError> {
        let failed = |error| BenchError::Straight("skr-sidecar", error);
        Straight::plain(self.http).await.map_err(failed)
    }

    /// `attest-sidecar` by gRPC.
    pub(crate) fn attest_client(&self) -> Result<AttestClient<Channel>, BenchError> {
        let address = format!("unix:{}", self.folder.join("attest.sock").display()).parse();
        let address = address.map_err(|_| BenchError::Unexpected("a path is too long".to_owned()));
        Ok(AttestClient::new(service::grpc::channel(&address?)))
    }

    async fn until_answered(&mut self, path: &str, begin: Instant) -> Result<(), BenchError> {
        loop {
            if let Ok(mut connection) = Straight::plain(self.http).await
                && let Ok(answer) = connection.send(request(Method::GET, path, Bytes::new())).await
                && answer.status().is_success()
            {
                return Ok(());
            }
            if begin.elapsed() > START || self.attest.has_ended() || self.skr.has_ended() {
                let printed = ["attest-sidecar.out", "skr-sidecar.out"].map(|name| {
                    std::fs::read_to_string(self.folder.join(name)).unwrap_or_default()
                });
                let printed = printed.concat();
                return Err(BenchError::Unexpected(format!("no answer of {path}:\n{printed}")));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Stops both in order.
    pub(crate) async fn stop(mut self) -> Result<(), BenchError> {
        let well = [self.skr.stop().await, self.attest.stop().await];
        if well == [true, true] {
            Ok(())
        } else {
            Err(BenchError::Unexpected("a sidecar did not end well".to_owned()))
        }
    }
}

/// One role, running.
pub(crate) struct RoleChild {
    child: Child,
    /// The program that it runs.
    pub(crate) program: PathBuf,
    /// Whether that is the role's own binary, as it ships.
    pub(crate) is_own: bool,
}

impl RoleChild {
    /// The role's own binary where it lies beside `program`, else that program as the role.
    pub(crate) fn start(
        program: &Path,
        name: &'static str,
        folder: &Path,
        environment: &Environment,
    ) -> Result<Self, BenchError> {
        let own = program.with_file_name(name);
        let is_own = own.is_file();
        let program = if is_own { own } else { program.to_owned() };
        let output = std::fs::File::create(folder.join(format!("{name}.out")));
        let output = output.map_err(io("the output of a role cannot be written"))?;
        let errors = output.try_clone().map_err(io("the output of a role cannot be written"))?;
        let mut command = Command::new(&program);
        if !is_own {
            command.args(["role", name]);
        }
        let environment = environment.iter().map(|(name, value)| (name, value));
        let child = command
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(io("a role cannot be started"))?;
        Ok(Self { child, program, is_own })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Result<u32, BenchError> {
        let ended = || BenchError::Unexpected("a sidecar has ended".to_owned());
        self.child.id().ok_or_else(ended)
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to stop, and says whether it ended in order.
    pub(crate) async fn stop(&mut self) -> bool {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let ended = tokio::time::timeout(STOP, self.child.wait()).await;
        matches!(ended, Ok(Ok(status)) if status.success())
    }
}

/// A request to `skr-sidecar`.
pub(crate) fn request(method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap_or_default();
    request
}

/// POSTs, and demands a good answer.
pub(crate) async fn post(
    connection: &mut Straight,
    path: &'static str,
    body: Bytes,
) -> Result<Response<Bytes>, BenchError> {
    let failed = |error| BenchError::Straight("skr-sidecar", error);
    let answer = connection.send(request(Method::POST, path, body)).await.map_err(failed)?;
    let _ready = connection.is_ready().await;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    Err(BenchError::Unexpected(format!("{path}: {}: {text}", answer.status())))
}

/// An RSA-2048 key, which costs more to check than any other that is usual.
fn keys() -> Result<Vec<KeySpec>, BenchError> {
    let policy = json!({
        "version": "1.0.0",
        "anyOf": [{
            "authority": "${MAA}",
            "allOf": [{"claim": "x-ms-sevsnpvm-hostdata", "equals": "${HOST_DATA}"}],
        }],
    });
    let key = json!({"name": KID, "kty": "RSA-HSM", "key_size": 2048, "release_policy": policy});
    let malformed = |error: serde_json::Error| BenchError::Unexpected(error.to_string());
    serde_json::from_value(json!([key])).map_err(malformed)
}

/// A port that was free a moment ago.
fn free_port() -> Result<SocketAddr, BenchError> {
    let needs = "a port for skr-sidecar is needed";
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(io(needs))?;
    listener.local_addr().map_err(io(needs))
}
