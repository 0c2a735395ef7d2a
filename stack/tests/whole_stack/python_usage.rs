//! The official `openai` and `anthropic` packages for Python, unmodified: what the proxy writes down for a key is what the
//! model server said, to the token. The list of calls is `python/tests/usage_list.py`.

use std::time::Duration;

use crate::support::python::Python;
use crate::support::{start, text};

/// How long the list may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn what_is_written_down_is_what_the_model_server_said() {
    let Some(python) = Python::with_openai().await else { return };
    let running = start().await;
    let url = running.stack.group.url().await.unwrap();
    let model = running.stack.world.model().unwrap().url.clone();
    let mut list = python.command("usage_list.py");
    list.args([&url, &running.stack.api_key, &running.path("server.pem"), &model]);
    let output = tokio::time::timeout(PATIENCE, list.output()).await.unwrap().unwrap();
    assert!(output.status.success() && output.stdout == b"ok\n", "{}", text(&output));
    running.stop().await;
}
