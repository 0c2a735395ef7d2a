//! Several sinks at once, and `LOG_ENDPOINT`.

use std::collections::BTreeMap;
use std::process::Command;

use attestation::crypto::sha256;
use attestation::log_record::{Chain, Event};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::common::endpoint::{Endpoint, Post, Reply};
use crate::common::otlp::{long, say};
use crate::common::running::Running;
use crate::common::{Place, Sealer, eventually, head, reader};

/// Numbers of the records in lines, in order. Panics at what is no log.
fn numbers(lines: &[u8]) -> Vec<u64> {
    let mut chain: Option<Chain> = None;
    let mut numbers = Vec::new();
    for line in std::str::from_utf8(lines).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let compact = line["record"].as_str().unwrap();
        let record = match &mut chain {
            Some(chain) => chain.follow(compact).unwrap(),
            None => {
                let (began, record, _) = Chain::begin(compact).unwrap();
                chain = Some(began);
                record
            }
        };
        match record.event {
            Event::Segment { sha256: digest, .. } => {
                let segment = STANDARD.decode(line["segment"].as_str().unwrap()).unwrap();
                assert_eq!(sha256(&segment), digest);
            }
            _ => assert!(line["segment"].is_null()),
        }
        numbers.push(record.seq);
    }
    numbers
}

/// The same of the bodies of requests, each key once.
fn numbers_of(posts: &[Post]) -> Vec<u64> {
    let mut keys = BTreeMap::new();
    let mut bodies = Vec::new();
    for post in posts {
        match keys.insert(post.header("idempotency-key").to_owned(), post.body.clone()) {
            None => bodies.extend_from_slice(&post.body),
            Some(before) => assert!(before == post.body, "the same key for other records"),
        }
    }
    numbers(&bodies)
}

async fn sealed_to(sink: &str, endpoint: &Endpoint, segments: u64) -> Sealer {
    let changes =
        [("LOG_SEGMENT_BYTES", "4096"), ("LOG_SINK", sink), ("LOG_ENDPOINT", &endpoint.url)];
    let sealer = Sealer::start_without_evidence(&changes).await;
    sealer.sidecar.give_evidence();
    for number in 1..=segments {
        say(&sealer.channel, "a", [long(&number.to_string())]).await;
    }
    sealer
}

#[tokio::test]
async fn an_endpoint_gets_lines_and_is_told_which_they_are() {
    let endpoint = Endpoint::start(&[]).await;
    let sealer = sealed_to("http", &endpoint, 3).await;
    let boot = sealer.identity.boot_id.clone();
    sealer.stop().await;
    let posts = endpoint.posts();
    assert_eq!(numbers_of(&posts), [0, 1, 2, 3, 4]);
    for post in &posts {
        assert_eq!(post.head[0], "POST /logs HTTP/1.1");
        assert_eq!(post.header("content-type"), "application/x-ndjson");
        let of: Vec<u64> = std::str::from_utf8(&post.body)
            .unwrap()
            .lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                let jws = attestation::jws::Jws::parse(line["record"].as_str().unwrap(), 1 << 20);
                jws.unwrap().unverified_json().unwrap()["seq"].as_u64().unwrap()
            })
            .collect();
        let (first, last) = (of[0], of[of.len() - 1]);
        let key = if first == last {
            format!("{boot}-{first}")
        } else {
            format!("{boot}-{first}-{last}")
        };
        assert_eq!(post.header("idempotency-key"), key);
    }
}

#[tokio::test]
async fn what_an_endpoint_did_not_take_or_was_not_heard_to_take_is_sent_again() {
    let replies = [
        Reply::Status("503 Service Unavailable"),
        Reply::Lost,
        Reply::Status("429 Too Many Requests\r\nretry-after: 1"),
        Reply::Status("409 Conflict"),
        Reply::Status("202 Accepted"),
        Reply::Lost,
    ];
    let endpoint = Endpoint::start(&replies).await;
    let sealer = sealed_to("http", &endpoint, 2).await;
    // the first may hold all that there is until then
    eventually(async || (!endpoint.posts().is_empty()).then_some(())).await;
    say(&sealer.channel, "a", [long("more")]).await;
    eventually(async || (endpoint.posts().len() > replies.len()).then_some(())).await;
    sealer.stop().await;
    let posts = endpoint.posts();
    assert!(posts[..5].iter().all(|post| post.body == posts[0].body), "nothing is skipped");
    assert_eq!(numbers_of(&posts), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn an_endpoint_is_judged_by_its_status_alone() {
    let endpoint = Endpoint::start(&[Reply::Endless("200 OK"), Reply::Endless("503 Later")]).await;
    let sealer = sealed_to("http", &endpoint, 1).await;
    // the first may hold all that there is until then
    eventually(async || (!endpoint.posts().is_empty()).then_some(())).await;
    say(&sealer.channel, "a", [long("more")]).await;
    eventually(async || (endpoint.posts().len() > 2).then_some(())).await;
    sealer.stop().await;
    let posts = endpoint.posts();
    assert!(posts[0].body != posts[1].body, "the first was taken");
    assert!(posts[1].body == posts[2].body, "the second was not");
    assert_eq!(numbers_of(&posts), [0, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_never_answers_holds_up_no_other() {
    let place = Place::new();
    let (folder, spool) = (place.folder(), place.spool().display().to_string());
    let sinks = format!("http, folder:{}", folder.display());
    let endpoint = Endpoint::start(&[Reply::Never]).await;
    let changes = [
        ("LOG_SEALER", "off"),
        ("LOG_SEGMENT_BYTES", "4096"),
        ("LOG_SPOOL", &spool),
        ("LOG_SINK", &sinks),
        ("LOG_ENDPOINT", &endpoint.url),
    ];
    let running = Running::start(&place, &changes).await;
    running.sidecar.give_evidence();
    let channel = place.channel();
    let began = eventually(async || head(&channel).await.filter(|h| !h.digest.is_empty())).await;
    say(&channel, "a", (1..=5).map(|n| long(&n.to_string()))).await;
    let record = folder.join(format!("{}-00000005.jws", began.boot_id));
    eventually(async || record.exists().then_some(())).await;
    assert!(endpoint.posts().len() <= 1);
    let sidecar = running.kill();

    // what it never took is still there, and the next boot's log comes after it
    let program = Command::new(env!("CARGO_BIN_EXE_log-sealer"));
    let running = Running::start_by(program, &place, &changes, sidecar);
    eventually(async || head(&place.channel()).await.filter(|h| !h.digest.is_empty())).await;
    let ended = running.terminate();
    assert!(ended.status.success(), "{:?}", ended.stderr);
    assert_eq!(reader::read(&folder, &place.reader).len(), 2);
    let posts = endpoint.posts();
    let of = |post: &&Post| post.header("idempotency-key").starts_with(&began.boot_id);
    // the first of all was cut off by the kill, and its records came again in another portion
    let first: Vec<Post> = posts[1..].iter().filter(of).cloned().collect();
    assert_eq!(numbers_of(&first), [0, 1, 2, 3, 4, 5]);
    let second: Vec<Post> = posts.iter().filter(|post| !of(post)).cloned().collect();
    assert_eq!(numbers_of(&second), [0, 1]);
}
