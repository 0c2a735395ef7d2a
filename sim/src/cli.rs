//! What the binaries share: common flags, the one line when ready, signals, health checks.
//!
//! Must not know: which simulator. The binaries run as the first process of an image without
//! shell, without `/etc/hosts` and without certificates, so nothing here looks for any of them.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::future::join_all;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use x509_cert::Certificate;

use crate::http::serve::Server;
use crate::http::tls;
use crate::seed::{DEFAULT_SEED, Seed};
use crate::world::Foundation;

/// What a story gets to stop its servers.
const GRACE: Duration = Duration::from_millis(800);
/// How long a health check may take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// The boxed error of a binary: it ends up as text on standard error.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Flags of every binary that derives keys.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The text that all keys and certificates derive from; the same for all binaries
    #[arg(long, default_value = DEFAULT_SEED, global = true)]
    pub seed: String,
    /// Folder that caches derived RSA keys; without it they are searched for at every start
    #[arg(long, value_name = "DIR", global = true)]
    pub state: Option<PathBuf>,
    /// Folder to write the anchors into: anchors.pem, tls-ca.pem and their like
    #[arg(long, value_name = "DIR", global = true)]
    pub out: Option<PathBuf>,
}

impl Common {
    /// Derives the foundation of the world; blocks.
    ///
    /// # Errors
    /// When keys cannot be derived or cached.
    pub fn foundation(&self) -> Result<Foundation, Failure> {
        Ok(Foundation::derive(Seed::new(self.seed.clone()), self.state.clone())?)
    }
}

/// What a binary does instead of serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Ask the running server with the same flags whether it is healthy; exit 0 or 1
    Healthcheck,
}

/// Runs a binary's story on a runtime of its own, with the token that SIGTERM and SIGINT cancel.
/// Errors go to standard error with all their causes.
///
/// As the first process of a container there is no default action for signals, so the handlers
/// are there before anything else, and a story that is busy deriving keys is left behind.
pub fn run<F>(story: impl FnOnce(CancellationToken) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    // Two workers: one may be busy with keys while the other receives the signal.
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(&error),
        };
    let outcome = runtime.block_on(async {
        let stop = stop_on_signal()?;
        let story = tokio::spawn(story(stop.clone()));
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            outcome = story => outcome?,
            () = overdue => Ok(()),
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref()),
    }
}

fn stop_on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}

#[expect(clippy::print_stderr, reason = "a binary's last words")]
fn fail(error: &dyn Error) -> ExitCode {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    eprintln!("{text}");
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "the one line that a binary prints")]
fn ready(line: &str) {
    println!("{line}");
}

/// Asks `GET /_sim/health` of the server that listens on `address`, over TLS when a root is
/// given.
///
/// # Errors
/// When the server does not answer 200 within five seconds.
pub async fn healthcheck(address: SocketAddr, root: Option<&Certificate>) -> Result<(), Failure> {
    tokio::time::timeout(HEALTH_TIMEOUT, ask(reachable(address), root)).await?
}

async fn ask(address: SocketAddr, root: Option<&Certificate>) -> Result<(), Failure> {
    let stream = TcpStream::connect(address).await?;
    let Some(root) = root else { return exchange(stream).await };
    let connector = TlsConnector::from(Arc::new(tls::client(root)?));
    // Every certificate of this world is valid for 127.0.0.1, whatever the address.
    let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
    exchange(connector.connect(name, stream).await?).await
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Failure> {
    const REQUEST: &[u8] =
        b"GET /_sim/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    const WANTED: &[u8] = b"HTTP/1.1 200";
    stream.write_all(REQUEST).await?;
    let mut status = [0; WANTED.len()];
    stream.read_exact(&mut status).await?;
    if status == WANTED { Ok(()) } else { Err("the server is not healthy".into()) }
}

/// The address under which a server on this machine can be reached.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// The names of an HTTPS server's certificate: those given, `localhost` and 127.0.0.1.
#[must_use]
pub fn certificate_names(hosts: &[String]) -> Vec<String> {
    let mut names = hosts.to_vec();
    for name in ["127.0.0.1", "localhost"] {
        if !hosts.iter().any(|host| host == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Splits `NAME=VALUE`.
///
/// # Errors
/// When there is no `=`.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Says that the servers are ready, waits for the stop, and stops them.
pub async fn serve_until(stop: CancellationToken, line: &str, servers: Vec<Server>) {
    ready(line);
    stop.cancelled().await;
    // All at once: each may use up its grace.
    join_all(servers.into_iter().map(Server::stop)).await;
}
