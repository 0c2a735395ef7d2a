//! Saved proofs, as `pmc diff` compares them: files that anybody may have written.

use std::process::Output;
use std::sync::Arc;

use attestation::bundle::Bundle;
use serde_json::Value;
use tempfile::TempDir;

use crate::group::{Group, Manner, Server};

async fn recorded(group: &Arc<Group>) -> Bundle {
    let server = Server::start(Manner::new(group.honest())).await;
    group.connector(&server).record().await.unwrap()
}

/// `pmc diff` of two documents.
async fn diff(group: &Group, before: &Value, after: &Value) -> Output {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let anchors = write("anchors.pem", group.anchors_pem());
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pmc"));
    command.arg("diff").arg("--danger-anchors").arg(anchors);
    command.arg(write("before.json", before.to_string()));
    command.arg(write("after.json", after.to_string()));
    command.output().await.unwrap()
}

/// Whoever wrote the file chose the name of its endpoint. A terminal obeys nothing of it.
#[tokio::test]
async fn a_saved_proof_that_is_refused_writes_nothing_that_a_terminal_obeys() {
    let group = Group::new();
    let mut bundle = recorded(&group).await;
    bundle.endpoint = "https://a\u{1b}]0;owned\u{7}\u{1b}[2J\r\nSAME".to_owned();
    bundle.nonce = [0; 32];
    let document = serde_json::to_value(&bundle).unwrap();
    let output = diff(&group, &document, &document).await;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the proof of https://a\\u{1b}]0;owned"), "{said}");
    let obeyed = |text: &str| text.trim_end_matches('\n').chars().any(char::is_control);
    assert!(!obeyed(&said), "{said:?}");
    assert!(!obeyed(&String::from_utf8(output.stdout).unwrap()));
}

/// Who launched a guest, and which part of it speaks, are compared as well.
#[tokio::test]
async fn what_a_launch_says_of_itself_is_compared() {
    let group = Group::new();
    let before = serde_json::to_value(recorded(&group).await).unwrap();
    type Case = (fn(&mut sim::report::Report), &'static str, i32);
    let cases: [Case; 5] = [
        (|report| report.vmpl = 3, "privilege level (VMPL): ", 1),
        (|report| (report.key_info, report.author_key_digest) = (1, [7; 48]), "author key: ", 1),
        (|report| report.id_key_digest = [7; 48], "id key: ", 0),
        (|report| report.image_id = [7; 16], "family and image: ", 0),
        (|report| report.guest_svn = 9, "guest SVN: ", 0),
    ];
    for (altered, line, status) in cases {
        let other = Group::altered(altered);
        let after = serde_json::to_value(recorded(&other).await).unwrap();
        let output = diff(&group, &before, &after).await;
        let (said, why) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{line}{said}{why}");
        assert!(said.contains(line), "{line}{said}{why}");
    }
}
