//! J: the command line, beside a proxy that runs, over the keys file and over the database.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Bench, K1, K2, Setup, hash, now};

/// A successful command's output.
fn run(bench: &Bench, arguments: &[&str]) -> String {
    let (code, out, err) = bench.process.command(arguments);
    assert_eq!(code, 0, "{arguments:?}: {err}");
    out
}

/// The id and the key that a command shows.
fn shown(out: &str) -> (String, String) {
    let after = |name: &str| {
        let line = out.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    (after("Key ID:"), after("API Key:"))
}

fn entry(bench: &Bench, id: &str) -> Value {
    let text = std::fs::read_to_string(bench.path("api_keys.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let entries = document.get("keys").and_then(Value::as_array).unwrap();
    entries
        .iter()
        .find(|entry| entry.get("key_id").is_some_and(|held| held == id))
        .cloned()
        .unwrap_or_default()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whoever can write the keys file must not reach the operator's terminal by it.
#[test]
fn a_hostile_keys_file_does_nothing_to_a_terminal() {
    let bench = Bench::new();
    let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\r\u{202e}x\nkey_0 active";
    let entry = serde_json::json!({"key_id": evil, "key_hash": hash("k"), "description": evil});
    bench.write("api_keys.json", &serde_json::json!({"keys": [entry]}).to_string());
    for command in ["list", "export"] {
        let out = run(&bench, &["keys", command]);
        let obeyed = |one: char| (one.is_control() && one != '\n') || one == '\u{202e}';
        assert!(!out.contains(obeyed), "{out:?}");
        assert!(!out.contains("\nkey_0 active"), "{out:?}");
    }
    let exported: Value = serde_json::from_str(&run(&bench, &["keys", "export"])).unwrap();
    assert_eq!(exported["keys"][0]["key_id"], evil, "and it means the same");
}

#[test]
fn case_029_114_a_key_lives_from_generate_to_delete_and_the_proxy_sees_each_step() {
    let bench = Bench::new();
    let begin = now();
    let out = run(&bench, &["keys", "generate", "-d", "a laptop", "-e", "30", "-r", "50"]);
    let (id, key) = shown(&out);
    assert!(key.starts_with("pm_") && key.len() == 46, "{key}");
    assert!(id.starts_with("key_") && id.len() == 12, "{id}");
    let held = entry(&bench, &id);
    assert_eq!(held["key_hash"], hash(&key));
    assert!(held.get("key").is_none(), "only its hash is kept");
    assert_eq!((&held["enabled"], &held["description"]), (&true.into(), &"a laptop".into()));
    assert_eq!(held["rate_limit"], 50);
    let expires = held["expires_at"].as_u64().unwrap();
    assert!((begin + 30 * 86_400..=now() + 30 * 86_400).contains(&expires), "case 29");
    assert_eq!(bench.chat(&key).status, 200);

    assert!(run(&bench, &["keys", "list"]).contains(&id));
    run(&bench, &["keys", "revoke", &id]);
    assert_eq!(bench.chat(&key).status, 401);
    assert!(entry(&bench, &id)["revoked_at"].is_number());
    run(&bench, &["keys", "enable", &id]);
    assert_eq!(bench.chat(&key).status, 200);
    run(
        &bench,
        &["keys", "set", &id, "--rate-limit", "none", "--note", "n", "--monthly-budget", "2.5"],
    );
    let held = entry(&bench, &id);
    assert!(held.get("rate_limit").is_none() && held["monthly_budget_eur"] == 2.5);
    run(&bench, &["keys", "delete", &id]);
    assert_eq!(bench.chat(&key).status, 401);
    assert!(entry(&bench, &id).is_null());
    assert_eq!(bench.chat(K1).status, 200, "others are not touched");
}

#[test]
fn case_114_unknown_ids_and_values_that_cannot_be_taken() {
    let bench = Bench::new();
    for command in ["revoke", "rotate", "delete", "enable"] {
        let (code, _, err) = bench.process.command(&["keys", command, "key_nobody"]);
        assert_eq!(
            (code, err.as_str()),
            (1, "Error: Key ID 'key_nobody' not found.\n"),
            "{command}"
        );
    }
    let before = std::fs::read(bench.path("api_keys.json")).unwrap();
    for wrong in [
        &["keys", "generate", "-e", "99999999"][..],
        &["keys", "generate", "-e", "0"],
        &["keys", "generate", "-r", "0"],
        &["keys", "set", "test_key_1", "--monthly-budget", "-1"],
        &["keys", "set", "test_key_1", "--models", ""],
    ] {
        let (code, out, err) = bench.process.command(wrong);
        assert!(code == 1 || code == 2, "{wrong:?}: {code}");
        assert!(out.is_empty() && !err.is_empty(), "{wrong:?}");
    }
    for wrong in [&["keys", "generate", "-e", "-1"][..], &["keys", "nothing"], &["keys"]] {
        assert_eq!(bench.process.command(wrong).0, 2, "{wrong:?}");
    }
    assert_eq!(std::fs::read(bench.path("api_keys.json")).unwrap(), before);
}

#[test]
fn case_114_115_rotate_at_once_or_with_a_time_of_grace() {
    let bench = Bench::new();
    let (second, key) = shown(&run(&bench, &["keys", "rotate", "test_key_2"]));
    assert_eq!(bench.chat(K2).status, 401);
    assert_eq!(bench.chat(&key).status, 200);
    let (old, new) = (entry(&bench, "test_key_2"), entry(&bench, &second));
    assert!(old["revoked_at"].is_number() && old["rotated_to"] == second.as_str());
    assert_eq!(new["rotated_from"], "test_key_2");
    assert_eq!(new["description"], "Test key 2 (rotated)");
    assert_eq!(new["rate_limit"], 5);

    let (third, key) =
        shown(&run(&bench, &["keys", "rotate", "test_key_1", "--grace", "3600", "-e", "7"]));
    assert_eq!(bench.chat(K1).status, 200, "for another hour");
    assert_eq!(bench.chat(&key).status, 200);
    let ends = entry(&bench, "test_key_1")["expires_at"].as_u64().unwrap();
    assert!((now() + 3500..now() + 3700).contains(&ends));
    assert!(entry(&bench, &third)["expires_at"].is_number());
}

#[test]
fn case_112_the_keys_file_is_for_one_user_and_replaced_as_a_whole() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let bench = Bench::new();
    let path = bench.path("api_keys.json");
    let before = std::fs::metadata(&path).unwrap().ino();
    run(&bench, &["keys", "generate"]);
    let meta = std::fs::metadata(&path).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert_ne!(meta.ino(), before, "another file took its place");
    for name in ["proxy.db", "proxy.db-wal", "proxy.db.key"] {
        let mode = std::fs::metadata(bench.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// Without a keys file that is named, keys live in the database: both processes write to it.
#[test]
fn keys_of_the_database_are_made_beside_a_proxy_that_runs() {
    let mut bench = Setup::new().unset("API_KEYS_FILE").start();
    let (id, key) = shown(&run(&bench, &["keys", "generate", "-d", "kept"]));
    until("it is never seen", || bench.chat(&key).status == 200);
    run(&bench, &["keys", "import", &bench.path("api_keys.json").display().to_string()]);
    until("what was brought in is never seen", || bench.chat(K1).status == 200);
    let out = run(&bench, &["keys", "export"]);
    let exported: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(exported["keys"].as_array().unwrap().len(), 5);
    assert!(!out.contains(&key) && !out.contains(K1));
    bench.restart();
    assert_eq!(bench.chat(&key).status, 200);
    run(&bench, &["keys", "revoke", &id]);
    until("it is never revoked", || bench.chat(&key).status == 401);
}
