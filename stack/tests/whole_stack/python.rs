//! The official `openai` package for Python, unmodified, in each way in which it reaches the group: straight over TLS,
//! trusting the certificate file that the stack writes; through `pmc connect`; and without a forwarder, by the Python
//! package of this repository. The list of what must work is `python/tests/openai_list.py`.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use sim::faults::ModelFault;
use sim::model::RecordedRequest;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::python::{PACKAGE, Python};
use crate::support::{Forwarder, Running, start_with, text};

/// How long one of these programs may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Slow enough that a stream that is held back shows.
async fn slow_model() -> Running {
    start_with(|world| {
        if let Some(model) = &mut world.model {
            model.model.delay = Duration::from_millis(60);
        }
    })
    .await
}

/// Runs a program. Where it says on standard output what it did, it goes on when that has reached the model. Returns what
/// it said.
async fn run(mut program: Command, running: &Running) -> Vec<String> {
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let followed = tokio::time::timeout(PATIENCE, follow(&mut child, running)).await;
    let (status, said) = followed.expect("the program takes too long");
    assert!(status.success(), "the program ended with {status} after {said:?}");
    said
}

async fn follow(child: &mut Child, running: &Running) -> (ExitStatus, Vec<String>) {
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        match line.split_once(' ') {
            // The program lives and its connection stands: nothing but its cancellation can be the reason.
            Some(("gone", name)) => running.until_given_up(name).await,
            Some(("begun", name)) => drop(running.until_asked(name, |_| true).await),
            _ => {
                said.push(line);
                continue;
            }
        }
        input.write_all(b"\n").await.unwrap();
        said.push(line);
    }
    (child.wait().await.unwrap(), said)
}

async fn list(python: &Python, running: &Running, arguments: &[&str]) {
    let mut program = python.command("openai_list.py");
    program.args(arguments);
    assert_eq!(run(program, running).await, ["gone given-up-sync", "gone given-up-async", "ok"]);
}

#[tokio::test]
async fn straight_over_tls() {
    let Some(python) = Python::with_openai().await else { return };
    let running = slow_model().await;
    let base = format!("{}/v1", running.stack.group.url().await.unwrap());
    let certificate = running.path("server.pem");
    list(&python, &running, &["base", &base, &running.stack.api_key, &certificate]).await;
    running.stop().await;
}

#[tokio::test]
async fn through_the_forwarder() {
    let Some(python) = Python::with_openai().await else { return };
    let running = slow_model().await;
    let url = running.stack.group.url().await.unwrap();
    let forwarder = Forwarder::start(&url, &running.trusting()).await;
    list(&python, &running, &["base", &forwarder.base, &running.stack.api_key]).await;
    running.stop().await;
}

#[tokio::test]
async fn without_a_forwarder_by_the_package() {
    let Some(python) = Python::with_package().await else { return };
    let running = slow_model().await;
    let url = running.stack.group.url().await.unwrap();
    let (policy, anchors) = (running.path("policy.toml"), running.path("anchors.pem"));
    let arguments = ["package", &url, &running.stack.api_key, &policy, &anchors];
    list(&python, &running, &arguments).await;
    running.stop().await;
}

/// What is the package's own: `python/tests/test_package.py`.
async fn package_tests(python: &Python, running: &Running) -> Command {
    let mut tests = python.command("test_package.py");
    tests
        .env("URL", running.stack.group.url().await.unwrap())
        .env("API_KEY", &running.stack.api_key)
        .env("POLICY", running.path("policy.toml"))
        .env("ANCHORS", running.path("anchors.pem"));
    tests
}

#[tokio::test]
async fn the_package_refuses_and_never_goes_around() {
    let Some(python) = Python::with_package().await else { return };
    let running = slow_model().await;
    let tests = package_tests(&python, &running).await;
    let mut said = vec!["begun given-up-body".to_owned()];
    said.extend((0..5).map(|number| format!("gone given-up-read-{number}")));
    assert_eq!(run(tests, &running).await, said);

    // A body that Python gave up in its middle was whole JSON by then: the model must not have taken it for one.
    let ended = |request: &RecordedRequest| request.client_gone || request.status.is_some();
    let given_up = running.until_asked("given-up-body", ended).await;
    assert_ne!(given_up.status, Some(200), "{given_up:?}");
    running.stop().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let Some(python) = Python::with_package().await else { return };
    let running = slow_model().await;
    let model = running.stack.world.model().unwrap();
    model.faults.until_cleared(ModelFault::ResetAfter { bytes: 100 });
    let mut tests = package_tests(&python, &running).await;
    tests.arg("BrokenOff").env("MODEL_BREAKS_OFF", "1");
    assert_eq!(run(tests, &running).await, Vec::<String>::new());
    running.stop().await;
}

/// Types and form of the Python half, as `python/pyproject.toml` asks for them.
#[tokio::test]
async fn the_package_is_typed_and_formatted() {
    let Some(python) = Python::with_openai().await else { return };
    let cache = tempfile::tempdir().unwrap();
    let cache = format!("--cache-dir={}", cache.path().display());
    for words in [
        ["mypy", &cache, "privatemode_confidential"].as_slice(),
        &["ruff", "check", "--no-cache", "."],
        &["ruff", "format", "--no-cache", "--check", "."],
    ] {
        let mut tool = python.interpreter();
        tool.arg("-m").args(words).current_dir(PACKAGE);
        let output = tokio::time::timeout(PATIENCE, tool.output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{words:?}: {}", text(&output));
    }
}
