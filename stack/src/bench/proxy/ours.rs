//! The proxy as it is measured: TLS from files, keys with every limit set, usage in its database.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use attestation::crypto::sha256;
use attestation::encoding::to_b64u;
use proto::info::GetInfoRequest;
use proto::info::info_client::InfoClient;
use serde_json::json;

use super::certificate::Certificate;
use super::client::Target;
use crate::RoleName;
use crate::bench::{BenchError, io};
use crate::pair::{Environment, RoleChild};
use crate::straight::{Version, handshake};

/// How long it may take to serve.
const START: Duration = Duration::from_secs(60);

/// A limit that nobody reaches; it is looked at all the same.
const UNREACHED: u64 = 1_000_000_000;

/// A running one.
pub(crate) struct Ours {
    child: RoleChild,
    pub(crate) target: Target,
}

/// What differs between one proxy and another.
pub(crate) struct Plan<'a> {
    /// Keeps them apart, in figures and folders.
    pub(crate) name: &'static str,
    /// Where to put its own folder.
    pub(crate) folder: &'a Path,
    pub(crate) server: SocketAddr,
    pub(crate) certificate: &'a Certificate,
    /// How many keys it knows.
    pub(crate) keys: u32,
    /// A database that it is to begin with.
    pub(crate) state: Option<&'a Path>,
}

impl Ours {
    pub(crate) async fn start(program: &Path, plan: Plan<'_>) -> Result<Self, BenchError> {
        let failed = io("the folder of a proxy cannot be made");
        let folder = plan.folder.join(plan.name.replace(' ', "-"));
        std::fs::create_dir_all(&folder).map_err(&failed)?;
        let (environment, key) = plan.environment(&folder).map_err(&failed)?;
        let mut child = RoleChild::start(program, "proxy", &folder, &environment)?;
        let begin = Instant::now();
        let address = loop {
            if let Some(address) = clients(&folder).await
                && handshake(address, Version::Http1, None).await.is_ok()
            {
                break address;
            }
            if child.has_ended() || begin.elapsed() > START {
                let said = std::fs::read_to_string(folder.join("proxy.out")).unwrap_or_default();
                return Err(BenchError::Unexpected(format!("the proxy does not serve: {said}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        Ok(Self { child, target: Target { name: plan.name, address, tls: true, key } })
    }

    pub(crate) fn pid(&self) -> Result<u32, BenchError> {
        self.child.pid()
    }

    /// Whether it is the proxy's own binary.
    pub(crate) fn is_own(&self) -> bool {
        self.child.is_own
    }

    pub(crate) async fn stop(mut self) -> Result<(), BenchError> {
        let unwell = || BenchError::Unexpected("the proxy did not end well".to_owned());
        self.child.stop().await.then_some(()).ok_or_else(unwell)
    }
}

impl Plan<'_> {
    fn environment(&self, folder: &Path) -> std::io::Result<(Environment, String)> {
        let path = |path: &Path| path.display().to_string();
        let (keys, key) = keys_file(folder, self.keys)?;
        let mut environment = vec![
            ("PROXY_ADDRESS", "127.0.0.1".to_owned()),
            ("PORT", "0".to_owned()),
            ("PROXY_GRPC_LISTEN", format!("unix:{}", path(&socket(folder)))),
            ("TLS_MODE", "files".to_owned()),
            ("TLS_CERT_FILE", path(&self.certificate.chain)),
            ("TLS_KEY_FILE", path(&self.certificate.key)),
            ("UPSTREAM_URL", format!("http://{}", self.server)),
            ("PRIVATEMODE_API_KEY", "bench".to_owned()),
            ("API_KEYS_FILE", path(&keys)),
            ("LOG_SEALER", "off".to_owned()),
        ];
        environment.extend(unlimited());
        if has(STATE) {
            let state = folder.join("proxy.db");
            if let Some(prepared) = self.state {
                copy(prepared, &state)?;
            }
            environment.push((STATE, path(&state)));
        }
        Ok((environment, key))
    }
}

/// The variable that names the database.
pub(crate) const STATE: &str = "PROXY_STATE";

/// Whether the proxy of this build has a variable.
pub(crate) fn has(variable: &str) -> bool {
    proxy::VARS.iter().any(|var| var.name == variable)
}

/// Limits for everybody that no benchmark reaches.
pub(crate) fn unlimited() -> Environment {
    let all = [
        ("RATE_LIMIT_REQUESTS", UNREACHED.to_string()),
        ("IP_RATE_LIMIT_REQUESTS", UNREACHED.to_string()),
        ("PROXY_METRICS_LISTEN", "off".to_owned()),
    ];
    all.into_iter().filter(|(name, _)| has(name)).collect()
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("proxy.sock")
}

/// Where it serves clients, once it says so.
async fn clients(folder: &Path) -> Option<SocketAddr> {
    let address = format!("unix:{}", socket(folder).display()).parse().ok()?;
    let mut client = InfoClient::new(service::grpc::channel(&address));
    let answer = client.get(GetInfoRequest {}).await.ok()?.into_inner();
    answer.listening.get("clients")?.parse().ok()
}

/// A database and the files beside it, which bear its name and more.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for entry in std::fs::read_dir(from.parent().unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let own = entry.file_name().to_string_lossy().into_owned();
        if let Some(rest) = own.strip_prefix(&name) {
            std::fs::copy(entry.path(), format!("{}{rest}", to.display()))?;
        }
    }
    Ok(())
}

/// A file of so many keys, each with every limit there is, and the one in its middle.
fn keys_file(folder: &Path, count: u32) -> std::io::Result<(PathBuf, String)> {
    let path = folder.join("api_keys.json");
    let key = |number: u32| format!("pm_{}", to_b64u(&sha256(&number.to_be_bytes())));
    let entries = (0..count).map(|number| {
        json!({
            "key_id": format!("key_{number:08x}"), "key_hash": hex::encode(sha256(key(number).as_bytes())),
            "created_at": 1_750_000_000, "description": "measured", "enabled": true, "expires_at": null,
            "rate_limit": UNREACHED, "tokens_per_minute": UNREACHED, "monthly_budget_eur": UNREACHED,
            "models": ["gpt-oss-120b"],
        })
    });
    let file = json!({"keys": entries.collect::<Vec<_>>()});
    std::fs::write(&path, file.to_string())?;
    Ok((path, key(count / 2)))
}

/// The variables of [`unlimited`] for the proxy of a whole stack.
pub(crate) fn unlimited_in_a_stack() -> Vec<(RoleName, &'static str, String)> {
    unlimited().into_iter().map(|(name, value)| (RoleName::Proxy, name, value)).collect()
}
