//! With a spool on disk: nothing that was acknowledged is lost, whatever happens to the process, its sinks or its disk.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use attestation::log_record::{Event, Why};
use client::logs::{End, Problem, Source};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::common::otlp::{export, long, record, request, say};
use crate::common::reader::{self, Boot};
use crate::common::running::Running;
use crate::common::sidecar::Sidecar;
use crate::common::{Place, Sealer, eventually, head, unready};

/// A body of about that length that does not compress: hexadecimal digits of a generator (xorshift).
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    };
    let text: String = std::iter::repeat_with(next).take(length / 16).collect();
    format!("{seed} {text}")
}

fn spooled(place: &Place) -> String {
    place.spool().display().to_string()
}

/// Numbers of the records of a source in a boot, in order.
fn numbers(boot: &Boot, source: &str) -> Vec<u64> {
    let number = |body: &str| body.split(' ').next().unwrap().parse().unwrap();
    boot.bodies(source).into_iter().map(number).collect()
}

/// Exports one numbered record after the other until one fails; the numbers that were acknowledged.
async fn chatter(place: &Place, source: &'static str, from: u64) -> Vec<u64> {
    let channel = place.channel();
    let mut acknowledged = Vec::new();
    for number in from.. {
        let said = request(source, [record(&format!("{number} {}", "x".repeat(700)))]);
        if export(&channel, said).await.is_err() {
            break;
        }
        acknowledged.push(number);
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_comes_out_once_and_in_order_however_often_the_process_is_killed() {
    const SOURCES: [&str; 3] = ["a", "b", "c"];
    let group = crate::reader::group();
    let place = Place::new();
    let spool = spooled(&place);
    let changes = [("LOG_SPOOL", spool.as_str()), ("LOG_SEGMENT_BYTES", "4096")];
    let sidecar = Sidecar::start(&place.socket("attest.sock")).await;
    sidecar.attest_with(group.attester.clone());
    let start = |sidecar| {
        let program = Command::new(env!("CARGO_BIN_EXE_log-sealer"));
        Running::start_by(program, &place, &changes, sidecar)
    };
    let mut acknowledged = [(); SOURCES.len()].map(|()| BTreeSet::new());
    for round in 1..=4_u64 {
        let running = start(sidecar.clone());
        eventually(async || head(&place.channel()).await.filter(|head| !head.digest.is_empty()))
            .await;
        let killer = async {
            // after another number of segments each time, in the middle of whatever it does then
            let enough = async || head(&place.channel()).await.filter(|head| head.seq >= 5 * round);
            eventually(enough).await;
            running.kill()
        };
        let from = round * 100_000;
        let (a, b, c, _) = tokio::join!(
            chatter(&place, SOURCES[0], from),
            chatter(&place, SOURCES[1], from),
            chatter(&place, SOURCES[2], from),
            killer,
        );
        for (all, new) in acknowledged.iter_mut().zip([a, b, c]) {
            all.extend(new);
        }
    }
    let last = start(sidecar.clone());
    eventually(async || head(&place.channel()).await.filter(|head| !head.digest.is_empty())).await;
    let ended = last.terminate();
    assert!(ended.status.success(), "{:?}", ended.stderr);

    let boots = reader::read(&place.folder(), &place.reader);
    assert_eq!(boots.len(), 5);
    for (source, acknowledged) in SOURCES.into_iter().zip(acknowledged) {
        let mut boots: Vec<Vec<u64>> = boots.iter().map(|boot| numbers(boot, source)).collect();
        boots.sort();
        let all = boots.concat();
        assert!(all.is_sorted_by(|one, next| one < next), "once, and in order");
        let all: BTreeSet<u64> = all.into_iter().collect();
        assert!(acknowledged.len() > 10, "{}", acknowledged.len());
        assert!(all.is_superset(&acknowledged));
    }
    let (report, _) = crate::reader::read(&Source::Folder(place.folder()), &place, &group).unwrap();
    let ended = report.boots.iter().filter(|boot| boot.end == End::Stopped).count();
    assert_eq!((report.boots.len(), ended), (5, 1));
    // Nobody but who killed them can tell a boot that crashed from one whose end was taken away.
    for boot in &report.boots {
        let is_named = matches!(boot.problems.as_slice(), [Problem::CutOff { .. }]);
        assert_eq!(is_named, boot.end == End::Open, "{:?}", boot.problems);
        assert!(is_named || boot.problems.is_empty(), "{:?}", boot.problems);
    }
}

#[tokio::test]
async fn a_sink_that_is_down_is_caught_up_with_by_this_boot_or_the_next() {
    let place = Place::new();
    let spool = spooled(&place);
    let changes = [("LOG_SPOOL", spool.as_str()), ("LOG_SEGMENT_BYTES", "4096")];
    let (folder, away) = (place.folder(), place.path().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    let sealer = Sealer::start_at(place, &changes).await;
    sealer.sidecar.give_evidence();
    sealer.ready().await;
    say(&sealer.channel, "a", [long("one"), long("two")]).await;
    assert_eq!(sealer.head().await.seq, 2, "it is safe as soon as it was acknowledged");
    assert_eq!(sealer.health().await, Some(true), "the spool bears with it");
    let first = sealer.identity.boot_id.clone();
    let (place, outcome) = sealer.try_stop().await;
    outcome.unwrap();

    std::fs::rename(&away, &folder).unwrap();
    let sealer = Sealer::start_at(place, &changes).await;
    sealer.sidecar.give_evidence();
    sealer.ready().await;
    say(&sealer.channel, "a", [long("three")]).await;
    let place = sealer.stop().await;
    let mut boots = reader::read(&place.folder(), &place.reader);
    boots.sort_by_key(|boot| boot.id != first);
    assert_eq!(boots[0].bodies("a"), [long("one"), long("two")]);
    assert_eq!(boots[1].bodies("a"), [long("three")]);
    assert!(boots.iter().all(|boot| boot.chain.is_stopped()));
}

/// Exports a mebibyte after the other until one is not taken: how many were, and the answer.
async fn flood(sealer: &Sealer, from: u64) -> (u64, tonic::Status) {
    for number in from.. {
        let said = request("a", [record(&noise(number, 1 << 20))]);
        if let Err(status) = export(&sealer.channel, said).await {
            return (number - from, status);
        }
        assert!(number < from + 100, "the spool has no end");
    }
    unreachable!("numbers do not end")
}

/// Bytes of the files in the spool.
fn taken(place: &Place) -> u64 {
    let files = std::fs::read_dir(place.spool()).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn a_full_spool_sends_senders_away_and_has_room_again_when_its_sink_works() {
    let place = Place::new();
    let spool = spooled(&place);
    let changes = [("LOG_SPOOL", spool.as_str()), ("LOG_SPOOL_BYTES", "33554432")];
    let (folder, away) = (place.folder(), place.path().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    let sealer = Sealer::start_at(place, &changes).await;
    sealer.sidecar.give_evidence();
    sealer.ready().await;
    // the one that does not fit any more is sealed already, and waits
    let waiting = {
        let channel = sealer.channel.clone();
        let mut sent = 0;
        loop {
            let said = request("a", [record(&noise(sent, 1 << 20))]);
            let channel = channel.clone();
            let export = tokio::spawn(async move { export(&channel, said).await });
            sent += 1;
            let stored = async || Some(sealer.head().await).filter(|head| head.seq >= sent);
            let full = async || sealer.health().await.filter(|ready| !*ready);
            tokio::select! {
                _ = eventually(stored) => export.await.unwrap().unwrap(),
                _ = eventually(full) => break (sent, export),
            }
        }
    };
    let (sent, export_in_hand) = waiting;
    let (none, refused) = flood(&sealer, 1000).await;
    assert_eq!((none, refused.code()), (0, Code::Unavailable));
    assert_eq!(refused.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    let bytes = taken(&sealer.place);
    assert!((24 << 20..=32 << 20).contains(&bytes), "{bytes}");

    std::fs::rename(&away, &folder).unwrap();
    // it comes out whether its sender was still there to hear that or not
    let _ = export_in_hand.await.unwrap();
    sealer.ready().await;
    say(&sealer.channel, "a", [format!("{sent} again")]).await;
    let place = sealer.stop().await;
    let boots = reader::read(&place.folder(), &place.reader);
    assert_eq!(numbers(&boots[0], "a"), (0..=sent).collect::<Vec<_>>());
}

#[tokio::test]
async fn where_the_rule_is_to_drop_senders_are_told_and_the_record_says_how_much() {
    let place = Place::new();
    let spool = spooled(&place);
    let changes = [
        ("LOG_SPOOL", spool.as_str()),
        ("LOG_SPOOL_BYTES", "33554432"),
        ("LOG_SPOOL_FULL", "drop"),
    ];
    let (folder, away) = (place.folder(), place.path().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    let sealer = Sealer::start_at(place, &changes).await;
    sealer.sidecar.give_evidence();
    sealer.ready().await;
    let (stored, refused) = flood(&sealer, 0).await;
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.get_details_retry_info().is_none(), "it is of no use to come back");
    let two = [record(&noise(1, 1 << 19)), record(&noise(2, 1 << 19))];
    let refused = export(&sealer.channel, request("a", two)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);

    std::fs::rename(&away, &folder).unwrap();
    // each that is dropped until there is room again counts
    let tries = AtomicU64::new(0);
    eventually(async || {
        tries.fetch_add(1, Ordering::Relaxed);
        export(&sealer.channel, request("a", [record("99 again")])).await.ok()
    })
    .await;
    let place = sealer.stop().await;
    let boots = reader::read(&place.folder(), &place.reader);
    let expected: Vec<u64> = (0..stored).chain([99]).collect();
    assert_eq!(numbers(&boots[0], "a"), expected);
    let lost = boots[0].events.iter().map(|event| match event {
        Event::Loss { records, why: Why::SpoolFull, .. } => *records,
        _ => 0,
    });
    assert_eq!(lost.sum::<u64>(), 2 + tries.into_inner());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_holds_senders_up_and_loses_nothing() {
    let place = Place::new();
    let spool = spooled(&place);
    let sidecar = Sidecar::start(&place.socket("attest.sock")).await;
    sidecar.give_evidence();
    // files of 32 KiB at most; whoever exceeds that gets an error, not a signal
    let mut program = Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_log-sealer");
    program.args(["-c", &format!("trap '' XFSZ; ulimit -S -f 64; exec {binary}")]);
    let running = Running::start_by(program, &place, &[("LOG_SPOOL", &spool)], sidecar);
    let channel = place.channel();
    eventually(async || head(&channel).await.filter(|head| !head.digest.is_empty())).await;
    say(&channel, "a", ["small".to_owned()]).await;
    let large = {
        let (channel, said) = (channel.clone(), request("a", [record(&noise(1, 100_000))]));
        tokio::spawn(async move { export(&channel, said).await })
    };
    unready(&channel).await;
    let refused = export(&channel, request("a", [record("2")])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);

    let pid = Pid::from_raw(i32::try_from(running.id()).unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    large.await.unwrap().unwrap();
    say(&channel, "a", ["large enough".to_owned()]).await;
    let ended = running.terminate();
    assert!(ended.status.success(), "{:?}", ended.stderr);
    let boots = reader::read(&place.folder(), &place.reader);
    assert_eq!(boots[0].bodies("a"), ["small", &noise(1, 100_000), "large enough"]);
}
