//! WebDriver: sessions, elements, keys, scripts, pictures; over raw HTTP, as the driver speaks it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::Connection;

/// The name under which WebDriver hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// How long a page may take to be what is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A key of the keyboard that has no character.
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";

/// How a page is shown.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    pub(crate) name: &'static str,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) dark: bool,
}

pub(crate) const DESKTOP: Look =
    Look { name: "desktop-light", width: 1280, height: 900, dark: false };
pub(crate) const LOOKS: [Look; 4] = [
    DESKTOP,
    Look { name: "desktop-dark", dark: true, ..DESKTOP },
    Look { name: "phone-light", width: 390, height: 844, dark: false },
    Look { name: "phone-dark", width: 390, height: 844, dark: true },
];

/// A browser of its own, with a profile of its own. It ends with this.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    origin: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// `None` without Chromium.
    pub(crate) fn start(origin: &str) -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        let started = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", profile.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut driver) = started else {
            assert!(!is_required(), "CHROMIUM_REQUIRED=1, and there is no chromedriver");
            println!("skipped: there is no chromedriver (apt-get install chromium-driver)");
            return None;
        };
        let port = port_of(&mut driver);
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
            origin: origin.to_owned(),
            _profile: profile,
        };
        let folder = browser._profile.path().join("profile").display().to_string();
        let data = format!("--user-data-dir={folder}");
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            &data,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "acceptInsecureCerts": true,
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let answer = browser.call("POST", "/session", &wanted);
        browser.session = answer["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    /// Shows pages like that from now on.
    pub(crate) fn looks(&self, look: Look) {
        let (width, height) = (look.width, look.height);
        let mobile = width < 600;
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = if look.dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// Sends a further header with every request, as a forwarder on the way would.
    pub(crate) fn sends(&self, name: &str, value: &str) {
        self.devtools("Network.enable", &json!({}));
        self.devtools("Network.setExtraHTTPHeaders", &json!({"headers": {name: value}}));
    }

    pub(crate) fn open(&self, path: &str) {
        let url = format!("{}{path}", self.origin);
        self.command("POST", "url", &json!({"url": url}));
    }

    pub(crate) fn path(&self) -> String {
        let url = self.command("GET", "url", &Value::Null);
        url.as_str().unwrap().strip_prefix(&self.origin).unwrap().to_owned()
    }

    /// Runs a script in the page; the site's own policy does not hold for it.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("POST", "execute/sync", &json!({"script": script, "args": []}))
    }

    /// The text of the whole page, as it is seen.
    pub(crate) fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap().to_owned()
    }

    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.command("POST", &format!("element/{element}/click"), &json!({}));
    }

    /// Replaces what a field holds.
    pub(crate) fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command("POST", &format!("element/{element}/clear"), &json!({}));
        self.command("POST", &format!("element/{element}/value"), &json!({"text": text}));
    }

    /// Types, wherever the focus is.
    pub(crate) fn types(&self, text: &str) {
        let keys: Vec<Value> = text
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()}))
            })
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": keys}]});
        self.command("POST", "actions", &actions);
    }

    /// Waits until the page's address is this.
    pub(crate) fn arrives_at(&self, path: &str) {
        let begin = Instant::now();
        while self.path() != path {
            assert!(begin.elapsed() < PATIENCE, "at {} rather than {path}", self.path());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until this can be read.
    pub(crate) fn reads(&self, text: &str) {
        let begin = Instant::now();
        while !self.text().contains(text) {
            assert!(begin.elapsed() < PATIENCE, "{text} is not in {}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn cookie(&self, name: &str) -> Value {
        self.command("GET", &format!("cookie/{name}"), &Value::Null)
    }

    /// What the browser complained about since it was asked last.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.command("POST", "se/log", &json!({"type": "browser"}));
        let entries = log.as_array().unwrap().iter();
        entries.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// A picture of the whole page.
    pub(crate) fn picture(&self, name: &str) {
        let folder = pictures();
        std::fs::create_dir_all(&folder).unwrap();
        let parameters = json!({"captureBeyondViewport": true, "format": "png"});
        let picture = self.devtools("Page.captureScreenshot", &parameters);
        let bytes = base64::engine::general_purpose::STANDARD;
        let bytes = bytes.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    fn element(&self, selector: &str) -> String {
        let wanted = json!({"using": "css selector", "value": selector});
        let found = self.command("POST", "element", &wanted);
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("POST", "goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    fn command(&self, method: &str, what: &str, body: &Value) -> Value {
        self.call(method, &format!("/session/{}/{what}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = Connection::open(self.port).send(format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        answer.json()["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.call("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The driver says where it listens, as it chose the port itself.
fn port_of(driver: &mut Child) -> u16 {
    let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        if let Some(rest) = line.split_once("on port ").map(|(_, rest)| rest) {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if line.contains("successfully") {
                return digits.parse().unwrap();
            }
        }
    }
    panic!("chromedriver did not start");
}

fn is_required() -> bool {
    variable("CHROMIUM_REQUIRED").as_deref() == Some("1")
}

/// Where pictures are left.
pub(crate) fn pictures() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("admin-pages")
}

/// A variable of whoever runs the tests.
#[expect(clippy::disallowed_methods, reason = "tests are no role: they have no table of variables")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
