//! D: what the holder of a key is told about it.

use serde_json::{Value, json};

use crate::support::{Answer, Bench, K1, K2, get, hash, now};

fn info(bench: &Bench, key: &str) -> Answer {
    bench.send(get("/auth/key-info", &format!("Authorization: Bearer {key}\r\n")))
}

#[test]
fn case_030_the_members_that_todays_clients_read() {
    let bench = Bench::new();
    let answer = info(&bench, K1);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let info = answer.json();
    assert_eq!(info["key_id"], "test_key_1");
    assert_eq!(info["created_at"], 1_700_000_000);
    assert_eq!(info["description"], "Test key 1");
    for absent in ["expires_at", "rate_limit"] {
        assert_eq!(info.get(absent), Some(&Value::Null), "{absent}");
    }
    let text = answer.text();
    assert!(!text.contains("key_hash") && !text.contains(&hash(K1)) && !text.contains(K1));
    assert!(bench.upstream.requests().is_empty());
}

#[test]
fn case_031_032_only_with_a_good_key() {
    let bench = Bench::new();
    assert_eq!(info(&bench, "bad").status, 401);
    assert_eq!(bench.send(get("/auth/key-info", "")).status, 401);
    let post = "POST /auth/key-info HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(bench.send(post).status, 405);
    assert_eq!(bench.send(get("/auth/key-infos", "")).status, 404);
    assert!(bench.upstream.requests().is_empty());
}

#[test]
fn case_033_a_key_with_a_limit_and_what_is_left_of_it() {
    let bench = Bench::new();
    let answer = info(&bench, K2);
    assert_eq!(answer.json()["rate_limit"], 5);
    assert_eq!(answer.header("x-ratelimit-limit"), Some("5"));
    assert_eq!(answer.header("x-ratelimit-remaining"), Some("4"), "it counts");
    assert_eq!(bench.chat(K2).header("x-ratelimit-remaining"), Some("3"));
    let requests = &info(&bench, K2).json()["limits"]["requests"];
    assert_eq!(requests["remaining"], 2);
    let reset = requests["reset"].as_u64().unwrap();
    assert!((now()..=now() + 61).contains(&reset), "{reset}");
    for _ in 0..2 {
        assert_eq!(info(&bench, K2).status, 200);
    }
    assert_eq!(info(&bench, K2).status, 429);
}

/// Beyond the reference: everything that a key's holder may want to know of it.
#[test]
fn limits_budget_models_and_owner_are_told() {
    let bench = Bench::new();
    let key = "pm_with-everything";
    let entry = json!({
        "key_id": "all", "key_hash": hash(key), "created_at": 1_700_000_000.5, "owner": "Ada",
        "expires_at": now() + 3600, "tokens_per_minute": 60_000, "monthly_budget_eur": 12.5,
        "models": ["gpt-oss-120b"],
    });
    bench.write("api_keys.json", &json!({"keys": [entry]}).to_string());
    let answer = info(&bench, key);
    let info = answer.json();
    assert_eq!(info["owner"], "Ada");
    assert_eq!(info["created_at"], 1_700_000_000.5);
    assert!(info["expires_at"].as_u64().unwrap() > now());
    let limits = &info["limits"];
    assert_eq!(limits["tokens"]["limit"], 60_000);
    assert_eq!(limits["tokens"]["remaining"], 60_000);
    assert_eq!(limits["models"], json!(["gpt-oss-120b"]));
    let budget = &limits["monthly_budget"];
    assert_eq!((&budget["eur"], &budget["remaining_eur"]), (&json!(12.5), &json!(12.5)));
    assert!(budget["reset"].as_u64().unwrap() > now());
    assert_eq!(info["usage"]["requests"], 0);
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), Some("60000"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}
