//! Changing keys, in the keys file.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::money::Money;

const NOW: u64 = 1_800_000_000;

struct Bench {
    folder: tempfile::TempDir,
    keys: Arc<Keys>,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let list = List { keys: "listed", ids: "env_key" };
        let keys = Arc::new(Keys::new(list, folder.path().join("keys.json")));
        Self { folder, keys }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keys.json")
    }

    fn entries(&self) -> Vec<Value> {
        let text = std::fs::read(self.path()).unwrap();
        let document: Value = serde_json::from_slice(&text).unwrap();
        document["keys"].as_array().unwrap().clone()
    }

    fn bearer(&self, key: &str, now: u64) -> Result<String, KeyError> {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", key.parse().unwrap());
        self.keys.authenticate(&headers, now).map(|key| key.id.clone())
    }
}

fn days(days: u32) -> New {
    New { description: "d".to_owned(), lifetime: Some(days), ..New::default() }
}

#[tokio::test]
async fn case_29_a_key_is_made_is_good_at_once_and_is_kept_by_its_digest_only() {
    let bench = Bench::new();
    let made = bench.keys.create(days(2), NOW).await.unwrap();
    assert_eq!(made.text.len(), 46);
    assert_eq!(bench.bearer(&made.text, NOW).unwrap(), made.key.id);
    assert_eq!(bench.bearer(&made.text, NOW + 2 * 86_400), Err(KeyError::Invalid));
    let [entry] = &bench.entries()[..] else { panic!("one entry") };
    let expected = json!({
        "key_id": made.key.id, "key_hash": hex::encode(sha256(made.text.as_bytes())), "description": "d",
        "enabled": true, "created_at": NOW, "expires_at": NOW + 2 * 86_400,
    });
    assert_eq!(*entry, expected);
    let mode = std::fs::metadata(bench.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "case 112");
}

#[tokio::test]
async fn case_103_revoked_made_good_again_and_deleted() {
    let bench = Bench::new();
    let made = bench.keys.create(days(2), NOW).await.unwrap();
    let id = made.key.id.as_str();
    let set = |enabled| Change { enabled: Some(enabled), ..Change::default() };
    let revoked = bench.keys.update(id, set(false), NOW + 5).await.unwrap();
    assert_eq!((revoked.enabled, revoked.revoked_at), (false, Some(1_800_000_005.0)));
    assert_eq!(bench.bearer(&made.text, NOW), Err(KeyError::Invalid));
    assert_eq!(bench.entries()[0]["revoked_at"], NOW + 5);
    bench.keys.update(id, set(true), NOW + 6).await.unwrap();
    assert!(bench.bearer(&made.text, NOW).is_ok());
    assert!(bench.entries()[0].get("revoked_at").is_none());
    bench.keys.delete(id).await.unwrap();
    assert_eq!(bench.bearer(&made.text, NOW), Err(KeyError::Invalid));
    assert!(bench.entries().is_empty());
    let gone = bench.keys.delete(id).await.unwrap_err();
    assert_eq!(gone.to_string(), format!("Key ID '{id}' not found."));
}

#[tokio::test]
async fn limits_are_set_and_cleared_and_what_is_not_meant_for_us_stays() {
    let bench = Bench::new();
    let text = r#"{"of":"somebody","keys":[{"key_id":"k","key":"secret","x":[1],"rate_limit":5}]}"#;
    std::fs::write(bench.path(), text).unwrap();
    let change = Change {
        rate_limit: Some(None),
        tokens_per_minute: Some(Some(7)),
        monthly_budget: Some(Money::from_euros(2.5)),
        models: Some(Some(vec!["m".to_owned()])),
        note: Some("two\nlines".to_owned()),
        ..Change::default()
    };
    bench.keys.update("k", change, NOW).await.unwrap();
    let expected = json!({
        "key_id": "k", "key": "secret", "x": [1], "tokens_per_minute": 7, "monthly_budget_eur": 2.5,
        "models": ["m"], "note": "two\nlines",
    });
    assert_eq!(bench.entries(), [expected]);
    let document: Value = serde_json::from_slice(&std::fs::read(bench.path()).unwrap()).unwrap();
    assert_eq!(document["of"], "somebody");
}

