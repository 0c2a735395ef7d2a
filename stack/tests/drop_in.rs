//! `skr-sidecar` in the place of the reference: one container, started by the reference's name, with the reference's
//! variables, and nothing beside it. Real processes in a simulated world.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sim::vault::Service;
use sim::world::{VaultServerConfig, World, WorldConfig, aci_release_policy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

const PROGRAM: &str = env!("CARGO_BIN_EXE_stack");

/// The longest that something is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The role as the reference's container would have it, in a world.
struct DropIn {
    folder: tempfile::TempDir,
    world: World,
    process: Child,
}

async fn world(folder: &Path) -> World {
    let mut config = WorldConfig::new(folder.join("world"));
    config.state = Some(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("simulated-keys"));
    config.model = None;
    let policy = aci_release_policy("${MAA}", "${HOST_DATA}");
    let key = json!({"name": "example", "kty": "EC-HSM", "crv": "P-256", "release_policy": policy});
    let keys = vec![serde_json::from_value(key).unwrap()];
    config.vault = Some(VaultServerConfig { keys, ..VaultServerConfig::new(Service::KeyVault) });
    World::start(config).await.unwrap()
}

/// What the image has as `/attest-sidecar`.
fn attest_program(folder: &Path) -> PathBuf {
    let program = folder.join("attest-sidecar");
    let pid = folder.join("attest.pid");
    let lines = format!(
        "#!/bin/sh\necho $$ > {}\nexec {PROGRAM} role attest-sidecar \"$@\"\n",
        pid.display()
    );
    std::fs::write(&program, lines).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

impl DropIn {
    /// With these variables beside those that the place needs.
    async fn start(variables: &[(&str, &str)], device: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = world(folder.path()).await;
        let group = world.groups().first().unwrap();
        let thim = group.imds_url().trim_start_matches("http://").to_owned();
        let args = json!({
            "certcache": {
                "endpoint_type": "LocalTHIM",
                "endpoint": format!("{thim}/metadata/THIM/amd/certification"),
            },
            "identity": {"client_id": group.identities().first().unwrap().client_id},
        });
        let at = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new(PROGRAM);
        command
            .args(["role", "skr.sh"])
            .env_clear()
            .env("SkrSideCarArgs", STANDARD.encode(args.to_string()))
            .env("UVM_SECURITY_CONTEXT_DIR", group.context_dir())
            // What stands for the image and for Azure's names.
            .env("ATTEST_SIDECAR", format!("unix:{}", at("attest.sock")))
            .env("SKR_ATTEST_PROGRAM", attest_program(folder.path()))
            .env("SKR_HTTP_LISTEN", format!("unix:{}", at("http.sock")))
            .env("SKR_LISTEN", format!("unix:{}", at("grpc.sock")))
            .env("SKR_IDENTITY_ENDPOINT", group.imds_url())
            .env("SKR_VAULT_HOSTS", host(&world.vault().unwrap().url))
            .env("ATTEST_MAA_HOSTS", host(&world.maa().unwrap().url))
            .env("SSL_CERT_FILE", world.folder().join("tls-ca.pem"))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if device {
            command.env("ATTEST_DEVICE", format!("socket:{}", group.device_path().display()));
        }
        let process = command.spawn().unwrap();
        let drop_in = Self { folder, world, process };
        let status = || async { drop_in.ask("GET", "/status", "").await.is_some() };
        until(status).await;
        drop_in
    }

    /// Status and JSON of an answer. `None`: nobody answers.
    async fn ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = UnixStream::connect(self.folder.path().join("http.sock")).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap()))
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("POST", path, &body.to_string()).await.unwrap()
    }

    /// The identifier of the attest-sidecar that was started last.
    fn attest_pid(&self) -> Option<i32> {
        let pid = std::fs::read_to_string(self.folder.path().join("attest.pid")).ok()?;
        pid.trim().parse().ok()
    }

    /// Evidence is given.
    async fn attests(&self) -> bool {
        self.post("/attest/raw", &json!({"runtime_data": "e30="})).await.0 == 200
    }

    /// Ends it as a platform does; says whether it ended in order.
    async fn stop(mut self) -> bool {
        let pid = Pid::from_raw(self.process.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let ended = tokio::time::timeout(PATIENCE, self.process.wait()).await.unwrap().unwrap();
        self.world.stop().await;
        ended.success()
    }
}

fn host(url: &str) -> String {
    url.trim_start_matches("https://").to_owned()
}

/// Gone, or dead and only not waited for yet.
fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

