//! The upstream mock: it records what it is sent, byte for byte, and writes what a test gives it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A request as it arrived, its body with the framing taken off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded {
    /// `POST /v1/chat/completions HTTP/1.1`.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Recorded {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }
}

/// What answers a request: it writes the whole answer to the connection. `false` closes it afterwards.
type Answerer = dyn Fn(&Recorded, &mut TcpStream) -> bool + Send + Sync;

/// A running one. Its threads end with the test's process.
pub(crate) struct Upstream {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    recorded: Mutex<Vec<Recorded>>,
    answerer: Mutex<Arc<Answerer>>,
    /// Connections that are open now.
    open: Mutex<usize>,
}

/// The contract's default answer.
pub(crate) const DEFAULT: &str = r#"{"id":"c","object":"chat.completion","model":"gpt-oss-120b","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}"#;

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let default: Arc<Answerer> = Arc::new(|_, stream| write(stream, json(200, "", DEFAULT)));
        let shared = Arc::new(Shared {
            recorded: Mutex::default(),
            answerer: Mutex::new(default),
            open: Mutex::default(),
        });
        std::thread::spawn({
            let shared = shared.clone();
            move || {
                for stream in listener.incoming() {
                    let shared = shared.clone();
                    std::thread::spawn(move || {
                        *shared.open.lock().unwrap() += 1;
                        shared.serve(stream.unwrap());
                        *shared.open.lock().unwrap() -= 1;
                    });
                }
            }
        });
        Self { port, shared }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on, every request is answered with these bytes.
    pub(crate) fn answers(&self, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.does(move |_, stream| write(stream, &bytes));
    }

    /// From now on, this answers: it writes to the connection, and says whether that goes on.
    pub(crate) fn does(
        &self,
        answerer: impl Fn(&Recorded, &mut TcpStream) -> bool + Send + Sync + 'static,
    ) {
        *self.shared.answerer.lock().unwrap() = Arc::new(answerer);
    }

    /// Everything that arrived.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.recorded.lock().unwrap().clone()
    }

    /// The last that arrived.
    pub(crate) fn last(&self) -> Recorded {
        self.requests().pop().unwrap()
    }

    /// Waits until no connection is open, for so long.
    pub(crate) fn is_left_alone_within(&self, patience: Duration) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < patience {
            if *self.shared.open.lock().unwrap() == 0 {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = read(&mut reader) {
            self.recorded.lock().unwrap().push(request.clone());
            let answerer = self.answerer.lock().unwrap().clone();
            if !answerer(&request, &mut stream) {
                return;
            }
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Recorded> {
    let mut line = || {
        let mut line = String::new();
        let length = reader.read_line(&mut line).ok()?;
        (length > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    };
    let mut request = Recorded { line: line()?, ..Recorded::default() };
    loop {
        let line = line()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if request.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; length + 2];
            reader.read_exact(&mut chunk).ok()?;
            request.body.extend(&chunk[..length]);
            if length == 0 {
                break;
            }
        }
    } else if let Some(length) = request.header("content-length") {
        let mut body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        request.body = body;
    }
    Some(request)
}

/// A JSON answer with further header lines.
pub(crate) fn json(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Writes all of it; whether that worked.
pub(crate) fn write(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) -> bool {
    stream.write_all(bytes.as_ref()).is_ok()
}
