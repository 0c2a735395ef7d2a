//! The live log: who sees it, what they see, when it ends, and that it is on record.

use std::time::{Duration, Instant};

use proto::log::{WatchedAttribute, WatchedRecord};
use serde_json::{Value, json};
use tonic::Code;

use super::person::Person;
use crate::support::sealer::Sealer;
use crate::support::{Bench, Connection, PASSWORD, Setup, get, post};

const EVIL: &str = "</ol><script>alert(1)</script>\u{1b}[2J\u{202e}\ntwo";

fn start() -> (Bench, Sealer) {
    let setup = Setup::new();
    let socket = setup.path("sealer.sock");
    let sealer = Sealer::start(&socket);
    (setup.set("LOG_SEALER", &format!("unix:{socket}")).start(), sealer)
}

fn record(body: &str) -> WatchedRecord {
    WatchedRecord {
        time_unix_nano: 1_700_000_000_000_000_000,
        service: "proxy".to_owned(),
        severity_number: 17,
        body: body.to_owned(),
        ..WatchedRecord::default()
    }
}

/// Asks for a view, and reads the head of its answer.
fn ask(person: &Person<'_>, path: &str) -> (Connection, u16) {
    let cookie = person.cookie.as_deref().unwrap_or_default();
    let mut connection = person.connect();
    connection.write(get(path, &format!("{}Cookie: admin_session={cookie}\r\n", person.headers)));
    let status = connection.head().status;
    (connection, status)
}

/// Reads on until these words came: all that was read.
fn until(view: &mut Connection, words: &str) -> String {
    let mut text = String::new();
    while !text.contains(words) {
        let chunk = view.chunk();
        let chunk = chunk.unwrap_or_else(|| panic!("it ended without {words:?}: {text}"));
        text.push_str(&String::from_utf8(chunk).unwrap());
    }
    text
}

/// Reads to its end.
fn rest(view: &mut Connection) -> String {
    let mut text = String::new();
    while let Some(chunk) = view.chunk() {
        text.push_str(&String::from_utf8(chunk).unwrap());
    }
    text
}

fn program(bench: &Bench) -> String {
    let answer = bench.send(post(
        "/admin/login",
        "Accept: application/json\r\n",
        &json!({"password": PASSWORD}).to_string(),
    ));
    answer.json()["session"].as_str().unwrap().to_owned()
}

fn api(bench: &Bench, session: &str, query: &str) -> (Connection, u16) {
    let mut connection = bench.connect();
    let line = format!("Authorization: Bearer {session}\r\n");
    connection.write(get(&format!("/admin/api/logs{query}"), &line));
    let status = connection.head().status;
    (connection, status)
}

/// Actions of the audit log with what they were about, the oldest first; logins left out.
fn audit(bench: &Bench) -> Vec<(String, String)> {
    let line = format!("Authorization: Bearer {}\r\n", program(bench));
    let entries = bench.send(get("/admin/api/audit", &line)).json();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let entries = entries["entries"].as_array().unwrap().iter().rev();
    let all = entries.map(|entry| (text(entry, "action"), text(entry, "fields")));
    all.filter(|(action, _)| action != "login").collect()
}

fn action(name: &str, fields: &str) -> (String, String) {
    (name.to_owned(), fields.to_owned())
}

