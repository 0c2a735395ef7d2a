//! Load on a group for a while, by every way that clients come: through a forwarder, and straight by HTTP/1.1 and
//! HTTP/2. Each client asks, reads the whole answer, and asks again; it goes to another connection when the server
//! says that this one takes no more, as HTTP has it, and never repeats what the server may have looked at.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use attestation::crypto::sha256;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, StatusCode};
use http_body_util::Full;

use crate::check::chat_request;
use crate::straight::{Straight, StraightError, Version, is_last};

/// Failures that are told in full; the others are counted.
const TOLD: usize = 20;

/// What the model is asked to repeat.
const WORDS: &str = "rotation loses no request";

/// Who asks, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// The proxy.
    pub server: SocketAddr,
    /// A forwarder to it that clients use as well; `None` for straight clients only.
    pub forwarder: Option<SocketAddr>,
    /// A key for the group.
    pub api_key: String,
    /// Clients of each kind, all at the same time.
    pub clients: usize,
    /// How long they go on.
    pub duration: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Requests with a good answer.
    pub answered: u64,
    /// Connections that were made by straight clients.
    pub connections: u64,
    /// Requests that were sent again since the server said that it had not looked at them (RFC 9113, 8.7).
    pub repeated: u64,
    /// SHA-256 of every certificate that straight clients were shown.
    pub certificates: BTreeSet<[u8; 32]>,
    /// Requests without a good answer.
    pub failed: u64,
    /// Why, of the first of them.
    pub failures: Vec<String>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.connections += other.connections;
        self.repeated += other.repeated;
        self.certificates.extend(other.certificates);
        self.failed += other.failed;
        let room = TOLD.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
    }

    fn fail(&mut self, why: String) {
        self.failed += 1;
        if self.failures.len() < TOLD {
            self.failures.push(why);
        }
    }
}

/// How a client comes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Forwarder(SocketAddr),
    Straight(Version),
}

impl Load {
    /// Asks until the time is over and the last answers are in.
    pub async fn run(&self) -> Outcome {
        let ways = [Way::Straight(Version::Http1), Way::Straight(Version::Http2)];
        let ways = ways.into_iter().chain(self.forwarder.map(Way::Forwarder));
        let end = Instant::now() + self.duration;
        let mut clients = tokio::task::JoinSet::new();
        for way in ways {
            for _ in 0..self.clients {
                let load = self.clone();
                clients.spawn(async move { Box::pin(load.client(way, end)).await });
            }
        }
        let mut outcome = Outcome::default();
        while let Some(client) = clients.join_next().await {
            match client {
                Ok(own) => outcome.add(own),
                Err(error) => outcome.fail(error.to_string()),
            }
        }
        outcome
    }

    async fn client(&self, way: Way, end: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let mut open = None;
        while Instant::now() < end {
            match self.ask(way, &mut open, &mut outcome).await {
                Ok(()) => outcome.answered += 1,
                Err(why) => {
                    open = None;
                    outcome.fail(format!("{way:?}: {why}"));
                }
            }
        }
        outcome
    }

    /// One request, with its whole answer.
    async fn ask(
        &self,
        way: Way,
        open: &mut Option<Straight>,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        loop {
            let kept = match open.take() {
                Some(mut kept) => kept.is_ready().await.then_some(kept),
                None => None,
            };
            let mut connection = match kept {
                Some(kept) => kept,
                None => self.connect(way, outcome).await.map_err(|error| service::chain(&error))?,
            };
            let answer = match connection.send(self.request()?).await {
                Ok(answer) => answer,
                Err(error) if error.is_unprocessed() => {
                    outcome.repeated += 1;
                    continue;
                }
                Err(error) => return Err(service::chain(&error)),
            };
            if !is_last(&answer) {
                *open = Some(connection);
            }
            let text = String::from_utf8_lossy(answer.body());
            let good = answer.status() == StatusCode::OK && text.contains(WORDS);
            return if good { Ok(()) } else { Err(format!("{}: {text}", answer.status())) };
        }
    }

    async fn connect(&self, way: Way, outcome: &mut Outcome) -> Result<Straight, StraightError> {
        match way {
            Way::Forwarder(forwarder) => Straight::plain(forwarder).await,
            Way::Straight(version) => {
                let connection = Straight::tls(self.server, version).await?;
                outcome.connections += 1;
                let seen = connection.seen.iter().map(|seen| sha256(&seen.certificate));
                outcome.certificates.extend(seen);
                Ok(connection)
            }
        }
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, String> {
        Request::post("/v1/chat/completions")
            .header(AUTHORIZATION, format!("Bearer {}", self.api_key))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(chat_request(WORDS, false).to_string())))
            .map_err(|error| error.to_string())
    }
}
