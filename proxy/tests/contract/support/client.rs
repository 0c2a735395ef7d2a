//! An HTTP/1.1 client that sends exactly the bytes it is given.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// An open connection.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

/// An answer, its body with the framing taken off.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case, in the order of the wire.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing says; not if the connection ended before.
    pub(crate) whole: bool,
}

impl Answer {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// `error.message` of an OpenAI error.
    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

impl Connection {
    pub(crate) fn open(port: u16) -> Self {
        Self::over(TcpStream::connect(("127.0.0.1", port)).unwrap())
    }

    /// From another address of this machine.
    pub(crate) fn open_from(address: IpAddr, port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind((address, 0).into()).unwrap();
            socket.connect(([127, 0, 0, 1], port).into()).await.unwrap().into_std().unwrap()
        });
        stream.set_nonblocking(false).unwrap();
        Self::over(stream)
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        // A test that waits for longer waits for ever.
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Sends a request and reads its answer.
    pub(crate) fn send(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.write(&request);
        let is_head = request.as_ref().starts_with(b"HEAD ");
        self.answer(is_head)
    }

    /// Sends bytes. That the other end has closed already is no failure: it has answered, then.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Reads an answer, without a body if it is one to HEAD.
    pub(crate) fn answer(&mut self, is_head: bool) -> Answer {
        let mut answer = self.head();
        if !is_head && answer.status != 204 && answer.status != 304 {
            let length = answer.header("content-length").map(|text| text.parse::<usize>().unwrap());
            let chunked = answer.header("transfer-encoding") == Some("chunked");
            (answer.body, answer.whole) = match length {
                _ if chunked => self.chunks(),
                Some(length) => self.exactly(length),
                None => self.to_end(),
            };
        }
        answer
    }

    /// Reads an answer's head; 100 Continue and its like are passed over.
    pub(crate) fn head(&mut self) -> Answer {
        loop {
            let head = self.interim();
            if head.status >= 200 {
                return head;
            }
        }
    }

    /// Reads the next head, also that of an interim answer.
    pub(crate) fn interim(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = find(&self.read, b"\r\n\r\n") {
                break at;
            }
            assert!(self.more(), "the connection ended before an answer: {:?}", self.read);
        };
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        self.read.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Answer { status, headers: headers.collect(), body: Vec::new(), whole: true }
    }

    /// So many bytes of a body that was begun to be read.
    pub(crate) fn body(&mut self, length: usize) -> Vec<u8> {
        self.exactly(length).0
    }

    /// Whether the other end closes without sending anything more.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.read.is_empty() && !self.more()
    }

    /// The next chunk of a chunked body; `None` at its end, or if the connection ends.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.line()?;
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let (chunk, whole) = self.exactly(length);
        self.line()?;
        (whole && length > 0).then_some(chunk)
    }

    fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.line() else { return (body, false) };
            let length = usize::from_str_radix(line.trim(), 16).unwrap();
            let (chunk, whole) = self.exactly(length);
            body.extend(chunk);
            if !whole || self.line().is_none() {
                return (body, false);
            }
            if length == 0 {
                return (body, true);
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.read, b"\r\n") {
                let line = String::from_utf8_lossy(&self.read[..at]).into_owned();
                self.read.drain(..at + 2);
                return Some(line);
            }
            if !self.more() {
                return None;
            }
        }
    }

    fn exactly(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.read.len() < length {
            if !self.more() {
                return (std::mem::take(&mut self.read), false);
            }
        }
        (self.read.drain(..length).collect(), true)
    }

    fn to_end(&mut self) -> (Vec<u8>, bool) {
        while self.more() {}
        (std::mem::take(&mut self.read), true)
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.read.extend(&buffer[..length]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("the answer did not come: {error}"),
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
