//! The JSON API: the powers of the pages, for programs.

use serde_json::{Value, json};

use super::person::Person;
use crate::support::{Answer, Bench, K1, PASSWORD, get, post};

const JSON: &str = "Accept: application/json\r\n";

fn log_in(bench: &Bench, password: &str) -> Answer {
    bench.send(post("/admin/login", JSON, &json!({"password": password}).to_string()))
}

/// A program that is logged in.
struct Program<'a> {
    bench: &'a Bench,
    session: String,
}

impl<'a> Program<'a> {
    fn inside(bench: &'a Bench) -> Self {
        let session = log_in(bench, PASSWORD).json()["session"].as_str().unwrap().to_owned();
        Self { bench, session }
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.bench.send(format!(
            "{method} /admin/api/{path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.session,
            body.len()
        ))
    }
}

#[test]
fn a_program_logs_in_and_is_told_the_evidence() {
    let bench = Bench::new();
    let answer = log_in(&bench, PASSWORD);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("set-cookie").is_none(), "nothing for a browser to keep");
    assert_eq!(answer.json()["session"].as_str().unwrap().len(), 43);
    // With TLS_MODE=off there is nothing to prove.
    assert!(answer.json().as_object().unwrap().contains_key("attestation"));
    assert!(answer.json()["attestation"].is_null());
    // As the seed has it: a form, and JSON for an answer.
    let form = format!("password={PASSWORD}");
    let line = format!("{JSON}Content-Type: application/x-www-form-urlencoded\r\n");
    let answer = bench.send(format!(
        "POST /admin/login HTTP/1.1\r\nHost: h\r\n{line}Content-Length: {}\r\n\r\n{form}",
        form.len()
    ));
    assert_eq!(answer.status, 200, "{}", answer.text());
    for _ in 0..5 {
        let wrong = log_in(&bench, "wrong");
        assert_eq!(wrong.status, 401);
        assert_eq!(wrong.json()["error"]["code"], "invalid_password");
    }
    assert_eq!(log_in(&bench, PASSWORD).status, 429);
}

#[test]
fn without_a_session_nothing_is_told() {
    let bench = Bench::new();
    for path in ["keys", "session", "usage", "audit", "attestation", "settings/rate-limits", "x"] {
        let path = format!("/admin/api/{path}");
        for line in
            ["", "Authorization: Bearer wrong\r\n", &format!("Authorization: Bearer {K1}\r\n")]
        {
            let answer = bench.send(get(&path, line));
            assert_eq!(answer.status, 401, "{path}");
            assert_eq!(answer.json()["error"]["code"], "not_logged_in");
        }
    }
    assert!(bench.upstream.requests().is_empty());
}

