//! Cases 92 to 100, 109 to 111: logging in, sessions, tokens of forms.

use super::person::{Person, form, token_of, tokens_of};
use crate::support::{Answer, Bench, PASSWORD, Setup, get};

const LOGIN: &str = "/admin/login";

fn is_sent_to_login(answer: &Answer) -> bool {
    answer.status == 302 && answer.header("location") == Some(LOGIN)
}

#[test]
fn case_092_without_a_session_everything_leads_to_the_login() {
    let bench = Bench::new();
    let person = Person::at(&bench);
    for path in [
        "/admin",
        "/admin/settings",
        "/admin/usage",
        "/admin/usage.csv",
        "/admin/about",
        "/admin/attestation",
        "/admin/audit",
        "/admin/keys/test_key_1",
    ] {
        assert!(is_sent_to_login(&person.get(path)), "{path}");
    }
    for path in [
        "/admin/keys/generate",
        "/admin/keys/test_key_1/revoke",
        "/admin/keys/test_key_1/delete",
        "/admin/keys/test_key_1/rate-limit",
        "/admin/keys/test_key_1/rotate",
        "/admin/settings/rate-limits",
    ] {
        assert!(is_sent_to_login(&person.post_raw(path, "csrf_token=x")), "{path}");
    }
    assert_eq!(bench.chat(crate::support::K1).status, 200, "nothing was done");
}