#[tokio::test]
async fn case_108_values_that_cannot_be_taken_change_nothing() {
    let bench = Bench::new();
    let made = bench.keys.create(days(2), NOW).await.unwrap();
    let before = bench.entries();
    for wrong in [
        days(0),
        days(36_501),
        days(99_999_999),
        New { rate_limit: Some(0), ..New::default() },
        New { tokens_per_minute: Some(u64::MAX), ..New::default() },
        New { monthly_budget: Some(Money::ZERO), ..New::default() },
        New { models: Some(Vec::new()), ..New::default() },
        New { models: Some(vec![String::new()]), ..New::default() },
        New { description: "a\nb".to_owned(), ..New::default() },
        New { note: "x".repeat(1001), ..New::default() },
    ] {
        let refused = bench.keys.create(wrong.clone(), NOW).await.err().unwrap();
        assert!(matches!(refused, EditError::Invalid { .. }), "{wrong:?}: {refused}");
    }
    for expires_at in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
        let change = Change { expires_at: Some(Some(expires_at)), ..Change::default() };
        let refused = bench.keys.update(&made.key.id, change, NOW).await.unwrap_err();
        assert!(matches!(refused, EditError::Invalid { field: "expires_at", .. }), "{expires_at}");
    }
    assert_eq!(bench.entries(), before);
}

#[tokio::test]
async fn case_114_115_rotation_at_once_and_with_overlap() {
    let bench = Bench::new();
    let new = New { rate_limit: Some(9), owner: "o".to_owned(), ..days(10) };
    let old = bench.keys.create(new, NOW).await.unwrap();
    let at_once = Rotation::default();
    let second = bench.keys.rotate(&old.key.id, at_once, NOW + 100).await.unwrap();
    assert_eq!(bench.bearer(&old.text, NOW + 100), Err(KeyError::Invalid));
    assert_eq!(bench.bearer(&second.text, NOW + 100).unwrap(), second.key.id);
    assert_eq!(second.key.description, "d (rotated)");
    assert_eq!((second.key.rate_limit, second.key.owner.as_str()), (Some(9), "o"));
    assert_eq!(second.key.expires_at, Some(1_800_000_100.0 + 864_000.0), "it lives as long");
    assert_eq!(second.key.rotated_from.as_deref(), Some(old.key.id.as_str()));
    let held = bench.keys.find(&old.key.id).unwrap().key;
    assert_eq!(held.rotated_to.as_deref(), Some(second.key.id.as_str()));
    assert_eq!(held.revoked_at, Some(1_800_000_100.0));

    let overlapping = Rotation { overlap: 60, lifetime: Some(1) };
    let third = bench.keys.rotate(&second.key.id, overlapping, NOW + 200).await.unwrap();
    assert!(bench.bearer(&second.text, NOW + 259).is_ok());
    assert!(bench.bearer(&second.text, NOW + 260).is_err());
    assert_eq!(third.key.expires_at, Some(1_800_000_200.0 + 86_400.0));
    assert_eq!(bench.keys.list().len(), 4);
}

#[tokio::test]
async fn keys_of_a_list_are_shown_and_not_changed() {
    let bench = Bench::new();
    let listed = bench.keys.find("env_key_0").unwrap();
    assert!(!listed.is_editable());
    assert_eq!(listed.key.description, "From API_KEYS environment variable");
    let refused = bench.keys.delete("env_key_0").await.unwrap_err();
    assert!(matches!(refused, EditError::NotEditable(_)));
    assert!(!bench.path().exists());
}

/// Whoever mends a broken file by hand finds what was there.
#[tokio::test]
async fn a_file_that_cannot_be_read_is_never_overwritten() {
    let bench = Bench::new();
    for broken in ["{", "[]", r#"{"keys":[null]}"#] {
        std::fs::write(bench.path(), broken).unwrap();
        let refused = bench.keys.create(days(1), NOW).await.err().unwrap();
        assert!(matches!(refused, EditError::File(_)), "{refused}");
        assert_eq!(std::fs::read_to_string(bench.path()).unwrap(), broken);
    }
}

