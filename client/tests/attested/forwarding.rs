//! The forwarder: who may use it, how bodies go through it, and what it does when the group becomes another one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use client::forwarder::{Forwarder, Port, Token};
use client::{AttestedClient, ConnectError};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::group::{Group, Manner, Prove, Server, piecewise, text};

const TOKEN: &str = "a-token-of-a-test-which-is-long";

/// A forwarder in this process.
struct Local {
    address: String,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Local {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Local {
    async fn start(group: &Arc<Group>, server: &Server, token: Option<&str>) -> Self {
        let client = AttestedClient::connect(group.connector(server)).await.unwrap();
        let token = token.map(|token| Token::new(token).unwrap());
        let port = Port::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let forwarder = Forwarder::new(port, client, token);
        let address = forwarder.address().unwrap().to_string();
        Self { address, serving: tokio::spawn(forwarder.serve()) }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        dial(&self.address).await.send_request(request).await.unwrap()
    }

    fn get(&self, path: &str) -> http::request::Builder {
        Request::get(path).header("host", &self.address)
    }

    async fn error_of(&self, request: http::request::Builder) -> (u16, String) {
        let answer = self.send(request.body(Full::default()).unwrap()).await;
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_slice(&read(answer).await).unwrap();
        (status, body["error"]["code"].as_str().unwrap().to_owned())
    }
}

async fn dial<B>(address: &str) -> SendRequest<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    sender
}

#[expect(clippy::disallowed_methods, reason = "an answer of a server of ours")]
async fn read(answer: Response<Incoming>) -> Vec<u8> {
    answer.into_body().collect().await.unwrap().to_bytes().to_vec()
}

#[tokio::test]
async fn pages_of_the_web_are_refused_before_anything_is_sent() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let local = Local::start(&group, &server, None).await;
    let page = local.get("/v1/models").header("origin", "https://evil.example");
    assert_eq!(local.error_of(page).await, (403, "foreign_origin".to_owned()));
    let rebound = Request::get("/v1/models").header("host", "evil.example");
    assert_eq!(local.error_of(rebound).await, (403, "foreign_host".to_owned()));
    assert_eq!(server.counts().1, 0);
    let own = local.get("/v1/models").header("origin", "http://localhost:3000");
    assert_eq!(local.send(own.body(Full::default()).unwrap()).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn with_a_token_only_who_knows_it_is_answered_and_the_server_never_sees_it() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let local = Local::start(&group, &server, Some(TOKEN)).await;
    for wrong in ["/v1/models", "/attestation", "/another-token-which-is-long/v1/models"] {
        let answer = local.error_of(local.get(wrong)).await;
        assert_eq!(answer, (401, "wrong_token".to_owned()), "{wrong}");
    }
    assert_eq!(server.counts().1, 0);
    let page = format!("http://{}/{TOKEN}/docs", local.address);
    let right = local.get(&format!("/{TOKEN}/v1/models")).header("referer", page);
    let right = right.body(Full::default()).unwrap();
    assert_eq!(local.send(right).await.status(), StatusCode::OK);
    let seen = server.seen.lock().unwrap().requests.concat();
    assert!(seen.contains("GET /v1/models\n") && !seen.contains(TOKEN), "{seen}");
}

/// The same document as `pmc verify --json` prints, and not the server's own page of that name.
#[tokio::test]
async fn the_last_verdict_is_told_and_a_refusal_as_well() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let local = Local::start(&group, &server, None).await;
    let verdict = async || -> Value {
        let request = local.get("/attestation").body(Full::default()).unwrap();
        serde_json::from_slice(&read(local.send(request).await).await).unwrap()
    };
    let accepted = verdict().await;
    assert_eq!(accepted["verdict"], "accepted");
    assert_eq!(accepted["anchors"], "NOT PRODUCTION");
    assert_eq!(accepted["endpoint"], server.url());
    assert_eq!(accepted["manifest"]["boot_id"], "first");
    let failed = |document: &Value| -> Vec<String> {
        let checks = document["checks"].as_array().unwrap().iter();
        let failed = checks.filter(|check| check["outcome"] == "failed");
        failed.map(|check| check["id"].as_str().unwrap().to_owned()).collect()
    };
    assert!(failed(&accepted).is_empty());

