//! Cases 105 to 107, 113: settings, usage, files; and the pages that the reference does not have.

use super::person::Person;
use crate::support::{Bench, K1, Setup, chat, get};

#[test]
fn case_105_settings_are_shown_changed_and_kept() {
    let bench = Bench::new();
    let person = Person::inside(&bench);
    let page = person.get("/admin/settings").text();
    for value in ["value=\"100\"", "value=\"60\"", "value=\"1000\"", "Configured"] {
        assert!(page.contains(value), "{value}");
    }
    bench.write("settings.json", r#"{"theme":"dark"}"#);
    let fields = [
        ("rate_limit_requests", "7"),
        ("rate_limit_window", "61"),
        ("ip_rate_limit_requests", "900"),
        ("ip_rate_limit_window", "62"),
    ];
    let answer = person.post("/admin/settings/rate-limits", &fields);
    assert_eq!(answer.status, 302, "{}", answer.text());
    assert_eq!(answer.header("location"), Some("/admin/settings?success=rate_limits"));
    let text = std::fs::read_to_string(bench.path("settings.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&file["theme"], &file["rate_limit_requests"]), (&"dark".into(), &7.into()));
    assert_eq!(bench.chat(K1).header("x-ratelimit-limit"), Some("7"));
    let page = person.get("/admin/settings?success=rate_limits").text();
    assert!(page.contains("value=\"900\"") && page.contains("are saved"));
}

/// Where there is no place for a settings file, the database keeps them, and its copies have them, too.
#[test]
fn case_105_without_a_settings_file_the_database_keeps_them() {
    let mut bench = Setup::new().set("SETTINGS_FILE", "/no/such/folder/settings.json").start();
    let change = |bench: &Bench, requests: &str| {
        let person = Person::inside(bench);
        let fields = [
            ("rate_limit_requests", requests),
            ("rate_limit_window", "61"),
            ("ip_rate_limit_requests", "900"),
            ("ip_rate_limit_window", "62"),
        ];
        let answer = person.post("/admin/settings/rate-limits", &fields);
        assert_eq!(answer.status, 302, "{}", answer.text());
        assert!(person.get("/admin/audit").text().contains("Rate limits changed"));
    };
    let limit =
        |bench: &Bench| bench.chat(K1).header("x-ratelimit-limit").unwrap().parse::<u64>().unwrap();
    assert_eq!(limit(&bench), 100);
    change(&bench, "7");
    assert_eq!(limit(&bench), 7, "at once");
    let copy = bench.path("copy.db").display().to_string();
    assert_eq!(bench.process.command(&["state", "backup", &copy]).0, 0);
    change(&bench, "8");
    bench.restart();
    assert_eq!(limit(&bench), 8, "after a start");
    let page = Person::inside(&bench).get("/admin/settings").text();
    assert!(page.contains("value=\"900\"") && page.contains("value=\"62\""));
    bench.process.stop();
    assert_eq!(bench.process.command(&["state", "restore", &copy]).0, 0);
    bench.restart();
    assert_eq!(limit(&bench), 7, "of the copy");
}

#[test]
fn case_108_settings_below_1_are_refused() {
    let bench = Bench::new();
    let person = Person::inside(&bench);
    for wrong in ["0", "-1", "x", "", "1e9"] {
        let fields = [
            ("rate_limit_requests", wrong),
            ("rate_limit_window", "61"),
            ("ip_rate_limit_requests", "4242"),
            ("ip_rate_limit_window", "62"),
        ];
        let answer = person.post("/admin/settings/rate-limits", &fields);
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.text().contains("limits-rate_limit_requests-error"));
        assert!(answer.text().contains("4242"), "nothing is lost");
    }
    assert!(!bench.path("settings.json").exists());
}

#[test]
fn case_106_usage_has_its_periods_and_downloads() {
    let bench = Bench::new();
    bench.send(chat(&format!("Authorization: Bearer {K1}\r\n")));
    let person = Person::inside(&bench);
    for period in
        ["", "?period=today", "?period=week", "?period=month", "?period=year", "?period=all"]
    {
        let page = person.get(&format!("/admin/usage{period}"));
        assert_eq!(page.status, 200, "{period}");
        for part in ["EUR", "Tokens", "Requests", "<svg"] {
            assert!(page.text().contains(part), "{period}: {part}");
        }
    }
    let page = person.get("/admin/usage?period=today").text();
    for part in ["Test key 1", "gpt-oss-120b", ">chat<", "<td class=\"number\">30</td>"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let yesterday = person.get("/admin/usage?period=yesterday").text();
    assert!(yesterday.contains("Nothing was used"));
    let of_another = person.get("/admin/usage?period=all&key=test_key_2").text();
    assert!(of_another.contains("Nothing was used") && of_another.contains("Test key 2"));
    let csv = person.get("/admin/usage.csv?period=all");
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(csv.header("content-disposition"), Some("attachment; filename=\"usage-all.csv\""));
    assert!(csv.text().starts_with("group,id,name,requests,"));
    assert!(csv.text().contains("\r\nkey,test_key_1,Test key 1,1,10,20,0,30,0,0,"));
    let json = person.get("/admin/usage.json").json();
    assert_eq!(
        (json["period"].as_str(), json["all"]["total_tokens"].as_u64()),
        (Some("month"), Some(30))
    );
    assert_eq!(json["by_endpoint"][0]["endpoint"], "chat");
}

#[test]
fn case_107_the_logo_is_for_everybody_and_other_files_are_not_there() {
    let bench = Bench::new();
    let logo = bench.send(get("/admin/static/logo.png", ""));
    assert_eq!((logo.status, logo.header("content-type")), (200, Some("image/png")));
    assert!(logo.body.starts_with(b"\x89PNG"));
    let tag = logo.header("etag").unwrap();
    let again = bench.send(get("/admin/static/logo.png", &format!("If-None-Match: {tag}\r\n")));
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(bench.send(get("/admin/static/admin.css", "")).status, 200);
    for path in ["", "nope.png", "..%2flogin", "../login", "logo.png/", "LOGO.PNG", "%6cogo.png"] {
        assert_eq!(bench.send(get(&format!("/admin/static/{path}"), "")).status, 404, "{path}");
    }
}

#[test]
fn case_113_examples_do_not_repeat_what_anybody_can_send() {
    let bench = Bench::new();
    let mut person = Person::inside(&bench);
    person.headers =
        "X-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: javascript\r\n".to_owned();
    let page = person.get("/admin").text();
    assert!(!page.contains("evil.example") && !page.contains("javascript"));
    assert!(page.contains("http://h/v1"));
}

#[test]
fn what_was_done_is_on_the_audit_page_and_no_secret_is() {
    let bench = Bench::new();
    Person::at(&bench).log_in("a-wrong-password");
    let person = Person::inside(&bench);
    person.post("/admin/keys/test_key_1/revoke", &[]);
    person.post("/admin/settings/rate-limits", &[("rate_limit_requests", "x")]);
    let page = person.get("/admin/audit").text();
    for part in ["Wrong password", "Logged in", "Key revoked", "test_key_1", "127.0.0.1"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("Rate limits changed"), "what was refused was not done");
    let cookie = person.cookie.unwrap();
    for secret in ["a-wrong-password", crate::support::PASSWORD, &cookie] {
        assert!(!page.contains(secret));
        assert!(!bench.process.written().contains(secret));
    }
}

#[test]
fn every_page_is_whole_and_has_the_headers() {
    let bench = Bench::new();
    let person = Person::inside(&bench);
    for path in [
        "/admin",
        "/admin/keys/test_key_1",
        "/admin/usage",
        "/admin/settings",
        "/admin/attestation",
        "/admin/audit",
        "/admin/about",
        "/admin/nothing",
    ] {
        let page = person.get(path);
        assert!(page.text().ends_with("</html>"), "{path}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        assert!(page.header("content-security-policy").unwrap().contains("form-action 'self'"));
        assert_eq!(page.header("x-frame-options"), Some("DENY"), "{path}");
        // Behind a forwarder, paths begin with its token: no link may begin at the root.
        let text = page.text();
        assert!(!text.contains("href=\"/") && !text.contains("action=\"/"), "{path}");
        let up = "../".repeat(path.matches('/').count() - 1);
        assert!(text.contains(&format!("href=\"{up}admin/usage\"")), "{path}");
    }
}
