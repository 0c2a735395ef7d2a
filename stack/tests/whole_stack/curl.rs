//! `curl` through `pmc connect`, as people type it: what `python/tests/openai_list.py` holds against the Python package.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stack::check::chat_request;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::support::curl::has_curl;
use crate::support::{Forwarder, Running, start_with, text};

const AT_ONCE: usize = 100;
const RECORDING: usize = 25 * 1024 * 1024;

/// One way to ask.
struct Curl {
    base: String,
    key: String,
}

impl Curl {
    fn command(&self, path: &str) -> Command {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--fail-with-body", "--max-time", "120"])
            .args(["-H", &format!("Authorization: Bearer {}", self.key)])
            .arg(format!("{}{path}", self.base))
            .kill_on_drop(true);
        command
    }

    fn json(&self, path: &str, body: &Value) -> Command {
        let mut command = self.command(path);
        command.args(["-H", "Content-Type: application/json", "--data", &body.to_string()]);
        command
    }
}

async fn finished(mut command: Command) -> Output {
    let output = tokio::time::timeout(Duration::from_secs(180), command.output()).await;
    let output = output.expect("curl takes too long").unwrap();
    assert!(output.status.success(), "{}", text(&output));
    output
}

async fn document(command: Command) -> Value {
    serde_json::from_slice(&finished(command).await.stdout).unwrap()
}

fn said(answer: &Value) -> &str {
    answer.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap()
}

#[tokio::test]
async fn curl_gets_everything_through_the_forwarder() {
    if !has_curl().await {
        return;
    }
    let running = start_with(|world| {
        if let Some(model) = &mut world.model {
            model.model.delay = Duration::from_millis(60);
        }
    })
    .await;
    let url = running.stack.group.url().await.unwrap();
    let forwarder = Forwarder::start(&url, &running.trusting()).await;
    let curl = Curl { base: forwarder.base.clone(), key: running.stack.api_key.clone() };
    let folder = tempfile::tempdir().unwrap();

    let chat = chat_request("hello attested world", false);
    let answer = document(curl.json("/chat/completions", &chat)).await;
    assert!(said(&answer).contains("attested"), "{answer}");

    let stream = curl.json("/chat/completions", &chat_request("alpha beta gamma", true));
    let events = text(&finished(stream).await);
    assert!(events.contains("gamma") && events.contains("data: [DONE]"), "{events}");

    let input = json!({"model": "qwen3-embedding-4b", "input": ["one", "two"]});
    let vectors = document(curl.json("/embeddings", &input)).await;
    assert_eq!(vectors["data"].as_array().map(Vec::len), Some(2), "{vectors}");

    upload(&curl, folder.path()).await;
    many_at_once(&curl, folder.path()).await;
    gives_up(&curl, &running).await;
    running.stop().await;
}

async fn upload(curl: &Curl, folder: &Path) {
    let path = folder.join("long.wav");
    let bytes: Vec<u8> = (0..RECORDING / 4).flat_map(|at| (at as u32).to_le_bytes()).collect();
    std::fs::write(&path, &bytes).unwrap();
    let mut command = curl.command("/audio/transcriptions");
    command.args(["-F", "model=whisper-large-v3", "-F", &format!("file=@{}", path.display())]);
    let digest = hex::encode(Sha256::digest(&bytes));
    let heard = format!("{RECORDING} bytes of audio {}", &digest[..8]);
    assert_eq!(document(command).await["text"], heard.as_str());
}

/// One curl, a hundred transfers.
async fn many_at_once(curl: &Curl, folder: &Path) {
    let asked = |number: usize| {
        let body = chat_request(&format!("number {number} of many"), false).to_string();
        let body = body.replace('\\', "\\\\").replace('"', "\\\"");
        let output = folder.join(format!("{number}.json"));
        format!(
            "url = \"{}/chat/completions\"\nheader = \"Authorization: Bearer {}\"\n\
             header = \"Content-Type: application/json\"\ndata = \"{body}\"\n\
             output = \"{}\"\nfail\n",
            curl.base,
            curl.key,
            output.display()
        )
    };
    let config = (0..AT_ONCE).map(asked).collect::<Vec<_>>().join("next\n");
    let path = folder.join("many.conf");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new("curl");
    let at_once = AT_ONCE.to_string();
    command
        .args(["--silent", "--show-error", "--parallel", "--parallel-immediate"])
        .args(["--parallel-max", &at_once, "--max-time", "120", "--config"])
        .arg(&path)
        .kill_on_drop(true);
    finished(command).await;
    for number in 0..AT_ONCE {
        let answer = std::fs::read(folder.join(format!("{number}.json"))).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(said(&answer).contains(&format!("number {number} of")), "{answer}");
    }
}

/// A stream's first event arrives while the model still answers; when curl goes, the model stops.
async fn gives_up(curl: &Curl, running: &Running) {
    let words = format!("given-up-curl {}", "word ".repeat(2000));
    let mut command = curl.json("/chat/completions", &chat_request(&words, true));
    let mut child = command.arg("--no-buffer").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
    let first = first.unwrap().unwrap().unwrap();
    assert!(first.starts_with("data: "), "{first}");
    child.kill().await.unwrap();
    running.until_given_up("given-up-curl").await;
}
