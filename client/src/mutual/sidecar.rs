//! Evidence of the TEE that this program runs in, from the `attest-sidecar` beside it, by gRPC.
//!
//! One call is not worth a library for gRPC in everybody's dependencies: it is a POST by HTTP/2 whose body is a length and a
//! message, and whose trailers say how it went. The messages are those of `proto/attest-sidecar.proto`, as far as this
//! call has them; whole-stack tests hold them against the real ones.
//!
//! It must not know what the evidence is for.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use attestation::merkle::{Hash, Inclusion, MAX_LENGTH_OF_PATH};
use attestation::{Binding, Evidence};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::ProveSelf;
use crate::tasks::Tasks;

/// The call. Its authority says nothing: the sidecar serves one name.
const CALL: &str = "http://attest-sidecar/privatemode.attest.v1.Attest/GetEvidence";

/// How long it may take: the report that is being made, its own, and certificates that are not at hand.
const PATIENCE: Duration = Duration::from_secs(15);

/// The longest answer, in bytes: evidence with its endorsements and enforcement policy.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// What stands before a message: whether it is compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// The `attest-sidecar` of the container group or machine that this program runs in.
#[derive(Clone, Debug)]
pub struct AttestSidecar(SidecarAddress);

/// Where it listens: `127.0.0.1:PORT`, or `unix:/absolute/path`. Another machine's evidence is not this program's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SidecarAddress {
    /// TCP, on loopback.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A text is no address of a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an address on loopback such as 127.0.0.1:50051, or unix:/absolute/path")]
pub struct NotASidecar;

impl FromStr for SidecarAddress {
    type Err = NotASidecar;

    fn from_str(text: &str) -> Result<Self, NotASidecar> {
        if let Some(path) = text.strip_prefix("unix:") {
            return path.starts_with('/').then(|| Self::Unix(path.into())).ok_or(NotASidecar);
        }
        let address: Option<SocketAddr> = text.parse().ok();
        let local = address.filter(|address| address.ip().is_loopback());
        local.map(Self::Tcp).ok_or(NotASidecar)
    }
}

impl fmt::Display for SidecarAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why it gave no evidence.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// Nobody listens there.
    #[error("attest-sidecar at {0} cannot be reached")]
    Unreachable(SidecarAddress, #[source] std::io::Error),
    /// The connection broke off.
    #[error("the connection to attest-sidecar broke off")]
    Broken(#[from] hyper::Error),
    /// It says why it has none.
    #[error("attest-sidecar gives none: {0}")]
    Refused(String),
    /// What it answers is not what was asked for.
    #[error("the answer of attest-sidecar is not of the expected form")]
    Malformed,
    /// It took too long.
    #[error("attest-sidecar gave none within {} s", PATIENCE.as_secs())]
    TimedOut,
}

impl AttestSidecar {
    /// The one at this address. It is dialled for each evidence, and may start later.
    #[must_use]
    pub fn at(address: SidecarAddress) -> Self {
        Self(address)
    }

    async fn ask(&self, question: Question) -> Result<Answer, SidecarError> {
        let unreachable = |error| SidecarError::Unreachable(self.0.clone(), error);
        match &self.0 {
            SidecarAddress::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                let _ = stream.set_nodelay(true);
                call(stream, question).await
            }
            SidecarAddress::Unix(path) => {
                call(UnixStream::connect(path).await.map_err(unreachable)?, question).await
            }
        }
    }
}

impl ProveSelf for AttestSidecar {
    async fn evidence(
        &self,
        binding: &Binding,
    ) -> Result<(Evidence, Inclusion), Box<dyn Error + Send + Sync>> {
        let question = Question::about(binding).ok_or(SidecarError::Malformed)?;
        let answer = tokio::time::timeout(PATIENCE, self.ask(question)).await;
        Ok(answer.map_err(|_| SidecarError::TimedOut)??.parts().ok_or(SidecarError::Malformed)?)
    }
}