    let recorded = group.connector(&server).record().await.unwrap();
    let replayed = serde_json::to_vec(&recorded.answer).unwrap();
    let replay: Prove = Arc::new(move |_| {
        let answer = replayed.clone();
        Box::pin(async move { (StatusCode::OK, answer) })
    });
    server.replace(Manner::new(replay));
    let mut answer = local.error_of(local.get("/v1/models")).await;
    if answer.1 == "connection_broken" {
        answer = local.error_of(local.get("/v1/models")).await;
    }
    assert_eq!(answer, (502, "B1".to_owned()));
    let refused = verdict().await;
    assert_eq!(refused["verdict"], "refused");
    assert_eq!(failed(&refused), ["B1", "B2", "B3"]);
    assert_eq!(server.counts().1, 0);
}

/// A piece of a stream arrives before the next one is made; and who goes away cancels the request at the server.
#[tokio::test]
async fn a_stream_is_not_held_back_and_ends_at_the_server_when_the_client_goes() {
    let group = Group::new();
    let (serve, mut senders) = piecewise();
    let manner = Manner { serve, ..Manner::new(group.honest()) };
    let server = Server::start(manner).await;
    let local = Local::start(&group, &server, None).await;
    let mut connection = dial::<Full<Bytes>>(&local.address).await;
    let request = local.get("/v1/chat/completions").body(Full::default()).unwrap();
    let mut answer = connection.send_request(request).await.unwrap();
    let pieces = senders.recv().await.unwrap();
    for piece in ["data: 1\n\n", "data: 2\n\n"] {
        pieces.send(Bytes::from(piece)).await.unwrap();
        let frame = answer.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop((answer, connection));
    pieces.closed().await;
}

#[tokio::test]
async fn a_server_that_was_restarted_is_proved_again_by_itself() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let local = Local::start(&group, &server, None).await;
    let status = async || {
        let request = local.get("/v1/models").body(Full::default()).unwrap();
        local.send(request).await.status().as_u16()
    };
    assert_eq!(status().await, 200);
    server.replace(Manner::new(group.honest()));
    let first = status().await;
    assert!(first == 200 || status().await == 200, "a request may be lost with the connection");
    assert_eq!(server.counts().0, 1, "proved again");
}

/// `pmc connect` as people run it.
struct Pmc {
    child: tokio::process::Child,
    base: String,
    /// What it printed before that.
    before: String,
}

