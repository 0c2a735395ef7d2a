//! A simulated machine with a guest on it, and a TLS server for it. The server does what a test tells it: prove itself,
//! or show whatever an attacker might. It keeps what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, RwLock};

use attestation::certificate::Certificate;
use attestation::connection::SERVICE;
use attestation::crypto::sha256;
use attestation::merkle::Inclusion;
use attestation::policy::Hex;
use attestation::wire::{InclusionText, VerifyAnswer, VerifyRequest};
use attestation::{Anchors, Binding, Evidence, Expect, Policy, danger};
use bytes::Bytes;
use client::Connector;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{HandshakeKind, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use sim::machine::{Guest, Machine, default_measurement};
use sim::pki::KeyRing;
use sim::pki::amd::AmdAuthority;
use sim::report::Report;
use sim::seed::Seed;
use sim::tcb::Product;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

pub(crate) type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a request for a proof is answered with.
pub(crate) type Prove = Arc<dyn Fn(Asked) -> Later<(StatusCode, Vec<u8>)> + Send + Sync>;

/// What any other request is answered with.
pub(crate) type Serve = Arc<dyn Fn(Request<Incoming>) -> Later<Response<Answer>> + Send + Sync>;

pub(crate) type Answer = BoxBody<Bytes, Infallible>;

/// A request for a proof, and the connection that it came on.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) nonce: [u8; 32],
    pub(crate) exporter: [u8; 32],
    pub(crate) certificate: Vec<u8>,
}

/// A guest on a machine of its own.
pub(crate) struct Group {
    seed: Seed,
    machine: Machine,
    guest: Guest,
    /// What its reports say otherwise.
    altered: fn(&mut Report),
}

impl Group {
    pub(crate) fn new() -> Arc<Self> {
        Self::altered(|_| {})
    }

    /// One with other reports.
    pub(crate) fn altered(altered: fn(&mut Report)) -> Arc<Self> {
        let seed = Seed::new("laptop");
        let state = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/sim-state");
        let keys = KeyRing::new(seed.clone(), Some(state));
        let amd = Arc::new(AmdAuthority::derive(&keys, Product::Milan).unwrap());
        let machine = Machine::derive(amd, &seed, "host", Product::Milan.current_tcb());
        let guest = Guest {
            policy: "package policy\n".to_owned(),
            measurement: default_measurement(&seed),
            debug: false,
            launch: "first".to_owned(),
        };
        Arc::new(Self { seed, machine, guest, altered })
    }

    pub(crate) fn anchors(&self) -> Anchors {
        danger::Anchors::from_pem(&self.anchors_pem()).unwrap()
    }

    pub(crate) fn anchors_pem(&self) -> String {
        self.machine.amd().chain_pem().unwrap()
    }

    /// [`Self::policy`] as a file has it.
    pub(crate) fn policy_toml(&self) -> String {
        format!(
            "host_data = [\"{}\"]\nmeasurement = [\"{}\"]\n\
             endorsement = {{ unchecked = \"this machine endorses nothing\" }}\n",
            hex::encode(self.guest.host_data()),
            hex::encode(self.guest.measurement)
        )
    }

