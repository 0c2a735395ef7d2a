//! Every page, on a desk and on a phone, in light and in dark: nothing is out of reach of anybody, nothing is loaded that the
//! policy does not allow, and a picture is taken.

use proto::log::{WatchedAttribute, WatchedRecord};
use serde_json::json;

use crate::accessibility::check;
use crate::driver::{Browser, LOOKS};
use crate::people::log_in;
use crate::support::sealer::Sealer;
use crate::support::{Setup, hash, now};

/// Keys as people have them: long names, many limits, old and new.
fn keys() -> String {
    let key = |id: &str, description: &str, more: serde_json::Value| {
        let mut entry = json!({
            "key_id": id, "key_hash": hash(id), "description": description, "enabled": true,
            "created_at": now() - 86_400 * 40, "expires_at": null,
        });
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        entry
    };
    json!({"keys": [
        key("key_0a1b2c3d", "Chat of the library", json!({
            "owner": "Ada Lovelace", "rate_limit": 120, "tokens_per_minute": 40_000,
            "monthly_budget_eur": 25.0, "models": ["gpt-oss-120b"],
        })),
        key("key_11223344", "Transcription", json!({"expires_at": now() + 86_400 * 20, "attested_client": true})),
        key("key_99887766", "Pilot project of last spring with a rather long description", json!({"expires_at": now() - 3600})),
        key("key_deadbeef", "Laptop that was lost", json!({"enabled": false, "revoked_at": now() - 7200})),
    ]})
    .to_string()
}

#[test]
fn every_page_is_sound_in_every_look() {
    let bench = Setup::new().file("api_keys.json", &keys()).start();
    for key in ["key_0a1b2c3d", "key_11223344"] {
        bench.chat(key);
    }
    let Some(browser) = Browser::start(&format!("http://127.0.0.1:{}", bench.process.port)) else {
        return;
    };
    let visit = |path: &str, name: &str| {
        for look in LOOKS {
            browser.looks(look);
            browser.open(path);
            check(&browser, &format!("{path} {}", look.name));
            browser.picture(&format!("{name}-{}", look.name));
            browser
                .run("document.querySelectorAll('details').forEach((one) => { one.open = true; })");
            check(&browser, &format!("{path} {}, all of it", look.name));
        }
    };
    visit("/admin/login?error=Invalid+password", "login");
    log_in(&browser);
    browser.complaints();
    for (path, name) in [
        ("/admin", "keys"),
        ("/admin?find=nothing", "keys-none"),
        ("/admin/keys/key_0a1b2c3d", "key"),
        ("/admin/keys/key_deadbeef", "key-revoked"),
        ("/admin/usage", "usage"),
        ("/admin/settings", "settings"),
        ("/admin/attestation", "attestation"),
        ("/admin/audit", "audit"),
        ("/admin/about", "about"),
    ] {
        visit(path, name);
    }
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:?}");
    visit("/admin/nothing", "notice");
}

/// Records as programs write them: short ones, long ones, and one that would like to be more than text.
fn records() -> Vec<WatchedRecord> {
    let record = |severity_number, service: &str, body: &str| WatchedRecord {
        time_unix_nano: now() * 1_000_000_000 + 123_456_789,
        service: service.to_owned(),
        severity_number,
        body: body.to_owned(),
        ..WatchedRecord::default()
    };
    let attribute =
        |key: &str, value: &str| WatchedAttribute { key: key.to_owned(), value: value.to_owned() };
    let mut request = record(5, "proxy", "a request was answered");
    request.severity_text = "DEBUG".to_owned();
    request.attributes = vec![attribute("status", "200"), attribute("milliseconds", "12")];
    let mut opened = record(9, "log-sealer", "somebody watches the log live");
    opened.event_name = "log.live.opened".to_owned();
    let long = "the disk of the third worker is nearly full and somebody should look ".repeat(8);
    let mut long = record(13, "worker", &long);
    long.cut = true;
    let mut hostile =
        record(17, "worker", "</ol><script>document.title = 'taken'</script>\u{202e}\u{1b}[2J");
    hostile.attributes = vec![attribute("path", &"x".repeat(300))];
    let mut all = vec![request, opened, long, hostile, record(21, "worker", "out of memory")];
    all.extend((0..20).map(|n| record(9, "worker", &format!("step {n} of twenty is done"))));
    all
}

#[test]
fn the_live_log_is_sound_in_every_look() {
    let setup = Setup::new();
    let socket = setup.path("sealer.sock");
    let sealer = Sealer::start(&socket);
    let bench = setup.set("LOG_SEALER", &format!("unix:{socket}")).start();
    let Some(browser) = Browser::start(&format!("http://127.0.0.1:{}", bench.process.port)) else {
        return;
    };
    log_in(&browser);
    browser.complaints();
    for look in LOOKS {
        browser.looks(look);
        std::thread::scope(|scope| {
            // the browser calls a page loaded when all of it is there
            scope.spawn(|| {
                sealer.until_watched_by(1);
                sealer.shows(&records(), 3);
                sealer.ends();
            });
            browser.open("/admin/logs?level=debug");
        });
        check(&browser, &format!("/admin/logs {}", look.name));
        browser.picture(&format!("logs-{}", look.name));
        let seen = "const box = document.querySelector('.live').getBoundingClientRect();\
                    const last = document.querySelector('.records li:last-child').getBoundingClientRect();\
                    return last.bottom <= box.bottom + 1";
        assert_eq!(browser.run(seen), true, "{}: the newest record is in sight", look.name);
        browser.run("document.querySelector('.live').scrollTop = -1e6");
        check(&browser, &format!("/admin/logs {}, its first records", look.name));
        browser.picture(&format!("logs-first-{}", look.name));
        assert_eq!(browser.run("return document.querySelectorAll('.records li').length"), 26);
        assert!(browser.text().contains("<script>document.title"), "{}", browser.text());
    }
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:?}");
}