#[test]
fn case_068_below_admin_there_is_nothing_else_and_nothing_is_forwarded() {
    let bench = Bench::new();
    for line in [
        "POST /admin/../v1/chat/completions",
        "POST /admin/%2e%2e/v1/chat/completions",
        "GET /admin/..%2fv1/models",
        "GET /admin/",
        "GET /admin/nope",
        "POST /admin",
        "PUT /admin/login",
        "GET /admin/static/../login",
        "GET /admin/static/nope.png",
        "GET /adminx",
    ] {
        let answer = bench.send(format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(answer.status, 404, "{line}: {}", answer.text());
    }
    assert!(bench.upstream.requests().is_empty());
}

#[test]
fn case_093_the_login_page_has_a_form() {
    let bench = Bench::new();
    let page = Person::at(&bench).get(LOGIN);
    assert_eq!(page.status, 200);
    assert!(page.text().contains("password"));
    assert!(token_of(&page).bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"));
    let text = page.text();
    assert!(!text.contains("<script") && !text.contains("style=") && !text.contains("onclick"));
    assert!(is_away(&Person::inside(&bench).get(LOGIN)), "who is in already is sent on");
}

fn is_away(answer: &Answer) -> bool {
    answer.status == 302 && answer.header("location") == Some("/admin")
}

#[test]
fn case_094_a_wrong_password_leads_back() {
    let bench = Bench::new();
    let answer = Person::at(&bench).log_in("wrong");
    assert_eq!(answer.status, 302);
    assert_eq!(answer.header("location"), Some("/admin/login?error=Invalid+password"));
    assert!(answer.header("set-cookie").is_none());
    let page = Person::at(&bench).get("/admin/login?error=Invalid+password");
    assert!(page.text().contains("Invalid password"));
}

#[test]
fn case_095_the_right_password_gives_a_cookie() {
    let bench = Bench::new();
    let answer = Person::at(&bench).log_in(PASSWORD);
    assert!(is_away(&answer));
    let cookie = answer.header("set-cookie").unwrap();
    let (value, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "HttpOnly; Max-Age=86400; Path=/; SameSite=Strict");
    assert_eq!(value.len(), "admin_session=".len() + 43, "256 bits");
}

#[test]
fn case_096_without_a_password_nobody_gets_in() {
    for password in [None, Some("")] {
        let setup = Setup::new().unset("ADMIN_PASSWORD");
        let setup = password.into_iter().fold(setup, |setup, it| setup.set("ADMIN_PASSWORD", it));
        let bench = setup.start();
        let person = Person::at(&bench);
        for path in ["/admin", LOGIN, "/admin/usage"] {
            let page = person.get(path);
            assert_eq!(page.status, 403, "{path}");
            assert!(page.text().contains("Admin UI disabled"), "{path}");
        }
        assert_eq!(person.post_raw(LOGIN, "password=").status, 403);
        assert_eq!(bench.send(get("/admin/api/keys", "")).status, 403);
    }
}

#[test]
fn case_097_a_token_works_once_and_no_other_text_does() {
    let bench = Bench::new();
    let person = Person::inside(&bench);
    let token = token_of(&person.get("/admin"));
    let send = |token: &str| {
        let answer = person.post_with("/admin/keys/none/revoke", token, &[]);
        (answer.status, answer.text().contains("Invalid or expired CSRF token"))
    };
    assert_eq!(send(&token), (302, false));
    assert_eq!(send(&token), (403, true), "a second time");
    assert_eq!(send("unknown"), (403, true));
    assert_eq!(send(""), (403, true));
    assert_eq!(person.post_raw("/admin/keys/none/revoke", "").status, 403, "missing");
    assert_eq!(person.post_raw(LOGIN, "password=x").status, 403, "of the login as well");
    assert_eq!(person.post_raw("/admin/settings/rate-limits", "").status, 403);
}

#[test]
fn case_098_a_session_is_for_its_cookie_and_its_address() {
    let bench = Bench::new();
    let mut person = Person::inside(&bench);
    assert_eq!(person.get("/admin").status, 200);
    let elsewhere = Person::at(&bench).with_cookie(person.cookie.as_ref().unwrap());
    assert!(is_sent_to_login(&elsewhere.from([127, 0, 0, 2]).get("/admin")));
    for wrong in ["", "unknown"] {
        let with = Person::at(&bench).with_cookie(wrong);
        assert!(is_sent_to_login(&with.get("/admin")), "{wrong}");
    }
    assert_eq!(person.head("/admin/logout").status, 302);
    assert_eq!(person.get("/admin").status, 200, "HEAD ends nothing");
    let out = person.get("/admin/logout");
    assert!(is_sent_to_login(&out));
    assert!(out.header("set-cookie").unwrap().starts_with("admin_session=; "));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert!(is_sent_to_login(&person.get("/admin")), "the session is over, whoever has the cookie");
    person.cookie = None;
    assert!(is_sent_to_login(&person.get("/admin/logout")), "no session is no error");
}

#[test]
fn case_098_a_trusted_proxy_names_the_address() {
    let bench = Bench::with(&[("TRUST_PROXY", "true")]);
    let mut person = Person::at(&bench);
    person.headers.push_str("X-Forwarded-For: 192.0.2.1\r\n");
    person.log_in(PASSWORD);
    assert_eq!(person.get("/admin").status, 200);
    person.headers = "X-Forwarded-For: 192.0.2.2\r\n".to_owned();
    assert!(is_sent_to_login(&person.get("/admin")));
}

#[test]
fn case_099_five_wrong_passwords_and_no_sixth() {
    let bench = Bench::new();
    for _ in 0..4 {
        assert_eq!(Person::at(&bench).log_in("wrong").status, 302);
    }
    for _ in 0..6 {
        Person::at(&bench).get(LOGIN);
        assert!(is_away(&Person::at(&bench).log_in(PASSWORD)), "successes do not count");
    }
    assert_eq!(Person::at(&bench).log_in("wrong").status, 302);
    let refused = Person::at(&bench).log_in(PASSWORD);
    assert_eq!(refused.status, 429, "even with the right password");
    assert!(refused.text().contains("Too many login attempts"));
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() <= 300);
    let other = Person::at(&bench).from([127, 0, 0, 3]).log_in(PASSWORD);
    assert!(is_away(&other), "another address is not touched");
}

#[test]
fn case_100_attempts_that_arrive_together_are_not_all_judged() {
    let bench = Bench::new();
    let person = Person::at(&bench);
    let attempts: Vec<_> = (0..40)
        .map(|_| {
            let body = form(&token_of(&person.get(LOGIN)), &[("password", "wrong")]);
            let mut connection = bench.connect();
            connection.write(format!(
                "POST /admin/login HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            (connection, body)
        })
        .collect();
    let judged = attempts.into_iter().filter_map(|(mut connection, body)| {
        connection.write(body);
        let answer = connection.answer(false);
        assert!([302, 429].contains(&answer.status), "{}", answer.status);
        (answer.status == 302).then_some(())
    });
    assert_eq!(judged.count(), 5);
}

/// Nobody is kept out by what was never sent to its end.
#[test]
fn half_sent_logins_keep_nobody_out() {
    let bench = Bench::new();
    let half = |_| {
        let mut connection = bench.connect();
        connection.write(
            "POST /admin/login HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
        );
        // The body is being waited for.
        assert_eq!(connection.interim().status, 100);
        connection.write("password=wr");
        connection
    };
    let open: Vec<_> = (0..20).map(half).collect();
    assert!(is_away(&Person::at(&bench).log_in(PASSWORD)));
    drop(open);
}

#[test]
fn case_109_any_password_is_only_wrong() {
    let bench = Bench::new();
    assert_eq!(Person::at(&bench).log_in("pässwörd ☃ \u{0}").status, 302);
    let person = Person::at(&bench);
    let token = token_of(&person.get(LOGIN));
    let body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"csrf_token\"\r\n\r\n{token}\r\n--b\r\nContent-Disposition: \
         form-data; name=\"password\"; filename=\"p\"\r\n\r\n{PASSWORD}\r\n--b--\r\n"
    );
    let answer = bench.send(format!(
        "POST /admin/login HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(answer.header("location"), Some("/admin/login?error=Invalid+password"));
}

#[test]
fn case_111_a_token_is_for_its_session_and_every_form_has_its_own() {
    let bench = Bench::new();
    let (one, other) = (Person::inside(&bench), Person::inside(&bench));
    let tokens = tokens_of(&one.get("/admin"));
    assert!(tokens.len() >= 3);
    let revoke = |person: &Person<'_>, token: &str| {
        person.post_with("/admin/keys/none/revoke", token, &[]).status
    };
    assert_eq!(revoke(&other, &tokens[0]), 403, "another session's");
    let anonymous = token_of(&Person::at(&bench).get(LOGIN));
    assert_eq!(revoke(&one, &anonymous), 403, "one of the login page");
    for token in &tokens {
        assert_eq!(revoke(&one, token), 302, "every form of the page");
    }
    let token = token_of(&one.get("/admin"));
    assert!(is_sent_to_login(&one.post_with("/admin/logout", &token, &[])));
    assert!(is_sent_to_login(&one.get("/admin")));
}

#[test]
fn what_a_page_of_another_site_makes_a_browser_send_is_refused() {
    let bench = Bench::new();
    let mut person = Person::inside(&bench);
    let token = token_of(&person.get("/admin"));
    for line in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Origin: https://evil.example\r\n",
        // Another program of the browser's machine.
        "Origin: http://127.0.0.1:3000\r\n",
        "Origin: http://h:8080\r\n",
    ] {
        person.headers = line.to_owned();
        assert_eq!(person.post_with("/admin/keys/test_key_1/delete", &token, &[]).status, 403);
        assert_eq!(person.post_with(LOGIN, &token, &[("password", PASSWORD)]).status, 403);
        assert_eq!(person.get("/admin/logout").status, 403);
    }
    assert_eq!(bench.chat(crate::support::K1).status, 200);
}
