//! An ordinary `age` and `zstd` open a segment, and a reader in another language reads a log by the format's description.
//! Skipped where they are not installed, unless `AGE_REQUIRED=1`.

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

/// Runs the second reader: whether it was content, and what it printed.
fn read_again(folder: &Path, identity: &Path) -> (bool, String) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/role/second_reader.py");
    let output = Command::new("python3").arg(script).args([folder, identity]).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn a_second_reader_reads_the_same_and_misses_what_is_not_there() {
    if !["age", "zstd", "python3"].into_iter().all(installed) {
        assert!(!required(), "age, zstd and python3 are not installed");
        println!("skipped: age, zstd and python3 are not installed");
        return;
    }
    let sealer = Sealer::start(&[("LOG_SEGMENT_BYTES", "4096")]).await;
    for (name, seq) in ["first", "second", "third"].into_iter().zip(1..) {
        say(&sealer.channel, "a", [crate::common::otlp::long(name)]).await;
        sealer.sealed(seq).await;
    }
    let boot = sealer.identity.boot_id.clone();
    let place = sealer.stop().await;
    let identity = place.path().join("identity");
    std::fs::write(&identity, place.reader.to_string().expose_secret()).unwrap();

    let (content, text) = read_again(&place.folder(), &identity);
    assert!(content);
    let names: Vec<String> = text
        .lines()
        .map(|line| {
            let document: Value = serde_json::from_str(line).unwrap();
            let body = "/resourceLogs/0/scopeLogs/0/logRecords/0/body/stringValue";
            let body = document.pointer(body).unwrap().as_str().unwrap();
            body.split(' ').next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(names, ["first", "second", "third"]);

    let file = |seq: u8, kind: &str| place.folder().join(format!("{boot}-{seq:08}.{kind}"));
    let first = std::fs::read(file(1, "age")).unwrap();
    let second = std::fs::read(file(2, "age")).unwrap();
    std::fs::write(file(2, "age"), first).unwrap();
    assert!(!read_again(&place.folder(), &identity).0, "another segment");
    std::fs::write(file(2, "age"), second).unwrap();
    std::fs::remove_file(file(2, "jws")).unwrap();
    assert!(!read_again(&place.folder(), &identity).0, "a record is missing");
}