impl Pmc {
    fn command(
        group: &Group,
        server: &Server,
        folder: &TempDir,
        listen: SocketAddr,
    ) -> tokio::process::Command {
        let anchors = folder.path().join("anchors.pem");
        std::fs::write(&anchors, group.anchors_pem()).unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pmc"));
        command.args([
            "connect",
            &server.url(),
            "--listen",
            &listen.to_string(),
            "--danger-anchors",
        ]);
        command.arg(anchors).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn start(group: &Group, server: &Server, folder: &TempDir, more: &[&str]) -> Self {
        let policy = folder.path().join("policy.toml");
        std::fs::write(&policy, group.policy_toml()).unwrap();
        let mut command = Self::command(group, server, folder, "127.0.0.1:0".parse().unwrap());
        command.arg("--policy").arg(policy).args(more);
        Self::announced(command.spawn().unwrap()).await
    }

    async fn announced(mut child: tokio::process::Child) -> Self {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut before = String::new();
        let base = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, base)) = line.split_once("base URL for clients: ") {
                    return base.to_owned();
                }
                before = format!("{before}{line}\n");
            }
            panic!("pmc connect ended")
        };
        let base = tokio::time::timeout(Duration::from_secs(60), base).await.unwrap();
        Self { child, base, before }
    }

    fn address(&self) -> &str {
        let rest = self.base.strip_prefix("http://").unwrap();
        rest.split_once('/').unwrap().0
    }

    async fn get(&self, path: &str) -> Response<Incoming> {
        let request = Request::get(path).header("host", self.address());
        let request = request.body(Full::<Bytes>::default()).unwrap();
        dial(self.address()).await.send_request(request).await.unwrap()
    }

    /// How it ends, and what it says.
    async fn end(&mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        let mut errors = self.child.stderr.take().unwrap();
        let end = async {
            errors.read_to_string(&mut said).await.unwrap();
            self.child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(Duration::from_secs(60), end).await.unwrap();
        (status, said)
    }

    /// The most memory that it ever had, in KiB.
    fn peak(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id().unwrap());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// 25 MB, as a transcription has it, whole at the other end, and never whole in the forwarder.
#[tokio::test]
async fn an_upload_of_25_mb_needs_little_memory() {
    const LENGTH: usize = 25 * 1024 * 1024;
    let group = Group::new();
    let mut manner = Manner::new(group.honest());
    manner.serve = Arc::new(|request: Request<Incoming>| {
        Box::pin(async move {
            let (mut body, mut length) = (request.into_body(), 0);
            while let Some(frame) = body.frame().await {
                length += frame.unwrap().into_data().map_or(0, |data| data.len());
            }
            text(&length.to_string())
        })
    });
    let server = Server::start(manner).await;
    let folder = tempfile::tempdir().unwrap();
    let pmc = Pmc::start(&group, &server, &folder, &[]).await;
    let before = pmc.peak();
    let pieces = futures_util::stream::iter((0..LENGTH / 65_536).map(|_| {
        let piece = Bytes::from(vec![7; 65_536]);
        Ok::<_, std::convert::Infallible>(http_body::Frame::data(piece))
    }));
    let request = Request::post("/v1/audio/transcriptions").header("host", pmc.address());
    let request = request.body(StreamBody::new(pieces)).unwrap();
    let answer = dial(pmc.address()).await.send_request(request).await.unwrap();
    assert_eq!(read(answer).await, LENGTH.to_string().as_bytes());
    let grown = pmc.peak() - before;
    assert!(grown < 12 * 1024, "{grown} KiB for an upload of 25 MB");
}

/// A server whose role `proxy` has these measured variables from now on.
fn configured(group: &Arc<Group>, digest: Option<&str>) -> Prove {
    let config: BTreeMap<String, Option<String>> =
        [("proxy".to_owned(), digest.map(str::to_owned))].into();
    let (group, config) = (group.clone(), Arc::new(Mutex::new(config)));
    Arc::new(move |asked| {
        let mut manifest = crate::group::manifest("first");
        manifest["config"] = serde_json::to_value(&*config.lock().unwrap()).unwrap();
        let answer = serde_json::to_vec(&group.prove_with(&asked, &manifest)).unwrap();
        Box::pin(async move { (StatusCode::OK, answer) })
    })
}

#[tokio::test]
async fn watching_ends_with_status_3_when_another_group_answers() {
    let group = Group::new();
    let server = Server::start(Manner::new(configured(&group, Some("one")))).await;
    let folder = tempfile::tempdir().unwrap();
    let mut pmc = Pmc::start(&group, &server, &folder, &["--watch=1", "--on-change", "exit"]).await;
    server.manner.write().unwrap().prove = configured(&group, Some("two"));
    let (status, said) = pmc.end().await;
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("measured variables of proxy: one -> two"), "{said}");
}

/// Blocked for good, and the port kept, unless somebody asks for the end: nothing is sent to it again, though it may look as before.
#[tokio::test]
async fn watching_blocks_by_default() {
    let group = Group::new();
    let server = Server::start(Manner::new(configured(&group, Some("one")))).await;
    let folder = tempfile::tempdir().unwrap();
    let mut pmc = Pmc::start(&group, &server, &folder, &["--watch=86400"]).await;
    assert_eq!(pmc.get("/v1/models").await.status(), StatusCode::OK);
    // A new connection is the first to meet the other group; nobody waits for the interval.
    server.replace(Manner::new(configured(&group, Some("two"))));
    let mut sent_into_the_end = 0;
    for _ in 0..4 {
        let answer = pmc.get("/v1/models").await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        let error: Value = serde_json::from_slice(&read(answer).await).unwrap();
        if error["error"]["code"] == "connection_broken" {
            sent_into_the_end += 1;
            continue;
        }
        assert_eq!(error["error"]["code"], "changed");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains("measured variables of proxy: one -> two"), "{message}");
    }
    assert!(sent_into_the_end <= 1);
    server.manner.write().unwrap().prove = configured(&group, Some("one"));
    assert_eq!(pmc.get("/v1/models").await.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(server.counts().1, 0, "nothing was sent to it");
    assert!(pmc.child.try_wait().unwrap().is_none(), "it still holds its port");
}

