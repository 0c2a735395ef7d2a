//! Cases 101 to 104, 108, 112: the life of a key, by forms.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::person::{Person, token_of};
use crate::support::{Bench, K1, K2, Setup, now};

fn file(bench: &Bench) -> Value {
    serde_json::from_slice(&std::fs::read(bench.path("api_keys.json")).unwrap()).unwrap()
}

fn entry(bench: &Bench, id: &str) -> Option<Value> {
    let file = file(bench);
    let keys = file["keys"].as_array().unwrap();
    keys.iter().find(|key| key["key_id"] == id).cloned()
}

/// The key that a page shows.
fn shown(page: &str) -> Option<String> {
    let rest = page.split_once("<code>pm_")?.1;
    let key = format!("pm_{}", rest.split_once('<')?.0);
    (key.len() == 46).then_some(key)
}

/// Makes a key: its id and its text.
fn generate(person: &Person<'_>, fields: &[(&str, &str)]) -> (String, String) {
    let answer = person.post("/admin/keys/generate", fields);
    assert_eq!(answer.status, 302, "{}", answer.text());
    let location = answer.header("location").unwrap();
    let id = location.strip_prefix("/admin?show_key=").unwrap().to_owned();
    (id, shown(&person.get(location).text()).unwrap())
}

#[test]
fn case_101_a_first_key_is_made_shown_once_and_works() {
    let bench = Setup::new().no_file("api_keys.json").start();
    let person = Person::inside(&bench);
    let page = person.get("/admin");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("No API keys configured"));
    let fields = [("description", "First"), ("expires_days", "30"), ("rate_limit", "7")];
    let answer = person.post("/admin/keys/generate", &fields);
    let location = answer.header("location").unwrap().to_owned();
    let id = location.strip_prefix("/admin?show_key=").unwrap();
    assert!(id.starts_with("key_") && id.len() == 12, "{id}");
    let other = Person::inside(&bench).get(&location);
    assert!(shown(&other.text()).is_none(), "another session is not shown it");
    assert_eq!(person.head(&location).status, 200, "who sees nothing uses nothing up");
    let key = shown(&person.get(&location).text()).unwrap();
    assert!(shown(&person.get(&location).text()).is_none(), "it is gone on reload");
    assert_eq!(bench.chat(&key).status, 200, "it works at once");
    let entry = entry(&bench, id).unwrap();
    assert_eq!(entry["description"], "First");
    assert_eq!(entry["rate_limit"], 7);
    let end = entry["expires_at"].as_f64().unwrap();
    assert!((end - (now() + 30 * 86_400) as f64).abs() < 60.0);
    assert_eq!(entry["key_hash"], crate::support::hash(&key));
    assert!(entry.get("key").is_none());
    assert!(!bench.process.written().contains(&key));
}

#[test]
fn case_102_a_keys_limit_is_set_and_cleared() {
    let bench = Bench::new();
    let person = Person::inside(&bench);
    let set = |id: &str, field, value| {
        let answer = person.post(&format!("/admin/keys/{id}/rate-limit"), &[(field, value)]);
        assert_eq!((answer.status, answer.header("location")), (302, Some("/admin")), "{value}");
    };
    set("test_key_1", "rate_limit", "50");
    assert_eq!(entry(&bench, "test_key_1").unwrap()["rate_limit"], 50);
    set("test_key_2", "clear", "1");
    assert!(entry(&bench, "test_key_2").unwrap().get("rate_limit").is_none());
    let before = file(&bench);
    for wrong in ["0", "-1", "x", "", "1.5", "99999999999999999999"] {
        set("test_key_1", "rate_limit", wrong);
    }
    set("unknown", "rate_limit", "5");
    set("unknown", "clear", "1");
    assert_eq!(file(&bench), before);
}

#[test]
fn case_103_revoked_enabled_deleted() {
    let bench = Bench::new();
    let person = Person::inside(&bench);
    let act = |id: &str, action: &str| {
        let answer = person.post(&format!("/admin/keys/{id}/{action}"), &[]);
        assert_eq!((answer.status, answer.header("location")), (302, Some("/admin")));
    };
    act("test_key_1", "revoke");
    assert_eq!(bench.chat(K1).status, 401);
    let revoked = entry(&bench, "test_key_1").unwrap();
    assert_eq!(revoked["enabled"], false);
    assert!(revoked["revoked_at"].as_f64().unwrap() > 0.0);
    act("test_key_1", "enable");
    assert_eq!(bench.chat(K1).status, 200);
    assert!(entry(&bench, "test_key_1").unwrap().get("revoked_at").is_none());
    act("test_key_1", "delete");
    assert_eq!(bench.chat(K1).status, 401);
    assert!(entry(&bench, "test_key_1").is_none());
    for action in ["revoke", "enable", "delete"] {
        act("unknown", action);
    }
    let page = person.get("/admin").text();
    assert!(page.contains("Nothing was changed"), "the page says so");
    assert_eq!(bench.chat(K2).status, 200, "others are not touched");
}

