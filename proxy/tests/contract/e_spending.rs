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
    let chunk = r#"data: {"model":"gpt-oss-120b","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":4000,"total_tokens":5000}}"#;
    let events = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"hi\"}}}}]}}\n\n{chunk}\n\ndata: [DONE]\n\n"
    );
    let head = "HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\n";
    bench.upstream.answers(format!("{head}Content-Length: {}\r\n\r\n{events}", events.len()));
    let key = format!("X-API-Key: {KEY}\r\n");
    let body = r#"{"model":"gpt-oss-120b","stream":true,"messages":[]}"#;
    assert_eq!(bench.send(post("/v1/chat/completions", &key, body)).status, 200);
    assert_eq!(settled(&bench, 1)["limits"]["tokens"]["remaining"], 0);
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
    // Room for what is set aside for one call that says no length (0.02054 EUR), and not for two.
    let bench = start(&json!({"monthly_budget_eur": 0.04}));
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

/// While a call is in flight, what its request asks for is set aside, and no more: whoever asks for what is left gets it.
#[test]
fn what_a_request_asks_for_is_set_aside_until_it_ends() {
    let bench = start(&json!({"tokens_per_minute": 10_000}));
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    bench.upstream.does(move |got, stream| {
        if got.body.ends_with(b"\"n\":3}") {
            let _ = held.lock().unwrap().recv_timeout(Duration::from_secs(20));
        }
        crate::support::write(stream, used(100))
    });
    let key = format!("X-API-Key: {KEY}\r\n");
    let asks = |rest: &str| {
        let body = format!(r#"{{"model":"gpt-oss-120b","messages":[]{rest}}}"#);
        post("/v1/chat/completions", &key, &body)
    };
    let mut first = bench.connect();
    first.write(asks(r#","max_tokens":3000,"n":3"#));
    let begin = Instant::now();
    while bench.upstream.requests().is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    let remaining = || info(&bench)["limits"]["tokens"]["remaining"].as_u64().unwrap();
    assert!((900..1000).contains(&remaining()), "{}", remaining());
    for too_much in
        ["", r#","max_tokens":990"#, r#","max_completion_tokens":500,"n":2"#, r#","n":-1"#]
    {
        let refused = bench.send(asks(too_much));
        assert_eq!(refused.status, 429, "{too_much}");
        assert_eq!(refused.json()["error"]["type"], "tokens");
        assert_eq!(refused.header("retry-after"), Some("1"));
        let left = refused.header("x-ratelimit-remaining-tokens").unwrap();
        assert!((900..1000).contains(&left.parse::<u64>().unwrap()), "{left}");
    }
    assert_eq!(bench.send(asks(r#","max_tokens":800"#)).status, 200, "it fits");
    release.send(()).unwrap();
    assert_eq!(first.answer(false).status, 200);
    settled(&bench, 2);
    assert_eq!(remaining(), 9800);
    // Alone, it may ask for more than there is.
    for absurd in ["1e999", "99999999999999999999999999", "-5", "1.5", "\"many\"", "[]"] {
        assert_eq!(bench.send(asks(&format!(",\"max_tokens\":{absurd}"))).status, 200, "{absurd}");
    }
    let twice = bench.send(asks(r#","max_tokens":1,"max_tokens":100000"#));
    assert_eq!((twice.status, twice.message().contains("max_tokens")), (400, true));
}

/// Who says late what is asked for is not set aside for less.
#[test]
fn what_is_asked_for_behind_the_beginning_is_refused_or_was_set_aside() {
    let bench = start(&json!({"monthly_budget_eur": 10.0}));
    bench.upstream.answers(used(1));
    let blanks = " ".repeat(300 * 1024);
    let late = |member: &str| {
        let body = format!("{{\"model\":\"gpt-oss-120b\",\"messages\":[]{blanks}{member}}}");
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
             X-API-Key: {KEY}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        bench.send(format!("{head}{body}"))
    };
    let refused = late(",\"n\":128");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("before what is long"), "{}", refused.text());
    assert_eq!(late(",\"max_tokens\":131072").status, 200, "the longest was set aside");
    assert_eq!(late("").status, 200);
}

/// Each prompt of a list is answered: so much is set aside, and a list that goes on behind the beginning is refused.
#[test]
fn every_prompt_of_a_list_is_set_aside() {
    let bench = start(&json!({"tokens_per_minute": 10_000}));
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    bench.upstream.does(move |got, stream| {
        if got.body.starts_with(b"{\"held") {
            let _ = held.lock().unwrap().recv_timeout(Duration::from_secs(20));
        }
        crate::support::write(stream, used(100))
    });
    let key = format!("X-API-Key: {KEY}\r\n");
    let asks = |begin: &str, prompts: &str| {
        let rest = r#""model":"gpt-oss-120b","max_tokens":1000"#;
        post("/v1/completions", &key, &format!("{{{begin}{rest},\"prompt\":{prompts}}}"))
    };
    let mut first = bench.connect();
    first.write(asks("\"held\":1,", r#"["a","b","c","d","e","f","g","h"]"#));
    let begin = Instant::now();
    while bench.upstream.requests().is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    let remaining = || info(&bench)["limits"]["tokens"]["remaining"].as_u64().unwrap();
    assert!((1900..2000).contains(&remaining()), "{}", remaining());
    for too_much in [r#"["a","b"]"#, "[[1,2],[3]]"] {
        assert_eq!(bench.send(asks("", too_much)).status, 429, "{too_much}");
    }
    for fits in [r#""a""#, r#"["a"]"#, "[1,2,3]", "[[1,2,3]]"] {
        let answer = bench.send(asks("", fits));
        assert_eq!(answer.status, 200, "{fits}: {}", answer.text());
    }
    release.send(()).unwrap();
    assert_eq!(first.answer(false).status, 200);

    let bench = start(&json!({"monthly_budget_eur": 10.0}));
    bench.upstream.answers(used(1));
    let long = format!(r#"["{}","and one more"]"#, "x".repeat(300 * 1024));
    let refused = bench.send(asks("", &long));
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("in several requests"), "{}", refused.text());
    let alone = format!(r#"["{}"]"#, "x".repeat(300 * 1024));
    assert_eq!(bench.send(asks("", &alone)).status, 200);
}
