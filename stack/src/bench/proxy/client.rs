//! A client that costs next to nothing: one connection, requests that are written before they are needed, answers that are
//! looked at no further than their framing.
//!
//! It believes any certificate, as `straight` does. Must not know how many others there are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::message::{Chunks, Head};
use super::model::{CHUNKS, DIGITS, PACE, STAMP};
use crate::bench::{BenchError, io};
use crate::straight::{Version, handshake};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// Connections that come from one address of this machine: a server may have a bound for each.
const EACH_ADDRESS: usize = 500;

const PROMPT: &str = r#""messages":[{"role":"user","content":"Say something short, please."}]"#;

/// Who is asked, and how.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) tls: bool,
    /// The key that requests carry.
    pub(crate) key: String,
}

impl Target {
    /// A short question.
    pub(crate) fn question(&self) -> Arc<[u8]> {
        self.request("", &format!(r#"{{"model":"gpt-oss-120b",{PROMPT}}}"#))
    }

    /// A stream of so many chunks, at this pace.
    pub(crate) fn stream(&self, pace: Duration, chunks: u32) -> Arc<[u8]> {
        let wanted = format!("{PACE}: {}\r\n{CHUNKS}: {chunks}\r\n", pace.as_micros());
        self.request(&wanted, &format!(r#"{{"model":"gpt-oss-120b","stream":true,{PROMPT}}}"#))
    }

    fn request(&self, headers: &str, body: &str) -> Arc<[u8]> {
        let Self { address, key, .. } = self;
        let length = body.len();
        let text = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\
             User-Agent: bench\r\nAccept: */*\r\nContent-Type: application/json\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}"
        );
        text.into_bytes().into()
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open connection.
pub(crate) struct Client {
    name: &'static str,
    stream: Box<dyn Stream>,
    read: Vec<u8>,
}

impl Client {
    /// The `number`th of them.
    pub(crate) async fn connect(target: &Target, number: usize) -> Result<Self, BenchError> {
        let host = u8::try_from(2 + number / EACH_ADDRESS).unwrap_or(254);
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, host));
        let stream: Box<dyn Stream> = if target.tls {
            let opened = Box::pin(handshake(target.address, Version::Http1, Some(from)));
            let opened = within(target.name, opened).await?;
            Box::new(opened.map_err(|error| BenchError::Straight(target.name, error))?.0)
        } else {
            let failed = io("the model server of the benchmark cannot be reached");
            let socket = TcpSocket::new_v4().map_err(&failed)?;
            socket.bind(SocketAddr::new(from, 0)).map_err(&failed)?;
            let stream: TcpStream = socket.connect(target.address).await.map_err(&failed)?;
            stream.set_nodelay(true).map_err(&failed)?;
            Box::new(stream)
        };
        Ok(Self { name: target.name, stream, read: Vec::with_capacity(8 * 1024) })
    }

    /// Asks, and waits for the whole answer. Returns how long that took.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Duration, BenchError> {
        let begin = Instant::now();
        self.send(request).await?;
        let head = self.head().await?;
        while !head.is_whole(&self.read) {
            self.more().await?;
        }
        Ok(begin.elapsed())
    }

    /// Asks for a stream, and reads its head.
    pub(crate) async fn open(mut self, request: &[u8]) -> Result<Events, BenchError> {
        self.send(request).await?;
        let head = self.head().await?;
        if head.body.is_some() {
            return Err(self.unexpected("does not stream"));
        }
        self.read.drain(..head.length);
        Ok(Events { client: self, chunks: Chunks::default(), text: Vec::new(), ended: false })
    }

    async fn send(&mut self, request: &[u8]) -> Result<(), BenchError> {
        let failed = io("a request of the benchmark cannot be sent");
        self.read.clear();
        self.stream.write_all(request).await.map_err(&failed)?;
        self.stream.flush().await.map_err(&failed)
    }

    async fn head(&mut self) -> Result<Head, BenchError> {
        loop {
            self.more().await?;
            if let Some(head) = Head::of(&self.read) {
                let good = self.read.starts_with(b"HTTP/1.1 200");
                return if good { Ok(head) } else { Err(self.unexpected("refuses")) };
            }
        }
    }

    async fn more(&mut self) -> Result<(), BenchError> {
        let read = within(self.name, self.stream.read_buf(&mut self.read)).await?;
        match read.map_err(io("an answer of the benchmark cannot be read"))? {
            0 => Err(self.unexpected("closed the connection")),
            _ if self.read.len() > MAX_ANSWER => Err(self.unexpected("says too much")),
            _ => Ok(()),
        }
    }

    fn unexpected(&self, what: &str) -> BenchError {
        let said: String = String::from_utf8_lossy(&self.read).chars().take(600).collect();
        BenchError::Unexpected(format!("{} {what}: {said}", self.name))
    }
}

async fn within<T>(who: &str, work: impl Future<Output = T>) -> Result<T, BenchError> {
    let late = |_| BenchError::Unexpected(format!("{who} took longer than {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, work).await.map_err(late)
}

/// A stream whose head has arrived.
pub(crate) struct Events {
    client: Client,
    chunks: Chunks,
    /// Bytes that hold no whole time stamp yet.
    text: Vec<u8>,
    ended: bool,
}

impl Events {
    /// Waits for time stamps, and returns those that came at once: nanoseconds of this process at which each was sent.
    /// None: the stream has ended.
    pub(crate) async fn stamps(&mut self) -> Result<Vec<u64>, BenchError> {
        let mut stamps = Vec::new();
        while stamps.is_empty() && !self.ended {
            if self.client.read.is_empty() {
                self.client.more().await?;
            }
            let text = &mut self.text;
            let taken = self.chunks.take(&self.client.read, |data| text.extend_from_slice(data));
            self.ended = taken.ok_or_else(|| self.client.unexpected("sends no chunks"))?;
            self.client.read.clear();
            self.find(&mut stamps);
        }
        Ok(stamps)
    }

    fn find(&mut self, stamps: &mut Vec<u64>) {
        let mut done = 0;
        while let Some(rest) = self.text.get(done..)
            && let Some(at) = rest.windows(STAMP.len()).position(|window| window == STAMP)
            && let Some(digits) = rest.get(at + STAMP.len()..at + STAMP.len() + DIGITS)
        {
            let stamp: Option<u64> =
                std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
            stamps.extend(stamp);
            done += at + STAMP.len() + DIGITS;
        }
        // What may be the beginning of the next one stays.
        let rest = self.text.len() - done;
        self.text.drain(..done + rest.saturating_sub(STAMP.len() + DIGITS));
    }
}
