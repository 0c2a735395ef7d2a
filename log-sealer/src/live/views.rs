//! One watch from its opening to its end: who may begin one, how many there may be, and that each is on record.
//!
//! Nothing is shown before the opening is in the spool as a record of the log, and a place is free for the next only when the closing
//! is. So whoever can read the log knows who else did, when, and how much of it they saw. The spool is the host's disk: one that is
//! taken away before a sink had the record takes it along, and the closing too; readers see a log without its end. An opening that
//! took too long to be stored has no closing, and nothing was shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::log::{WatchRequest, Watched};
use service::Identity;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use zeroize::Zeroizing;

use super::own::{self, Event, number, text};
use super::shown::{self, Filter};
use super::{Allowed, Piece, Watch};
use crate::error::Refused;
use crate::intake::Intake;
use crate::outage::Pauses;

/// How many may watch at once.
const PLACES: usize = 4;

/// How long the record of an opening may take to be stored.
const OPENING: Duration = Duration::from_secs(20);

/// The longest text that says who watches, or which service, in bytes.
const LONGEST: usize = 200;

/// The most severe (OpenTelemetry protocol, logs.proto, `SeverityNumber`).
const MOST_SEVERE: u32 = 24;

/// All who watch by gRPC.
pub(crate) struct Views {
    allowed: Allowed,
    intake: Arc<Intake>,
    identity: Identity,
    places: Arc<Semaphore>,
    writing: Arc<Semaphore>,
    opened: AtomicU64,
}

/// One of them.
struct View {
    intake: Arc<Intake>,
    identity: Identity,
    /// Given back with the view.
    _place: OwnedSemaphorePermit,
    /// One view at a time is written: as a tree of JSON a line takes many times its length.
    writing: Arc<Semaphore>,
    /// Which of this boot it is, from 1.
    number: u64,
    who: String,
    filter: Filter,
}

/// What somebody saw.
#[derive(Default)]
struct Seen {
    shown: u64,
    missed: u64,
}

/// Where what is shown goes.
type To = mpsc::Sender<Result<Watched, Status>>;

impl Views {
    pub(crate) fn new(allowed: Allowed, intake: &Arc<Intake>, identity: &Identity) -> Self {
        let places = Arc::new(Semaphore::new(PLACES));
        let (intake, identity) = (intake.clone(), identity.clone());
        let writing = Arc::new(Semaphore::new(1));
        Self { allowed, intake, identity, places, writing, opened: AtomicU64::new(0) }
    }

    /// Begins one.
    ///
    /// # Errors
    ///
    /// As `Log.Watch` says.
    pub(crate) async fn open(
        &self,
        request: WatchRequest,
    ) -> Result<ReceiverStream<Result<Watched, Status>>, Status> {
        if self.allowed == Allowed::Nobody {
            return Err(Status::failed_precondition(
                "the live view is off: set LOG_LIVE=admin for log-sealer, a measured variable, and start the group anew",
            ));
        }
        let WatchRequest { who, service, least_severity } = request;
        if who.trim().is_empty() || who.len() > LONGEST || service.len() > LONGEST {
            let why = "who watches must have 1 to 200 bytes, and a service at most 200";
            return Err(Status::invalid_argument(why));
        }
        if least_severity > MOST_SEVERE {
            return Err(Status::invalid_argument("a severity is 1 to 24, or 0 for all"));
        }
        let place = self.places.clone().try_acquire_owned().map_err(|_| {
            Status::resource_exhausted("as many watch the log as may: end one of those views")
        })?;
        let view = View {
            intake: self.intake.clone(),
            identity: self.identity.clone(),
            _place: place,
            writing: self.writing.clone(),
            number: self.opened.fetch_add(1, Ordering::Relaxed) + 1,
            who,
            filter: Filter { service, least_severity },
        };
        let (opened, is_open) = oneshot::channel();
        let (to, shown) = mpsc::channel(1);
        // a task of its own: it has a closing to write, whatever becomes of the call
        tokio::spawn(view.run(opened, to));
        is_open.await.map_err(|_| Status::internal("the view broke off"))??;
        Ok(ReceiverStream::new(shown))
    }
}

impl View {
    async fn run(self, opened: oneshot::Sender<Result<(), Status>>, to: To) {
        let opening = timeout(OPENING, self.record(self.opening()));
        if let Err(refused) = opening.await.unwrap_or(Err(Refused::Slow)) {
            let why = format!("the opening of the view could not be put on record: {refused}");
            let _ = opened.send(Err(Status::unavailable(why)));
            return;
        }
        let began = Instant::now();
        let watch = self.intake.live().watch();
        let _ = opened.send(Ok(()));
        let seen = self.show(&watch, &to).await;
        drop((watch, to));
        let mut pauses = Pauses::default();
        // what was dropped or not sealed is on record as a loss; and at the end there is nothing to write to
        while let Err(Refused::Full) = self.record(self.closing(&seen, began.elapsed())).await {
            sleep(pauses.next()).await;
        }
    }

    /// Shows what comes, until whoever watches goes away, or all views end.
    async fn show(&self, watch: &Watch, to: &To) -> Seen {
        let mut seen = Seen::default();
        loop {
            let piece = tokio::select! {
                piece = watch.next() => piece,
                () = to.closed() => None,
            };
            let Some(Piece { missed, lines }) = piece else { return seen };
            seen.missed = seen.missed.saturating_add(missed);
            for message in self.messages(lines, missed).await {
                let records = u64::try_from(message.records.len()).unwrap_or(u64::MAX);
                let sent = tokio::select! {
                    sent = to.send(Ok(message)) => sent.is_ok(),
                    () = self.intake.live().ended() => false,
                };
                if !sent {
                    return seen;
                }
                seen.shown = seen.shown.saturating_add(records);
            }
        }
    }

    async fn messages(&self, lines: Option<Arc<Zeroizing<Vec<u8>>>>, missed: u64) -> Vec<Watched> {
        let filter = self.filter.clone();
        let turn = self.writing.clone().acquire_owned().await;
        let work = move || {
            let _turn = turn;
            let lines = lines.as_ref().map_or(&[][..], |lines| lines.as_slice());
            shown::messages(lines, &filter, missed)
        };
        // without it, what was missed is still in the closing
        tokio::task::spawn_blocking(work).await.unwrap_or_default()
    }

    /// Puts something on record.
    async fn record(&self, event: Event) -> Result<(), Refused> {
        self.intake.push(own::lines(&self.identity, event))?.wait().await
    }

    fn opening(&self) -> Event {
        let Filter { service, least_severity } = &self.filter;
        Event {
            name: "log.live.opened",
            says: "somebody watches the log live",
            attributes: vec![
                ("view", number(self.number)),
                ("who", text(&self.who)),
                ("service", text(service)),
                ("least_severity", number(u64::from(*least_severity))),
            ],
        }
    }

    fn closing(&self, seen: &Seen, lasted: Duration) -> Event {
        Event {
            name: "log.live.closed",
            says: "a live view of the log has ended",
            attributes: vec![
                ("view", number(self.number)),
                ("who", text(&self.who)),
                ("shown", number(seen.shown)),
                ("missed", number(seen.missed)),
                ("seconds", number(lasted.as_secs())),
            ],
        }
    }
}
