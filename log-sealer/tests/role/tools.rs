//! An ordinary `age` and `zstd` open a segment. Skipped where they are not installed, unless `AGE_REQUIRED=1`.

use std::path::Path;
use std::process::{Command, Stdio};

use age::secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::common::Sealer;
use crate::common::otlp::say;

#[expect(clippy::disallowed_methods, reason = "a test reads what it may skip")]
fn required() -> bool {
    std::env::var_os("AGE_REQUIRED").is_some_and(|value| value == "1")
}

fn installed(tool: &str) -> bool {
    let outcome =
        Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    outcome.is_ok_and(|status| status.success())
}

fn open(segment: &Path, identity: &Path) -> String {
    let mut age = Command::new("age")
        .arg("--decrypt")
        .arg("--identity")
        .args([identity, segment])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let zstd = Command::new("zstd")
        .args(["--decompress", "--stdout"])
        .stdin(age.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(age.wait().unwrap().success());
    assert!(zstd.status.success(), "{}", String::from_utf8_lossy(&zstd.stderr));
    String::from_utf8(zstd.stdout).unwrap()
}

#[tokio::test]
async fn age_and_zstd_give_json_lines() {
    if !(installed("age") && installed("zstd")) {
        assert!(!required(), "age and zstd are not installed");
        println!("skipped: age and zstd are not installed");
        return;
    }
    let sealer = Sealer::start(&[]).await;
    say(&sealer.channel, "a", ["first".to_owned(), "second".to_owned()]).await;
    let place = sealer.stop().await;
    let identity = place.path().join("identity");
    std::fs::write(&identity, place.reader.to_string().expose_secret()).unwrap();

    let files = std::fs::read_dir(place.folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        files.filter(|path| path.extension() == Some("age".as_ref())).collect();
    segments.sort();
    let text: String = segments.iter().map(|segment| open(segment, &identity)).collect();
    let bodies: Vec<Value> = text
        .lines()
        .map(|line| {
            let document: Value = serde_json::from_str(line).unwrap();
            let body = "/resourceLogs/0/scopeLogs/0/logRecords/0/body/stringValue";
            document.pointer(body).unwrap().clone()
        })
        .collect();
    assert_eq!(bodies, ["first", "second"]);
}
