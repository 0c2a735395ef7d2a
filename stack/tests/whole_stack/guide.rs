//! The client walk-through, `docs/how-to/clients.md`: every block of it is run, in its order, against a group.
//!
//! The blocks stay as people read them. What differs on a laptop comes from outside: whose roots are believed (`pmc` is
//! a script that adds the option, Python a prelude that does), the forwarder's port, and the simulated MAA's authority.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use attestation::encoding::from_b64u;
use client::Connector;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::curl::has_curl;
use crate::support::python::Python;
use crate::support::{Forwarder, PROGRAM, Running, start, text};

#[expect(dead_code, reason = "its main reads a command line and holds production anchors")]
#[path = "../../../client/examples/chat.rs"]
mod rust_block;

const GUIDE: &str = include_str!("../../../docs/how-to/clients.md");
const RUST: &str = include_str!("../../../client/examples/chat.rs");

/// What a model repeats.
const HELLO: &str = "hello attested world";

/// Believes the simulated roots, as `--danger-anchors` does for `pmc`.
const PRELUDE: &str = "\
import functools, os
import privatemode_confidential as _package
with open(os.environ['ANCHORS']) as _file:
    _anchors = _file.read()
for _name in ['client', 'openai', 'async_openai', 'Transport']:
    _made = functools.partial(getattr(_package, _name), danger_anchors_pem=_anchors)
    setattr(_package, _name, _made)
";

/// A block of code of the guide: its language and text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let mut rest = GUIDE;
    let mut found = Vec::new();
    while let Some((_, after)) = rest.split_once("\n```") {
        let (language, after) = after.split_once('\n').unwrap();
        let (block, after) = after.split_once("\n```").unwrap();
        found.push((language, block));
        rest = after;
    }
    found
}

/// A folder to work in, and the environment that the guide names.
struct Desk {
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
    forwarder: Option<Forwarder>,
}

impl Desk {
    async fn new(running: &Running) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = &running.stack.world;
        let variables = vec![
            ("SERVER", running.stack.group.url().await.unwrap()),
            ("API_KEY", running.stack.api_key.clone()),
            ("MAA", world.maa().unwrap().url.trim_end_matches('/').to_owned()),
            ("ANCHORS", running.path("anchors.pem")),
            ("CURL_CA_BUNDLE", world.folder().join("tls-ca.pem").display().to_string()),
            ("PROGRAM", PROGRAM.to_owned()),
        ];
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        script(
            &bin.join("pmc"),
            "#!/bin/sh\ncase $1 in token) ;; *) set -- \"$@\" --danger-anchors \"$ANCHORS\" ;; esac\n\
             exec \"$PROGRAM\" pmc \"$@\"\n",
        );
        Self { folder, variables, forwarder: None }
    }

    fn prepare(&self, mut command: Command) -> Command {
        command.current_dir(self.folder.path()).kill_on_drop(true);
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }

    async fn python(&self, python: &Python, block: &str) -> Output {
        let mut command = self.prepare(python.interpreter());
        command.args(["-c", &format!("{PRELUDE}\n{block}")]);
        finished(command).await
    }

    async fn shell(&mut self, block: &str) -> Output {
        if block.starts_with("pmc connect") {
            // It runs until it is stopped, on a port that is free.
            let arguments = |name: &str| self.value(name).to_owned();
            let policy = self.folder.path().join("policy.toml").display().to_string();
            let trusting = ["--danger-anchors", &arguments("ANCHORS"), "--policy", &policy];
            let trusting = trusting.map(str::to_owned);
            assert_eq!(
                block,
                "pmc connect \"$SERVER\" --policy policy.toml --listen 127.0.0.1:8787"
            );
            self.forwarder = Some(Forwarder::start(&arguments("SERVER"), &trusting).await);
            return finished(Command::new("true")).await;
        }
        let block = match &self.forwarder {
            Some(forwarder) => block.replace("http://127.0.0.1:8787/v1", &forwarder.base),
            None => block.to_owned(),
        };
        let bin = self.folder.path().join("bin").display().to_string();
        let mut command = self.prepare(Command::new("bash"));
        command.args(["-euo", "pipefail", "-c", &format!("PATH={bin}:$PATH\n{block}")]);
        finished(command).await
    }

    fn value(&self, name: &str) -> &str {
        let found = self.variables.iter().find(|(own, _)| *own == name);
        found.map(|(_, value)| value.as_str()).unwrap()
    }
}

fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

async fn finished(mut command: Command) -> Output {
    let output = tokio::time::timeout(Duration::from_secs(120), command.output()).await;
    output.expect("a block takes too long").unwrap()
}

fn worked(block: &str, output: &Output) {
    assert!(output.status.success(), "{block}\n\n{}", text(output));
    if block.contains(HELLO) {
        assert!(text(output).contains(HELLO), "{block}\n\n{}", text(output));
    }
}

/// The hash of the attestation policy of the simulated MAA, which an owner of an instance knows.
async fn policy_hash(desk: &Desk) -> String {
    let mut command = desk.prepare(Command::new("curl"));
    command.args(["--silent", "--insecure", &format!("{}/attestation", desk.value("SERVER"))]);
    let document: Value = serde_json::from_slice(&finished(command).await.stdout).unwrap();
    let claims = document["attestation_token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&from_b64u(claims).unwrap()).unwrap();
    claims["x-ms-policy-hash"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_block_of_the_walk_through_works() {
    let Some(python) = Python::with_package().await else { return };
    if !has_curl().await {
        return;
    }
    let running = start().await;
    let mut desk = Desk::new(&running).await;
    let hash = policy_hash(&desk).await;
    desk.variables.push(("MAA_POLICY_HASH", hash));
    let (mut shells, mut programs) = (0, 0);
    for (language, block) in blocks() {
        match language {
            "sh" => {
                worked(block, &desk.shell(block).await);
                shells += 1;
            }
            "python" => {
                worked(block, &desk.python(&python, block).await);
                programs += 1;
            }
            "rust" => assert_eq!(block, RUST.trim_end(), "the guide shows the example as it is"),
            other => panic!("who runs a block of {other:?}?"),
        }
    }
    assert_eq!((shells, programs), (6, 3), "blocks that were run");
    refuses_what_is_not_meant(&mut desk).await;
    running.stop().await;
}

/// The last blocks again, each with one thing that is not as it should be.
async fn refuses_what_is_not_meant(desk: &mut Desk) {
    let blocks = blocks();
    let of = |words: &str| blocks.iter().find(|(_, block)| block.contains(words)).unwrap().1;

    // Another key than the one that Azure spoke of.
    let runtime: Value = serde_json::from_slice(&desk.file("runtime.json")).unwrap();
    let pin = runtime["spki_sha256"].as_str().unwrap();
    let other = of("--pinnedpubkey")
        .replace("sha256//$pin=", "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let refused = desk.shell(&other).await;
    assert_eq!(refused.status.code(), Some(90), "{}", text(&refused));
    assert!(!text(&refused).contains(HELLO));

    // Runtime data with another key in it is not what the token is about.
    let forged =
        String::from_utf8(desk.file("runtime.json")).unwrap().replace(pin, &"A".repeat(43));
    std::fs::write(desk.folder.path().join("runtime.json"), forged).unwrap();
    let refused = desk.shell(of("pmc token")).await;
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
}

#[tokio::test]
async fn the_rust_block_works() {
    let running = start().await;
    let url = running.stack.group.url().await.unwrap().parse().unwrap();
    let (anchors, policy) = (running.stack.anchors().unwrap(), running.stack.policy());
    let connector = Connector::new(url, anchors, policy);
    let said = rust_block::chat(connector, &running.stack.api_key, HELLO).await.unwrap();
    assert!(said.contains(HELLO), "{said}");
    running.stop().await;
}
