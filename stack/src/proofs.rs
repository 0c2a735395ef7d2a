//! Many connections that ask for proof at the same moment, and how long each of them waits.
//!
//! They are opened first. Then all ask at once; a time is that until the last byte of an answer is in. The answers are
//! judged afterwards, so that judging takes nobody's time, and every one must be accepted. Since the clients share the
//! machine with the server, they do as little as can be: HTTP/1.1 by hand, into memory that is there before.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use attestation::connection::{ConnectionError, Observed, judge};
use attestation::wire::{VerifyAnswer, VerifyRequest};
use attestation::{Anchors, Policy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use crate::straight::{PATIENCE, Seen, StraightError, Version, handshake, within};

/// Handshakes at a time.
const HANDSHAKES: usize = 32;

/// Memory for an answer, in bytes; a longer one gets more of it.
const ANSWER: usize = 32 * 1024;

/// The longest answer, in bytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Connections from one address: a proxy lets one address have no more than 1024.
const PER_ADDRESS: usize = 500;

/// Why not every connection was proved.
#[derive(Debug, thiserror::Error)]
pub enum ProofsError {
    /// A connection or an answer failed.
    #[error("a connection was not proved")]
    Failed(#[from] StraightError),
    /// Another answer than 200 with a length, or a part of one.
    #[error("a connection was not proved; the answer begins with {0:?}")]
    Answer(String),
    /// The answer is of another form.
    #[error("an answer is not of the expected form")]
    Form(#[from] serde_json::Error),
    /// The proof is refused.
    #[error("a proof is refused")]
    Rejected(#[from] Box<ConnectionError>),
    /// This machine failed.
    #[error("{0}")]
    Here(String),
}

/// How long each connection waited.
#[derive(Clone, Debug)]
pub struct Waits {
    /// One a connection.
    pub waits: Vec<Duration>,
    /// Leaves in the largest tree that a report covered.
    pub largest_batch: u64,
}

/// A connection with everything that it takes to ask.
struct Caller {
    stream: TlsStream<TcpStream>,
    observed: Observed,
    request: Vec<u8>,
    /// Written to already, so that the kernel has given the memory.
    answer: Vec<u8>,
}

/// An answer, and what its connection must be judged by.
struct Answered {
    wait: Duration,
    observed: Observed,
    answer: Vec<u8>,
    body: Range<usize>,
}

/// Opens `count` connections to `server`, a proxy on 127.0.0.1, has all of them proved at once, and judges every proof.
///
/// # Errors
///
/// [`ProofsError`], if a single one is not proved.
pub async fn at_once(
    server: SocketAddr,
    count: usize,
    anchors: &Anchors,
    policy: &Policy,
) -> Result<Waits, ProofsError> {
    let callers = open(server, count).await?;
    // Everybody, and the one who looks at the clock.
    let start = Arc::new(Barrier::new(count + 1));
    let begin = Arc::new(OnceLock::new());
    let mut asking = JoinSet::new();
    for caller in callers {
        let (start, begin) = (start.clone(), begin.clone());
        asking.spawn(async move {
            start.wait().await;
            let begin = *begin.get_or_init(Instant::now);
            let answered = tokio::time::timeout(PATIENCE, caller.ask(begin)).await;
            answered.map_err(|_| ProofsError::Failed(StraightError::TimedOut))?
        });
    }
    start.wait().await;
    begin.get_or_init(Instant::now);
    let mut answered = Vec::with_capacity(count);
    while let Some(one) = asking.join_next().await {
        answered.push(one.map_err(|error| ProofsError::Here(error.to_string()))??);
    }
    judged(answered, anchors, policy)
}

async fn open(server: SocketAddr, count: usize) -> Result<Vec<Caller>, ProofsError> {
    let turns = Arc::new(Semaphore::new(HANDSHAKES));
    let mut opening = JoinSet::new();
    for n in 0..count {
        let turns = turns.clone();
        let host = u8::try_from(n / PER_ADDRESS + 1);
        let host = host.map_err(|_| ProofsError::Here(format!("{count} are too many")))?;
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 1, host));
        opening.spawn(async move {
            let _turn = turns.acquire().await;
            Caller::open(server, from).await
        });
    }
    let mut callers = Vec::with_capacity(count);
    while let Some(one) = opening.join_next().await {
        callers.push(one.map_err(|error| ProofsError::Here(error.to_string()))??);
    }
    Ok(callers)
}

impl Caller {
    async fn open(server: SocketAddr, from: IpAddr) -> Result<Self, ProofsError> {
        let (stream, seen) = within(handshake(server, Version::Http1, Some(from))).await?;
        let Seen { certificate, exporter } = seen;
        let mut nonce = [0; 32];
        aws_lc_rs::rand::fill(&mut nonce)
            .map_err(|_| ProofsError::Here("this machine has no random numbers".to_owned()))?;
        let body = serde_json::to_string(&VerifyRequest { nonce, token: false, client: false })?;
        let request = format!(
            "POST /attestation/verify HTTP/1.1\r\nhost: {server}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let observed = Observed { nonce, exporter, certificate };
        Ok(Self { stream, observed, request: request.into_bytes(), answer: vec![1; ANSWER] })
    }

    async fn ask(mut self, begin: Instant) -> Result<Answered, ProofsError> {
        self.stream.write_all(&self.request).await.map_err(StraightError::Connect)?;
        let mut filled = 0;
        loop {
            let room = self.answer.get_mut(filled..).unwrap_or_default();
            let read = self.stream.read(room).await.map_err(StraightError::Connect)?;
            filled += read;
            let so_far = self.answer.get(..filled).unwrap_or_default();
            let body = body(so_far);
            if let Some(body) = body.clone().filter(|body| body.end == filled) {
                let wait = begin.elapsed();
                let Self { observed, answer, .. } = self;
                return Ok(Answered { wait, observed, answer, body });
            }
            let hopeless = body.is_none() && so_far.windows(4).any(|four| four == b"\r\n\r\n");
            if read == 0 || hopeless || filled > MAX_ANSWER {
                let beginning = so_far.get(..500).unwrap_or(so_far);
                let beginning = String::from_utf8_lossy(beginning).into_owned();
                return Err(ProofsError::Answer(beginning));
            }
            if filled == self.answer.len() {
                self.answer.resize(filled * 2, 0);
            }
        }
    }
}

/// Where the body of a good answer stands, once its head is whole.
fn body(answer: &[u8]) -> Option<Range<usize>> {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = std::str::from_utf8(answer.get(..head)?).ok()?;
    let mut lines = text.split("\r\n");
    let good = lines.next()? == "HTTP/1.1 200 OK";
    let length = lines.find_map(|line| line.strip_prefix("content-length: "))?;
    let begin = head + 4;
    good.then_some(begin..begin + length.parse::<usize>().ok()?)
}

fn judged(
    answered: Vec<Answered>,
    anchors: &Anchors,
    policy: &Policy,
) -> Result<Waits, ProofsError> {
    let now = service::clock::unix_now();
    let mut waits = Vec::with_capacity(answered.len());
    let mut largest_batch = 0;
    for Answered { wait, observed, answer, body } in answered {
        let answer: VerifyAnswer = serde_json::from_slice(answer.get(body).unwrap_or_default())?;
        judge(&answer, &observed, anchors, policy, now).map_err(Box::new)?;
        if let Ok(place) = attestation::merkle::Inclusion::try_from(&answer.merkle) {
            largest_batch = largest_batch.max(place.size);
        }
        waits.push(wait);
    }
    Ok(Waits { waits, largest_batch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_begins_behind_the_head_of_a_good_answer() {
        let good = b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(body(good).map(|body| &good[body]), Some(b"{}".as_slice()));
        assert_eq!(body(&good[..40]), None);
        assert_eq!(body(b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}"), None);
    }
}