    /// Accepts this guest and no other.
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            endorsement: Expect::unchecked("this machine endorses nothing"),
            measurement: Some(Expect::Value(vec![Hex(self.guest.measurement)])),
            ..Policy::for_host_data(Expect::Value(vec![Hex(self.guest.host_data())]))
        }
    }

    pub(crate) fn connector(&self, server: &Server) -> Connector {
        Connector::new(server.url().parse().unwrap(), self.anchors(), self.policy())
    }

    pub(crate) fn evidence(&self, report_data: [u8; 64]) -> Evidence {
        let mut report = self.guest.report(&self.machine, &self.seed);
        report.report_data = report_data;
        (self.altered)(&mut report);
        let key = self.machine.vcek(self.machine.tcb()).unwrap().key;
        let host = self.machine.host_certificate(self.machine.tcb()).unwrap();
        let der = |pem: &str| -> Vec<u8> {
            let certificates = Certificate::sequence_from_pem(pem).unwrap();
            certificates.iter().flat_map(|certificate| certificate.der().to_vec()).collect()
        };
        Evidence {
            report: report.sign(&key).unwrap().to_vec(),
            vek: der(&host.vcek_cert),
            chain: Some(der(&host.certificate_chain)),
            ..Evidence::default()
        }
    }

    /// The proof of a connection, by the guest in which it ends.
    pub(crate) fn prove(&self, asked: &Asked) -> VerifyAnswer {
        self.prove_with(asked, &manifest("first"))
    }

    pub(crate) fn prove_with(&self, asked: &Asked, manifest: &serde_json::Value) -> VerifyAnswer {
        let manifest = manifest.to_string().into_bytes();
        let certificate = Certificate::from_der(&asked.certificate).unwrap();
        let binding = Binding::TlsChannel {
            nonce: asked.nonce,
            exporter: asked.exporter,
            spki_sha256: sha256(&certificate.spki().unwrap()),
            certificate_sha256: sha256(&asked.certificate),
            manifest_sha256: sha256(&manifest),
        };
        let alone = Inclusion { index: 0, size: 1, path: vec![] };
        VerifyAnswer {
            v: 1,
            evidence: self.evidence(binding.report_data(&alone).unwrap()).to_json(),
            merkle: InclusionText::from(&alone),
            manifest,
            owner: None,
            token: None,
            client_nonce: None,
        }
    }

    /// Proves every connection.
    pub(crate) fn honest(self: &Arc<Self>) -> Prove {
        let group = self.clone();
        Arc::new(move |asked| {
            let answer = serde_json::to_vec(&group.prove(&asked)).unwrap();
            Box::pin(async move { (StatusCode::OK, answer) })
        })
    }
}

/// What the guest says about itself, of a boot.
pub(crate) fn manifest(boot: &str) -> serde_json::Value {
    json!({
        "v": 1, "service": SERVICE, "version": "0", "boot_id": boot, "started": 0, "hostnames": [],
        "tls": {"mode": "files"}, "owner_key": null, "log_key": null, "log_head": null, "config": {},
        "anchors": "NOT PRODUCTION",
    })
}

/// A certificate with its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    key: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Self { certificate: certificate.into(), key: Arc::new(key) }
    }

    fn config(&self, versions: &[&'static SupportedProtocolVersion], alpn: &[u8]) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }
}

/// How a server is.
pub(crate) struct Manner {
    pub(crate) identity: Identity,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    pub(crate) alpn: Vec<u8>,
    /// Requests at once on one connection.
    pub(crate) streams: u32,
    pub(crate) prove: Prove,
    pub(crate) serve: Serve,
}

impl Manner {
    pub(crate) fn new(prove: Prove) -> Self {
        Self {
            identity: Identity::new(),
            versions: vec![&rustls::version::TLS13],
            alpn: b"h2".to_vec(),
            streams: 256,
            prove,
            serve: Arc::new(|_| Box::pin(async { text("ok") })),
        }
    }
}

/// Answers whose bodies come as the other end of these channels says, one for each request.
pub(crate) fn piecewise() -> (Serve, mpsc::UnboundedReceiver<mpsc::Sender<Bytes>>) {
    let (sender, senders) = mpsc::unbounded_channel();
    let serve: Serve = Arc::new(move |_| {
        let (pieces, body) = mpsc::channel::<Bytes>(1);
        sender.send(pieces).unwrap();
        let frames = ReceiverStream::new(body).map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        Box::pin(async { Response::new(BodyExt::boxed(StreamBody::new(frames))) })
    });
    (serve, senders)
}

pub(crate) fn text(text: &str) -> Response<Answer> {
    Response::new(Full::new(Bytes::from(text.to_owned())).boxed())
}

/// What a server saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// Path and headers of every request, in order.
    pub(crate) requests: Vec<String>,
    /// How each handshake was done.
    pub(crate) handshakes: Vec<HandshakeKind>,
    /// Tasks of its connections.
    connections: Vec<tokio::task::AbortHandle>,
}

