//! What hostile or broken clients and upstreams do, over sockets: answers cut at every byte, readers that do not read,
//! senders that hardly send, more of everything than anybody needs, and messages that two parsers take differently.
//!
//! Whatever it is, nobody without a key reaches the upstream, nobody takes a part of an answer for the whole, memory has
//! its bound, and others are served. Must not know anything of the proxy but its binary.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wrong_self_convention,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    reason = "helpers of tests"
)]

mod bombs;
mod connections;
mod floods;
mod full_disk;
mod memory;
mod refused_uploads;
mod resets;
mod slow_readers;
mod slow_senders;
mod smuggling;
mod tls;

#[expect(dead_code, reason = "each target of tests uses a part of it")]
#[path = "../contract/support/mod.rs"]
mod support;

use std::io::Write as _;
use std::net::TcpStream;

use support::{Bench, Setup, get};

/// An answer of the model server.
pub(crate) const ANSWER: &str = r#"{"id":"c","object":"chat.completion","model":"gpt-oss-120b","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}"#;

/// The contract's fixture, with limits that these many requests do not reach.
pub(crate) fn setup() -> Setup {
    let most = 1_000_000_000;
    let limits = format!(
        r#"{{"rate_limit_requests":{most},"rate_limit_window":60,"ip_rate_limit_requests":{most},"ip_rate_limit_window":60}}"#
    );
    Setup::new().file("settings.json", &limits)
}

/// Writes all of it; whether that worked.
pub(crate) fn write(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) -> bool {
    stream.write_all(bytes.as_ref()).is_ok()
}

/// Somebody else is served as ever.
pub(crate) fn serves_others(bench: &Bench) {
    let answer = bench.send(get("/health", "Connection: close\r\n"));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// The same by HTTPS.
pub(crate) fn serves_others_with_tls(bench: &Bench) {
    let mut connection = tls::Connection::open(bench.process.port, b"http/1.1");
    assert!(connection.write(&get("/health", "Connection: close\r\n")));
    let answer = connection.read_to_end(1 << 20);
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}
