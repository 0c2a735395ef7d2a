//! The live view: who may watch, what they see, what they miss, and that the log says who they were.

use std::time::Duration;

use proto::log::log_client::LogClient;
use proto::log::{WatchRequest, Watched, WatchedRecord};
use serde_json::Value;
use tonic::{Code, Status, Streaming};

use crate::common::otlp::{export, record, request, say};
use crate::common::reader::{self, Boot};
use crate::common::{Place, Sealer, eventually};

const ALLOWED: (&str, &str) = ("LOG_LIVE", "admin");
const PATIENCE: Duration = Duration::from_secs(60);

/// With a spool, without which nobody may watch.
async fn open_to_view() -> Sealer {
    let place = Place::new();
    let spool = place.spool().display().to_string();
    let sealer = Sealer::start_at(place, &[ALLOWED, ("LOG_SPOOL", &spool)]).await;
    sealer.sidecar.give_evidence();
    sealer.ready().await;
    sealer
}

fn asking(who: &str) -> WatchRequest {
    WatchRequest { who: who.to_owned(), ..WatchRequest::default() }
}

async fn watch(sealer: &Sealer, asked: WatchRequest) -> Result<Streaming<Watched>, Status> {
    Ok(LogClient::new(sealer.channel.clone()).watch(asked).await?.into_inner())
}

/// The next message; `None` at the end.
async fn next(view: &mut Streaming<Watched>) -> Option<Watched> {
    tokio::time::timeout(PATIENCE, view.message()).await.unwrap().unwrap()
}

/// So many records.
async fn records(view: &mut Streaming<Watched>, count: usize) -> Vec<WatchedRecord> {
    let mut all = Vec::new();
    while all.len() < count {
        let message = next(view).await.unwrap();
        assert_eq!(message.missed, 0);
        all.extend(message.records);
    }
    all
}

fn bodies(records: &[WatchedRecord]) -> Vec<&str> {
    records.iter().map(|record| record.body.as_str()).collect()
}

/// What the log says about those who watched it: the event, who, how many records they were shown.
fn told(boot: &Boot) -> Vec<(String, String, Option<u64>)> {
    let value = |record: &Value, name: &str, kind: &str| {
        let attributes = record["attributes"].as_array().unwrap().iter();
        let found = attributes.clone().find(|attribute| attribute["key"] == name)?;
        found["value"][kind].as_str().map(str::to_owned)
    };
    let of_views = boot.records("log-sealer").filter_map(|record| {
        let name = record["eventName"].as_str()?.strip_prefix("log.live.")?.to_owned();
        let who = value(record, "who", "stringValue").unwrap();
        let shown = value(record, "shown", "intValue").map(|shown| shown.parse().unwrap());
        Some((name, who, shown))
    });
    of_views.collect()
}

fn opened(who: &str) -> (String, String, Option<u64>) {
    ("opened".to_owned(), who.to_owned(), None)
}

fn closed(who: &str, shown: u64) -> (String, String, Option<u64>) {
    ("closed".to_owned(), who.to_owned(), Some(shown))
}

#[tokio::test]
async fn a_view_shows_what_comes_after_it_began_and_is_on_record() {
    let sealer = open_to_view().await;
    say(&sealer.channel, "a", ["before".to_owned()]).await;
    let mut view = watch(&sealer, asking("somebody")).await.unwrap();
    say(&sealer.channel, "a", ["one".to_owned(), "two".to_owned()]).await;
    let seen = records(&mut view, 2).await;
    assert_eq!(bodies(&seen), ["one", "two"]);
    let one = &seen[0];
    assert_eq!((one.service.as_str(), one.severity_number), ("a", 9));
    assert_eq!(one.time_unix_nano, 1_700_000_000_000_000_001);
    assert_eq!(
        (&*one.attributes[0].key, &*one.attributes[0].value),
        ("test.attribute", "its value")
    );

    // a stop ends it, in order
    let ending = tokio::spawn(async move { next(&mut view).await });
    let place = sealer.stop().await;
    assert!(ending.await.unwrap().is_none());
    let boots = reader::read(&place.folder(), &place.reader);
    assert_eq!(boots[0].bodies("a"), ["before", "one", "two"]);
    assert_eq!(told(&boots[0]), [opened("somebody"), closed("somebody", 2)]);
}

