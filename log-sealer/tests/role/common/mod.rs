//! What the tests share: a group of a fake `attest-sidecar` and a real `log-sealer` on Unix sockets, senders of
//! log records, and a reader that is written from the format's description.

pub(crate) mod endpoint;
pub(crate) mod http;
pub(crate) mod otlp;
pub(crate) mod reader;
pub(crate) mod receiver;
pub(crate) mod running;
pub(crate) mod sidecar;

use std::path::{Path, PathBuf};
use std::time::Duration;

use age::x25519;
use log_sealer::LogSealer;
use proto::log::log_client::LogClient;
use proto::log::{GetHeadRequest, Head};
use service::env::Environment;
use service::{BoxError, Process, Role as _, Shutdown, grpc};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use self::sidecar::Sidecar;

/// Nothing here takes longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` finds something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(mut look: impl FnMut() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("waited long enough")
}

/// Whether it is ready; nothing as long as nobody answers.
pub(crate) async fn health(channel: &Channel) -> Option<bool> {
    let mut client = HealthClient::new(channel.clone());
    let answer = client.check(HealthCheckRequest { service: String::new() }).await.ok()?;
    Some(answer.into_inner().status == 1)
}

pub(crate) async fn unready(channel: &Channel) {
    eventually(async || health(channel).await.filter(|ready| !*ready)).await;
}

/// The head of its log; nothing as long as nobody answers.
pub(crate) async fn head(channel: &Channel) -> Option<Head> {
    let mut client = LogClient::new(channel.clone());
    Some(client.get_head(GetHeadRequest {}).await.ok()?.into_inner())
}

/// A folder with the sockets, a folder for the log, and a reader's key.
pub(crate) struct Place {
    dir: TempDir,
    pub(crate) reader: x25519::Identity,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("log")).unwrap();
        std::fs::create_dir(dir.path().join("spool")).unwrap();
        Self { dir, reader: x25519::Identity::generate() }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// A folder for `LOG_SPOOL`, which has to be set for it.
    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn socket(&self, name: &str) -> String {
        format!("unix:{}", self.dir.path().join(name).display())
    }

    /// What `log-sealer` is started with; later pairs win.
    pub(crate) fn environment(&self, changes: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut pairs = vec![
            ("LOG_LISTEN".to_owned(), self.socket("log.sock")),
            ("LOG_HTTP_LISTEN".to_owned(), self.socket("http.sock")),
            ("LOG_SEALER".to_owned(), "off".to_owned()),
            ("LOG_RECIPIENTS".to_owned(), self.reader.to_public().to_string()),
            ("LOG_SINK".to_owned(), format!("folder:{}", self.folder().display())),
            ("LOG_SEGMENT_SECONDS".to_owned(), "1".to_owned()),
            ("ATTEST_SIDECAR".to_owned(), self.socket("attest.sock")),
        ];
        pairs.extend(changes.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        pairs
    }

    pub(crate) fn channel(&self) -> Channel {
        grpc::channel(&self.socket("log.sock").parse().unwrap())
    }
}

/// A running `log-sealer` and its sidecar.
pub(crate) struct Sealer {
    pub(crate) place: Place,
    pub(crate) sidecar: Sidecar,
    pub(crate) identity: service::Identity,
    pub(crate) channel: Channel,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), BoxError>>,
}

impl Sealer {
    /// Starts with a sidecar that gives evidence at once.
    pub(crate) async fn start(changes: &[(&str, &str)]) -> Self {
        let sealer = Self::start_without_evidence(changes).await;
        sealer.sidecar.give_evidence();
        sealer.ready().await;
        sealer
    }

    /// Starts with a sidecar that has no evidence yet.
    pub(crate) async fn start_without_evidence(changes: &[(&str, &str)]) -> Self {
        Self::start_at(Place::new(), changes).await
    }

    /// The same where others ran before.
    pub(crate) async fn start_at(place: Place, changes: &[(&str, &str)]) -> Self {
        // the sidecar of whoever ran before may still be closing its socket
        let names = std::fs::read_dir(place.path()).unwrap().count();
        let attest = place.socket(&format!("attest-{names}.sock"));
        let sidecar = Sidecar::start(&attest).await;
        let changes = [&[("ATTEST_SIDECAR", attest.as_str())], changes].concat();
        let environment: Environment = place.environment(&changes).into_iter().collect();
        let (config, process) = Process::embedded::<LogSealer>(&environment).await.unwrap();
        let (identity, shutdown) = (process.identity.clone(), process.shutdown.clone());
        let task = tokio::spawn(LogSealer::serve(config, process));
        let channel = place.channel();
        let sealer = Self { place, sidecar, identity, channel, shutdown, task };
        eventually(async || sealer.health().await.map(drop)).await;
        sealer
    }

    pub(crate) async fn health(&self) -> Option<bool> {
        health(&self.channel).await
    }

    pub(crate) async fn ready(&self) {
        eventually(async || self.health().await.filter(|ready| *ready)).await;
    }

    pub(crate) async fn not_ready(&self) {
        unready(&self.channel).await;
    }

    pub(crate) async fn head(&self) -> Head {
        head(&self.channel).await.unwrap()
    }

    /// Waits until the record of that number is in the sink.
    pub(crate) async fn sealed(&self, seq: u64) -> Head {
        let look = async || Some(self.head().await).filter(|head| head.seq >= seq);
        eventually(look).await
    }

    /// Stops in order; the place stays.
    pub(crate) async fn stop(self) -> Place {
        let (place, outcome) = self.try_stop().await;
        outcome.unwrap();
        place
    }

    pub(crate) async fn try_stop(self) -> (Place, Result<(), BoxError>) {
        self.shutdown.fire();
        let outcome = tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
        (self.place, outcome)
    }

    /// Ends it as a crash does: without last words.
    pub(crate) async fn crash(self) -> Place {
        self.task.abort();
        let _ = self.task.await;
        self.place
    }
}
