//! Requests by HTTP, written by hand so that they can be wrong.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::Place;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const JSON: &str = "application/json";
pub(crate) const PROTOBUF: &str = "application/x-protobuf";

/// One connection.
pub(crate) struct Http(UnixStream);

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(is, _)| is.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some(JSON));
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Http {
    pub(crate) async fn connect(place: &Place) -> Self {
        Self(UnixStream::connect(place.path().join("http.sock")).await.unwrap())
    }

    /// Exports to a path.
    pub(crate) async fn post(&mut self, path: &str, kind: &str, body: &[u8]) -> Answer {
        self.send(&format!("POST {path}"), &[("content-type", kind)], body).await
    }

    /// Sends a whole request: method and path, headers, body.
    pub(crate) async fn send(
        &mut self,
        what: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.begin(what, headers, body.len()).await;
        // whoever refuses a request need not read it
        let _ = self.write(body).await;
        self.answer().await
    }

    /// Sends a request's head.
    pub(crate) async fn begin(&mut self, what: &str, headers: &[(&str, &str)], length: usize) {
        let mut head =
            format!("{what} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.write(head.as_bytes()).await.unwrap();
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        tokio::time::timeout(PATIENCE, self.0.write_all(bytes)).await?
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        tokio::time::timeout(PATIENCE, self.read()).await.unwrap().unwrap()
    }

    async fn read(&mut self) -> io::Result<Answer> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        answer.body = vec![0; length];
        self.0.read_exact(&mut answer.body).await?;
        Ok(answer)
    }
}
