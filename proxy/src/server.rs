//! Accepting clients: TLS handshake, then HTTP, until one of the two ends or it is time to stop.
//!
//! Every wait for what a client sends has a bound, what waits for a client to read is bounded in size, and so is the
//! number of connections, in all and for one address. (The host can forge addresses; what it gains is to keep others
//! out, which it can do anyway.)

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::CONNECTION;
use http::{HeaderValue, Response};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use service::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::body::{Body, holding};
use crate::connection::Connection;
use crate::framing::{Framed, Watch};
use crate::life::Life;
use crate::route::Router;
use crate::tls::Channel;
use crate::tls::rotation::Current;
use crate::upload::Upload;
use crate::workers::Workers;

/// Connections that may be open at once, where the system lets the process open the files for them. Further ones wait in
/// the kernel's queue.
const MAX_CONNECTIONS: u32 = 8192;

/// Files that are open for other purposes than clients: logs, state, neighbours.
const OTHER_FILES: u64 = 128;

/// Connections that one address may have open at once. Further ones are closed at once.
const MAX_PER_ADDRESS: u32 = 1024;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a client may take to send a request's head.
const HEAD: Duration = Duration::from_secs(30);

/// How long an HTTP/2 connection may be open without a request.
const IDLE: Duration = Duration::from_secs(60);

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// Requests that one HTTP/2 connection may have open at once.
const STREAMS: u32 = 256;

/// How long open requests may take to end once it is time to stop, or beyond the end of their certificate.
const DRAIN: Duration = Duration::from_secs(20);

/// Accepts until the signal to stop, then lets open requests end.
///
/// # Errors
///
/// There are no threads to serve with.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Current>,
    router: Arc<Router>,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let workers = Workers::start()?;
    let most = connections_within(raised_file_limit());
    let open = Arc::new(Semaphore::new(most as usize));
    let addresses = Addresses::default();
    let mut stop = std::pin::pin!(shutdown.fired());
    loop {
        let accept = async {
            let permit = open.clone().acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: trying again at once would only spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(place) = addresses.enter(crate::address::network(peer.ip())) else { continue };
        let client = Client { router: router.clone(), shutdown: shutdown.clone() };
        let tls = tls.clone();
        let _ = stream.set_nodelay(true);
        // The thread that serves it waits for it.
        let Ok(stream) = stream.into_std() else { continue };
        workers.run(move || async move {
            let _held = (permit, place, client.router.api.metrics.connection());
            let Ok(stream) = TcpStream::from_std(stream) else { return };
            match tls {
                None => {
                    let connection = Connection::new(peer, None);
                    client.serve(stream, connection, Version::Http1, None).await;
                }
                Some(current) => client.serve_tls(stream, peer, &current).await,
            }
        });
    }
    drop(listener);
    let all = open.acquire_many(most);
    if tokio::time::timeout(DRAIN + Duration::from_secs(1), all).await.is_err() {
        tracing::warn!("open requests were cut off");
    }
    workers.end().await;
    Ok(())
}

/// Lets the process open as many files as the system lets it, and returns how many that are; `None`: any number. Many
/// systems set a lower bound first, for the sake of programs that use `select`.
fn raised_file_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the bound of open files could not be raised");
            current
        }
    }
}

/// How many connections may be open with so many files: each takes one towards its client and one towards the upstream.
fn connections_within(files: Option<u64>) -> u32 {
    let most = files.map_or(u64::MAX, |files| files.saturating_sub(OTHER_FILES) / 2);
    u32::try_from(most).unwrap_or(u32::MAX).clamp(1, MAX_CONNECTIONS)
}

/// How many connections each address has open. Addresses without any take no memory.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, u32>>>);

/// A connection's place among those of its address, given back on drop.
struct Place {
    addresses: Addresses,
    address: IpAddr,
}

