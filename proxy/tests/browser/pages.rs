//! Every page, on a desk and on a phone, in light and in dark: nothing is out of reach of anybody, nothing is loaded that the
//! policy does not allow, and a picture is taken.

use serde_json::json;

use crate::accessibility::check;
use crate::driver::{Browser, LOOKS};
use crate::people::log_in;
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
