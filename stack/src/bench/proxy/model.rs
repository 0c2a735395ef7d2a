//! A model server that costs next to nothing: short answers that never change, and streams at the pace that a request
//! asks for, each chunk with the time at which it was sent.
//!
//! Must not know who asks.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::message::{Head, number, value};
use super::threads::Threads;
use crate::bench::{BenchError, io};

/// Asks for a stream, and names the microseconds between two of its chunks.
pub(crate) const PACE: &str = "x-bench-pace";

/// How many chunks the stream has; with 0 it has one, and stays open until its client goes.
pub(crate) const CHUNKS: &str = "x-bench-chunks";

/// What stands before the time in each chunk.
pub(crate) const STAMP: &[u8] = br#""content":""#;

/// Digits of the time.
pub(crate) const DIGITS: usize = 16;

/// The largest request that is read, in bytes.
const MAX_REQUEST: usize = 1024 * 1024;

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1750000000,"model":"gpt-oss-120b","choices":[{"index":0,"message":{"role":"assistant","content":"A short answer."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}"#;

const CHUNK: (&str, &str) = (
    r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1750000000,"model":"gpt-oss-120b","choices":[{"index":0,"delta":{"content":""#,
    "\"},\"finish_reason\":null}]}\n\n",
);

const USAGE: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1750000000,\"model\":\"gpt-oss-120b\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\"total_tokens\":13}}\n\n";

/// nginx passes an answer on as it comes where the answer says so.
const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Nanoseconds of this process.
pub(crate) fn now() -> u64 {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGIN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Serves on these threads as long as they live. Returns where.
pub(crate) async fn start(threads: &Threads) -> Result<SocketAddr, BenchError> {
    now();
    threads
        .run(async {
            let needs = "the model server of the benchmark needs a port";
            let listener = TcpListener::bind("127.0.0.1:0").await.map_err(io(needs))?;
            let address = listener.local_addr().map_err(io(needs))?;
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    // Ends with its client; why is of no interest.
                    tokio::spawn(async move { serve(stream).await });
                }
            });
            Ok(address)
        })
        .await
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let mut read = Vec::with_capacity(4096);
    loop {
        read.clear();
        let head = loop {
            if stream.read_buf(&mut read).await? == 0 || read.len() > MAX_REQUEST {
                return Ok(());
            }
            if let Some(head) = Head::of(&read)
                && head.is_whole(&read)
            {
                break head;
            }
        };
        let asked = read.get(..head.length).unwrap_or_default();
        let header = |name| value(asked, name).and_then(number);
        match (header(PACE), header(CHUNKS)) {
            (Some(pace), Some(chunks)) => {
                let usage = read.windows(20).any(|window| window == br#""include_usage":true"#);
                let pace = Duration::from_micros(u64::try_from(pace).unwrap_or(u64::MAX));
                send(&mut stream, pace, chunks, usage).await?;
            }
            _ => stream.write_all(answer.as_bytes()).await?,
        }
    }
}

async fn send(
    stream: &mut TcpStream,
    pace: Duration,
    chunks: usize,
    usage: bool,
) -> std::io::Result<()> {
    stream.write_all(STREAM.as_bytes()).await?;
    let begin = tokio::time::Instant::now();
    for number in 0..u32::try_from(chunks.max(1)).unwrap_or(u32::MAX) {
        tokio::time::sleep_until(begin + pace * number).await;
        let event = format!("{}{:016}{}", CHUNK.0, now(), CHUNK.1);
        stream.write_all(chunk(&event).as_bytes()).await?;
    }
    if chunks == 0 {
        // A client says nothing more until it goes.
        stream.read_u8().await?;
    }
    let usage = if usage { chunk(USAGE) } else { String::new() };
    let end = format!("{usage}{}0\r\n\r\n", chunk("data: [DONE]\n\n"));
    stream.write_all(end.as_bytes()).await
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}
