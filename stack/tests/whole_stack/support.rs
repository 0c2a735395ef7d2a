//! What the whole-stack tests share: starting a stack, running `pmc`, and servers that pretend to be one.

pub(crate) mod curl;
pub(crate) mod impostor;
pub(crate) mod python;
mod watchdog;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use sim::model::RecordedRequest;
use sim::world::WorldConfig;
use stack::{Options, RoleName, Stack};
use tempfile::TempDir;

use self::watchdog::Watchdog;

/// The binary that is every role and `pmc`.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_stack");

/// A running stack in a folder that goes away with it.
pub(crate) struct Running {
    pub(crate) stack: Stack,
    pub(crate) folder: TempDir,
    _watchdog: Watchdog,
}

pub(crate) fn options(folder: &Path) -> Options {
    Options {
        program: PROGRAM.into(),
        folder: folder.to_owned(),
        state: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("simulated-keys"),
        port: 0,
        upstream: None,
        model_delay: Duration::from_millis(5),
        amend: |_| {},
        variables: Vec::new(),
    }
}

pub(crate) async fn start() -> Running {
    start_with(|_| {}).await
}

pub(crate) async fn start_with(amend: fn(&mut WorldConfig)) -> Running {
    start_set(amend, Vec::new()).await
}

/// With a changed world, and variables of roles.
pub(crate) async fn start_set(
    amend: fn(&mut WorldConfig),
    variables: Vec<(RoleName, &'static str, String)>,
) -> Running {
    let watchdog = Watchdog::start();
    let folder = tempfile::tempdir().unwrap();
    let options = Options { amend, variables, ..options(folder.path()) };
    let stack = Box::pin(Stack::start(options, |_| {})).await;
    let stack = stack.unwrap_or_else(|error| fail(&error));
    Running { stack, folder, _watchdog: watchdog }
}

pub(crate) fn fail(error: &dyn std::error::Error) -> ! {
    panic!("{}", service::chain(error))
}

impl Running {
    pub(crate) fn path(&self, name: &str) -> String {
        self.stack.folder().join(name).display().to_string()
    }

    /// Options of `pmc` that hold the simulated anchors and the group's policy.
    pub(crate) fn trusting(&self) -> Vec<String> {
        self.stack.trusting()
    }

    /// Waits until the model has lost the client of a stream whose prompt holds these words.
    pub(crate) async fn until_given_up(&self, words: &str) {
        let lost = self.stack.world.records().wait_for(|request| {
            let asked = request.body.as_ref().is_some_and(|body| body.contains(words));
            asked && request.client_gone && !request.completed
        });
        let lost = tokio::time::timeout(Duration::from_secs(60), lost).await;
        lost.unwrap_or_else(|_| panic!("the model still answers {words:?}"));
    }

    /// Waits until the model was asked for a path with this word in it, and the request is as wanted.
    pub(crate) async fn until_asked(
        &self,
        word: &str,
        wanted: impl Fn(&RecordedRequest) -> bool,
    ) -> RecordedRequest {
        let records = self.stack.world.records();
        let asked = records.wait_for(|request| request.target.contains(word) && wanted(request));
        let asked = tokio::time::timeout(Duration::from_secs(60), asked).await;
        asked.unwrap_or_else(|_| panic!("the model was not asked as wanted: {word:?}"))
    }

    pub(crate) async fn stop(self) {
        let unwell = self.stack.stop().await;
        assert!(unwell.is_empty(), "did not end well: {unwell:?}");
    }
}

/// Runs `pmc` to its end.
pub(crate) async fn pmc(arguments: &[impl AsRef<str>]) -> Output {
    let mut command = tokio::process::Command::new(PROGRAM);
    command.arg("pmc").args(arguments.iter().map(AsRef::as_ref)).kill_on_drop(true);
    tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap()
}

pub(crate) fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).unwrap()
}

/// `pmc connect` in the background.
pub(crate) struct Forwarder(stack::local::Forwarder);

impl std::ops::Deref for Forwarder {
    type Target = stack::local::Forwarder;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Forwarder {
    pub(crate) async fn start(url: &str, arguments: &[String]) -> Self {
        let started = stack::local::Forwarder::start(PROGRAM.as_ref(), url, arguments).await;
        Self(started.unwrap_or_else(|error| fail(&error)))
    }

    /// How it ended.
    pub(crate) async fn ended(self) -> std::process::ExitStatus {
        self.0.ended().await.unwrap()
    }

    /// POSTs JSON to the forwarder by plain HTTP.
    pub(crate) async fn post(&self, path: &str, key: &str, body: &str) -> (u16, String) {
        let address = self.base.trim_start_matches("http://").trim_end_matches("/v1");
        http_post(address, path, key, body).await
    }
}

/// One HTTP/1.1 request by hand, so that no client library stands between.
pub(crate) async fn http_post(address: &str, path: &str, key: &str, body: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(60), read).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}