/// A server on loopback, until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Seen>>,
    /// May be changed while it runs; connections that are there keep their certificate.
    pub(crate) manner: Arc<RwLock<Manner>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Server {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let manner = Arc::new(RwLock::new(manner));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let accepting = tokio::spawn(accept(listener, manner.clone(), seen.clone()));
        Self { address, seen, manner, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Another server takes its place: at the same address, and without the connections of this one.
    pub(crate) fn replace(&self, manner: Manner) {
        *self.manner.write().unwrap() = manner;
        self.cut();
        let mut seen = self.seen.lock().unwrap();
        seen.requests.clear();
        seen.handshakes.clear();
    }

    /// Ends every connection at once.
    pub(crate) fn cut(&self) {
        for connection in self.seen.lock().unwrap().connections.drain(..) {
            connection.abort();
        }
    }

    /// Requests for a proof, and all others.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let seen = self.seen.lock().unwrap();
        let is_proof = |request: &&String| request.starts_with("POST /attestation/verify\n");
        let proofs = seen.requests.iter().filter(is_proof).count();
        (proofs, seen.requests.len() - proofs)
    }

    /// Handshakes so far.
    pub(crate) fn handshakes(&self) -> Vec<HandshakeKind> {
        self.seen.lock().unwrap().handshakes.clone()
    }

    /// Nothing but a request for a proof came, and nothing secret in it.
    pub(crate) fn saw_nothing_but_requests_for_proofs(&self) {
        for request in &self.seen.lock().unwrap().requests {
            assert!(request.starts_with("POST /attestation/verify\n"), "{request}");
            assert!(!request.to_lowercase().contains("authorization"), "{request}");
        }
    }
}

async fn accept(listener: TcpListener, manner: Arc<RwLock<Manner>>, seen: Arc<Mutex<Seen>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let connection = tokio::spawn(connection(stream, manner.clone(), seen.clone()));
        seen.lock().unwrap().connections.push(connection.abort_handle());
    }
}

async fn connection(
    stream: tokio::net::TcpStream,
    manner: Arc<RwLock<Manner>>,
    seen: Arc<Mutex<Seen>>,
) {
    let (config, certificate, streams) = {
        let manner = manner.read().unwrap();
        let config = manner.identity.config(&manner.versions, &manner.alpn);
        (config, manner.identity.certificate.to_vec(), manner.streams)
    };
    let config = with_shared_tickets(config);
    let Ok(stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
    let session = stream.get_ref().1;
    let exporter =
        session.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).unwrap();
    seen.lock().unwrap().handshakes.push(session.handshake_kind().unwrap());
    let service = service_fn(move |request: Request<Incoming>| {
        let (manner, seen, certificate) = (manner.clone(), seen.clone(), certificate.clone());
        async move { Ok::<_, Infallible>(answer(request, manner, seen, exporter, certificate).await) }
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(streams);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// A server that would gladly resume any session, as an attacker's would.
fn with_shared_tickets(mut config: ServerConfig) -> ServerConfig {
    use rustls::server::ServerSessionMemoryCache;
    use std::sync::LazyLock;
    static SESSIONS: LazyLock<Arc<ServerSessionMemoryCache>> =
        LazyLock::new(|| ServerSessionMemoryCache::new(256));
    config.session_storage = SESSIONS.clone();
    config.send_tls13_tickets = 2;
    config
}

async fn answer(
    request: Request<Incoming>,
    manner: Arc<RwLock<Manner>>,
    seen: Arc<Mutex<Seen>>,
    exporter: [u8; 32],
    certificate: Vec<u8>,
) -> Response<Answer> {
    let mut text = format!("{} {}\n", request.method(), request.uri().path());
    for (name, value) in request.headers() {
        text = format!("{text}{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    seen.lock().unwrap().requests.push(text);
    let (prove, serve) = {
        let manner = manner.read().unwrap();
        (manner.prove.clone(), manner.serve.clone())
    };
    if request.uri().path() != "/attestation/verify" {
        return serve(request).await;
    }
    #[expect(clippy::disallowed_methods, reason = "what a client of ours sends is short")]
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let asked: VerifyRequest = serde_json::from_slice(&body).unwrap();
    let (status, answer) = prove(Asked { nonce: asked.nonce, exporter, certificate }).await;
    let mut response = Response::new(Full::new(Bytes::from(answer)).boxed());
    *response.status_mut() = status;
    response
}