/// Repeats until it is so. What it waits for happens in another process, which tells nobody.
async fn until<F: Future<Output = bool>>(so: impl Fn() -> F) {
    let repeated = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, repeated).await.unwrap();
}

#[tokio::test]
async fn one_process_answers_every_route_of_the_reference() {
    let drop_in = DropIn::start(&[], true).await;
    until(|| drop_in.attests()).await;
    let runtime = json!({"runtime_data": "e30="});

    let (status, combined) = drop_in.post("/attest/combined", &runtime).await;
    assert_eq!(status, 200, "{combined}");
    let endorsements = STANDARD.decode(combined["endorsements"].as_str().unwrap()).unwrap();
    let endorsements = String::from_utf8(endorsements).unwrap();
    assert_eq!(endorsements.matches("BEGIN CERTIFICATE").count(), 3);
    assert!(combined["uvm_endorsements"].as_str().unwrap().starts_with("0oRZ"), "COSE_Sign1");

    let maa = host(&drop_in.world.maa().unwrap().url);
    let body = json!({"maa_endpoint": maa, "runtime_data": "e30="});
    let (status, answer) = drop_in.post("/attest/maa", &body).await;
    assert_eq!(status, 200, "{answer}");

    let akv = host(&drop_in.world.vault().unwrap().url);
    let body = json!({"maa_endpoint": maa, "akv_endpoint": akv, "kid": "example"});
    let (status, answer) = drop_in.post("/key/release", &body).await;
    assert_eq!(status, 200, "{answer}");
    let key: Value = serde_json::from_str(answer["key"].as_str().unwrap()).unwrap();
    assert_eq!(key["kty"], "EC");
    assert!(drop_in.stop().await);
}

/// Whoever names a proxy would hear the identity's token, which comes by HTTP in the clear.
#[tokio::test]
async fn no_proxy_is_asked_whatever_the_environment_says() {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    proxy.set_nonblocking(true).unwrap();
    let url = format!("http://{}", proxy.local_addr().unwrap());
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"];
    let drop_in = DropIn::start(&names.map(|name| (name, url.as_str())), true).await;
    until(|| drop_in.attests()).await;
    let maa = host(&drop_in.world.maa().unwrap().url);
    let akv = host(&drop_in.world.vault().unwrap().url);
    let body = json!({"maa_endpoint": maa, "akv_endpoint": akv, "kid": "example"});
    let (status, answer) = drop_in.post("/key/release", &body).await;
    assert_eq!(status, 200, "{answer}");
    let asked = proxy.accept().err().map(|error| error.kind());
    assert_eq!(asked, Some(std::io::ErrorKind::WouldBlock), "the proxy was asked");
    assert!(drop_in.stop().await);
}

#[tokio::test]
async fn the_process_inside_is_started_again_and_ends_with_it() {
    let drop_in = DropIn::start(&[], true).await;
    until(|| drop_in.attests()).await;
    let first = drop_in.attest_pid().unwrap();
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    until(|| async { drop_in.attest_pid().is_some_and(|pid| pid != first) }).await;
    until(|| drop_in.attests()).await;
    let second = drop_in.attest_pid().unwrap();
    assert!(drop_in.stop().await);
    assert!(is_gone(first) && is_gone(second));
}

#[tokio::test]
async fn without_a_device_it_says_what_is_missing() {
    let devices = ["/dev/sev-guest", "/dev/sev", "/sys/kernel/config/tsm/report"];
    if devices.iter().any(|device| Path::new(device).exists()) {
        println!("skipped: this machine has a device");
        return;
    }
    let log = tempfile::tempdir().unwrap();
    let log = log.path().join("skr.log");
    let variables = [("LogFile", log.to_str().unwrap()), ("LogLevel", "info")];
    let drop_in = DropIn::start(&variables, false).await;
    let runtime = json!({"runtime_data": "e30="});
    let missing = |answer: &Value| {
        let text = answer["error"].as_str().unwrap().to_owned();
        text.contains("SEV guest driver is missing")
    };
    until(|| async { missing(&drop_in.post("/attest/raw", &runtime).await.1) }).await;
    let (status, answer) = drop_in.post("/attest/raw", &runtime).await;
    assert!(status == 403 && missing(&answer), "{answer}");
    let (status, answer) = drop_in.post("/attest/combined", &runtime).await;
    assert!(status == 500 && missing(&answer), "{answer}");
    let (status, answer) = drop_in.ask("GET", "/status", "").await.unwrap();
    assert_eq!((status, answer), (200, json!({"message": "Status OK"})));
    assert!(drop_in.stop().await);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("level=info msg=ready\n"), "{log}");
    assert!(log.contains("level=warning msg=a request failed"), "{log}");
}
