//! No byte of a prompt, an answer or a credential leaves the group, other than inside TLS or age ciphertext.
//!
//! Canary strings go in as prompt, answer, API key and upstream credential. Then everything that can be seen from
//! outside the group is searched for them, plain and in the encodings in which they might hide: what the roles
//! print, every file that they wrote, every byte on the network path to the client, and every request that the
//! outside world got, other than the model's.

use std::path::Path;
use std::sync::{Arc, Mutex};

use attestation::encoding::to_b64u;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::Connector;
use stack::check::{Endpoint, chat_request, end_to_end};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Forwarder, Running, fail, pmc, start, text};

pub(crate) const PROMPT: &str = "CANARY-prompt-4f1c9a77";

/// A TCP relay that keeps every byte, as the host that owns the network does.
pub(crate) struct Tap {
    pub(crate) address: std::net::SocketAddr,
    bytes: Arc<Mutex<Vec<u8>>>,
    relaying: tokio::task::JoinHandle<()>,
}

impl Tap {
    pub(crate) async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = bytes.clone();
        let relaying = tokio::spawn(async move {
            let mut relays = tokio::task::JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(&to).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                relays.spawn(relay(near_in, far_out, kept.clone()));
                relays.spawn(relay(far_in, near_out, kept.clone()));
            }
        });
        Self { address, bytes, relaying }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.relaying.abort();
    }
}

async fn relay(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    kept: Arc<Mutex<Vec<u8>>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        kept.lock().unwrap().extend_from_slice(&buffer[..n]);
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

/// The forms in which a secret might hide in a text or a file.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    // A base64 text holds the middle of a secret at one of three offsets.
    let shifted = (0..3).map(|shift| {
        let padded = [vec![b'x'; shift], secret.as_bytes().to_vec()].concat();
        let text = STANDARD.encode(&padded);
        let from = (shift * 4).div_ceil(3) + 1;
        text.as_bytes()[from..text.len() - 4].to_vec()
    });
    let hex = hex::encode(secret.as_bytes());
    let plain = [secret.to_owned(), hex.to_uppercase(), hex, to_b64u(secret.as_bytes())];
    plain.into_iter().map(String::into_bytes).chain(shifted).collect()
}

pub(crate) fn search(what: &str, bytes: &[u8], secrets: &[String]) {
    for secret in secrets {
        for form in forms(secret) {
            let found = bytes.windows(form.len()).any(|window| window == form);
            assert!(!found, "{what} holds {secret:?} as {:?}", String::from_utf8_lossy(&form));
        }
    }
}

/// Every file below a folder, but for those that hold secrets by design.
pub(crate) fn files(folder: &Path, but: &[&str], each: &mut impl FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if but.contains(&name.as_str()) {
            continue;
        }
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            files(&path, but, each);
        } else if kind.is_file() {
            each(&path, &std::fs::read(&path).unwrap());
        }
    }
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let secrets = [PROMPT.to_owned()];
    let hidden = [
        format!("x{PROMPT}y").into_bytes(),
        hex::encode(PROMPT).into_bytes(),
        STANDARD.encode(format!("{{\"a\":\"{PROMPT}\"}}")).into_bytes(),
        STANDARD.encode(format!("{{\"ab\":\"{PROMPT}\"}}")).into_bytes(),
        STANDARD.encode(format!("{{\"abc\":\"{PROMPT}\"}}")).into_bytes(),
    ];
    for bytes in hidden {
        let missed = std::panic::catch_unwind(|| search("a test", &bytes, &secrets)).is_ok();
        assert!(!missed, "{}", String::from_utf8_lossy(&bytes));
    }
}

#[tokio::test]
async fn no_secret_leaves_the_group_in_the_clear() {
    let running = start().await;
    let url = running.stack.group.url().await.unwrap();
    let tap = Tap::start(url.trim_start_matches("https://").to_owned()).await;
    let key = running.stack.api_key.clone();
    let secrets = [PROMPT.to_owned(), key.clone(), running.stack.upstream_key.clone()];

    // Everything a client does, over the tapped network.
    let target = format!("https://{}", tap.address).parse().unwrap();
    let (anchors, policy) = (running.stack.anchors().unwrap(), running.stack.policy());
    let connector = Connector::new(target, anchors, policy);
    let endpoint = Endpoint { connector, api_key: key.clone() };
    end_to_end(&endpoint).await.unwrap_or_else(|error| fail(&error));
    let forwarder =
        Forwarder::start(&format!("https://{}", tap.address), &running.trusting()).await;
    for stream in [false, true] {
        let body = chat_request(PROMPT, stream).to_string();
        let (status, answer) = forwarder.post("/v1/chat/completions", &key, &body).await;
        assert_eq!(status, 200);
        assert!(answer.contains("CANARY-prompt"), "the model repeats the prompt: {answer}");
    }
    // What goes wrong must not tell either: an unknown key, a body that is none, an unknown path.
    for (path, key, body) in [
        ("/v1/chat/completions", PROMPT, PROMPT),
        ("/v1/chat/completions", key.as_str(), PROMPT),
        (&*format!("/v1/{PROMPT}"), key.as_str(), ""),
        (&*format!("/admin/{PROMPT}"), PROMPT, PROMPT),
        ("/attestation/verify", PROMPT, PROMPT),
    ] {
        let (status, _) = forwarder.post(path, key, body).await;
        assert!(status >= 400, "{path}");
    }
    let reached = running.stack.world.records().all();
    let prompts = reached
        .iter()
        .filter(|request| request.body.as_ref().is_some_and(|body| body.contains("CANARY-prompt")));
    assert!(prompts.count() >= 2, "the model did get the prompts");

    search_outside(running, &tap, &secrets).await;
}

/// Stops the stack, and searches all that can be seen from outside it.
pub(crate) async fn search_outside(running: Running, tap: &Tap, secrets: &[String]) {
    // What the folder's files are for is over when this returns.
    let Running { stack, folder: _folder, .. } = running;
    let folder = stack.folder().to_owned();
    let places = stack.group.places().clone();
    assert!(stack.stop().await.is_empty());

    // What the reader of the log sees may hold none of it either.
    let log = places.sealed_logs().display().to_string();
    let (reader, anchors) = (folder.join("reader.txt"), folder.join("anchors.pem"));
    let opened = pmc(&[
        "logs",
        "open",
        &log,
        "--format",
        "json",
        "--identity",
        &reader.display().to_string(),
        "--danger-anchors",
        &anchors.display().to_string(),
        "--policy",
        &folder.join("policy.toml").display().to_string(),
    ])
    .await;
    let shown = text(&opened);
    assert!(opened.status.success() && shown.contains("a request was forwarded"), "{shown}");
    search("the sealed log, opened", &opened.stdout, secrets);

    search("the network", &tap.bytes.lock().unwrap(), secrets);
    let (mut sealed, mut spooled) = (0, 0);
    files(&folder, &["state"], &mut |path, bytes| {
        sealed += usize::from(path.starts_with(places.sealed_logs()));
        spooled += usize::from(path.starts_with(places.log_spool()));
        search(&path.display().to_string(), bytes, secrets);
    });
    assert!(sealed >= 4, "{sealed} files of sealed logs were searched");
    assert!(spooled >= 2, "{spooled} files of the spool were searched");
    for role in stack::RoleName::ALL {
        let printed = std::fs::read_to_string(folder.join(format!("{role}.out"))).unwrap();
        let prefix = format!("{role}: ");
        let constant = printed.lines().all(|line| line.starts_with(&prefix) && line.len() < 80);
        assert!(constant && !printed.is_empty(), "{role} printed {printed}");
    }
}