impl Addresses {
    fn enter(&self, address: IpAddr) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= MAX_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Place { addresses: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Which HTTP a connection speaks, as its handshake agreed. It is never guessed from the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// What serving a client takes.
struct Client {
    router: Arc<Router>,
    shutdown: Shutdown,
}

impl Client {
    async fn serve_tls(self, stream: TcpStream, peer: SocketAddr, current: &Current) {
        let leaf = current.leaf();
        let handshake = TlsAcceptor::from(leaf.config.clone()).accept(stream);
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, handshake).await else { return };
        // A connection ends with its certificate, so that no proof outlives what it was about.
        let left = leaf.not_after.saturating_sub(service::clock::unix_now());
        let life = Life::by_chance(left);
        let session = stream.get_ref().1;
        let version =
            if session.alpn_protocol() == Some(b"h2") { Version::Http2 } else { Version::Http1 };
        let connection = Connection::new(peer, Some(Channel::of(session, leaf)));
        // What is moved on the way takes its room wherever it was, for as long as the connection lives.
        self.serve(Box::new(stream), connection, version, Some(life)).await;
    }

    async fn serve(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        connection: Connection,
        version: Version,
        life: Option<Life>,
    ) {
        let connection = Arc::new(connection);
        let requests = Arc::new(Requests::new());
        let shutdown = self.shutdown.clone();
        let until = Arc::new(Until { shutdown, requests: requests.clone(), life });
        let watch = Arc::new(Watch::default());
        let service = service_fn(|mut request| {
            let running = requests.begin();
            let (is_misframed, answering) = watch.begin(&mut request);
            let request = Upload::of(request);
            // Of its own, so that its room is given back when the answer's head is there: a stream goes on for minutes.
            let answer = Box::pin(self.router.clone().answer(connection.clone(), request));
            let until = until.clone();
            async move {
                let mut answer = answer.await;
                if version == Version::Http1 && (is_misframed || until.is_noticed()) {
                    is_last(&mut answer);
                }
                Ok::<_, Infallible>(answer.map(|body| holding(body, (running, answering))))
            }
        });
        // An error here is the client's or the network's; a framing error may hold a credential or a prompt, so its
        // text goes nowhere.
        match version {
            Version::Http1 => {
                let (router, encrypted) = (self.router.clone(), connection.channel.is_some());
                let unreadable = move || router.unreadable(encrypted);
                let io = TokioIo::new(Framed::new(stream, watch.clone(), unreadable));
                let http = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .max_buf_size(MAX_HEAD)
                    .serve_connection(io, service);
                let mut http = std::pin::pin!(http);
                let why = tokio::select! {
                    _ = &mut http => return,
                    why = until.http1_ends() => why,
                };
                http.as_mut().graceful_shutdown();
                tokio::select! {
                    _ = http => {}
                    () = until.cut_off(why) => {}
                }
            }
            Version::Http2 => {
                let io = TokioIo::new(stream);
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .max_concurrent_streams(STREAMS)
                    .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
                    .keep_alive_interval(Some(Duration::from_secs(30)))
                    .keep_alive_timeout(Duration::from_secs(20))
                    .serve_connection(io, service);
                let mut http = std::pin::pin!(http);
                let why = tokio::select! {
                    _ = &mut http => return,
                    why = until.http2_ends() => why,
                };
                http.as_mut().graceful_shutdown();
                tokio::select! {
                    _ = http => {}
                    () = until.cut_off(why) => {}
                }
            }
        }
    }
}

/// Tells an HTTP/1 client that this connection takes no further request (RFC 9112, 9.6).
fn is_last(answer: &mut Response<Body>) {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// Why a connection takes no further request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The process stops.
    Stop,
    /// Its certificate comes to its end.
    Certificate,
    /// Nothing was asked on it for long.
    Idle,
}

/// What ends a connection.
struct Until {
    shutdown: Shutdown,
    requests: Arc<Requests>,
    /// `None` without certificate.
    life: Option<Life>,
}

impl Until {
    /// Whether the notice was given.
    fn is_noticed(&self) -> bool {
        self.life.is_some_and(|life| self.requests.begin.elapsed() >= life.notice)
    }

    /// HTTP/1 has its own way to give notice, and its own bound for the next head: it ends with its certificate.
    async fn http1_ends(&self) -> Why {
        tokio::select! {
            () = self.shutdown.fired() => Why::Stop,
            () = self.reaches(self.life.map(|life| life.end)) => Why::Certificate,
        }
    }

    /// HTTP/2 ends with the notice.
    async fn http2_ends(&self) -> Why {
        tokio::select! {
            () = self.shutdown.fired() => Why::Stop,
            () = self.reaches(self.life.map(|life| life.notice)) => Why::Certificate,
            () = self.requests.idle() => Why::Idle,
        }
    }

    /// Resolves when what still runs has to be cut off.
    async fn cut_off(&self, why: Why) {
        let stopped = async {
            self.shutdown.fired().await;
            tokio::time::sleep(DRAIN).await;
        };
        match why {
            Why::Stop | Why::Idle => tokio::time::sleep(DRAIN).await,
            Why::Certificate => tokio::select! {
                () = stopped => {}
                () = self.reaches(self.life.map(|life| life.end + DRAIN)) => {}
                // Nothing runs: the client just does not go.
                () = self.requests.idle() => {}
            },
        }
    }

    /// Resolves at an age of the connection; never without one.
    async fn reaches(&self, age: Option<Duration>) {
        match age {
            Some(age) => tokio::time::sleep_until((self.requests.begin + age).into()).await,
            None => std::future::pending().await,
        }
    }
}

/// How many requests run on a connection, and when the last one began or ended.
struct Requests {
    begin: Instant,
    running: AtomicU64,
    /// Milliseconds after `begin`.
    last: AtomicU64,
}

/// A request that runs, until the last byte of its answer is out.
struct Running(Arc<Requests>);

impl Requests {
    fn new() -> Self {
        Self { begin: Instant::now(), running: AtomicU64::new(0), last: AtomicU64::new(0) }
    }

    fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.touch();
        Running(self.clone())
    }