/// A role that restarts cannot be asked for its variables. Whoever watches says so, refuses requests meanwhile, and
/// goes on when it is back.
#[tokio::test]
async fn watching_goes_on_when_a_role_only_restarts() {
    for on_change in ["exit", "block"] {
        let group = Group::new();
        let server = Server::start(Manner::new(configured(&group, Some("one")))).await;
        let folder = tempfile::tempdir().unwrap();
        let watch = ["--watch=1", "--on-change", on_change];
        let mut pmc = Pmc::start(&group, &server, &folder, &watch).await;
        let mut said = BufReader::new(pmc.child.stderr.take().unwrap()).lines();
        server.manner.write().unwrap().prove = configured(&group, None);
        let told = async {
            while let Some(line) = said.next_line().await.unwrap() {
                if line.contains("measured variables of proxy: one -> not told") {
                    return;
                }
            }
            panic!("pmc says nothing of it")
        };
        tokio::time::timeout(Duration::from_secs(60), told).await.unwrap();
        assert_eq!(pmc.get("/v1/models").await.status(), StatusCode::BAD_GATEWAY, "{on_change}");
        server.manner.write().unwrap().prove = configured(&group, Some("one"));
        assert_eq!(pmc.get("/v1/models").await.status(), StatusCode::OK, "{on_change}");
    }
}

/// A role may be restarting when the group is first proved: its variables are held to what they were when they were first
/// told.
#[tokio::test]
async fn what_is_first_told_later_is_watched_from_then_on() {
    let group = Group::new();
    let server = Server::start(Manner::new(configured(&group, None))).await;
    let folder = tempfile::tempdir().unwrap();
    let pmc = Pmc::start(&group, &server, &folder, &["--watch=86400"]).await;
    let line = "not watched (the group does not say): measured variables of proxy, owner's key\n";
    assert!(pmc.before.contains(line), "{}", pmc.before);
    let connector = group.connector(&server).with_max_age(Duration::ZERO);
    let client = AttestedClient::connect_and_remember(connector).await.unwrap();
    let get = || Request::get("/v1/models").body(String::new()).unwrap();
    for (told, is_accepted) in [(None, true), (Some("one"), true), (Some("two"), false)] {
        server.manner.write().unwrap().prove = configured(&group, told);
        assert_eq!(client.send(get()).await.is_ok(), is_accepted, "{told:?}");
    }
    assert_eq!(client.untold(), ["owner's key"]);
    let change = client.changed().await;
    assert!(change.to_string().contains("measured variables of proxy: one -> two"), "{change}");
}

/// What was sent while the group said everything may end; new requests are refused, on every connection.
#[tokio::test]
async fn an_answer_survives_what_a_group_does_not_tell_for_a_while() {
    for max_age in [Duration::ZERO, Duration::from_secs(900)] {
        let group = Group::new();
        let (serve, mut senders) = piecewise();
        let prove = configured(&group, Some("one"));
        let server = Server::start(Manner { serve, ..Manner::new(prove) }).await;
        let connector = group.connector(&server).with_max_age(max_age);
        let client = AttestedClient::connect_and_remember(connector).await.unwrap();
        let get = || Request::get("/v1/models").body(String::new()).unwrap();
        let mut answer = client.send(get()).await.unwrap();
        let pieces = senders.recv().await.unwrap();
        server.manner.write().unwrap().prove = configured(&group, None);
        if !max_age.is_zero() {
            assert!(client.verify_again().await.is_err());
        }
        assert!(client.send(get()).await.is_err());
        pieces.send(Bytes::from_static(b"the rest")).await.unwrap();
        let frame = answer.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "the rest");
        // It takes no request any more; but then it is another group, and what is under way ends.
        server.manner.write().unwrap().prove = configured(&group, Some("two"));
        assert!(client.verify_again().await.is_err());
        let frame = tokio::time::timeout(Duration::from_secs(20), answer.frame()).await;
        assert!(frame.expect("it is cut").unwrap().is_err());
    }
}

