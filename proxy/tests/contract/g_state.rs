//! G: what outlives the process: usage on the disk, files of the proxy before this one, copies, kills and refusals.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{Bench, Connection, K1, Setup, chat};

fn exported(bench: &Bench) -> Vec<Value> {
    let (code, out, err) = bench.process.command(&["usage", "export"]);
    assert_eq!(code, 0, "{err}");
    let document: Value = serde_json::from_str(&out).unwrap();
    document.get("records").and_then(Value::as_array).unwrap().clone()
}

fn sum(records: &[Value], name: &str) -> u64 {
    records.iter().map(|record| record[name].as_u64().unwrap()).sum()
}

#[test]
fn case_078_117_what_was_counted_is_there_after_a_stop_and_a_start() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        assert_eq!(bench.chat(K1).status, 200);
    }
    assert_eq!(bench.process.stop(), 0);
    for _ in 0..2 {
        let records = exported(&bench);
        assert_eq!(records.len(), 3);
        assert_eq!(records[0]["key_id"], "test_key_1");
        assert_eq!(records[0]["endpoint"], "chat");
        assert_eq!(sum(&records, "total_tokens"), 90);
        bench.restart();
    }
    let (_, epoch, _) = bench.process.command(&["state", "epoch"]);
    assert_eq!(epoch, "3\n", "three starts");
}

