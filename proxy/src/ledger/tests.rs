//! The ledger over a database: nothing twice, nothing lost beyond the bound, whatever disk and clock do.

use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::keys::ApiKey;
use crate::store::KeySource;
use crate::usage::Usage;

/// 2027-01-15.
const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn call(key: &str, model: &str, endpoint: Endpoint, tokens: u64, at: u64) -> Call {
    let key = Arc::new(ApiKey { id: key.to_owned(), ..ApiKey::default() });
    let usage = Usage { prompt: tokens, total: tokens, ..Usage::default() };
    Call { at, key, model: Some(model.to_owned()), endpoint, usage }
}

fn chat(key: &str, tokens: u64) -> Call {
    call(key, "gpt-oss-120b", Endpoint::Chat, tokens, NOW)
}

async fn open(path: &Path) -> (Store, Ledger) {
    let store = Store::open(path.to_owned(), KeySource::File, NOW).await.unwrap();
    let ledger = Ledger::open(store.clone(), Prices::default(), NOW).await.unwrap();
    (store, ledger)
}

async fn all(ledger: &Ledger) -> Summary {
    ledger.try_summary(Range::ALL, None).await.unwrap()
}

/// Waits until nothing is in memory only.
async fn settled(ledger: &Ledger) {
    let begin = std::time::Instant::now();
    loop {
        {
            let mut sums = ledger.shared.sums();
            if sums.carry().is_none() {
                return;
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "it is not written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn case_78_80_totals_by_key_model_endpoint_and_day_now_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let (store, ledger) = open(&path).await;
    ledger.settle(&chat("k1", 100));
    ledger.settle(&chat("k1", 200));
    ledger.settle(&call("k2", "multilingual-e5", Endpoint::Embeddings, 50, NOW + DAY));
    let check = |summary: &Summary| {
        assert_eq!((summary.all.requests, summary.all.total), (3, 350));
        let of = |key: &str| (summary.by_key[key].requests, summary.by_key[key].total);
        assert_eq!((of("k1"), of("k2")), ((2, 300), (1, 50)));
        assert_eq!(summary.by_model["multilingual-e5"].total, 50);
        assert_eq!(summary.by_endpoint[&Endpoint::Chat].requests, 2);
        assert_eq!(summary.by_day[&day_of(NOW)].requests, 2);
        assert_eq!(summary.by_day[&(day_of(NOW) + 1)].requests, 1);
        assert_eq!(summary.all.cost.nanos(), 300 * 5000 + 50 * 130);
    };
    check(&all(&ledger).await);
    settled(&ledger).await;
    check(&all(&ledger).await);
    let one = ledger.try_summary(Range::ALL, Some("k2")).await.unwrap();
    assert_eq!((one.all.requests, one.by_key.len()), (1, 1));
    let yesterday = Range { first: 0, last: day_of(NOW) };
    assert_eq!(ledger.try_summary(yesterday, None).await.unwrap().all.requests, 2);
    ledger.settle(&chat("k1", 1));
    store.close().await;

    let (_store, again) = open(&path).await;
    let summary = all(&again).await;
    assert_eq!((summary.all.requests, summary.all.total), (4, 351), "SIGTERM loses nothing");
    assert_eq!(again.spent_in_month("k1", NOW).nanos(), 301 * 5000);
    assert_eq!(again.spent_in_month("k2", NOW).nanos(), 50 * 130);
    assert_eq!(again.spent_in_month("k3", NOW), Money::ZERO);
}

#[tokio::test]
async fn a_month_begins_anew_and_a_clock_that_is_set_back_does_not_bring_the_last_one_again() {
    let ledger = Ledger::in_memory();
    ledger.settle(&call("k", "m", Endpoint::Chat, 1000, NOW));
    let cost = ledger.spent_in_month("k", NOW);
    assert!(cost > Money::ZERO);
    let february = NOW + 31 * DAY;
    assert_eq!(ledger.spent_in_month("k", february), Money::ZERO);
    assert_eq!(ledger.spent_in_month("k", NOW), cost, "nothing was counted in February yet");
    ledger.settle(&call("k", "m", Endpoint::Chat, 3000, february));
    assert_eq!(ledger.spent_in_month("k", february).nanos(), 3 * cost.nanos());
    // The host sets the clock back by a month: calls count for February all the same.
    ledger.settle(&call("k", "m", Endpoint::Chat, 1000, NOW));
    assert_eq!(ledger.spent_in_month("k", NOW).nanos(), 4 * cost.nanos());
    let summary = all(&ledger).await;
    assert_eq!(summary.by_day[&day_of(february)].requests, 2);
    assert_eq!(ledger.spent_in_month("k", u64::MAX), Money::ZERO, "no date is out of range");
    ledger.settle(&call("k", "m", Endpoint::Chat, 1000, u64::MAX));
    assert_eq!(ledger.spent_in_month("k", u64::MAX), cost);
}

#[tokio::test]
async fn names_of_models_are_bounded_in_length_form_and_number() {
    let ledger = Ledger::in_memory();
    let long = "x".repeat(129);
    for odd in ["", "a\nb", "a\u{202e}b", &long] {
        ledger.settle(&call("k", odd, Endpoint::Chat, 1, NOW));
    }
    for n in 0..1000 {
        ledger.settle(&call("k", &format!("model-{n}"), Endpoint::Chat, 1, NOW));
    }
    ledger.settle(&call("k", "model-0", Endpoint::Chat, 1, NOW));
    let summary = all(&ledger).await;
    assert_eq!(summary.all.requests, 1005);
    assert_eq!(summary.by_model.len(), 257);
    assert_eq!(summary.by_model["other"].requests, 4 + 1000 - 256);
    assert_eq!(summary.by_model["model-0"].requests, 2);
}

/// The ledger's own statements run on many tasks while batches are carried: every call is seen, and once, at any time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_batches_are_on_their_way_nothing_is_missing_and_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (store, ledger) = open(&folder.path().join("proxy.db")).await;
    let ledger = Arc::new(ledger);
    let mut expected = 0;
    for round in 0..40_u64 {
        for n in 0..round * 5 {
            ledger.settle(&chat(&format!("k{}", n % 7), 1));
            expected += 1;
        }
        assert_eq!(all(&ledger).await.all.requests, expected);
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_keeps_nobody_waiting_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let (store, ledger) = open(&path).await;
    ledger.settle(&chat("k", 1));
    settled(&ledger).await;
    let other = Store::visit(path.clone(), KeySource::File).await.unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (locked, is_locked) = tokio::sync::oneshot::channel();
    let holder = tokio::spawn(async move {
        let hold = move |connection: &mut Connection| {
            connection.execute_batch("BEGIN EXCLUSIVE")?;
            let _ = locked.send(());
            let _ = released.recv();
            connection.execute_batch("ROLLBACK")?;
            Ok::<_, StoreError>(())
        };
        other.run(hold).await
    });
    is_locked.await.unwrap();
    let begin = std::time::Instant::now();
    for _ in 0..1000 {
        ledger.settle(&chat("k", 1));
    }
    assert!(begin.elapsed() < Duration::from_secs(2), "settling waits for nobody");
    while ledger.is_behind().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ledger.settle(&chat("k", 1));
    assert_eq!(all(&ledger).await.all.requests, 1002, "it is seen although it is not written");
    release.send(()).unwrap();
    holder.await.unwrap().unwrap();
    settled(&ledger).await;
    assert_eq!(ledger.is_behind(), None);
    assert_eq!(all(&ledger).await.all.requests, 1002);
    store.close().await;
}

/// The disk takes nothing more, and takes it again later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_counts_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let (store, ledger) = open(&path).await;
    let limit = |pages: u32| {
        move |connection: &mut Connection| {
            let now: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            let most = now + i64::from(pages);
            connection.query_row(&format!("PRAGMA max_page_count = {most}"), [], |_| Ok(()))?;
            Ok::<_, StoreError>(())
        }
    };
    store.run(limit(0)).await.unwrap();
    for n in 0..3000 {
        ledger.settle(&chat(&format!("key-{n}"), 1));
    }
    let begin = std::time::Instant::now();
    while ledger.is_behind().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for n in 0..3000 {
        ledger.settle(&chat(&format!("key-{n}"), 1));
    }
    assert_eq!(all(&ledger).await.all.requests, 6000);
    store.run(limit(100_000)).await.unwrap();
    settled(&ledger).await;
    assert_eq!(all(&ledger).await.all.requests, 6000);
    store.close().await;
    let (_store, again) = open(&path).await;
    let summary = all(&again).await;
    assert_eq!((summary.all.requests, summary.by_key.len()), (6000, 3000));
}

/// While the disk refuses for long, memory does not grow without end.
#[test]
fn what_waits_has_a_bound_and_keeps_its_sums() {
    let mut sums = Sums::new(Prices::default(), day_of(NOW));
    for n in 0..100_500 {
        sums.settle(&chat(&format!("key-{n}"), 1));
    }
    let (rows, _) = sums.carry().unwrap();
    assert_eq!(rows.len(), 100_001);
    assert_eq!(rows.values().map(|totals| totals.requests).sum::<u64>(), 100_500);
    let last = Money::from_nanos(5000);
    assert_eq!(sums.spent("key-100499", day_of(NOW)), last, "budgets hold beyond it");
}

/// A commit whose answer was lost is not repeated.
#[tokio::test]
async fn a_batch_that_is_on_the_disk_is_not_carried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let store = Store::open(path, KeySource::File, NOW).await.unwrap();
    let epoch = store.epoch;
    let requests = store
        .run(move |connection| {
            let shared = Arc::new(Shared(Mutex::new(Sums::new(Prices::default(), day_of(NOW)))));
            let mut writer = Writer::new(shared.clone(), epoch);
            shared.sums().settle(&chat("k", 1));
            let (batch, number) = shared.sums().carry().unwrap();
            let transaction = connection.transaction()?;
            rows::add(&transaction, &batch)?;
            rows::set_batch(&transaction, epoch, number)?;
            transaction.commit()?;
            // The writer did not learn of it, and tries again; what came meanwhile is another batch.
            shared.sums().settle(&chat("k", 1));
            let mut ticks = 0;
            while !crate::store::Resident::tick(&mut writer, connection) {
                ticks += 1;
                assert!(ticks < 5);
            }
            rows::summary(connection, Range::ALL, None).map(|summary| summary.all.requests)
        })
        .await
        .unwrap();
    assert_eq!(requests, 2);
}
