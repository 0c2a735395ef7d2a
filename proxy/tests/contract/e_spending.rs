//! Beyond E: tokens and money of a key, counted when calls end, whatever their answers look like.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, Bench, chat, get, hash, post};

const KEY: &str = "pm_of-the-spender";

fn start(limits: &Value) -> Bench {
    let bench = Bench::new();
    let mut entry = json!({"key_id": "spender", "key_hash": hash(KEY)});
    for (name, value) in limits.as_object().unwrap() {
        entry[name] = value.clone();
    }
    bench.write("api_keys.json", &json!({"keys": [entry]}).to_string());
    bench
}

fn ask(bench: &Bench) -> Answer {
    bench.chat(KEY)
}

fn info(bench: &Bench) -> Value {
    bench.send(get("/auth/key-info", &format!("X-API-Key: {KEY}\r\n"))).json()
}

/// Calls are settled with their last byte, which may reach this client first.
fn settled(bench: &Bench, requests: u64) -> Value {
    let begin = Instant::now();
    loop {
        let info = info(bench);
        if info["usage"]["requests"] == requests {
            return info;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{info}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn used(tokens: u64) -> String {
    let body = json!({"model": "gpt-oss-120b", "choices": [], "usage": {
        "prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens,
    }});
    let body = body.to_string();
    format!(
        "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn what_a_call_used_counts_against_the_tokens_of_its_key() {
    let bench = start(&json!({"tokens_per_minute": 5000}));
    bench.upstream.answers(used(3000));
    assert_eq!(ask(&bench).status, 200);
    let tokens = settled(&bench, 1)["limits"]["tokens"].clone();
    assert_eq!((&tokens["limit"], &tokens["remaining"]), (&json!(5000), &json!(2000)));
    assert_eq!(ask(&bench).status, 200);
    settled(&bench, 2);
    let refused = ask(&bench);
    assert_eq!((refused.status, refused.json()["error"]["type"].as_str()), (429, Some("tokens")));
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some("0"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    // What takes no tokens is not held.
    assert_eq!(bench.send(get("/v1/models", &format!("X-API-Key: {KEY}\r\n"))).status, 200);
}

#[test]
fn a_streamed_answer_counts_as_well() {
    let bench = start(&json!({"tokens_per_minute": 5000}));
    let chunk = r#"data: {"model":"gpt-oss-120b","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":3500,"total_tokens":4500}}"#;
    let events = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"hi\"}}}}]}}\n\n{chunk}\n\ndata: [DONE]\n\n"
    );
    let head = "HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n";
    bench.upstream.answers(format!("{head}Content-Length: {}\r\n\r\n{events}", events.len()));
    let key = format!("X-API-Key: {KEY}\r\n");
    let body = r#"{"model":"gpt-oss-120b","stream":true,"messages":[]}"#;
    assert_eq!(bench.send(post("/v1/chat/completions", &key, body)).status, 200);
    assert_eq!(settled(&bench, 1)["limits"]["tokens"]["remaining"], 500);
    assert_eq!(ask(&bench).status, 429);
}

#[test]
fn what_a_call_cost_counts_against_the_budget_of_its_key() {
    // A call of the default answer costs 0.00015 EUR.
    let bench = start(&json!({"monthly_budget_eur": 0.0002}));
    for n in 1..=2 {
        assert_eq!(ask(&bench).status, 200, "{n}");
        settled(&bench, n);
    }
    for request in [
        chat(&format!("X-API-Key: {KEY}\r\n")),
        get("/v1/models", &format!("X-API-Key: {KEY}\r\n")),
    ] {
        let refused = bench.send(request);
        assert_eq!(refused.status, 429);
        assert_eq!(refused.json()["error"]["code"], "insufficient_quota");
    }
    let info = info(&bench);
    let budget = &info["limits"]["monthly_budget"];
    assert_eq!((&budget["spent_eur"], &budget["remaining_eur"]), (&json!(0.0003), &json!(0.0)));
    assert_eq!(
        (&info["usage"]["total_tokens"], &info["usage"]["cost_eur"]),
        (&json!(60), &json!(0.0003))
    );
    assert_eq!(bench.upstream.requests().len(), 2);
}

/// Who asks many times at once cannot spend what is there many times.
#[test]
fn a_budget_is_not_passed_by_asking_all_at_once() {
    // Room for what is set aside for one call (0.00518 EUR), and not for two.
    let bench = start(&json!({"monthly_budget_eur": 0.009}));
    let both = std::sync::Arc::new(std::sync::Barrier::new(2));
    let release = both.clone();
    bench.upstream.does(move |_, stream| {
        release.wait();
        crate::support::write(stream, used(1))
    });
    let mut first = bench.connect();
    first.write(chat(&format!("X-API-Key: {KEY}\r\n")));
    let begin = Instant::now();
    while bench.upstream.requests().is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..20 {
        assert_eq!(ask(&bench).status, 429);
    }
    both.wait();
    assert_eq!(first.answer(false).status, 200);
    assert_eq!(bench.upstream.requests().len(), 1);
    settled(&bench, 1);
    bench.upstream.answers(used(1));
    assert_eq!(ask(&bench).status, 200);
}
