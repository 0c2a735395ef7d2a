//! What the cases stand on: the fixture of the contract, a client that sends what it is told, an upstream that records.

mod client;
mod process;
pub(crate) mod sealer;
mod upstream;

use std::path::PathBuf;

use serde_json::{Value, json};

pub(crate) use client::{Answer, Connection};
pub(crate) use process::Process;
#[expect(unused_imports, reason = "each target of tests uses a part of it")]
pub(crate) use upstream::{Recorded, Upstream, json, write};

pub(crate) const K1: &str = "pm_test-key-for-unit-tests-12345";
pub(crate) const K2: &str = "pm_second-test-key-67890";
pub(crate) const EXPIRED: &str = "pm_expired-key-99999";
pub(crate) const DISABLED: &str = "pm_disabled-key-00000";
pub(crate) const PASSWORD: &str = "test-admin-password";
pub(crate) const UPSTREAM_KEY: &str = "pm_test_upstream_key";

/// The fixture: a folder with the keys file, an upstream, the proxy before it.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) upstream: Upstream,
    pub(crate) process: Process,
}

/// A bench that is being set up.
pub(crate) struct Setup {
    folder: tempfile::TempDir,
    upstream: Upstream,
    variables: Vec<(String, String)>,
    within: Vec<String>,
}

impl Bench {
    /// As the contract's fixture has it.
    pub(crate) fn new() -> Self {
        Setup::new().start()
    }

    /// With further variables, or other values.
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        let setup = Setup::new();
        variables.iter().fold(setup, |setup, (name, value)| setup.set(name, value)).start()
    }

    /// A request on a connection of its own, byte for byte, and its answer. HTTP/1.1 without `Connection: close` is fine:
    /// the answer's own framing ends it.
    pub(crate) fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        self.connect().send(request)
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.process.port)
    }

    /// `CHAT` of the contract with this key.
    pub(crate) fn chat(&self, key: &str) -> Answer {
        self.send(chat(&format!("Authorization: Bearer {key}\r\n")))
    }

    /// A file of the bench's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a file there as editors do: a new one takes the old one's place.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let next = self.path("next.tmp");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, self.path(name)).unwrap();
    }

    /// Stops the proxy as an orchestrator does and starts it again on the same folder and upstream.
    pub(crate) fn restart(&mut self) {
        self.process.restart();
    }
}

impl Setup {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("api_keys.json"), keys_file().to_string()).unwrap();
        let upstream = Upstream::start();
        let in_folder = |name: &str| folder.path().join(name).display().to_string();
        let variables = [
            ("PORT", "0".to_owned()),
            ("PROXY_ADDRESS", "127.0.0.1".to_owned()),
            ("PROXY_GRPC_LISTEN", format!("unix:{}", in_folder("grpc.sock"))),
            ("TLS_MODE", "off".to_owned()),
            ("LOG_SEALER", "off".to_owned()),
            ("SKR_SIDECAR", "off".to_owned()),
            ("PROXY_METRICS_LISTEN", "off".to_owned()),
            ("UPSTREAM_URL", format!("http://127.0.0.1:{}", upstream.port())),
            ("API_KEYS_FILE", in_folder("api_keys.json")),
            ("SETTINGS_FILE", in_folder("settings.json")),
            ("USAGE_FILE", in_folder("usage.json")),
            ("ADMIN_PASSWORD", PASSWORD.to_owned()),
            ("PRIVATEMODE_API_KEY", UPSTREAM_KEY.to_owned()),
            ("PBKDF2_SALT", "test-salt-value-1234567890".to_owned()),
            ("TRUST_PROXY", "false".to_owned()),
            ("FORCE_HTTPS", "false".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { folder, upstream, variables, within: Vec::new() }
    }

    /// Started by another program, with these arguments before it.
    pub(crate) fn within(self, words: Vec<String>) -> Self {
        Self { within: words, ..self }
    }

    /// Another value of a variable.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without a variable.
    pub(crate) fn unset(mut self, name: &str) -> Self {
        self.variables.retain(|(other, _)| other != name);
        self
    }

    /// Where a file of the bench's folder is.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// A file before the start; the place of an existing one.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    /// Without a file.
    pub(crate) fn no_file(self, name: &str) -> Self {
        std::fs::remove_file(self.folder.path().join(name)).unwrap();
        self
    }

    pub(crate) fn start(self) -> Bench {
        let socket = self.folder.path().join("grpc.sock");
        let process = Process::start(self.variables, self.within, &socket);
        Bench { folder: self.folder, upstream: self.upstream, process }
    }

    /// Starts a proxy that is expected to refuse: its exit code and what it wrote.
    pub(crate) fn refused(self) -> (i32, String) {
        Process::refused(self.variables)
    }
}

/// `CHAT` of the contract, with further header lines.
pub(crate) fn chat(headers: &str) -> Vec<u8> {
    post("/v1/chat/completions", headers, r#"{"model":"gpt-oss-120b","messages":[]}"#)
}

/// A JSON POST with further header lines.
pub(crate) fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A GET with further header lines.
pub(crate) fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n").into_bytes()
}

/// Lower-case hex SHA-256, as the keys file has it.
pub(crate) fn hash(key: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    hex::encode(digest)
}

pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn keys_file() -> Value {
    let entry = |id: &str, key: &str, description: &str| {
        json!({
            "key_id": id, "key_hash": hash(key), "created_at": 1_700_000_000, "description": description,
            "enabled": true, "expires_at": null,
        })
    };
    let mut second = entry("test_key_2", K2, "Test key 2");
    second["rate_limit"] = json!(5);
    let mut expired = entry("expired_key", EXPIRED, "Expired key");
    expired["expires_at"] = json!(now() - 3600);
    let mut disabled = entry("disabled_key", DISABLED, "Disabled key");
    disabled["enabled"] = json!(false);
    json!({"keys": [entry("test_key_1", K1, "Test key 1"), second, expired, disabled]})
}