#[test]
fn case_104_the_list_says_what_each_key_is() {
    let bench = Bench::new();
    let page = Person::inside(&bench).get("/admin").text();
    for part in ["status-active", "status-revoked", "status-expired", "Never", "2023-11-14 22:13"] {
        assert!(page.contains(part), "{part}");
    }
    for text in ["Active", "Revoked", "Expired", "5 requests per window"] {
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn case_107_what_people_wrote_stays_text() {
    let bench = Bench::new();
    let person = Person::inside(&bench);
    let hostile = "<script>alert(1)</script>\"'&";
    let (id, _) = generate(&person, &[("description", hostile), ("owner", hostile)]);
    for path in ["/admin".to_owned(), format!("/admin/keys/{id}")] {
        let page = person.get(&path).text();
        assert!(!page.contains("<script"), "{path}");
        assert!(page.contains("&#60;script") || page.contains("&lt;script"), "{path}");
    }
    let page = Person::at(&bench).get("/admin/login?error=%3Cscript%3E").text();
    assert!(!page.contains("<script"));
}

#[test]
fn case_108_values_that_cannot_be_are_refused_and_nothing_is_lost() {
    let bench = Bench::new();
    let person = Person::inside(&bench);
    let before = file(&bench);
    let huge = "1".repeat(401);
    for (field, value) in [
        ("expires_days", "99999999"),
        ("expires_days", &huge),
        ("expires_days", "-1"),
        ("expires_days", "0"),
        ("rate_limit", "-1"),
        ("rate_limit", "0"),
        ("rate_limit", "many"),
        ("monthly_budget_eur", "-1"),
        ("monthly_budget_eur", "nan"),
    ] {
        let fields = [("description", "Keep me"), (field, value)];
        let answer = person.post("/admin/keys/generate", &fields);
        assert_eq!(answer.status, 400, "{field}={value}");
        let page = answer.text();
        assert!(page.contains("Keep me"), "what was typed is still there");
        assert!(page.contains(&format!("id=\"new-{field}-error\"")), "{field}");
        assert!(page.contains("aria-invalid=\"true\""));
    }
    assert_eq!(file(&bench), before);
    assert_eq!(person.get("/admin").status, 200);
}

#[test]
fn case_112_the_file_is_for_its_owner_alone_and_keeps_what_it_does_not_know() {
    let bench = Bench::new();
    let mut whole = file(&bench);
    whole["comment"] = "kept".into();
    whole["keys"][0]["team"] = "kept too".into();
    bench.write("api_keys.json", &whole.to_string());
    let person = Person::inside(&bench);
    person.post("/admin/keys/test_key_1/rate-limit", &[("rate_limit", "9")]);
    assert_eq!(file(&bench)["comment"], "kept");
    assert_eq!(entry(&bench, "test_key_1").unwrap()["team"], "kept too");
    let mode = std::fs::metadata(bench.path("api_keys.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_key_has_a_page_with_limits_details_and_expiry() {
    let bench = Bench::new();
    let person = Person::inside(&bench);
    let path = "/admin/keys/test_key_1";
    assert_eq!(person.get(path).status, 200);
    assert_eq!(person.get("/admin/keys/unknown").status, 404);
    let send =
        |action: &str, fields: &[(&str, &str)]| person.post(&format!("{path}/{action}"), fields);
    let limits = send(
        "limits",
        &[
            ("rate_limit", "10"),
            ("tokens_per_minute", "5000"),
            ("monthly_budget_eur", "12,50"),
            ("models", "gpt-oss-120b\r\nllama-3.3-70b"),
            ("attested_client", "false"),
        ],
    );
    assert_eq!((limits.status, limits.header("location")), (302, Some(path)));
    let details = [("description", "New name"), ("owner", "Ada"), ("note", "two\r\nlines")];
    assert_eq!(send("details", &details).status, 302);
    assert_eq!(send("expiry", &[("expires_days", "1")]).status, 302);
    let held = entry(&bench, "test_key_1").unwrap();
    assert_eq!(held["tokens_per_minute"], 5000);
    assert_eq!(held["monthly_budget_eur"], 12.5);
    assert_eq!(held["models"][1], "llama-3.3-70b");
    assert_eq!((&held["owner"], &held["note"]), (&"Ada".into(), &"two\nlines".into()));
    assert!(held["expires_at"].as_f64().is_some());
    let page = person.get(path).text();
    assert!(page.contains("Saved.") && page.contains("New name"));
    let wrong = send("limits", &[("rate_limit", "-3"), ("models", "keep-this")]);
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("keep-this"), "nothing is lost");
    assert!(wrong.text().contains("limits-rate_limit-error"));
    assert_eq!(entry(&bench, "test_key_1").unwrap()["rate_limit"], 10);
}

#[test]
fn a_rotated_key_and_its_successor_work_side_by_side_or_not() {
    let bench = Bench::new();
    let person = Person::inside(&bench);
    let rotate = |id: &str, hours| {
        let answer = person.post(&format!("/admin/keys/{id}/rotate"), &[("overlap_hours", hours)]);
        let location = answer.header("location").unwrap().to_owned();
        shown(&person.get(&location).text()).unwrap()
    };
    let new = rotate("test_key_1", "24");
    assert_eq!((bench.chat(K1).status, bench.chat(&new).status), (200, 200));
    let end = entry(&bench, "test_key_1").unwrap()["expires_at"].as_f64().unwrap();
    assert!((end - (now() + 86_400) as f64).abs() < 60.0);
    let new = rotate("test_key_2", "0");
    assert_eq!((bench.chat(K2).status, bench.chat(&new).status), (401, 200));
    let wrong = person.post("/admin/keys/test_key_1/rotate", &[("overlap_hours", "99999")]);
    assert_eq!(wrong.status, 400);
}

#[test]
fn ids_of_a_keys_file_may_be_anything() {
    let bench = Bench::new();
    let mut whole = file(&bench);
    whole["keys"][0]["key_id"] = "a b/c?d#<e>".into();
    bench.write("api_keys.json", &whole.to_string());
    let person = Person::inside(&bench);
    let path = "/admin/keys/a%20b%2Fc%3Fd%23%3Ce%3E";
    assert!(person.get("/admin").text().contains(&path[1..]));
    assert_eq!(person.get(path).status, 200);
    person.post(&format!("{path}/revoke"), &[]);
    assert_eq!(bench.chat(K1).status, 401);
}

#[test]
fn keys_of_the_environment_are_listed_and_not_changed() {
    let bench = Bench::with(&[("API_KEYS", "pm_env_loaded_key")]);
    let person = Person::inside(&bench);
    assert!(person.get("/admin").text().contains("env_key_0"));
    assert!(person.get("/admin/keys/env_key_0").text().contains("sealed secrets"));
    person.post("/admin/keys/env_key_0/revoke", &[]);
    assert_eq!(bench.chat("pm_env_loaded_key").status, 200);
    let token = token_of(&person.get("/admin"));
    let fields = [("rate_limit", "5")];
    let answer = person.post_with("/admin/keys/env_key_0/limits", &token, &fields);
    assert_eq!(answer.status, 409);
}

#[test]
fn a_long_list_comes_in_parts_and_is_searched() {
    let entries: Vec<_> = (0..250)
        .map(|n| {
            serde_json::json!({
                "key_id": format!("bulk_{n}"), "key_hash": crate::support::hash(&n.to_string()),
                "description": format!("Bulk {n}"), "created_at": 1_700_000_000 + n,
            })
        })
        .collect();
    let text = serde_json::json!({"keys": entries}).to_string();
    let bench = Setup::new().file("api_keys.json", &text).start();
    let person = Person::inside(&bench);
    let page = person.get("/admin").text();
    assert!(page.contains("bulk_249") && page.contains("bulk_150<") && !page.contains("bulk_149<"));
    assert!(person.get("/admin?page=3").text().contains("bulk_0<"));
    let found = person.get("/admin?find=BULK+7").text();
    assert!(found.contains("bulk_77<") && !found.contains("bulk_249<"));
    assert!(person.get("/admin?find=%22%3E%3Cb%3E").text().contains("No key has"));
}
