//! C: where keys come from, and that changes hold at once.

use serde_json::{Value, json};

use crate::support::{Bench, K1, Setup, get, hash};

const N: &str = "pm_another-key-of-the-tests";

fn file(entries: &[Value]) -> String {
    json!({"keys": entries}).to_string()
}

fn entry(key: &str) -> Value {
    json!({"key_id": "n", "key_hash": hash(key), "created_at": 1_700_000_000})
}

fn status(bench: &Bench, key: &str) -> u16 {
    bench.chat(key).status
}

#[test]
fn case_018_another_file_holds_at_once() {
    let bench = Bench::new();
    assert_eq!((status(&bench, K1), status(&bench, N)), (200, 401));
    bench.write("api_keys.json", &file(&[entry(N)]));
    assert_eq!((status(&bench, K1), status(&bench, N)), (401, 200));
}

#[test]
fn case_019_without_any_key_it_runs_and_refuses() {
    let bench = Setup::new().no_file("api_keys.json").start();
    assert_eq!(status(&bench, K1), 401);
    assert_eq!(bench.send(get("/health", "")).status, 200);
    bench.write("api_keys.json", &file(&[entry(N)]));
    assert_eq!(status(&bench, N), 200);
}

#[test]
fn case_020_keys_of_the_environment() {
    let bench =
        Setup::new().no_file("api_keys.json").set("API_KEYS", " pm_env_1 , ,pm_env_2").start();
    for (key, id) in [("pm_env_1", "env_key_0"), ("pm_env_2", "env_key_2")] {
        assert_eq!(status(&bench, key), 200);
        let info = bench.send(get("/auth/key-info", &format!("X-API-Key: {key}\r\n"))).json();
        assert_eq!(info["key_id"], id);
        assert_eq!(info["description"], "From API_KEYS environment variable");
        assert!(info["created_at"].is_null() || info["created_at"].is_number());
    }
}

#[test]
fn case_021_022_forms_of_an_entry() {
    let bench = Bench::new();
    let info = |key: &str| bench.send(get("/auth/key-info", &format!("X-API-Key: {key}\r\n")));
    bench.write("api_keys.json", &file(&[json!({"key": N}), json!({"description": "neither"})]));
    let answer = info(N);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["key_id"], hash(N)[..8]);
    assert_eq!(answer.json()["description"], "");
    for (member, value, holds) in [
        ("expires_at", json!(0), true),
        ("expires_at", json!(null), true),
        ("expires_at", json!(1), false),
        ("enabled", json!(0), false),
        ("enabled", json!(false), false),
    ] {
        let mut entry = entry(N);
        entry[member] = value.clone();
        bench.write("api_keys.json", &file(&[entry]));
        assert_eq!(status(&bench, N) == 200, holds, "{member} {value}");
    }
}

#[test]
fn case_023_024_a_file_that_cannot_be_used_changes_nothing() {
    let bench = Bench::new();
    assert_eq!(status(&bench, K1), 200);
    for broken in ["{", "[]", r#"{"keys":[null]}"#, r#"{"keys":{}}"#, "null", ""] {
        bench.write("api_keys.json", broken);
        assert_eq!(status(&bench, K1), 200, "{broken}");
    }
}

#[test]
fn case_025_an_older_file_is_another_file() {
    let bench = Bench::new();
    assert_eq!(status(&bench, K1), 200);
    let older = bench.path("older.json");
    std::fs::write(&older, file(&[entry(N)])).unwrap();
    let opened = std::fs::File::options().write(true).open(&older).unwrap();
    opened.set_modified(std::time::UNIX_EPOCH).unwrap();
    std::fs::rename(older, bench.path("api_keys.json")).unwrap();
    assert_eq!((status(&bench, K1), status(&bench, N)), (401, 200));
}

/// A file that is gone revokes what was in it.
#[test]
fn case_026_a_deleted_file_revokes_its_keys() {
    let bench = Setup::new().set("API_KEYS", N).start();
    assert_eq!(status(&bench, K1), 200);
    std::fs::remove_file(bench.path("api_keys.json")).unwrap();
    assert_eq!((status(&bench, K1), status(&bench, N)), (401, 200));
}

#[test]
fn case_027_keys_of_both_are_good() {
    let bench = Setup::new().set("API_KEYS", N).start();
    assert_eq!((status(&bench, K1), status(&bench, N)), (200, 200));
}

#[test]
fn case_028_upper_case_digits_and_dates_that_are_none() {
    let bench = Bench::new();
    let mut upper = entry(N);
    upper["key_hash"] = json!(hash(N).to_uppercase());
    bench.write("api_keys.json", &file(&[upper]));
    assert_eq!(status(&bench, N), 200);
    let mut dated = entry(N);
    dated["expires_at"] = json!("2030-01-01");
    bench.write("api_keys.json", &file(&[dated]));
    assert_eq!(status(&bench, N), 401);
}