async fn call(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    question: Question,
) -> Result<Answer, SidecarError> {
    let tasks = Tasks::default();
    let (mut sender, connection) =
        http2::Builder::new(tasks.clone()).handshake(TokioIo::new(stream)).await?;
    hyper::rt::Executor::execute(&tasks, connection);
    let mut request = Request::new(Full::new(framed(&question)));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(CALL);
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let answer = sender.send_request(request).await?;
    // A call that fails before it has a message says so in its head.
    went_well(answer.headers(), true)?;
    #[expect(clippy::disallowed_methods, reason = "the body is limited")]
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => SidecarError::Broken(*error),
        Err(_) => SidecarError::Malformed,
    })?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    went_well(&trailers, false)?;
    let message = unframed(body.to_bytes()).ok_or(SidecarError::Malformed)?;
    Answer::decode(message).map_err(|_| SidecarError::Malformed)
}

/// Whether these headers say that the call went well, or, where that is told later, nothing.
fn went_well(headers: &HeaderMap, told_later: bool) -> Result<(), SidecarError> {
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match value("grpc-status") {
        Some("0") => Ok(()),
        None if told_later => Ok(()),
        None => Err(SidecarError::Malformed),
        Some(status) => {
            let message = value("grpc-message").filter(|message| !message.is_empty());
            let message = message.map_or_else(|| format!("status {status}"), ToOwned::to_owned);
            Err(SidecarError::Refused(message))
        }
    }
}

fn framed(question: &Question) -> Bytes {
    let message = question.encode_to_vec();
    let length = u32::try_from(message.len()).expect("a question has less than 200 bytes");
    [&[0], length.to_be_bytes().as_slice(), &message].concat().into()
}

/// The one message of an answer, which must not be compressed: nothing was offered.
fn unframed(mut body: Bytes) -> Option<Bytes> {
    let prefix: [u8; PREFIX] = body.get(..PREFIX)?.try_into().ok()?;
    let [compressed, length @ ..] = prefix;
    let message = body.split_off(PREFIX);
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (compressed == 0 && length == message.len()).then_some(message)
}

/// `EvidenceRequest`, for its one purpose here.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Question {
    #[prost(message, optional, tag = "4")]
    client_channel: Option<ClientChannel>,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct ClientChannel {
    #[prost(bytes = "vec", tag = "1")]
    nonce: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    exporter: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    server_spki_sha256: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    key_id_sha256: Vec<u8>,
}

impl Question {
    fn about(binding: &Binding) -> Option<Self> {
        let Binding::ClientChannel { nonce, exporter, server_spki_sha256, key_id_sha256 } = binding
        else {
            return None;
        };
        Some(Self {
            client_channel: Some(ClientChannel {
                nonce: nonce.to_vec(),
                exporter: exporter.to_vec(),
                server_spki_sha256: server_spki_sha256.to_vec(),
                key_id_sha256: key_id_sha256.to_vec(),
            }),
        })
    }
}

/// `EvidenceReply`.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Answer {
    #[prost(message, optional, tag = "1")]
    evidence: Option<Parts>,
    #[prost(message, optional, tag = "2")]
    inclusion: Option<Place>,
}

/// `Evidence`.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Parts {
    #[prost(bytes = "vec", tag = "1")]
    report: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    vek: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    chain: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    crl: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    uvm: Vec<u8>,
    #[prost(bytes = "vec", tag = "6")]
    cce_policy: Vec<u8>,
}

/// `Inclusion`.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Place {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    size: u64,
    #[prost(bytes = "vec", repeated, tag = "3")]
    path: Vec<Vec<u8>>,
}

