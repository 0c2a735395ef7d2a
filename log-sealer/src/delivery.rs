//! Bringing records from the spool to one sink, in order, until each is there.
//!
//! Every sink has a task of its own, so that one that fails, or is slow, holds up none of the others. What is not
//! delivered stays in the spool.

use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use service::lifecycle;
use tokio::time::{Instant, sleep, timeout};

use crate::outage::{Announced, Pauses};
use crate::sink::{Sink, SinkError};
use crate::spool::{Portion, Spool};
use crate::status::{Part, Status};

/// A try that takes longer than this counts as failing. It is not broken off: what blocks in the file
/// system cannot be, and a second try beside it would only block as well.
const SLOW: Duration = Duration::from_secs(10);

/// How much more a sink is given after each success until it gets as much as it takes, in bytes of lines.
const GROWTH: u64 = 64 << 10;

/// The way from the spool to a sink.
pub(crate) struct Delivery {
    pub(crate) spool: Arc<Spool>,
    /// The sink's number in the spool.
    pub(crate) number: usize,
    /// The sink's kind.
    pub(crate) kind: &'static str,
    pub(crate) sink: Sink,
    pub(crate) status: Status,
    pub(crate) announced: Announced,
}

impl Delivery {
    /// Delivers without end.
    pub(crate) async fn run(mut self) -> Infallible {
        let mut most = self.sink.lines();
        loop {
            let mut portion = self.portion(most).await;
            let mut pauses = Pauses::default();
            while let Err(error) = self.put(&portion).await {
                self.fails(&error).await;
                if error.is_too_much() && portion.items.len() > 1 {
                    // down to one record; it ends, so there is no need for a pause
                    most = portion.lines / 2;
                    portion = self.portion(most).await;
                } else {
                    sleep(pauses.next().max(error.pause())).await;
                }
            }
            self.works().await;
            self.spool.passed(self.number, portion.end).await;
            most = most.saturating_add(GROWTH).min(self.sink.lines());
        }
    }

    /// What comes next, of at most so many bytes of lines, or one record.
    async fn portion(&mut self, most: u64) -> Portion {
        let mut pauses = Pauses::default();
        loop {
            match self.spool.portion(self.number, most).await {
                Ok(portion) => return portion,
                Err(error) => self.fails(&error).await,
            }
            sleep(pauses.next()).await;
        }
    }

    async fn put(&mut self, portion: &Portion) -> Result<(), SinkError> {
        let mut attempt = pin!(self.sink.put(&portion.items));
        if let Ok(outcome) = timeout(SLOW, attempt.as_mut()).await {
            return outcome;
        }
        self.status.fails(Part::Sink(self.number)).await;
        attempt.await
    }

    async fn fails(&mut self, error: &(impl Error + Sync)) {
        self.status.fails(Part::Sink(self.number)).await;
        if self.announced.outage(Instant::now()) {
            let cause = error.source().map(tracing::field::display);
            lifecycle!("sink unavailable", sink = self.kind, error = %error, cause = cause);
        }
    }

