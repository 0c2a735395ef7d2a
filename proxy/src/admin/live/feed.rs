//! One view from its beginning to its end: records come, are written in some form, and go out as they come.
//!
//! It runs beside the answer that it fills, so that its end does not wait for a client to read. Before every piece its session must
//! still be open. Must not know how a record is written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use proto::log::Watched;
use service::{BoxError, Shutdown};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, Permit};
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use super::super::audit::{Action, Audit};
use super::super::session::{Open, SessionId, Sessions};
use super::{ALIVE, BYTES, End, LONGEST, MOST};
use crate::body::Body;

/// How long the last words may take to leave.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What `log-sealer` shows.
pub(super) type Source = Streaming<Watched>;

/// How a view is written.
pub(super) trait Form: Send + 'static {
    /// What comes first.
    fn beginning(&mut self) -> String;
    /// Some records.
    fn records(&self, watched: &Watched) -> String;
    /// That it goes on, though there is nothing to show.
    fn alive(&self) -> &'static str;
    /// What comes last.
    fn end(&self, why: End) -> String;
}

/// A view.
pub(super) struct Feed<F> {
    pub(super) source: Source,
    pub(super) form: F,
    pub(super) session: Open,
    pub(super) sessions: Arc<Sessions>,
    pub(super) audit: Arc<Audit>,
    pub(super) stop: Shutdown,
    pub(super) shown: u64,
    pub(super) missed: u64,
    /// Bytes.
    pub(super) written: usize,
    /// Given back with the view.
    pub(super) _place: OwnedSemaphorePermit,
}

impl<F: Form> Feed<F> {
    /// Begins it: what it becomes, as it becomes it.
    pub(super) fn start(self) -> Body {
        let (to, written) = mpsc::channel(1);
        // on the thread of the connection, which it ends with
        tokio::spawn(self.run(to));
        let pieces = futures_util::stream::unfold(written, |mut written| async {
            let piece: Bytes = written.recv().await?;
            Some((Ok::<_, BoxError>(Frame::data(piece)), written))
        });
        StreamBody::new(pieces).boxed_unsync()
    }

    async fn run(mut self, to: mpsc::Sender<Bytes>) {
        let stop = self.stop.fired();
        let why = tokio::select! {
            why = self.show(&to) => why,
            () = sleep(LONGEST) => End::Time,
            () = stop => End::Stop,
            () = to.closed() => End::Gone,
        };
        let last = self.form.end(why);
        if why != End::Gone {
            let _ = timeout(LAST_WORDS, to.send(last.into())).await;
        }
        let Self { session, shown, missed, .. } = &self;
        let seen = format!("end={} shown={shown} missed={missed}", why.name());
        let action = Action::LiveViewEnded;
        self.audit.record(action, Some(session.id), session.address, "", &seen);
    }

    async fn show(&mut self, to: &mpsc::Sender<Bytes>) -> End {
        let mut next = (self.form.beginning(), 0);
        loop {
            let room = match room(&self.sessions, self.session.id, to).await {
                Ok(room) => room,
                Err(why) => return why,
            };
            let (text, records) = std::mem::take(&mut next);
            self.written = self.written.saturating_add(text.len());
            room.send(text.into());
            self.shown = self.shown.saturating_add(records);
            if self.shown >= MOST || self.written >= BYTES {
                return End::Count;
            }
            next = tokio::select! {
                message = self.source.message() => match message {
                    Ok(Some(watched)) => self.take(&watched),
                    Ok(None) | Err(_) => return End::Log,
                },
                () = sleep(ALIVE) => (self.form.alive().to_owned(), 0),
            };
        }
    }

    /// What is to be written, and how many records that is.
    fn take(&mut self, watched: &Watched) -> (String, u64) {
        self.missed = self.missed.saturating_add(watched.missed);
        let records = u64::try_from(watched.records.len()).unwrap_or(u64::MAX);
        (self.form.records(watched), records)
    }
}

/// Waits until the piece before has left, and sees that the session is open still.
async fn room<'a>(
    sessions: &Sessions,
    session: SessionId,
    to: &'a mpsc::Sender<Bytes>,
) -> Result<Permit<'a, Bytes>, End> {
    loop {
        let room = tokio::select! {
            room = to.reserve() => Some(room.map_err(|_| End::Gone)?),
            () = sleep(ALIVE) => None,
        };
        if !sessions.is_open(session, Instant::now()) {
            return Err(End::Session);
        }
        if let Some(room) = room {
            return Ok(room);
        }
    }
}