impl Answer {
    fn parts(self) -> Option<(Evidence, Inclusion)> {
        let (evidence, place) = (self.evidence?, self.inclusion?);
        let part = |bytes: Vec<u8>| (!bytes.is_empty()).then_some(bytes);
        let evidence = Evidence {
            report: evidence.report,
            vek: evidence.vek,
            chain: part(evidence.chain),
            crl: part(evidence.crl),
            uvm: part(evidence.uvm),
            cce_policy: part(evidence.cce_policy),
        };
        let path: Result<Vec<Hash>, _> = place.path.into_iter().map(Hash::try_from).collect();
        let path = path.ok().filter(|path| path.len() <= MAX_LENGTH_OF_PATH)?;
        Some((evidence, Inclusion { index: place.index, size: place.size, path }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_is_on_this_machine() {
        for good in ["127.0.0.1:50051", "[::1]:1", "unix:/run/group/attest.sock"] {
            assert_eq!(good.parse::<SidecarAddress>().unwrap().to_string(), good);
        }
        for bad in
            ["", "10.0.0.4:50051", "0.0.0.0:1", "localhost:1", "unix:attest.sock", "127.0.0.1"]
        {
            assert_eq!(bad.parse::<SidecarAddress>(), Err(NotASidecar), "{bad}");
        }
    }

    #[test]
    fn only_a_binding_of_a_client_is_asked_about() {
        let (nonce, exporter) = ([1; 32], [2; 32]);
        let (server_spki_sha256, key_id_sha256) = ([3; 32], [4; 32]);
        let binding = Binding::ClientChannel { nonce, exporter, server_spki_sha256, key_id_sha256 };
        let question = framed(&Question::about(&binding).unwrap());
        // Field 4 holds fields 1 to 4 of 32 bytes each.
        let field = |number: u8, byte: u8| [&[number << 3 | 2, 32], [byte; 32].as_slice()].concat();
        let fields: Vec<u8> = (1..=4).flat_map(|number| field(number, number)).collect();
        assert_eq!(question, [&[0, 0, 0, 0, 139, 4 << 3 | 2, 136, 1], fields.as_slice()].concat());
        let other =
            Binding::LogKey { public_key: vec![1], boot_id: [0; 16], recipients_sha256: [0; 32] };
        assert!(Question::about(&other).is_none());
    }

    #[tokio::test]
    async fn a_sidecar_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix:{}", folder.path().join("none.sock").display());
        let binding = Binding::ClientChannel {
            nonce: [1; 32],
            exporter: [2; 32],
            server_spki_sha256: [3; 32],
            key_id_sha256: [4; 32],
        };
        let error = AttestSidecar::at(address.parse().unwrap()).evidence(&binding).await.err();
        assert!(error.unwrap().to_string().contains(&address));
    }

    #[test]
    fn an_answer_is_one_whole_message() {
        assert_eq!(
            unframed(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 9])).unwrap(),
            [8, 9].as_slice()
        );
        let bad: [&[u8]; 5] =
            [&[], &[0, 0, 0, 0], &[1, 0, 0, 0, 1, 8], &[0, 0, 0, 0, 2, 8], &[0, 0, 0, 0, 0, 8]];
        for bad in bad {
            assert!(unframed(Bytes::copy_from_slice(bad)).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn an_answer_without_a_place_or_with_a_long_way_to_the_root_is_none() {
        let answer = |levels: usize, length: usize| Answer {
            evidence: Some(Parts { report: vec![1], ..Parts::default() }),
            inclusion: Some(Place { index: 0, size: 1, path: vec![vec![7; length]; levels] }),
        };
        let (evidence, inclusion) = answer(20, 32).parts().unwrap();
        assert_eq!((evidence.report, inclusion.path.len()), (vec![1], 20));
        assert!(evidence.crl.is_none());
        assert!(answer(21, 32).parts().is_none());
        assert!(answer(1, 31).parts().is_none());
        assert!(Answer { inclusion: None, ..answer(1, 32) }.parts().is_none());
        assert!(Answer { evidence: None, ..answer(1, 32) }.parts().is_none());
    }

    #[test]
    fn how_a_call_went_is_told_in_its_trailers_or_in_its_head() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            let pairs = pairs.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            pairs.collect()
        };
        assert!(went_well(&headers(&[("grpc-status", "0")]), false).is_ok());
        assert!(went_well(&headers(&[]), true).is_ok());
        assert!(matches!(went_well(&headers(&[]), false), Err(SidecarError::Malformed)));
        let busy = headers(&[("grpc-status", "8"), ("grpc-message", "too many wait")]);
        for told_later in [false, true] {
            let Err(SidecarError::Refused(why)) = went_well(&busy, told_later) else { panic!() };
            assert_eq!(why, "too many wait");
        }
        let Err(SidecarError::Refused(why)) = went_well(&headers(&[("grpc-status", "14")]), true)
        else {
            panic!()
        };
        assert_eq!(why, "status 14");
    }
}
