//! A TLS 1.3 server that is not the group, and does its best to look like it. It keeps the head
//! and the body of every request, so that a test can see that nothing secret came.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What it answers to a request for a proof.
pub(crate) type Answer = Arc<
    dyn Fn(Bytes) -> futures_util::future::BoxFuture<'static, (StatusCode, Vec<u8>)> + Send + Sync,
>;

pub(crate) struct Impostor {
    pub(crate) address: SocketAddr,
    /// Path and body of every request.
    pub(crate) seen: Arc<Mutex<Vec<(String, Bytes)>>>,
    accepting: tokio::task::JoinHandle<()>,
}

/// A certificate and its key.
pub(crate) struct Identity {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: rcgen::KeyPair,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        Self { certificate, key }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Impostor {
    /// Listens on `address` with a certificate of its own.
    pub(crate) async fn start(address: &str, alpn: &[&[u8]], answer: Answer) -> Self {
        Self::start_as(&Identity::new(), address, alpn, answer).await
    }

    /// The same with a certificate that may be somebody else's.
    pub(crate) async fn start_as(
        identity: &Identity,
        address: &str,
        alpn: &[&[u8]],
        answer: Answer,
    ) -> Self {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(service::roots::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn(accept(listener, Arc::new(config), answer, seen.clone()));
        Self { address, seen, accepting }
    }

    /// Paths that it was asked for.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }

    /// Everything that it was sent.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let seen = self.seen.lock().unwrap();
        seen.iter().flat_map(|(path, body)| [path.as_bytes(), body].concat()).collect()
    }
}

async fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    answer: Answer,
    seen: Arc<Mutex<Vec<(String, Bytes)>>>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = TlsAcceptor::from(config.clone());
        let (answer, seen) = (answer.clone(), seen.clone());
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request| serve(request, answer.clone(), seen.clone()));
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "what a test's client sends is short")]
async fn serve(
    request: Request<Incoming>,
    answer: Answer,
    seen: Arc<Mutex<Vec<(String, Bytes)>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut text = request.uri().path().to_owned();
    for (name, value) in request.headers() {
        text = format!("{text}\n{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    let is_proof = request.uri().path() == "/attestation/verify";
    // The head is kept before anything is waited for: a client may send it and then think better of it.
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push((text, Bytes::new()));
        seen.len() - 1
    };
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    seen.lock().unwrap()[number].1 = body.clone();
    let (status, bytes) =
        if is_proof { answer(body).await } else { (StatusCode::OK, b"{}".to_vec()) };
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    *response.status_mut() = status;
    Ok(response)
}

/// A server that knows nothing of attestation.
pub(crate) fn plain() -> Answer {
    Arc::new(|_| Box::pin(async { (StatusCode::NOT_FOUND, b"not found".to_vec()) }))
}