#[test]
fn the_life_of_a_key_by_the_api() {
    let bench = Bench::new();
    let program = Program::inside(&bench);
    let made = program.send(
        "POST",
        "keys",
        &json!({"description": "By a program", "rate_limit": 50, "models": ["gpt-oss-120b"], "monthly_budget_eur": 2.5}),
    );
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let (id, key) = (made["key_id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(bench.chat(key).status, 200);
    let path = format!("keys/{id}");
    let read = program.send("GET", &path, &Value::Null).json();
    assert_eq!(read["monthly_budget_eur"], 2.5);
    assert_eq!((read["status"].as_str(), read.get("key")), (Some("active"), None));
    let changed = program.send("PATCH", &path, &json!({"rate_limit": null, "enabled": false}));
    assert_eq!(changed.status, 200);
    assert_eq!(
        (&changed.json()["rate_limit"], &changed.json()["status"]),
        (&Value::Null, &"revoked".into())
    );
    assert_eq!(bench.chat(key).status, 401);
    program.send("PATCH", &path, &json!({"enabled": true}));
    let rotated = program.send("POST", &format!("{path}/rotate"), &json!({"overlap_hours": 1}));
    assert_eq!(rotated.status, 201);
    assert_eq!(rotated.json()["rotated_from"], id);
    assert_eq!(bench.chat(rotated.json()["key"].as_str().unwrap()).status, 200);
    assert_eq!(bench.chat(key).status, 200);
    assert_eq!(program.send("DELETE", &path, &Value::Null).status, 204);
    assert_eq!(program.send("DELETE", &path, &Value::Null).status, 404);
    assert_eq!(bench.chat(key).status, 401);
    let all = program.send("GET", "keys", &Value::Null).json();
    assert_eq!(all["keys"].as_array().unwrap().len(), 5);
    let entries = program.send("GET", "audit", &Value::Null).json();
    let actions: Vec<_> = entries["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["action"].as_str().unwrap())
        .collect();
    for action in ["key.create", "key.revoke", "key.enable", "key.rotate", "key.delete", "login"] {
        assert!(actions.contains(&action), "{action}");
    }
    assert!(!entries.to_string().contains(key));
}

#[test]
fn what_cannot_be_is_named() {
    let bench = Bench::new();
    let program = Program::inside(&bench);
    for (method, path, body, status, code, param) in [
        ("POST", "keys", json!({"rate_limit": -1}), 400, "invalid_value", "rate_limit"),
        ("POST", "keys", json!({"expires_days": 99_999_999}), 400, "invalid_value", "expires_days"),
        ("POST", "keys", json!({"ratelimit": 1}), 400, "malformed_request", ""),
        ("POST", "keys", json!([1]), 400, "malformed_request", ""),
        ("PATCH", "keys/test_key_1", json!({"enabled": "no"}), 400, "invalid_value", "enabled"),
        ("PATCH", "keys/unknown", json!({}), 404, "key_not_found", ""),
        ("GET", "keys/unknown", Value::Null, 404, "key_not_found", ""),
        ("PUT", "keys", Value::Null, 405, "method_not_allowed", ""),
        ("GET", "nothing", Value::Null, 404, "not_found", ""),
        (
            "PUT",
            "settings/rate-limits",
            json!({"rate_limit_requests": 0}),
            400,
            "invalid_value",
            "rate_limit_requests",
        ),
    ] {
        let answer = program.send(method, path, &body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        let error = &answer.json()["error"];
        assert_eq!(error["code"], code, "{method} {path}");
        assert_eq!(error["param"].as_str().unwrap_or_default(), param, "{method} {path}");
    }
}

#[test]
fn settings_usage_and_the_end_of_a_session() {
    let bench = Bench::new();
    let program = Program::inside(&bench);
    let mut limits = program.send("GET", "settings/rate-limits", &Value::Null).json();
    assert_eq!(limits["ip_rate_limit_requests"], 1000);
    limits["rate_limit_requests"] = 3.into();
    assert_eq!(program.send("PUT", "settings/rate-limits", &limits).json(), limits);
    assert_eq!(bench.chat(K1).header("x-ratelimit-limit"), Some("3"));
    let usage = program.send("GET", "usage?period=all", &Value::Null).json();
    assert_eq!(usage["period"], "all");
    assert_eq!(program.send("DELETE", "session", &Value::Null).status, 204);
    assert_eq!(program.send("GET", "keys", &Value::Null).status, 401);
}

#[test]
fn a_browsers_cookie_needs_a_token_to_change_something() {
    let bench = Bench::new();
    let person = Person::inside(&bench);
    let cookie = person.cookie.unwrap();
    let send = |method: &str, path: &str, more: &str| {
        bench.send(format!(
            "{method} /admin/api/{path} HTTP/1.1\r\nHost: h\r\nCookie: admin_session={cookie}\r\n{more}Content-Length: 0\r\n\r\n"
        ))
    };
    assert_eq!(send("GET", "keys", "").status, 200);
    assert_eq!(send("DELETE", "keys/test_key_1", "").json()["error"]["code"], "invalid_csrf_token");
    let token = send("GET", "session", "").json()["csrf_token"].as_str().unwrap().to_owned();
    let line = format!("X-CSRF-Token: {token}\r\n");
    let other_site = format!("{line}Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(
        send("DELETE", "keys/test_key_1", &other_site).json()["error"]["code"],
        "other_site"
    );
    assert_eq!(send("DELETE", "keys/test_key_1", &line).status, 204);
    assert_eq!(send("DELETE", "keys/test_key_2", &line).status, 403, "once");
    assert_eq!(bench.chat(K1).status, 401);
}
