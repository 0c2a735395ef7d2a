//! What people do: log in, with a mouse or without, make a key and end it, change settings, look at the rest.

use crate::accessibility::check;
use crate::driver::{Browser, DESKTOP, ENTER, TAB};
use crate::support::{Bench, PASSWORD, Setup};

fn at(bench: &Bench) -> Option<Browser> {
    Browser::start(&format!("http://127.0.0.1:{}", bench.process.port))
}

/// Logs in by the form.
pub(crate) fn log_in(browser: &Browser) {
    browser.open("/admin");
    browser.arrives_at("/admin/login");
    browser.fill("#password", PASSWORD);
    browser.click("main button");
    browser.arrives_at("/admin");
}

#[test]
fn a_key_from_its_making_to_its_end() {
    let bench = Setup::new().no_file("api_keys.json").start();
    let Some(browser) = at(&bench) else { return };
    browser.looks(DESKTOP);
    browser.open("/admin/login");
    browser.fill("#password", "wrong");
    browser.click("main button");
    browser.reads("Invalid password");
    log_in(&browser);
    browser.reads("No API keys configured");

    browser.fill("#new-description", "Chat of the library");
    browser.fill("#new-rate_limit", "none at all");
    browser.click("form[action$=generate] button");
    browser.reads("must be a whole number");
    check(&browser, "a refused form");
    let kept = browser.run("return document.querySelector('#new-description').value");
    assert_eq!(kept, "Chat of the library");
    browser.picture("refused");
    browser.fill("#new-rate_limit", "40");
    browser.click("form[action$=generate] button");
    browser.reads("Your new key");
    browser.picture("new-key");
    let key = browser.run("return document.querySelector('.secret code').innerText");
    let key = key.as_str().unwrap().to_owned();
    assert_eq!(bench.chat(&key).status, 200);
    browser.open(&browser.path());
    assert!(!browser.text().contains(&key), "it is gone on reload");

    browser.click("tbody th a");
    browser.reads("Limits");
    browser.fill("#limits-models", "gpt-oss-120b");
    browser.click("form[action$=limits] button");
    browser.reads("Saved.");
    browser.fill("#rotate-overlap_hours", "2");
    browser.click("form[action$=rotate] button");
    browser.reads("Your new key");
    assert_eq!(bench.chat(&key).status, 200, "both work");

    browser.click("tbody tr:last-child form button");
    browser.reads("The key is revoked");
    assert_eq!(bench.chat(&key).status, 401);
    browser.click("tbody tr:last-child th a");
    browser.reads("Enable the key");
    browser.click("form[action$=enable] button");
    browser.reads("The key works again");
    browser.click(".ends summary");
    browser.click("form[action$=delete] button");
    browser.reads("The key is deleted");
    assert_eq!(bench.chat(&key).status, 401);
    browser.click(".logout button");
    browser.arrives_at("/admin/login");
    browser.open("/admin/usage");
    browser.arrives_at("/admin/login");
}

#[test]
fn somebody_without_a_mouse_gets_in_and_about() {
    let bench = Bench::new();
    let Some(browser) = at(&bench) else { return };
    browser.looks(DESKTOP);
    browser.open("/admin/login");
    // The field has the focus already.
    browser.types(PASSWORD);
    browser.types(ENTER);
    browser.arrives_at("/admin");
    let focused = || browser.run("return document.activeElement.innerText").to_string();
    browser.types(TAB);
    assert!(focused().contains("Skip to the content"));
    let outline = "return getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.run(outline), "solid", "one sees where one is");
    browser.types(ENTER);
    let main = browser.run("return document.activeElement.id");
    assert_eq!(main, "main");
    browser.open("/admin");
    browser.types(TAB);
    for place in ["Keys", "Usage", "Settings"] {
        browser.types(TAB);
        assert!(focused().contains(place), "{place}: {}", focused());
        assert_eq!(browser.run(outline), "solid");
    }
    browser.types(ENTER);
    browser.arrives_at("/admin/settings");
}

#[test]
fn settings_are_changed_and_refused() {
    let bench = Bench::new();
    let Some(browser) = at(&bench) else { return };
    browser.looks(DESKTOP);
    log_in(&browser);
    browser.click("nav a[href$=settings]");
    browser.reads("All keys together");
    browser.fill("#limits-rate_limit_requests", "0");
    browser.click("main form button");
    browser.reads("must be a whole number");
    browser.fill("#limits-rate_limit_requests", "55");
    browser.click("main form button");
    browser.arrives_at("/admin/settings?success=rate_limits");
    let answer = bench.chat(crate::support::K1);
    assert_eq!(answer.header("x-ratelimit-limit"), Some("55"));
}

/// As behind `pmc connect`: the server's connection is TLS, the browser's is not.
#[test]
fn a_secure_cookie_is_kept_behind_a_forwarder_of_this_machine() {
    let bench = Setup::new().set("TRUST_PROXY", "true").start();
    let Some(browser) = at(&bench) else { return };
    browser.sends("X-Forwarded-Proto", "https");
    log_in(&browser);
    assert_eq!(browser.cookie("admin_session")["secure"], true);
    browser.click("nav a[href$=usage]");
    browser.arrives_at("/admin/usage");
    browser.reads("Nothing was used");
}

#[test]
fn case_110_over_tls_the_cookie_is_for_tls_alone() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let setup = Setup::new()
        .file("certificate.pem", &made.cert.pem())
        .file("key.pem", &made.signing_key.serialize_pem())
        .unset("TLS_MODE")
        .unset("FORCE_HTTPS");
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| setup.path(name));
    let bench = setup.set("TLS_CERT_FILE", &certificate).set("TLS_KEY_FILE", &key).start();
    let origin = format!("https://127.0.0.1:{}", bench.process.port);
    let Some(browser) = Browser::start(&origin) else { return };
    log_in(&browser);
    let cookie = browser.cookie("admin_session");
    assert_eq!((&cookie["secure"], &cookie["httpOnly"]), (&true.into(), &true.into()));
    assert_eq!(cookie["sameSite"], "Strict");
    browser.reads("https://127.0.0.1");
}