/// What is under way ends with the certainty that it is another group, however it was found out, and with a block.
#[tokio::test]
async fn an_answer_is_cut_when_another_group_answers_and_when_all_is_blocked() {
    for is_blocked in [false, true] {
        let group = Group::new();
        let (serve, mut senders) = piecewise();
        let prove = configured(&group, Some("one"));
        let server = Server::start(Manner { serve, ..Manner::new(prove) }).await;
        let client = AttestedClient::connect_and_remember(group.connector(&server)).await.unwrap();
        let get = || Request::get("/v1/models").body(String::new()).unwrap();
        let mut answer = client.send(get()).await.unwrap();
        let _pieces = senders.recv().await.unwrap();
        if is_blocked {
            let dead = "https://127.0.0.1:1".parse().unwrap();
            client.block(Arc::new(ConnectError::TimedOut(dead)));
        } else {
            server.manner.write().unwrap().prove = configured(&group, Some("two"));
            assert!(client.verify_again().await.is_err());
        }
        let frame = tokio::time::timeout(Duration::from_secs(20), answer.frame()).await;
        assert!(frame.expect("it is cut").unwrap().is_err(), "{is_blocked}");
        assert!(client.send(get()).await.is_err());
    }
}

/// A role that restarts does not answer for a moment. Nothing is sent meanwhile, and it may come back.
#[tokio::test]
async fn what_a_group_does_not_tell_for_a_while_is_no_other_group() {
    let group = Group::new();
    let server = Server::start(Manner::new(configured(&group, Some("one")))).await;
    let connector = group.connector(&server).with_max_age(Duration::ZERO);
    let client = AttestedClient::connect_and_remember(connector).await.unwrap();
    let get = || Request::get("/v1/models").body(String::new()).unwrap();
    assert!(client.send(get()).await.is_ok());
    server.manner.write().unwrap().prove = configured(&group, None);
    let error = client.send(get()).await.err().unwrap();
    assert!(!error.unproven().unwrap().is_another_group(), "{error:?}");
    server.manner.write().unwrap().prove = configured(&group, Some("one"));
    assert!(client.send(get()).await.is_ok());
    assert_eq!(server.counts().1, 2);
}

#[tokio::test]
async fn a_port_that_is_taken_leaves_no_token_behind() {
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let folder = tempfile::tempdir().unwrap();
    let (policy, token) = (folder.path().join("policy.toml"), folder.path().join("token"));
    std::fs::write(&policy, group.policy_toml()).unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut command = Pmc::command(&group, &server, &folder, taken.local_addr().unwrap());
    command.arg("--policy").arg(policy).arg("--make-token").arg(&token);
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!token.exists());
}

#[tokio::test]
async fn a_token_is_made_in_a_new_file_and_used_as_part_of_the_base_url() {
    use std::os::unix::fs::MetadataExt as _;
    let group = Group::new();
    let server = Server::start(Manner::new(group.honest())).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let name = file.to_str().unwrap();
    let pmc = Pmc::start(&group, &server, &folder, &["--make-token", name]).await;
    assert!(pmc.base.ends_with(&format!("/$(cat {name})/v1")), "{}", pmc.base);
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let token = std::fs::read_to_string(&file).unwrap();
    assert_eq!(pmc.get("/v1/models").await.status(), StatusCode::UNAUTHORIZED);
    let path = format!("/{}/v1/models", token.trim());
    assert_eq!(pmc.get(&path).await.status(), StatusCode::OK);
}
