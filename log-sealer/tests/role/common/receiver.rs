//! A receiver of metrics that says what it is told to say, and shows what it heard.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A request: its head and its body.
pub(crate) struct Heard {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Receiver {
    pub(crate) url: String,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Receiver {
    /// Gives these answers, status and headers, and then 200.
    pub(crate) async fn start(answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut answers = answers.iter();
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = request(&mut stream).await;
                let answer = answers.next().unwrap_or(&"200 OK");
                let close = "content-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(format!("HTTP/1.1 {answer}\r\n{close}").as_bytes()).await;
                if sender.send(request).is_err() {
                    return;
                }
            }
        });
        Self { url, heard }
    }

    /// The next request.
    pub(crate) async fn heard(&mut self) -> Heard {
        tokio::time::timeout(super::PATIENCE, self.heard.recv()).await.unwrap().unwrap()
    }
}

async fn request(stream: &mut TcpStream) -> Heard {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    Heard { head, body }
}
