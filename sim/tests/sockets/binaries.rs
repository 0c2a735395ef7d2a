//! The binaries: one line when ready, healthy while they run, gone within a second.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::state;

/// A running binary, ended with the test.
struct Running {
    child: Child,
    line: String,
}

impl Running {
    fn start(program: &str, flags: &[&str]) -> Self {
        let mut child = Command::new(program).args(flags).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "{program}: {line:?}");
        Self { child, line }
    }

    /// The first address in the ready line.
    fn address(&self) -> &str {
        let (_, rest) = self.line.split_once("://").unwrap();
        rest.split_whitespace().next().unwrap()
    }

    /// Sends SIGTERM and expects a clean end within a second.
    fn stop(mut self) {
        let started = Instant::now();
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After a stop both fail, and nothing is left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn healthy(program: &str, flags: &[&str]) -> bool {
    let mut check = Command::new(program);
    check.args(flags).arg("healthcheck").stderr(Stdio::null());
    check.status().unwrap().success()
}

/// Starts, checks, stops, and checks again.
fn lives(program: &str, flags: &[&str], listen: bool) {
    let state = state();
    let mut flags = flags.to_vec();
    let common = ["--state", state.to_str().unwrap()];
    if !program.ends_with("sim-model") {
        flags.extend(common);
    }
    let mut starting = flags.clone();
    if listen {
        starting.extend(["--listen", "127.0.0.1:0"]);
    }
    let running = Running::start(program, &starting);
    let address = if listen { running.address().to_owned() } else { String::new() };
    if listen {
        flags.extend(["--listen", &address]);
    }
    assert!(healthy(program, &flags), "{program}");
    running.stop();
    assert!(!healthy(program, &flags), "{program}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_model_lives_and_dies() {
    lives(env!("CARGO_BIN_EXE_sim-model"), &["--key", "k"], true);
}

#[test]
fn the_metadata_service_lives_and_dies() {
    lives(env!("CARGO_BIN_EXE_sim-imds"), &["--identity", "group"], true);
}

#[test]
fn the_attestation_service_lives_and_dies() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("anchors");
    lives(env!("CARGO_BIN_EXE_sim-maa"), &["--host", "maa", "--out", text(&out)], true);
    assert!(out.join("tls-ca.pem").exists());
}

#[test]
fn the_vault_takes_its_keys_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (config, host_data) = (folder.path().join("keys.json"), folder.path().join("hd.txt"));
    let policy = sim::world::aci_release_policy("${MAA}", "${HOST_DATA}");
    let contents = serde_json::json!({
        "keys": [{"name": "owner", "kty": "EC-HSM", "release_policy": policy}],
        "access": {"group": ["get", "release"]},
    });
    std::fs::write(&config, contents.to_string()).unwrap();
    std::fs::write(&host_data, "00ff\n").unwrap();
    let file = format!("HOST_DATA={}", text(&host_data));
    let program = env!("CARGO_BIN_EXE_sim-vault");
    let flags = ["--config", text(&config), "--set", "MAA=https://maa", "--set-file", &file];
    lives(program, &flags, true);

    let flags = ["--config", text(&config), "--listen", "127.0.0.1:0"];
    let refused = Command::new(program).args(flags).output().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("HOST_DATA"));
}

#[test]
fn the_storage_account_lives_and_dies() {
    lives(env!("CARGO_BIN_EXE_sim-blob"), &["--container", "logs"], true);
}

#[test]
fn the_device_lives_and_writes_its_context() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, context) = (folder.path().join("sev.sock"), folder.path().join("context"));
    let out = folder.path().join("anchors");
    let flags = ["--socket", text(&socket), "--context-dir", text(&context), "--out", text(&out)];
    lives(env!("CARGO_BIN_EXE_sim-snp"), &flags, false);
    assert!(context.join("host-amd-cert-base64").exists());
    assert!(out.join("amd-root.pem").exists() && out.join("host-data.txt").exists());
}

#[test]
fn the_pause_waits_for_its_signal() {
    Running::start(env!("CARGO_BIN_EXE_sim-pause"), &[]).stop();
}
