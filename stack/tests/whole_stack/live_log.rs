//! The live log of a whole group: somebody who came through `pmc connect` sees what any container logs, as it comes; and the
//! readers of the sealed log see who it was.

use std::time::Duration;

use serde_json::{Value, json};
use stack::RoleName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Forwarder, Running, http_post, pmc, start_set, text};

const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "a-long-password";

async fn start(live: &str) -> Running {
    let variables = vec![
        (RoleName::Proxy, "ADMIN_PASSWORD", PASSWORD.to_owned()),
        (RoleName::LogSealer, "LOG_LIVE", live.to_owned()),
    ];
    start_set(|_| {}, variables).await
}

async fn forwarder(running: &Running) -> (Forwarder, String) {
    let url = running.stack.group.url().await.unwrap();
    let forwarder = Forwarder::start(&url, &running.trusting()).await;
    let address = forwarder.address.to_string();
    (forwarder, address)
}

/// A program's session.
async fn log_in(address: &str) -> String {
    let body = json!({"password": PASSWORD}).to_string();
    let request = format!(
        "POST /admin/login HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let start = body.find('{').unwrap_or_else(|| panic!("{answer}"));
    let end = body.rfind('}').unwrap();
    let session: Value = serde_json::from_str(&body[start..=end]).unwrap();
    session["session"].as_str().unwrap().to_owned()
}

/// An answer that comes by and by.
struct View {
    stream: TcpStream,
    read: String,
}

impl View {
    async fn open(address: &str, path: &str, line: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{line}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self { stream, read: String::new() }
    }

    /// Reads on until these words have come.
    async fn until(&mut self, words: &str) -> &str {
        let reading = async {
            let mut buffer = vec![0; 16 << 10];
            while !self.read.contains(words) {
                let length = self.stream.read(&mut buffer).await.unwrap();
                assert!(length > 0, "it ended without {words:?}: {}", self.read);
                self.read.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no {words:?}"));
        &self.read
    }
}

/// A container of the group logs something.
async fn say(running: &Running, body: &str) {
    let listening = running.stack.group.info(RoleName::LogSealer).await.unwrap().listening;
    let name = json!({"key": "service.name", "value": {"stringValue": "a-container"}});
    let record = json!({"severityNumber": 13, "body": {"stringValue": body}});
    let export = json!({"resourceLogs": [
        {"resource": {"attributes": [name]}, "scopeLogs": [{"logRecords": [record]}]},
    ]});
    let (status, answer) =
        http_post(&listening["http"], "/v1/logs", "none", &export.to_string()).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn what_a_container_logs_is_shown_to_who_is_inside_and_that_is_on_record() {
    let running = start("admin").await;
    let (forwarder, address) = forwarder(&running).await;
    let session = log_in(&address).await;
    say(&running, "before anybody looked").await;

    let cookie = format!("Cookie: admin_session={session}");
    let mut page = View::open(&address, "/admin/logs?service=a-container", &cookie).await;
    page.until("<ol class=\"records\">").await;
    let bearer = format!("Authorization: Bearer {session}");
    let mut lines = View::open(&address, "/admin/api/logs?level=warn", &bearer).await;
    lines.until("200 OK").await;
    lines.until("\r\n\r\n").await;
    say(&running, "the <b>third</b> disk is full").await;
    let shown = page.until("disk is full").await;
    assert!(shown.contains("the &lt;b&gt;third&lt;/b&gt; disk is full"), "{shown}");
    assert!(!shown.contains("before anybody looked"), "{shown}");
    lines.until("the <b>third</b> disk is full").await;

    // who logs out sees no more
    let request = format!(
        "DELETE /admin/api/session HTTP/1.1\r\nHost: {address}\r\n{bearer}\r\nConnection: close\r\n\r\n"
    );
    let mut out = TcpStream::connect(&address).await.unwrap();
    out.write_all(request.as_bytes()).await.unwrap();
    page.until("ended with your session").await;
    lines.until("{\"end\":\"session\"}").await;
    drop((page, lines, forwarder));

    let log = running.stack.group.places().sealed_logs().display().to_string();
    let mut words = ["logs", "open", &log, "--identity"].map(str::to_owned).to_vec();
    words.push(running.path("reader.txt"));
    words.extend(running.trusting());
    let Running { stack, folder, .. } = running;
    assert!(stack.stop().await.is_empty());
    let opened = pmc(&words).await;
    let told = text(&opened);
    assert_eq!(opened.status.code(), Some(0), "{told}");
    drop(folder);
    let of = |words: &[&str]| {
        told.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    };
    // by log-sealer, whoever asks; by the proxy, for whom it was
    assert_eq!(of(&[" log-sealer ", "[log.live.opened]", "an admin of the proxy, session "]), 2);
    assert_eq!(of(&["[log.live.opened]", "service=a-container"]), 1, "{told}");
    assert_eq!(of(&["[log.live.closed]", "shown="]), 2, "{told}");
    assert_eq!(of(&[" proxy ", "an admin action", "action=logs.watch "]), 2, "{told}");
    assert_eq!(of(&[" proxy ", "action=logs.watch_end", "end=session"]), 2, "{told}");
}

#[tokio::test]
async fn nobody_watches_a_group_that_does_not_say_so() {
    let running = start("off").await;
    let (_forwarder, address) = forwarder(&running).await;
    let session = log_in(&address).await;
    let bearer = format!("Authorization: Bearer {session}");
    let mut refused = View::open(&address, "/admin/api/logs", &bearer).await;
    let answer = refused.until("live_view_off").await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("LOG_LIVE=admin"), "{answer}");

    // without a proof there is not even that
    let url = running.stack.group.url().await.unwrap();
    let server = url.trim_start_matches("https://").parse().unwrap();
    let mut straight =
        stack::straight::Straight::tls(server, stack::straight::Version::Http1).await.unwrap();
    for path in ["/admin/logs", "/admin/api/logs"] {
        let request = http::Request::get(path).header("authorization", format!("Bearer {session}"));
        let request = request.body(http_body_util::Full::default()).unwrap();
        let answer = straight.send(request).await.unwrap();
        assert_eq!(answer.status(), 403);
        assert!(String::from_utf8_lossy(answer.body()).contains("connection_not_proved"));
    }
    running.stop().await;
}