#[tokio::test]
async fn two_entries_of_one_name_are_not_guessed_between() {
    let bench = Bench::new();
    let text = r#"{"keys":[{"key_id":"k","key":"a"},{"key_id":"k","key":"b"}]}"#;
    std::fs::write(bench.path(), text).unwrap();
    let refused = bench.keys.delete("k").await.unwrap_err();
    assert!(service::chain(&refused).contains("several entries"), "{refused}");
    assert_eq!(bench.entries().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_at_the_same_time_do_not_undo_each_other() {
    let bench = Bench::new();
    // As the command line does: another view of the same file.
    let none = List { keys: "", ids: "env_key" };
    let other = Arc::new(Keys::new(none, bench.path()));
    let mut running = tokio::task::JoinSet::new();
    for n in 0..20 {
        let keys = if n % 2 == 0 { bench.keys.clone() } else { other.clone() };
        running.spawn(async move { keys.create(days(1), NOW).await.map(|made| made.text) });
    }
    while let Some(text) = running.join_next().await {
        bench.keys.refresh().await;
        assert!(bench.bearer(&text.unwrap().unwrap(), NOW).is_ok());
    }
    assert_eq!(bench.entries().len(), 20);
}

/// A view of a database, as the proxy and the command line have one each.
async fn view(store: &Store) -> Arc<Keys> {
    let none = List { keys: "listed", ids: "env_key" };
    let keys = Keys::new(none, "/no/such/file".into());
    Arc::new(keys.stored_in(store.clone(), Place::Database).await.unwrap())
}

fn who(keys: &Keys, key: &str) -> Result<String, KeyError> {
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", key.parse().unwrap());
    keys.authenticate(&headers, NOW).map(|key| key.id.clone())
}

#[tokio::test]
async fn keys_of_a_database_live_the_same_life_and_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let open = || Store::open(path.clone(), crate::store::KeySource::File, NOW);
    let store = open().await.unwrap();
    let keys = view(&store).await;
    let first = keys.create(days(2), NOW).await.unwrap();
    let kept = keys.create(New { rate_limit: Some(3), ..days(3) }, NOW).await.unwrap();
    assert_eq!(who(&keys, &first.text).unwrap(), first.key.id);
    assert_eq!(keys.find(&first.key.id).unwrap().place, Place::Database);
    let revoke = Change { enabled: Some(false), ..Change::default() };
    keys.update(&first.key.id, revoke.clone(), NOW).await.unwrap();
    assert_eq!(who(&keys, &first.text), Err(KeyError::Invalid));
    let rotation = Rotation { overlap: 60, lifetime: None };
    let next = keys.rotate(&kept.key.id, rotation, NOW).await.unwrap();
    assert!(who(&keys, &kept.text).is_ok() && who(&keys, &next.text).is_ok());
    keys.delete(&first.key.id).await.unwrap();
    assert!(matches!(keys.delete(&first.key.id).await, Err(EditError::Unknown(_))));
    let wrong = keys.create(days(0), NOW).await.err().unwrap();
    assert!(matches!(wrong, EditError::Invalid { .. }));
    store.close().await;

    let store = open().await.unwrap();
    let keys = view(&store).await;
    assert_eq!(keys.list().len(), 3, "two, and the list's");
    assert_eq!(keys.find(&next.key.id).unwrap().key.rate_limit, Some(3));
    assert_eq!(who(&keys, &next.text).unwrap(), next.key.id);
    assert_eq!(who(&keys, &first.text), Err(KeyError::Invalid));
}

#[tokio::test]
async fn what_another_process_changes_in_the_database_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let source = crate::store::KeySource::File;
    let here = Store::open(path.clone(), source.clone(), NOW).await.unwrap();
    let there = Store::visit(path, source).await.unwrap();
    let (serving, command) = (view(&here).await, view(&there).await);
    let made = command.create(days(1), NOW).await.unwrap();
    let begin = std::time::Instant::now();
    while who(&serving, &made.text).is_err() {
        assert!(begin.elapsed().as_secs() < 20);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // Also before it is seen, what one of them made the other can change.
    let second = serving.create(days(1), NOW).await.unwrap();
    command.delete(&second.key.id).await.unwrap();
    here.close().await;
    there.close().await;
}

/// The file is asked before the database, and both before the list: what one revokes, the next does not revive.
#[tokio::test]
async fn a_key_that_is_revoked_where_it_is_asked_first_is_revoked() {
    let store = Store::in_memory(NOW).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let none = List { keys: "", ids: "env_key" };
    let keys = Keys::new(none, file.clone());
    let keys = Arc::new(keys.stored_in(store.clone(), Place::Database).await.unwrap());
    let made = keys.create(days(1), NOW).await.unwrap();
    let listed = List { keys: &made.text, ids: "env_key" };
    keys.renew(listed);
    assert_eq!(who(&keys, &made.text).unwrap(), made.key.id, "the database's word counts");
    let revoked = json!({"keys": [{"key": made.text.as_str(), "key_id": "f", "enabled": false}]});
    std::fs::write(&file, revoked.to_string()).unwrap();
    keys.refresh().await;
    assert_eq!(who(&keys, &made.text), Err(KeyError::Invalid));
}
