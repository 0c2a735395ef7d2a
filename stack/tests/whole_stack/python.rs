//! The official `openai` package for Python, unmodified: straight over TLS, trusting the certificate file that the
//! stack writes, and through `pmc connect`.
//!
//! Needs `python3` with `venv` and a package index. Where these are missing the test says so and passes, unless
//! `PYTHON_REQUIRED=1`.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use tokio::process::Command;

use crate::support::{Forwarder, Running, start_with, text};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/openai_client.py");
const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/requirements.txt");

async fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    tokio::time::timeout(Duration::from_secs(300), command.output()).await.ok()?.ok()
}

/// An interpreter with the package, made once for all runs.
async fn interpreter() -> Option<String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("openai-python");
    // Tests run side by side; the environment is made once.
    let lock = std::fs::File::create(folder.with_extension("lock")).unwrap();
    let _locked = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap();
    let python = folder.join("bin/python").display().to_string();
    let has_it = ["-c", "import openai; assert openai.__version__ == '3.54.0'"];
    if run(&python, &has_it).await.is_some_and(|output| output.status.success()) {
        return Some(python);
    }
    let made = run("python3", &["-m", "venv", "--clear", &folder.display().to_string()]).await;
    let pip = ["-m", "pip", "install", "--quiet", "--requirement", REQUIREMENTS];
    let installed = match made {
        Some(made) if made.status.success() => run(&python, &pip).await,
        other => other,
    };
    if installed.as_ref().is_some_and(|output| output.status.success()) {
        return Some(python);
    }
    let why = installed.as_ref().map_or_else(|| "python3 does not run".to_owned(), text);
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, no configuration")]
    let required = std::env::var("PYTHON_REQUIRED").as_deref() == Ok("1");
    assert!(!required, "the openai package is required: {why}");
    println!("skipped: no openai package: {why}");
    None
}

/// Slow enough that a stream that is held back shows.
async fn slow_model() -> Running {
    start_with(|world| {
        if let Some(model) = &mut world.model {
            model.model.delay = Duration::from_millis(60);
        }
    })
    .await
}

#[tokio::test]
async fn straight_over_tls() {
    let Some(python) = interpreter().await else { return };
    let running = slow_model().await;
    let base = format!("{}/v1", running.stack.group.url().await.unwrap());
    let certificate = running.path("server.pem");
    let arguments = [CLIENT, &base, &running.stack.api_key, &certificate];
    let output = run(&python, &arguments).await.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    running.stop().await;
}

#[tokio::test]
async fn through_the_forwarder() {
    let Some(python) = interpreter().await else { return };
    let running = slow_model().await;
    let url = running.stack.group.url().await.unwrap();
    let forwarder = Forwarder::start(&url, &running.trusting()).await;
    let output = run(&python, &[CLIENT, &forwarder.base, &running.stack.api_key]).await.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    running.stop().await;
}