    fn touch(&self) {
        let now = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Resolves when nothing has run for [`IDLE`].
    async fn idle(&self) {
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let silent = self.begin.elapsed().saturating_sub(last);
            if self.running.load(Ordering::Relaxed) == 0 && silent >= IDLE {
                return;
            }
            let rest = IDLE.saturating_sub(silent).max(Duration::from_secs(1));
            tokio::time::sleep(rest).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.touch();
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::address::Trusted;
    use crate::admin::Admin;
    use crate::api::Api;
    use crate::config::AdminAccess;
    use crate::forward::Upstream;
    use crate::keys::Keys;
    use crate::ledger::Ledger;
    use crate::limits::Limits;
    use crate::metrics::Metrics;
    use crate::settings::{Numbers, Settings};

    #[test]
    fn connections_fit_into_the_files_that_the_system_gives() {
        assert_eq!(connections_within(None), MAX_CONNECTIONS);
        assert_eq!(connections_within(Some(1 << 20)), MAX_CONNECTIONS);
        assert_eq!(connections_within(Some(1024)), 448);
        assert_eq!(connections_within(Some(0)), 1, "it says so by failing, not by hanging");
    }

    #[test]
    fn an_address_has_a_bound_and_gives_its_places_back() {
        let addresses = Addresses::default();
        let (one, other) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let places: Vec<_> = (0..MAX_PER_ADDRESS).map(|_| addresses.enter(one).unwrap()).collect();
        assert!(addresses.enter(one).is_none());
        assert!(addresses.enter(other).is_some(), "others are not touched");
        drop(places);
        assert!(addresses.enter(one).is_some());
        assert!(addresses.0.lock().unwrap().is_empty(), "nothing is left behind");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_without_requests() {
        let requests = Arc::new(Requests::new());
        let running = requests.begin();
        let waiting = tokio::time::timeout(IDLE * 3, requests.idle()).await;
        assert!(waiting.is_err(), "a request runs");
        drop(running);
    }

    fn client() -> Client {
        let url = "http://127.0.0.1:1".parse().unwrap();
        let passing = crate::forward::Passing::for_tests();
        let upstream = Upstream::new(&url, None, &service::roots::Roots::public(), passing);
        let none = crate::keys::List { keys: "", ids: "env_key" };
        let keys = Keys::new(none, "/nowhere".into());
        let ledger = Arc::new(Ledger::in_memory());
        let numbers = Numbers::new([1000, 60, 1000, 60]).unwrap();
        let (keys, settings) = (Arc::new(keys), Arc::new(Settings::fixed(numbers)));
        let admin = Admin::for_tests(keys.clone(), ledger.clone(), settings.clone());
        let api = Api {
            keys,
            upstream,
            ledger,
            limits: Arc::new(Limits::new()),
            settings,
            metrics: Arc::new(Metrics::new(false, [])),
            clients: None,
        };
        let trusted = Trusted::Nobody;
        let admin_access = AdminAccess::Proved;
        let router =
            Router { api, attestation: None, admin, admin_access, trusted, force_https: false };
        Client { router: Arc::new(router), shutdown: Shutdown::default() }
    }

    /// Serves one connection, and returns its other end.
    fn served(version: Version, life: Life) -> tokio::io::DuplexStream {
        let (here, there) = tokio::io::duplex(64 * 1024);
        let connection = Connection::new(([127, 0, 0, 1], 1).into(), None);
        tokio::spawn(client().serve(there, connection, version, Some(life)));
        here
    }

    /// There are thousands of them, most of which wait.
    #[tokio::test]
    async fn what_lives_as_long_as_a_connection_is_small() {
        let (_here, there) = tokio::io::duplex(1);
        let connection = Connection::new(([127, 0, 0, 1], 1).into(), None);
        let life = Life { notice: HOUR, end: HOUR };
        let serving = client().serve(Box::new(there), connection, Version::Http1, Some(life));
        let size = size_of_val(&serving);
        println!("{size} bytes");
        assert!(size <= 8 * 1024, "{size} bytes");
    }

    const HOUR: Duration = Duration::from_secs(3600);

    const ASK: &[u8] = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test]
    async fn an_http1_client_is_told_with_the_last_answer() {
        let noticed = Life { notice: Duration::ZERO, end: HOUR };
        let mut client = served(Version::Http1, noticed);
        client.write_all(ASK).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"));
        assert!(answer.ends_with('}'), "the answer is whole: {answer}");

        let mut client = served(Version::Http1, Life { notice: HOUR, end: HOUR });
        for _ in 0..3 {
            client.write_all(ASK).await.unwrap();
            let mut head = [0; 4096];
            let length = client.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            assert!(head.starts_with("HTTP/1.1 200") && !head.contains("connection: close"));
        }
    }

    #[tokio::test]
    async fn an_http2_client_is_sent_away_in_order() {
        let noticed = Life { notice: Duration::ZERO, end: HOUR };
        let io = TokioIo::new(served(Version::Http2, noticed));
        let client = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        // As long as there is a sender, nobody but the server ends the connection.
        let (_sender, connection): (hyper::client::conn::http2::SendRequest<String>, _) =
            client.unwrap();
        connection.await.unwrap();
    }
}
