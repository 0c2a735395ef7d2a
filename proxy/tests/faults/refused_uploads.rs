//! Clients that still send when they are refused: the answer reaches them, whole, whatever of their body was never read, and
//! their connection is as good as before (RFC 9113, 8.1).

use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Request, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Bench, K1, hash};
use crate::{setup, tls};

/// What is sent, unless somebody says that it is enough.
const LENGTH: usize = 64 * 1024 * 1024;

/// The longest body that the proxy takes.
const MOST: usize = 4 * 1024 * 1024;

/// A key that may ask for nothing at all, and one that may use one model.
const LIMITED: &str = "pm_a-key-with-a-limit-of-none";
const RESTRICTED: &str = "pm_a-key-for-one-model";

const BEGIN: &[u8] = br#"{"model":"gpt-oss-120b","messages":[],"x":""#;

/// A JSON document that goes on and on.
struct Upload {
    sent: Arc<AtomicUsize>,
    length: usize,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let sent = self.sent.load(Ordering::Relaxed);
        if sent >= self.length {
            return Poll::Ready(None);
        }
        let piece = if sent == 0 {
            Bytes::from_static(BEGIN)
        } else {
            Bytes::from_static(&[b'x'; 16 * 1024])
        };
        self.sent.fetch_add(piece.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

fn start(certificate: &tls::Certificate) -> Bench {
    let keys = json!({"keys": [
        {"key_id": "good", "key_hash": hash(K1)},
        {"key_id": "limited", "key_hash": hash(LIMITED), "rate_limit": 0},
        {"key_id": "restricted", "key_hash": hash(RESTRICTED), "models": ["another"]},
    ]});
    let setup = setup().file("api_keys.json", &keys.to_string());
    certificate.serve(setup.set("PROXY_MAX_BODY", &MOST.to_string()))
}

async fn connect(port: u16) -> SendRequest<Upload> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let connector = TlsConnector::from(Arc::new(tls::config(b"h2")));
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A path, a key, whether the length is said, and what becomes of it: status and code.
type Case = (&'static str, &'static str, bool, u16, &'static str);

const CHAT: &str = "/v1/chat/completions";

const CASES: [Case; 8] = [
    (CHAT, "pm_nobody", false, 401, "invalid_api_key"),
    (CHAT, "pm_nobody", true, 401, "invalid_api_key"),
    (CHAT, LIMITED, false, 429, "rate_limit_exceeded"),
    (CHAT, RESTRICTED, false, 403, "model_not_allowed"),
    (CHAT, K1, true, 413, ""),
    (CHAT, K1, false, 413, ""),
    ("/adminx", K1, false, 404, ""),
    ("/health", K1, true, 405, ""),
];

async fn refused(sender: &mut SendRequest<Upload>, case: Case) {
    let (path, key, is_said, status, code) = case;
    let sent = Arc::new(AtomicUsize::new(0));
    let mut request = Request::post(format!("https://localhost{path}"))
        .header(AUTHORIZATION, format!("Bearer {key}"))
        .header(CONTENT_TYPE, "application/json");
    if is_said {
        request = request.header(CONTENT_LENGTH, LENGTH);
    }
    let upload = Upload { sent: sent.clone(), length: LENGTH };
    let answer = sender.send_request(request.body(upload).unwrap()).await;
    let answer = answer.unwrap_or_else(|error| panic!("{case:?}: {error:?}"));
    assert_eq!(answer.status().as_u16(), status, "{case:?}");
    let body = answer.into_body().collect().await;
    let body = body.unwrap_or_else(|error| panic!("{case:?}: {error:?}")).to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert!(body["error"]["message"].is_string(), "{case:?}: {body}");
    assert!(code.is_empty() || body["error"]["code"] == code, "{case:?}: {body}");
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < LENGTH / 2, "{case:?}: {sent} bytes were sent all the same");
}

#[test]
fn refusals_of_long_uploads_reach_an_http2_client_and_its_connection_goes_on() {
    let certificate = tls::Certificate::make();
    let bench = start(&certificate);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut sender = connect(bench.process.port).await;
        for _ in 0..5 {
            for case in CASES {
                let refused = refused(&mut sender, case);
                tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap();
            }
        }
        let request = Request::post(format!("https://localhost{CHAT}"))
            .header(AUTHORIZATION, format!("Bearer {K1}"));
        // A body of nothing is one that this proxy cannot read, and passes on.
        let nothing = Upload { sent: Arc::default(), length: 0 };
        let answer = sender.send_request(request.body(nothing).unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "on the same connection");
    });
    assert_eq!(bench.upstream.requests().len(), 1, "none of the others came to its end");
}

/// Another implementation (nghttp2), which is less patient with what it does not expect.
#[test]
fn refusals_of_long_uploads_reach_curl() {
    let certificate = tls::Certificate::make();
    let bench = start(&certificate);
    let file = bench.path("upload");
    let mut upload = BEGIN.to_vec();
    upload.resize(LENGTH, b'x');
    std::fs::write(&file, upload).unwrap();
    for protocol in ["--http2", "--http1.1"] {
        for (path, key, is_said, status, code) in CASES {
            let mut curl = Command::new("curl");
            curl.args(["-sk", "--max-time", "30", protocol, "-X", "POST", "-H", "Expect:"])
                .args(["-H", "Content-Type: application/json", "-w", "\n%{http_code}"])
                .args(["-H", &format!("Authorization: Bearer {key}")]);
            if !is_said {
                curl.args(["-H", "Transfer-Encoding: chunked"]);
            }
            curl.arg("-T").arg(&file).stdin(Stdio::null());
            let url = format!("https://127.0.0.1:{}{path}", bench.process.port);
            let Ok(output) = curl.arg(url).output() else {
                println!("skipped: there is no curl on this machine");
                return;
            };
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let case = format!("{protocol} {path} {is_said}: {text} {:?}", output.status);
            let (body, said) = text.rsplit_once('\n').unwrap();
            assert_eq!(said, status.to_string(), "{case}");
            assert!(body.contains(code), "{case}");
        }
    }
}
