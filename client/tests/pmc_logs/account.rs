//! A simulated storage account with one container, and its owner, who puts blobs there.

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::ServerName;
use sim::faults::{BlobReadFault, Switch};
use sim::world::{BlobServerConfig, GroupConfig, TLS_CA, World, WorldConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::desk::{Desk, PATIENCE};
use crate::testing::Author;

pub(crate) struct Account {
    world: World,
    folder: TempDir,
}

impl Account {
    /// One whose lists have pages of so many blobs.
    pub(crate) async fn start(max_page: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = WorldConfig::empty(folder.path());
        config.state = Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/sim-state"));
        config.groups = vec![GroupConfig::new("group")];
        config.blob = Some(BlobServerConfig { max_page, ..BlobServerConfig::default() });
        Self { world: World::start(config).await.unwrap(), folder }
    }

    /// Host and port.
    pub(crate) fn host(&self) -> String {
        self.world.blob().unwrap().running.url.trim_start_matches("https://").to_owned()
    }

    /// The container's URL.
    pub(crate) fn container(&self) -> String {
        format!("https://{}/logs", self.host())
    }

    /// The same with a signature that allows this.
    pub(crate) fn signed(&self, permissions: &str, expiry: &str) -> String {
        let signature = self.world.storage_signature("logs", permissions, expiry);
        format!("{}?{signature}", self.container())
    }

    pub(crate) fn token(&self, identity: &str) -> String {
        self.world.storage_token(identity).unwrap()
    }

    /// Where the authorities of its certificate are.
    pub(crate) fn roots(&self) -> String {
        self.folder.path().join(TLS_CA).display().to_string()
    }

    pub(crate) fn reads(&self) -> &Switch<BlobReadFault> {
        &self.world.blob().unwrap().reads
    }

    /// Options that name it, and these more.
    pub(crate) fn words(&self, more: &[&str]) -> Vec<String> {
        let named = ["--storage-host", &self.host(), "--storage-roots", &self.roots()];
        named.iter().chain(more).map(|word| (*word).to_owned()).collect()
    }

    /// Makes an empty blob, in the place of the one that there is.
    pub(crate) async fn create(&self, name: &str) {
        let headers = "x-ms-blob-type: AppendBlob\r\n";
        assert_eq!(self.call("PUT", &format!("/logs/{name}"), headers, "").await, 201);
    }

    pub(crate) async fn append(&self, name: &str, text: &str) {
        let path = format!("/logs/{name}?comp=appendblock");
        assert_eq!(self.call("PUT", &path, "", text).await, 201);
    }

    pub(crate) async fn delete(&self, name: &str) {
        assert_eq!(self.call("DELETE", &format!("/logs/{name}"), "", "").await, 202);
    }

    /// Makes the blob of a boot, with these of its lines.
    pub(crate) async fn put(&self, folder: &str, author: &Author, lines: &[String]) -> String {
        let name = format!("{folder}{}.jsonl", author.boot);
        self.create(&name).await;
        self.append(&name, &(lines.join("\n") + "\n")).await;
        name
    }

    /// One call of the owner's, by hand, so that nothing of what is tested stands between.
    async fn call(&self, method: &str, path: &str, headers: &str, body: &str) -> u16 {
        let tls = sim::http::tls::client(self.world.foundation().tls.root()).unwrap();
        let host = self.host();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TcpStream::connect(&host).await.unwrap();
        let mut stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\nx-ms-version: 2022-11-02\r\n\
             x-ms-date: now\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
            self.token("group"),
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(PATIENCE, read).await.unwrap();
        String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().parse().unwrap()
    }
}

/// The file with a token, as Azure's tool prints it, that only its owner reads.
pub(crate) fn token_file(desk: &Desk, name: &str, token: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = desk.path(name);
    let text = format!("{{\"accessToken\": \"{token}\", \"tokenType\": \"Bearer\"}}\n");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}