#[tokio::test]
async fn nobody_watches_unless_the_configuration_says_so() {
    for changes in [&[][..], &[("LOG_LIVE", "off")]] {
        let sealer = Sealer::start(changes).await;
        let refused = watch(&sealer, asking("somebody")).await.err().unwrap();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("LOG_LIVE=admin"), "{refused}");
        let place = sealer.stop().await;
        assert_eq!(told(&reader::read(&place.folder(), &place.reader)[0]), []);
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let sealer = open_to_view().await;
    for asked in [
        asking(" "),
        asking(&"x".repeat(201)),
        WatchRequest { service: "x".repeat(201), ..asking("somebody") },
        WatchRequest { least_severity: 25, ..asking("somebody") },
    ] {
        let refused = watch(&sealer, asked).await.err().unwrap();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    sealer.stop().await;
}

#[tokio::test]
async fn a_view_of_one_service_shows_no_other() {
    let sealer = open_to_view().await;
    let asked = WatchRequest { service: "b".to_owned(), least_severity: 13, ..asking("somebody") };
    let mut view = watch(&sealer, asked).await.unwrap();
    let severe = |body: &str| {
        let mut record = record(body);
        record.severity_number = 17;
        record
    };
    say(&sealer.channel, "b", ["not severe".to_owned()]).await;
    export(&sealer.channel, request("a", [severe("of another")])).await.unwrap();
    export(&sealer.channel, request("b", [severe("wanted")])).await.unwrap();
    assert_eq!(bodies(&records(&mut view, 1).await), ["wanted"]);
    sealer.stop().await;
}

#[tokio::test]
async fn who_is_slow_loses_records_and_holds_nobody_up() {
    const EXPORTS: u64 = 20;
    const RECORDS: u64 = 128;
    let sealer = open_to_view().await;
    let mut view = watch(&sealer, asking("slow")).await.unwrap();
    let body = "x".repeat(8 << 10);
    for _ in 0..EXPORTS {
        let many = (0..RECORDS).map(|_| record(&body));
        export(&sealer.channel, request("a", many)).await.unwrap();
    }
    let (mut shown, mut missed) = (0, 0);
    while shown + missed < EXPORTS * RECORDS {
        let message = next(&mut view).await.unwrap();
        missed += message.missed;
        shown += u64::try_from(message.records.len()).unwrap();
    }
    assert!(shown > 0 && missed > 0, "{shown} shown, {missed} missed");
    say(&sealer.channel, "a", ["after".to_owned()]).await;
    assert_eq!(bodies(&records(&mut view, 1).await), ["after"]);
    drop(view);
    let place = sealer.stop().await;
    let boots = reader::read(&place.folder(), &place.reader);
    assert_eq!(told(&boots[0]), [opened("slow"), closed("slow", shown + 1)]);
    assert_eq!(boots[0].bodies("a").len(), usize::try_from(EXPORTS * RECORDS + 1).unwrap());
}

#[tokio::test]
async fn few_watch_at_once_and_see_each_other_begin() {
    let sealer = open_to_view().await;
    let mut first = watch(&sealer, asking("first")).await.unwrap();
    let mut others = Vec::new();
    for who in ["second", "third", "fourth"] {
        others.push(watch(&sealer, asking(who)).await.unwrap());
    }
    let refused = watch(&sealer, asking("fifth")).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let seen = records(&mut first, 3).await;
    assert!(seen.iter().all(|record| record.event_name == "log.live.opened"));

    // who goes away makes room, once that is on record
    drop(others.pop());
    let seen = records(&mut first, 1).await;
    assert_eq!(seen[0].event_name, "log.live.closed");
    let fifth = async || watch(&sealer, asking("fifth")).await.ok();
    others.push(eventually(fifth).await);
    let place = sealer.stop().await;
    let told = told(&reader::read(&place.folder(), &place.reader)[0]);
    assert_eq!(told.len(), 10, "five openings and five closings, and nothing about them: {told:?}");
}