#[test]
fn case_084_a_damaged_usage_file_is_kept_aside_and_a_whole_one_brought_in_once() {
    let record = json!({"timestamp": 1_790_000_000, "key_id": "k", "model": "gpt-oss-120b", "endpoint": "chat",
        "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "audio_bytes": 0, "cost_eur": 0.000015});
    let whole = json!({"records": [record, record]}).to_string();
    let mut bench = Setup::new().file("usage.json", &whole).start();
    assert_eq!(exported(&bench).len(), 2);
    bench.restart();
    assert_eq!(exported(&bench).len(), 2, "once");
    let cut = &whole[..whole.len() / 2];
    bench.write("usage.json", cut);
    bench.restart();
    assert_eq!(std::fs::read_to_string(bench.path("usage.json.damaged")).unwrap(), cut);
    assert!(bench.process.written().contains("the usage file is damaged and kept aside"));
    assert_eq!(exported(&bench).len(), 2);
}

#[test]
fn nothing_of_keys_and_usage_stands_in_a_file_in_clear() {
    let bench = Setup::new().unset("API_KEYS_FILE").no_file("api_keys.json").start();
    let canary = "canary-of-a-description";
    let (_, out, _) = bench.process.command(&["keys", "generate", "-d", canary]);
    let key = out.lines().find_map(|line| line.trim().strip_prefix("API Key:")).unwrap().trim();
    for entry in std::fs::read_dir(bench.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let content = std::fs::read(&path).unwrap();
        for secret in [canary, key, "key_hash", "CREATE TABLE"] {
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} stands in {}", path.display());
        }
    }
}

#[test]
fn an_altered_database_is_refused_kept_and_replaced_by_a_backup() {
    let mut bench = Bench::new();
    let copy = bench.path("copy.db").display().to_string();
    assert_eq!(bench.process.command(&["state", "backup", &copy]).0, 0, "while it runs");
    assert_eq!(bench.process.command(&["state", "check"]).0, 0);
    let (code, _, err) = bench.process.command(&["state", "restore", &copy]);
    assert!(code == 1 && err.contains("another process"), "not while it runs: {err}");
    bench.process.stop();
    let path = bench.path("proxy.db");
    let mut altered = std::fs::read(&path).unwrap();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    std::fs::write(&path, &altered).unwrap();

    let (code, _, err) = bench.process.command(&["state", "check"]);
    assert!(code == 1 && err.contains("altered"), "{err}");
    let (code, _, err) = bench.process.command(&[]);
    assert!(code == 1 && err.contains("Restore a backup"), "{err}");
    assert!(std::fs::read(&path).unwrap() == altered, "it is left as it is");

    let (code, _, err) = bench.process.command(&["state", "restore", &copy]);
    assert_eq!(code, 0, "{err}");
    bench.restart();
    assert_eq!(bench.chat(K1).status, 200);
}

/// What a new version's start meets: the old one still answers, and lets go when it stops.
#[test]
fn the_next_proxy_waits_until_the_one_before_has_let_go_of_the_database() {
    let mut bench = Bench::new();
    assert_eq!(bench.chat(K1).status, 200);
    let folder = bench.path("next");
    std::fs::create_dir(&folder).unwrap();
    let next = std::thread::spawn(bench.process.successor(&folder));
    let begin = std::time::Instant::now();
    let waits = || {
        let written = std::fs::read_to_string(folder.join("output.log")).unwrap_or_default();
        written.contains("waiting for another proxy to let go of the state")
    };
    while !waits() {
        assert!(begin.elapsed() < std::time::Duration::from_secs(20));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(bench.chat(K1).status, 200, "nobody is disturbed");
    assert_eq!(bench.process.stop(), 0);
    let next = next.join().unwrap();
    assert_eq!(exported(&bench).len(), 2, "both are in the books that it goes on with");
    let chat = chat(&format!("Authorization: Bearer {K1}\r\n"));
    assert_eq!(Connection::open(next.port).send(chat).status, 200);
}

#[test]
fn a_key_or_folder_that_is_missing_is_refused_with_what_to_do() {
    let mut bench = Bench::new();
    bench.process.stop();
    std::fs::remove_file(bench.path("proxy.db.key")).unwrap();
    let (code, _, err) = bench.process.command(&[]);
    assert!(code == 1 && err.contains("has lost its key"), "{err}");
    let (code, err) = Setup::new().set("PROXY_STATE", "/no/such/folder/proxy.db").refused();
    assert!(code == 1 && err.contains("PROXY_STATE=memory"), "{err}");
    let (code, err) = Setup::new().set("PROXY_STATE", "relative").refused();
    assert!(code == 64 && err.contains("PROXY_STATE: "), "{err}");
}

/// A total that the server does not say, or says as nothing beside its parts, is their sum.
#[test]
fn case_077_a_total_that_is_missing_is_the_sum() {
    let bench = Bench::new();
    for usage in [
        json!({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 0}),
        json!({"prompt_tokens": 10, "completion_tokens": 20}),
        json!({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": null}),
    ] {
        let body = json!({"model": "gpt-oss-120b", "usage": usage}).to_string();
        bench.upstream.answers(crate::support::json(200, "", &body));
        assert_eq!(bench.chat(K1).status, 200);
    }
    bench.upstream.answers(crate::support::json(200, "", r#"{"usage":{"total_tokens":0}}"#));
    assert_eq!(bench.chat(K1).status, 200);
    let key = format!("X-API-Key: {K1}\r\n");
    let info = || bench.send(crate::support::get("/auth/key-info", &key)).json();
    let begin = std::time::Instant::now();
    while info()["usage"]["requests"] != 4 {
        assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{}", info());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(info()["usage"]["total_tokens"], 90);
}

/// How long each writing took that waited for the disk: what a commit of the proxy may have to wait for as well.
fn slowest_write(folder: &Path, stop: &AtomicBool) -> std::time::Duration {
    use std::io::Write as _;
    let mut file = std::fs::File::create(folder.join("probe")).unwrap();
    let mut slowest = std::time::Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let begin = std::time::Instant::now();
        file.write_all(&[0; 4096]).unwrap();
        file.sync_all().unwrap();
        slowest = slowest.max(begin.elapsed());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    slowest
}

/// Killed without warning, again and again: nothing is counted twice, and what was answered longer ago than the ledger's
/// bound is there. The bound counts on a disk that writes at once: what this one takes longer is measured beside it. (A
/// commit waits for it three times at most: for its log, and if that is full, for log and database.)
#[test]
fn killed_under_load_it_loses_no_more_than_the_bound_and_counts_nothing_twice() {
    const BOUND: std::time::Duration = std::time::Duration::from_secs(1);
    let unlimited = r#"{"rate_limit_requests":1000000000,"ip_rate_limit_requests":1000000000}"#;
    let mut bench = Setup::new().file("settings.json", unlimited).start();
    let (mut least, mut most) = (0, 0);
    for _ in 0..2 {
        let port = bench.process.port;
        let stop = AtomicBool::new(false);
        let sent = AtomicUsize::new(0);
        let answered = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let disk = scope.spawn(|| slowest_write(bench.folder.path(), &stop));
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        sent.fetch_add(1, Ordering::Relaxed);
                        // The kill ends the connection in the middle of whatever it is.
                        let once = std::panic::catch_unwind(|| {
                            let mut connection = Connection::open(port);
                            connection.send(chat(&format!("Authorization: Bearer {K1}\r\n"))).status
                        });
                        match once {
                            Ok(200) => answered.lock().unwrap().push(std::time::Instant::now()),
                            Ok(status) => panic!("{status}"),
                            Err(_) => return,
                        }
                    }
                });
            }
            std::thread::sleep(BOUND * 3);
            bench.process.kill();
            let killed = std::time::Instant::now();
            stop.store(true, Ordering::Relaxed);
            let bound = BOUND + disk.join().unwrap() * 3;
            let answered = answered.lock().unwrap();
            least += answered.iter().filter(|at| killed.duration_since(**at) > bound).count();
        });
        most += sent.load(Ordering::Relaxed);
        bench.restart();
        let counted = exported(&bench).len();
        assert!((least..=most).contains(&counted), "{counted} of {least} to {most}");
        // What is there now was not lost, and stays.
        (least, most) = (counted, counted);
    }
    assert!(least > 0 && Path::new(&bench.path("proxy.db")).exists());
}
