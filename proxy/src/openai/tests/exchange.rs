//! Whole exchanges over sockets: what is settled, and how often.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use service::roots::Roots;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::api::Settlement;
use crate::body::Body;
use crate::endpoint::Endpoint;
use crate::forward::{Passing, Upstream};
use crate::keys::ApiKey;
use crate::ledger::Ledger;
use crate::usage::{Call, Usage};

/// A proxy in front of an upstream that answers every request with the same bytes, and closes.
struct Bench {
    upstream: Arc<Upstream>,
    key: Arc<ApiKey>,
    calls: Arc<Mutex<Vec<Call>>>,
    settled: Arc<Notify>,
    /// What arrived at the upstream.
    arrived: Arc<Mutex<Vec<u8>>>,
}

impl Bench {
    /// `stays`: the upstream keeps the connection open after its bytes.
    async fn new(answer: &str, stays: bool) -> Self {
        Self::with(answer, stays, ApiKey::default()).await
    }

    async fn with(answer: &str, stays: bool, key: ApiKey) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let arrived: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (recorded, answer) = (arrived.clone(), answer.to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), stays, recorded.clone()));
            }
        });
        let upstream = Upstream::new(&url, None, &Roots::public(), Passing::for_tests());
        Self {
            upstream: Arc::new(upstream),
            key: Arc::new(key),
            calls: Arc::default(),
            settled: Arc::default(),
            arrived,
        }
    }

    /// A client's connection.
    fn connect(&self) -> DuplexStream {
        let (here, there) = tokio::io::duplex(1 << 20);
        let (upstream, key) = (self.upstream.clone(), self.key.clone());
        let (calls, settled) = (self.calls.clone(), self.settled.clone());
        let ledger = Arc::new(Ledger::in_memory());
        let service = service_fn(move |request| {
            let (upstream, key, ledger) = (upstream.clone(), key.clone(), ledger.clone());
            let (calls, settled) = (calls.clone(), settled.clone());
            async move {
                let at_end = Box::new(move |call: &Call, _| {
                    calls.lock().unwrap().push(call.clone());
                    settled.notify_one();
                });
                let answer = async {
                    let request = crate::upload::Upload::of(request);
                    let begun = crate::openai::begin(&upstream, &key, request).await?;
                    let settlement = Settlement::new(ledger, key, begun.head(), at_end);
                    crate::openai::exchange(&upstream, settlement, begun).await
                };
                let answer = answer.await;
                Ok::<http::Response<Body>, std::convert::Infallible>(
                    answer.unwrap_or_else(|refusal| refusal.response()),
                )
            }
        });
        let http = hyper::server::conn::http1::Builder::new();
        tokio::spawn(http.serve_connection(TokioIo::new(there), service));
        here
    }

    /// Sends a request and reads all that comes.
    async fn send(&self, method: &str, path: &str, content_type: &str, body: &str) -> String {
        let mut client = self.connect();
        client.write_all(request(method, path, content_type, body).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn post(&self, path: &str, body: &str) -> String {
        self.send("POST", path, "application/json", body).await
    }

    /// The one call that was settled, after a moment if need be.
    async fn call(&self) -> Call {
        let wait = tokio::time::timeout(Duration::from_secs(20), self.settled.notified());
        wait.await.expect("nothing was settled");
        let calls = self.calls.lock().unwrap();
        assert_eq!(calls.len(), 1, "a call is settled once");
        calls[0].clone()
    }

    fn settled_nothing(&self) -> bool {
        self.calls.lock().unwrap().is_empty()
    }

    fn arrived(&self) -> String {
        String::from_utf8_lossy(&self.arrived.lock().unwrap()).into_owned()
    }
}

fn request(method: &str, path: &str, content_type: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn serve(mut stream: TcpStream, answer: String, stays: bool, recorded: Arc<Mutex<Vec<u8>>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 65_536];
    while !is_whole(&request) {
        match stream.read(&mut buffer).await {
            Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
            _ => break,
        }
        *recorded.lock().unwrap() = request.clone();
    }
    if is_whole(&request) {
        let _ = stream.write_all(answer.as_bytes()).await;
        if stays {
            while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
        }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with("0\r\n\r\n");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

fn json(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn chunked(content_type: &str, pieces: &[&str], end: &str) -> String {
    let pieces = pieces.iter().map(|piece| format!("{:x}\r\n{piece}\r\n", piece.len()));
    let body: String = pieces.collect();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n{body}{end}"
    )
}

const CHAT: &str = "/v1/chat/completions";
const EVENTS: &str = "text/event-stream; charset=utf-8";
const LAST: &str = "0\r\n\r\n";
const DELTA: &str =
    "data: {\"model\":\"gpt-oss-120b\",\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
const USAGE: &str = "data: {\"model\":\"gpt-oss-120b\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":20,\"total_tokens\":30}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn tokens(prompt: u64, completion: u64, total: u64) -> Usage {
    Usage { prompt, completion, total, ..Usage::default() }
}

#[tokio::test]
async fn case_073_074_076_whole_answers() {
    let ask = r#"{"model":"asked","messages":[]}"#;
    for (answer, model, usage) in [
        (
            r#"{"model":"gpt-oss-120b","usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}"#,
            "gpt-oss-120b",
            tokens(10, 20, 30),
        ),
        (r#"{"usage":{"total_tokens":50}}"#, "asked", tokens(0, 0, 50)),
        (r#"{"model":"m"}"#, "m", Usage::default()),
        (r#"{"model":["x"],"usage":null}"#, "asked", Usage::default()),
        ("[1]", "asked", Usage::default()),
        ("not json", "asked", Usage::default()),
        ("", "asked", Usage::default()),
    ] {
        let bench = Bench::new(&json(answer), false).await;
        assert!(bench.post(CHAT, ask).await.ends_with(answer));
        let call = bench.call().await;
        assert_eq!((call.model.as_deref(), call.usage), (Some(model), usage), "{answer}");
        assert_eq!(call.endpoint, Endpoint::Chat);

        let bench = Bench::new(
            &chunked("application/json", &[answer], LAST).replace("0\r\n\r\n0\r\n\r\n", LAST),
            false,
        )
        .await;
        bench.post("/v1/embeddings", ask).await;
        let call = bench.call().await;
        assert_eq!((call.model.as_deref(), call.usage), (Some(model), usage), "{answer}");
    }
    for ask in ["", "not json", r#"{"messages":[]}"#, r#"{"model":7}"#] {
        let bench = Bench::new(&json("{}"), false).await;
        bench.post(CHAT, ask).await;
        assert_eq!(bench.call().await.model, None, "case 73: unknown");
    }
}

#[tokio::test]
async fn case_082_streams_are_settled_with_the_usage_that_was_asked_for() {
    let answer = chunked(EVENTS, &[DELTA, DELTA, USAGE, DONE], LAST);
    let bench = Bench::new(&answer, false).await;
    let got = bench.post(CHAT, r#"{"model":"m","stream":true,"messages":[]}"#).await;
    assert!(bench.arrived().ends_with(r#""stream_options":{"include_usage":true}}"#));
    assert!(got.contains(DELTA) && got.contains(DONE) && !got.contains("usage"), "{got}");
    let call = bench.call().await;
    assert_eq!(call.model.as_deref(), Some("gpt-oss-120b"));
    assert_eq!(call.usage, tokens(10, 20, 30));

    let bench = Bench::new(&answer, false).await;
    let asks = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
    let got = bench.post(CHAT, asks).await;
    assert!(bench.arrived().ends_with(asks), "who asks is not asked for");
    assert!(got.contains(USAGE.trim_end()), "and sees the answer");
    assert_eq!(bench.call().await.usage, tokens(10, 20, 30));
}

/// Never free: a quarter of the request's bytes, and the events with content.
#[tokio::test]
async fn what_the_server_did_not_say_is_estimated() {
    let ask = r#"{"model":"m","stream":true,"messages":[]}"#;
    let prompt = (ask.len() as u64).div_ceil(4);
    let estimate =
        |completion| Usage { estimated: true, ..tokens(prompt, completion, prompt + completion) };
    // A server that does not know the option; one that breaks off.
    for (pieces, end, completion) in [
        (&[DELTA, DELTA, DONE][..], LAST, 2),
        (&[DELTA, DELTA, DELTA], "", 3),
        (&[DELTA, "data: {\"cho"], "", 1),
    ] {
        let bench = Bench::new(&chunked(EVENTS, pieces, end), false).await;
        bench.post(CHAT, ask).await;
        let call = bench.call().await;
        assert_eq!(
            (call.model.as_deref(), call.usage),
            (Some("gpt-oss-120b"), estimate(completion))
        );
    }
    // Pictures are many bytes and few tokens.
    let pictures = format!(r#"{{"stream":true,"messages":["{}"]}}"#, "x".repeat(1_000_000));
    let bench = Bench::new(&chunked(EVENTS, &[DELTA], ""), false).await;
    bench.post(CHAT, &pictures).await;
    assert_eq!(bench.call().await.usage.prompt, 131_072);
    // One whose answer is compressed although nobody asked for that.
    let gzip = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 41\r\n\r\n01234567890123456789012345678901234567890";
    let bench = Bench::new(gzip, false).await;
    bench.post(CHAT, ask).await;
    let call = bench.call().await;
    assert_eq!((call.model.as_deref(), call.usage), (Some("m"), estimate(11)));
    // One that breaks off within a whole answer.
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"choices\":[{\"me";
    let bench = Bench::new(half, false).await;
    bench.post(CHAT, ask).await;
    assert_eq!(bench.call().await.usage, estimate(4));
}

#[tokio::test]
async fn a_client_that_goes_pays_for_what_was_made() {
    let ask = r#"{"model":"m","stream":true,"messages":[]}"#;
    let prompt = (ask.len() as u64).div_ceil(4);
    let bench = Bench::new(&chunked(EVENTS, &[DELTA, DELTA], ""), true).await;
    let mut client = bench.connect();
    client.write_all(request("POST", CHAT, "application/json", ask).as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while String::from_utf8_lossy(&got).matches("content").count() < 3 {
        let mut buffer = [0; 4096];
        let length = client.read(&mut buffer).await.unwrap();
        got.extend_from_slice(&buffer[..length]);
    }
    assert!(bench.settled_nothing());
    drop(client);
    let call = bench.call().await;
    assert_eq!(call.usage, Usage { estimated: true, ..tokens(prompt, 2, prompt + 2) });

    // Before the head of the answer: for its prompt.
    let bench = Bench::new("", true).await;
    let mut client = bench.connect();
    client.write_all(request("POST", CHAT, "application/json", ask).as_bytes()).await.unwrap();
    while !bench.arrived().contains("include_usage") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(bench.settled_nothing());
    drop(client);
    let call = bench.call().await;
    assert_eq!(
        (call.model.as_deref(), call.usage),
        (Some("m"), Usage { estimated: true, ..tokens(prompt, 0, prompt) })
    );
}

#[tokio::test]
async fn failures_and_what_only_looks_are_not_settled() {
    for answer in [
        "HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 429 X\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 302 X\r\nContent-Length: 0\r\n\r\n",
        "",
        "not http",
    ] {
        let bench = Bench::new(answer, false).await;
        assert!(bench.post(CHAT, "{}").await.starts_with("HTTP/1.1 "));
        assert!(bench.settled_nothing(), "{answer}");
    }
    // Case 85. What is stored has its usage in it, but uses nothing again.
    let stored = json(r#"{"model":"m","usage":{"total_tokens":50}}"#);
    for (method, path) in
        [("GET", "/v1/models"), ("GET", "/v1/chat/completions/1"), ("HEAD", "/v1/models")]
    {
        let bench = Bench::new(&stored, false).await;
        bench.send(method, path, "text/plain", "").await;
        assert!(bench.settled_nothing(), "{method} {path}");
    }
}

#[tokio::test]
async fn case_085_other_calls_have_no_model_unless_they_say_what_they_used() {
    let bench = Bench::new(&json(r#"{"model":"m","id":"file-1"}"#), false).await;
    bench.post("/v1/files", r#"{"model":"m"}"#).await;
    let call = bench.call().await;
    assert_eq!((call.endpoint, call.model, call.usage), (Endpoint::Other, None, Usage::default()));

    let bench = Bench::new(&json(r#"{"model":"rerank","usage":{"total_tokens":7}}"#), false).await;
    bench.post("/v1/rerank", "{}").await;
    let call = bench.call().await;
    assert_eq!((call.model.as_deref(), call.usage.total), (Some("rerank"), 7));

    // However a path is spelt, the upstream may understand it.
    let bench = Bench::new(&chunked(EVENTS, &[DELTA, USAGE, DONE], LAST), false).await;
    bench.post("/v1/chat%2Fcompletion%73", r#"{"stream":true}"#).await;
    assert!(bench.arrived().starts_with("POST /v1/chat%2Fcompletion%73 HTTP/1.1"));
    let call = bench.call().await;
    assert_eq!((call.endpoint, call.usage), (Endpoint::Chat, tokens(10, 20, 30)));
}

const FORM: &str = "multipart/form-data; boundary=b";

fn form(model: &str, audio: &str) -> String {
    format!(
        "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n{audio}\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--b--\r\n"
    )
}

#[tokio::test]
async fn case_083_audio_is_settled_by_its_bytes() {
    let body = form("whisper-large-v3", &"x".repeat(100_000));
    for (path, answer, milliseconds, total) in [
        (
            "/v1/audio/transcriptions",
            r#"{"text":"hi","usage":{"type":"duration","seconds":9}}"#,
            9000,
            0,
        ),
        ("/v1/audio/translations", r#"{"text":"hi","duration":"8.47"}"#, 8470, 0),
        (
            "/v1/audio/transcriptions",
            r#"{"text":"hi","usage":{"type":"tokens","input_tokens":14,"output_tokens":45,"total_tokens":59}}"#,
            0,
            59,
        ),
        ("/v1/audio/transcriptions", "plain text", 0, 0),
    ] {
        let bench = Bench::new(&json(answer), false).await;
        bench.send("POST", path, FORM, &body).await;
        assert!(bench.arrived().ends_with(&body), "it arrives as it was");
        let call = bench.call().await;
        assert_eq!(call.model.as_deref(), Some("whisper-large-v3"));
        assert_eq!(call.usage.audio_bytes, 100_000);
        assert_eq!((call.usage.audio_milliseconds, call.usage.total), (milliseconds, total));
        assert!(!call.usage.estimated);
    }
    let bench = Bench::new(&json("{}"), false).await;
    bench.send("POST", "/v1/audio/transcriptions", FORM, "no form at all").await;
    let usage = bench.call().await.usage;
    assert_eq!((usage.audio_bytes, usage.estimated), (14, true), "all of it is taken for audio");
}

/// What a key may not use reaches the upstream not at all, or not to its end.
#[tokio::test]
async fn a_list_of_models_holds() {
    let key = || ApiKey { models: Some(vec!["a".to_owned()]), ..ApiKey::default() };
    let long = "x".repeat(300_000);
    for (path, content_type, body, code) in [
        (CHAT, "application/json", r#"{"model":"b"}"#.to_owned(), "model_not_allowed"),
        (CHAT, "application/json", r#"{"messages":[]}"#.to_owned(), "model_unknown"),
        (CHAT, "application/json", r#"{"model":"a","model":"b"}"#.to_owned(), "repeated_parameter"),
        (CHAT, "text/plain", r#"{"model":"a"}"#.to_owned(), "model_unknown"),
        (
            "/v1/images/generations",
            "application/json",
            r#"{"model":"a"}"#.to_owned(),
            "model_unknown",
        ),
        // Behind what has left already.
        (CHAT, "application/json", format!(r#"{{"x":"{long}","model":"b"}}"#), "model_not_allowed"),
        (
            CHAT,
            "application/json",
            format!(r#"{{"model":"a","x":"{long}","model":"b"}}"#),
            "repeated_parameter",
        ),
        (CHAT, "application/json", format!(r#"{{"x":"{long}"}}"#), "model_unknown"),
        (CHAT, "application/json", format!(r#"{{"model":"a","x":"{long}""#), "model_unknown"),
        ("/v1/audio/transcriptions", FORM, form("b", &long), "model_not_allowed"),
        (
            "/v1/audio/transcriptions",
            FORM,
            form("a", &long).replace("--b--", "--b"),
            "model_unknown",
        ),
    ] {
        let bench = Bench::with(&json("{}"), false, key()).await;
        let got = bench.send("POST", path, content_type, &body).await;
        let (head, error) = got.split_once("\r\n\r\n").unwrap();
        let status = if code == "model_not_allowed" { "403" } else { "400" };
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let error: serde_json::Value = serde_json::from_str(error).unwrap();
        assert_eq!(error["error"]["code"], code, "{body:.60}");
        assert_eq!(error["error"]["param"], "model");
        assert!(bench.settled_nothing());
        assert!(!is_whole(&bench.arrived.lock().unwrap()), "the upstream has no whole request");
    }
    for (path, content_type, body) in [
        (CHAT, "application/json", r#"{"model":"a"}"#.to_owned()),
        (CHAT, "application/json", format!(r#"{{"x":"{long}","model":"a"}}"#)),
        (CHAT, "application/json", format!(r#"{{"model":"a","stream":false,"x":"{long}"}}"#)),
        ("/v1/audio/translations", FORM, form("a", &long)),
    ] {
        let bench = Bench::with(&json("{}"), false, key()).await;
        let got = bench.send("POST", path, content_type, &body).await;
        assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
        assert_eq!(bench.call().await.model.as_deref(), Some("a"));
    }
}

#[tokio::test]
async fn a_list_of_models_is_all_that_its_key_sees() {
    let key = ApiKey { models: Some(vec!["a".to_owned()]), ..ApiKey::default() };
    let list = json(r#"{"object":"list","data":[{"id":"a"},{"id":"b"}]}"#);
    let bench = Bench::with(&list, false, key).await;
    let got = bench.send("GET", "/v1/models", "text/plain", "").await;
    assert!(got.ends_with("\r\n\r\n{\"data\":[{\"id\":\"a\"}],\"object\":\"list\"}"), "{got}");
    let got = bench.send("GET", "/v1/models/b", "text/plain", "").await;
    assert!(got.starts_with("HTTP/1.1 403 "), "{got}");

    let bench = Bench::new(&list, false).await;
    let got = bench.send("GET", "/v1/models", "text/plain", "").await;
    assert!(
        got.ends_with(r#"[{"id":"a"},{"id":"b"}]}"#),
        "a key for all models sees the upstream's bytes"
    );
}
