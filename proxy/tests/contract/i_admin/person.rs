//! Somebody with a browser, as far as these cases need one: keeps a cookie, fills in forms that pages have.

use std::net::IpAddr;

use crate::support::{Answer, Bench, Connection, PASSWORD};

/// One with a browser. Starts without a cookie.
pub(super) struct Person<'a> {
    bench: &'a Bench,
    pub(super) cookie: Option<String>,
    /// Further header lines of every request.
    pub(super) headers: String,
    /// The address that they come from, if it matters.
    from: Option<IpAddr>,
}

impl<'a> Person<'a> {
    pub(super) fn at(bench: &'a Bench) -> Self {
        let headers = "Accept: text/html\r\n".to_owned();
        Self { bench, cookie: None, headers, from: None }
    }

    /// Logged in.
    pub(super) fn inside(bench: &'a Bench) -> Self {
        let mut person = Self::at(bench);
        let answer = person.log_in(PASSWORD);
        assert_eq!(answer.header("location"), Some("/admin"), "{}", answer.text());
        person
    }

    /// With a cookie from elsewhere.
    pub(super) fn with_cookie(mut self, cookie: &str) -> Self {
        self.cookie = Some(cookie.to_owned());
        self
    }

    /// At another address of this machine.
    pub(super) fn from(mut self, address: [u8; 4]) -> Self {
        self.from = Some(address.into());
        self
    }

    pub(super) fn connect(&self) -> Connection {
        match self.from {
            Some(address) => Connection::open_from(address, self.bench.process.port),
            None => self.bench.connect(),
        }
    }

    fn lines(&self) -> String {
        let cookie = self.cookie.as_ref();
        let cookie = cookie.map(|cookie| format!("Cookie: admin_session={cookie}\r\n"));
        format!("{}{}", self.headers, cookie.unwrap_or_default())
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.connect().send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{}\r\n", self.lines()))
    }

    pub(super) fn head(&self, path: &str) -> Answer {
        self.connect().send(format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n{}\r\n", self.lines()))
    }

    /// A form, as it stands.
    pub(super) fn post_raw(&self, path: &str, body: &str) -> Answer {
        self.connect().send(format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n{}\r\n{body}",
            body.len(),
            self.lines()
        ))
    }

    /// A form of the first page, with these fields.
    pub(super) fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_with(path, &token_of(&self.get("/admin")), fields)
    }

    pub(super) fn post_with(&self, path: &str, token: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_raw(path, &form(token, fields))
    }

    /// Sends the login form, and keeps the cookie that comes.
    pub(super) fn log_in(&mut self, password: &str) -> Answer {
        let token = token_of(&self.get("/admin/login"));
        let answer = self.post_with("/admin/login", &token, &[("password", password)]);
        if let Some(cookie) = answer.header("set-cookie") {
            let value = cookie.strip_prefix("admin_session=").unwrap();
            self.cookie = Some(value.split(';').next().unwrap().to_owned());
        }
        answer
    }
}

/// The body of a form.
pub(super) fn form(token: &str, fields: &[(&str, &str)]) -> String {
    let all = [("csrf_token", token)].into_iter().chain(fields.iter().copied());
    all.map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&")
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// The tokens of a page's forms.
pub(super) fn tokens_of(page: &Answer) -> Vec<String> {
    let text = page.text();
    let after = text.split(r#"name="csrf_token" value=""#).skip(1);
    after.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// The first one.
pub(super) fn token_of(page: &Answer) -> String {
    let mut tokens = tokens_of(page);
    assert!(!tokens.is_empty(), "{} {}", page.status, page.text());
    tokens.remove(0)
}