/// Waits until the audit log is this.
fn until_audited(bench: &Bench, expected: &[(String, String)]) {
    let begin = Instant::now();
    while audit(bench) != expected {
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", audit(bench));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_page_grows_and_nothing_of_a_record_is_more_than_text() {
    let (bench, sealer) = start();
    let person = Person::inside(&bench);
    let (mut view, status) = ask(&person, "/admin/logs");
    assert_eq!(status, 200);
    let head = until(&mut view, "<ol class=\"records\">");
    for part in ["role=\"log\"", "href=\"../admin/logs\" aria-current=\"page\"", "</form>"] {
        assert!(head.contains(part), "{part}: {head}");
    }
    let mut evil = record(EVIL);
    let (key, value) = (EVIL.to_owned(), EVIL.to_owned());
    evil.attributes.push(WatchedAttribute { key, value });
    evil.cut = true;
    sealer.shows(&[evil], 3);
    let shown = until(&mut view, "the sealed log has all of it");
    assert!(shown.contains("3 records are left out"), "{shown}");
    assert!(shown.contains("&lt;/ol&gt;&lt;script&gt;alert(1)") && !shown.contains("<script"));
    assert!(
        !shown.contains(['\u{1b}', '\u{202e}']) && shown.contains("\\u{1b}[2J\\u{202e}\\u{a}two")
    );
    sealer.ends();
    let end = rest(&mut view);
    assert!(end.contains("</ol>") && end.contains("log-sealer does not show anything any more"));
    assert!(end.trim_end().ends_with("</html>"), "the page is whole: {end}");
}

#[test]
fn the_answer_may_not_be_kept_and_runs_no_script() {
    let (bench, _sealer) = start();
    let person = Person::inside(&bench);
    let mut connection = person.connect();
    let cookie = person.cookie.as_deref().unwrap();
    connection.write(get("/admin/logs", &format!("Cookie: admin_session={cookie}\r\n")));
    let head = connection.head();
    assert_eq!(head.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(head.header("cache-control"), Some("no-store"));
    let policy = head.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'self'"), "{policy}");
}

#[test]
fn who_is_not_inside_watches_nothing() {
    let (bench, sealer) = start();
    let nobody = Person::at(&bench);
    assert_eq!(nobody.get("/admin/logs").header("location"), Some("/admin/login"));
    for line in ["", "Authorization: Bearer wrong\r\n"] {
        let answer = bench.send(get("/admin/api/logs", line));
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (401, Some("not_logged_in"))
        );
    }
    let mut person = Person::inside(&bench);
    assert_eq!(person.head("/admin/logs").status, 200, "who sees nothing opens nothing");
    let session = program(&bench);
    let line = format!("Authorization: Bearer {session}\r\n");
    let head = bench.send(format!("HEAD /admin/api/logs HTTP/1.1\r\nHost: h\r\n{line}\r\n"));
    assert_eq!(head.status, 200);
    let posted = bench.send(post("/admin/api/logs", &line, "{}"));
    assert_eq!(posted.json()["error"]["code"], "method_not_allowed");
    person.headers.push_str("Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(ask(&person, "/admin/logs").1, 403, "a page of another site");
    assert!(sealer.asked().is_empty() && audit(&bench).is_empty());
}

#[test]
fn filters_are_passed_on_and_shown_again() {
    let (bench, sealer) = start();
    let person = Person::inside(&bench);
    let (mut view, _) = ask(&person, "/admin/logs?service=%3Cb%3E&level=warn");
    let head = until(&mut view, "<ol class=\"records\">");
    assert!(
        head.contains("value=\"&#60;b&#62;\"") || head.contains("value=\"&lt;b&gt;\""),
        "{head}"
    );
    assert!(head.contains("<option value=\"warn\" selected>"), "{head}");
    let (service, least, who) = sealer.asked().remove(0);
    assert_eq!((service.as_str(), least), ("<b>", 13));
    assert!(who.starts_with("an admin of the proxy, session ") && who.ends_with("from 127.0.0.1"));
    sealer.ends();
    assert!(rest(&mut view).contains("href=\"../admin/logs?service=%3Cb%3E&amp;level=warn\""));
    let expected = [
        action("logs.watch", "service level=warn"),
        action("logs.watch_end", "end=log shown=0 missed=0"),
    ];
    until_audited(&bench, &expected);
    for wrong in ["level=loud", &format!("service={}", "x".repeat(201))] {
        assert_eq!(ask(&person, &format!("/admin/logs?{wrong}")).1, 400, "{wrong}");
    }
}

#[test]
fn a_view_ends_with_its_session() {
    let (bench, sealer) = start();
    let person = Person::inside(&bench);
    let (mut view, _) = ask(&person, "/admin/logs");
    until(&mut view, "<ol class=\"records\">");
    sealer.shows(&[record("while it lasts")], 0);
    until(&mut view, "while it lasts");
    person.get("/admin/logout");
    sealer.shows(&[record("too late")], 0);
    let end = rest(&mut view);
    assert!(end.contains("ended with your session") && !end.contains("too late"), "{end}");
    sealer.until_watched_by(0);
    let expected = [
        action("logs.watch", ""),
        action("logout", ""),
        action("logs.watch_end", "end=session shown=1 missed=0"),
    ];
    until_audited(&bench, &expected);
}

#[test]
fn a_program_gets_lines() {
    let (bench, sealer) = start();
    let session = program(&bench);
    let (mut view, status) = api(&bench, &session, "?level=error");
    assert_eq!(status, 200);
    sealer.shows(&[record(EVIL), record("two")], 2);
    let text = until(&mut view, "\"two\"");
    let lines: Vec<Value> = text
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0], json!({"missed": 2}));
    assert_eq!((&lines[1]["body"], &lines[2]["body"]), (&EVIL.into(), &"two".into()));
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "no terminal obeys it");
    drop(view);
    sealer.until_watched_by(0);
    let expected = [
        action("logs.watch", "level=error"),
        action("logs.watch_end", "end=gone shown=2 missed=2"),
    ];
    until_audited(&bench, &expected);
}

