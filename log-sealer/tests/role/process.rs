//! The process itself: its stdout, its own logs, its signals.

use std::process::Command;

use age::x25519::Identity;
use attestation::crypto::sha256;
use attestation::log_record::{Chain, Event};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use serde_json::Value;

use crate::common::otlp::{export, long, request, say};
use crate::common::running::{Ended, Running};
use crate::common::{Place, eventually, head, reader};

const CANARY: &str = "canary-30c1d9e2-never-in-clear";

#[tokio::test(flavor = "multi_thread")]
async fn its_own_events_are_sealed_too_and_cause_no_others() {
    let place = Place::new();
    let running = Running::start(&place, &[("LOG_SEGMENT_BYTES", "4096")]).await;
    let channel = place.channel();
    // the second question comes after the first one failed
    eventually(async || (running.sidecar.asked() >= 2).then_some(())).await;
    running.sidecar.give_evidence();
    eventually(async || head(&channel).await.filter(|head| !head.digest.is_empty())).await;
    // an event for an export, a batch or a segment would show up below
    for round in 1..=6 {
        say(&channel, "a", [long(&format!("round {round}"))]).await;
        eventually(async || head(&channel).await.filter(|head| head.seq >= round)).await;
    }
    let ended = running.terminate();
    assert!(ended.status.success(), "{:?}", ended.stderr);

    let boots = reader::read(&place.folder(), &place.reader);
    // It listens and asks for evidence at the same time: either may be said first.
    let mut names: Vec<&str> = boots[0].bodies("log-sealer");
    names[..2].sort_unstable();
    assert_eq!(names, ["listening", "waiting for evidence", "ready", "stopping"]);
    assert_eq!(boots[0].bodies("a").len(), 6);
    assert!(boots[0].chain.is_stopped());
    let mut stdout = ended.stdout;
    stdout[1..3].sort_unstable();
    assert_eq!(
        stdout,
        [
            "log-sealer: starting",
            "log-sealer: listening",
            "log-sealer: waiting for evidence",
            "log-sealer: ready",
            "log-sealer: stopping",
            "log-sealer: stopped",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_sink_is_announced_and_its_announcement_is_not_an_event_without_end() {
    let place = Place::new();
    let running = Running::start(&place, &[("LOG_SEGMENT_BYTES", "4096")]).await;
    let channel = place.channel();
    running.sidecar.give_evidence();
    eventually(async || head(&channel).await.filter(|head| !head.digest.is_empty())).await;
    let away = place.path().join("away");
    for round in 1..=3 {
        std::fs::rename(place.folder(), &away).unwrap();
        say(&channel, "a", [long(&format!("round {round}"))]).await;
        let before = head(&channel).await.unwrap().seq;
        crate::common::unready(&channel).await;
        std::fs::rename(&away, place.folder()).unwrap();
        eventually(async || head(&channel).await.filter(|head| head.seq > before)).await;
    }
    let ended = running.terminate();
    assert!(ended.status.success(), "{:?}", ended.stderr);
    let boots = reader::read(&place.folder(), &place.reader);
    let outages = |name| boots[0].bodies("log-sealer").iter().filter(|body| **body == name).count();
    assert_eq!(outages("sink unavailable"), 1, "three outages in a row, announced once");
    assert_eq!(outages("sink available again"), 1);
    assert_eq!(boots[0].bodies("a").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn stdout_holds_lifecycle_names_and_sealed_lines_and_nothing_else() {
    let place = Place::new();
    let sink = [("LOG_SINK", "stdout"), ("LOG_SEGMENT_BYTES", "4096")];
    let running = Running::start(&place, &sink).await;
    let channel = place.channel();
    running.sidecar.give_evidence();
    eventually(async || head(&channel).await.filter(|head| !head.digest.is_empty())).await;
    let bodies: Vec<String> = (0..20).map(|n| long(&format!("{CANARY} {n}"))).collect();
    say(&channel, CANARY, bodies.clone()).await;
    let Ended { status, stdout, stderr } = running.terminate();
    assert!(status.success(), "{stderr:?}");
    assert!(stderr.is_empty(), "{stderr:?}");

    assert!(!stdout.iter().any(|line| line.contains(CANARY)));
    let (sealed, names): (Vec<_>, Vec<_>) = stdout.iter().partition(|line| line.starts_with('{'));
    assert!(names.iter().all(|line| line.starts_with("log-sealer: ")), "{names:?}");
    assert_eq!(read(&sealed, &place.reader), bodies);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_whatever_is_sent() {
    let place = Place::new();
    let running = Running::start(&place, &[]).await;
    let channel = place.channel();
    eventually(async || head(&channel).await).await;
    println!("idle: {} KiB", running.peak());
    // four megabytes on the wire that would be more than a hundred if they were decoded; the queue takes some
    let attributes = vec![KeyValue::default(); 1_900_000];
    let swollen = request("a", [LogRecord { attributes, ..LogRecord::default() }]);
    let sending = (0..10).map(|_| {
        let (channel, request) = (channel.clone(), swollen.clone());
        tokio::spawn(async move { export(&channel, request).await })
    });
    let mut accepted = 0;
    for sent in sending.collect::<Vec<_>>() {
        accepted += usize::from(sent.await.unwrap().is_ok());
    }
    assert!((1..10).contains(&accepted), "{accepted}");
    println!("peak: {} KiB", running.peak());
    assert!(running.peak() < 160 * 1024, "{} KiB", running.peak());
}

/// Bodies of the canary's records, from the lines of a whole boot.
fn read(lines: &[&String], reader: &Identity) -> Vec<String> {
    let mut bodies = Vec::new();
    let mut chain: Option<Chain> = None;
    for line in lines {
        let line: Value = serde_json::from_str(line).unwrap();
        let compact = line["record"].as_str().unwrap();
        let record = match &mut chain {
            None => {
                let (began, record, _) = Chain::begin(compact).unwrap();
                chain = Some(began);
                record
            }
            Some(chain) => chain.follow(compact).unwrap(),
        };
        let Event::Segment { sha256: digest, .. } = record.event else {
            assert!(line["segment"].is_null());
            continue;
        };
        let segment = STANDARD.decode(line["segment"].as_str().unwrap()).unwrap();
        assert_eq!(sha256(&segment), digest);
        let documents = reader::documents(&segment, reader).1;
        for record in documents.iter().flat_map(|document| reader::records_of(document, CANARY)) {
            bodies.push(record["body"]["stringValue"].as_str().unwrap().to_owned());
        }
    }
    assert!(chain.unwrap().is_stopped());
    bodies
}

#[test]
fn what_is_wrong_with_the_environment_is_said_all_at_once() {
    let output = Command::new(env!("CARGO_BIN_EXE_log-sealer"))
        .env_clear()
        .envs([
            ("LOG_RECIPIENTS", "AGE-SECRET-KEY-1XYZ"),
            ("LOG_SINK", "s3"),
            ("LOG_SINC", "stdout"),
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8(output.stderr).unwrap();
    for part in ["LOG_RECIPIENTS: entry 1", "LOG_SINK: must be", "LOG_SINC is not a variable"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("SECRET"), "{text}");
}

#[test]
fn a_reader_to_whom_nothing_can_be_encrypted_is_refused_at_the_start() {
    // the point of order one: everybody knows the shared secret
    let zero = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z";
    let place = Place::new();
    let output = Command::new(env!("CARGO_BIN_EXE_log-sealer"))
        .env_clear()
        .envs(place.environment(&[("LOG_RECIPIENTS", zero)]))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("nothing can be encrypted to LOG_RECIPIENTS"), "{text}");
}