    async fn works(&mut self) {
        self.status.works(Part::Sink(self.number)).await;
        if self.announced.recovery() {
            lifecycle!("sink available again", sink = self.kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ::http::{Request, StatusCode};
    use attestation::crypto::sha256;
    use service::env::Environment;
    use service::http::Answer;
    use service::listen::{Listener, Local};
    use service::{Process, Shutdown};

    use super::*;
    use crate::sealed::Sealed;
    use crate::{Config, LogSealer};

    /// Takes two lines at a time, and refuses more.
    #[tokio::test]
    async fn a_sink_that_takes_less_at_a_time_gets_all_the_same() {
        let place: Local = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(place.address()).await.unwrap();
        let endpoint = format!("http://{}/", listener.address());
        let posts: Arc<Mutex<Vec<(StatusCode, usize)>>> = Arc::default();
        let (noted, shutdown) = (posts.clone(), Shutdown::default());
        tokio::spawn(async move {
            service::http::serve(listener, &shutdown, move |request: Request<_>| {
                let noted = noted.clone();
                async move {
                    let body = service::body::read(request.into_body(), 1 << 20).await.unwrap();
                    let lines = body.iter().filter(|byte| **byte == b'\n').count();
                    let status =
                        if lines > 2 { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::OK };
                    noted.lock().unwrap().push((status, lines));
                    let mut answer = Answer::default();
                    *answer.status_mut() = status;
                    answer
                }
            })
            .await;
        });
        let recipient = age::x25519::Identity::generate().to_public().to_string();
        let environment: Environment =
            [("LOG_RECIPIENTS", &*recipient), ("LOG_SINK", "http"), ("LOG_ENDPOINT", &endpoint)]
                .into_iter()
                .collect();
        let (config, process): (Config, Process) =
            Process::embedded::<LogSealer>(&environment).await.unwrap();
        let spool = Arc::new(Spool::open(config.spool, vec!["http".to_owned()]).await.unwrap());
        for seq in 0..50 {
            let (boot, record) = (hex::encode([7; 16]), format!("a.{seq}.c"));
            let digest = sha256(record.as_bytes());
            let sealed = Sealed { boot, seq, record, segment: Some(vec![7; 100]) };
            spool.put(&Arc::new(sealed), digest).await.unwrap();
        }
        let sink = Sink::new(&config.sinks[0], &config.outside).unwrap();
        let (status, announced) = (Status::new(process.health, 1, []), Announced::default());
        let delivery =
            Delivery { spool: spool.clone(), number: 0, kind: "http", sink, status, announced };
        let delivering = tokio::spawn(delivery.run());
        timeout(Duration::from_secs(30), spool.drained()).await.unwrap();
        delivering.abort();
        let posts = posts.lock().unwrap();
        assert_eq!(posts[0], (StatusCode::PAYLOAD_TOO_LARGE, 50));
        let taken = posts.iter().filter(|(status, _)| *status == StatusCode::OK);
        assert_eq!(taken.map(|(_, lines)| lines).sum::<usize>(), 50);
    }

    /// A folder that is not there is a sink that is down, and time passes as nothing happens.
    #[tokio::test(start_paused = true)]
    async fn an_hour_without_the_sink_is_made_up_for_at_once_and_holds_up_no_other() {
        const HOUR: Duration = Duration::from_secs(3600);
        let place = tempfile::tempdir().unwrap();
        let [up, down] = ["up", "down"].map(|name| place.path().join(name));
        std::fs::create_dir(&up).unwrap();
        let sinks = format!("folder:{},folder:{}", up.display(), down.display());
        let recipient = age::x25519::Identity::generate().to_public().to_string();
        let environment: Environment =
            [("LOG_RECIPIENTS", &recipient), ("LOG_SINK", &sinks)].into_iter().collect();
        let (config, process): (Config, Process) =
            Process::embedded::<LogSealer>(&environment).await.unwrap();
        let keys = vec!["up".to_owned(), "down".to_owned()];
        let spool = Arc::new(Spool::open(config.spool, keys).await.unwrap());
        let status = Status::new(process.health, 2, []);
        for (number, address) in config.sinks.iter().enumerate() {
            let sink = Sink::new(address, &config.outside).unwrap();
            let (spool, status, kind) = (spool.clone(), status.clone(), address.kind());
            let announced = Announced::default();
            tokio::spawn(Delivery { spool, number, kind, sink, status, announced }.run());
        }
        let boot = hex::encode([7; 16]);
        for seq in 0..360 {
            let (boot, record) = (boot.clone(), format!("a.{seq}.c"));
            let digest = sha256(record.as_bytes());
            let sealed = Sealed { boot, seq, record, segment: Some(vec![7; 100]) };
            spool.put(&Arc::new(sealed), digest).await.unwrap();
            sleep(HOUR / 360).await;
        }
        let files = |folder| std::fs::read_dir(folder).map_or(0, Iterator::count);
        assert_eq!((files(&up), files(&down), spool.waiting()), (720, 0, 360));

        std::fs::create_dir(&down).unwrap();
        let began = Instant::now();
        spool.drained().await;
        assert_eq!(files(&down), 720);
        assert!(began.elapsed() <= Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