#[test]
fn views_have_a_bound_and_who_leaves_makes_room() {
    let (bench, sealer) = start();
    let session = program(&bench);
    let mut views: Vec<_> = (0..4).map(|_| api(&bench, &session, "").0).collect();
    assert_eq!(api(&bench, &session, "").1, 503);
    drop(views.pop());
    sealer.until_watched_by(3);
    let begin = Instant::now();
    while api(&bench, &session, "").1 != 200 {
        assert!(begin.elapsed() < Duration::from_secs(30), "there is no room again");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_proxy_that_stops_ends_its_views() {
    let (mut bench, _sealer) = start();
    let session = program(&bench);
    let (mut view, _) = api(&bench, &session, "");
    let begin = Instant::now();
    assert_eq!(bench.process.stop(), 0);
    assert!(begin.elapsed() < Duration::from_secs(15), "it does not wait for those who look");
    assert!(rest(&mut view).ends_with("{\"end\":\"stop\"}\n"));
}

#[test]
fn where_there_is_nothing_to_see_the_page_says_what_to_do() {
    let bench = Bench::new();
    let person = Person::inside(&bench);
    assert!(!person.get("/admin").text().contains("admin/logs"), "no entry in the menu");
    let page = person.get("/admin/logs");
    assert_eq!(page.status, 404);
    assert!(page.text().contains("LOG_SEALER is off"));

    let (bench, sealer) = start();
    let person = Person::inside(&bench);
    assert!(person.get("/admin").text().contains("href=\"admin/logs\""));
    for (code, status, words, name) in [
        (Code::FailedPrecondition, 403, "LOG_LIVE=admin", "live_view_off"),
        (Code::ResourceExhausted, 503, "end one of those views", "too_many_views"),
        (Code::Unavailable, 503, "try again", "live_view_unavailable"),
    ] {
        sealer.refuses(code);
        let page = person.get("/admin/logs");
        assert_eq!(page.status, status, "{code}");
        assert!(page.text().contains(words), "{code}: {}", page.text());
        let line = format!("Authorization: Bearer {}\r\n", program(&bench));
        let answer = bench.send(get("/admin/api/logs", &line));
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &name.into()));
    }
    assert!(audit(&bench).is_empty(), "nothing was opened");
    drop(sealer);
    std::fs::remove_file(bench.path("sealer.sock")).unwrap();
    assert_eq!(person.get("/admin/logs").status, 503, "nobody is there");
}
