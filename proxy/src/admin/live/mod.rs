//! The live log: what comes into the sealed log from now on, for an open session, as a page that grows or as JSON lines.
//!
//! A view ends with its session, with the process, after a time and after so many records; a client that does not read it cannot
//! hold it open. Its beginning and its end are actions of the audit log, and `log-sealer` puts both on record as well.
//!
//! Must not know where the records come from, but by [`LiveLog`].

mod feed;
mod filter;
mod lines;
mod page;

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use proto::log::WatchRequest;
use service::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::feed::{Feed, Source};
use self::filter::Filter;
use self::lines::Lines;
use super::asking::Asking;
use super::audit::Action;
use super::error::AdminError;
use super::session::Open;
use super::{Admin, respond};
use crate::body::Body;
use crate::live_log::{LiveLog, WatchError};

pub(super) use self::page::page;

/// Views that may be open at once.
const VIEWS: usize = 4;

/// The longest view.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// The most records that one view shows; the last message may go a little beyond.
const MOST: u64 = 10_000;

/// The most bytes that one view writes, but for its last message.
const BYTES: usize = 32 << 20;

/// How often a view without records shows that it goes on, and looks whether its session does.
const ALIVE: Duration = Duration::from_secs(5);

/// Where the records come from, and how many may look.
pub(crate) struct Live {
    log: LiveLog,
    places: Arc<Semaphore>,
    stop: Shutdown,
}

/// Why a view ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It was as long as a view may be.
    Time,
    /// It showed as many records, or bytes of them, as a view may.
    Count,
    /// The session is over.
    Session,
    /// The proxy stops.
    Stop,
    /// `log-sealer` ended it.
    Log,
    /// Whoever looked went away.
    Gone,
}

impl End {
    /// Its name for programs, and in the audit log.
    fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Count => "count",
            Self::Session => "session",
            Self::Stop => "stop",
            Self::Log => "log",
            Self::Gone => "gone",
        }
    }

    /// For people.
    fn text(self) -> &'static str {
        match self {
            Self::Time => "This view ended after 15 minutes.",
            Self::Count => "This view ended: it is as long as one may be.",
            Self::Session => "This view ended with your session.",
            Self::Stop => "This view ended because the proxy stops.",
            Self::Log | Self::Gone => {
                "This view ended: log-sealer does not show anything any more. If it is restarting, try again in a minute."
            }
        }
    }
}

impl Live {
    /// From `log-sealer`, until `stop`.
    pub(crate) fn new(log: LiveLog, stop: Shutdown) -> Self {
        Self { log, places: Arc::new(Semaphore::new(VIEWS)), stop }
    }

    /// Begins to watch, in a place that is the view's until its end.
    async fn begin(
        &self,
        session: &Open,
        filter: &Filter,
    ) -> Result<(Source, OwnedSemaphorePermit), AdminError> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| AdminError::TooManyViews)?;
        let request = WatchRequest {
            who: format!(
                "an admin of the proxy, session {}, from {}",
                session.id.short(),
                session.address
            ),
            service: filter.service().to_owned(),
            least_severity: filter.least_severity(),
        };
        let source = self.log.watch(request).await.map_err(|error| match error {
            WatchError::Off => AdminError::LiveViewOff,
            WatchError::TooMany => AdminError::TooManyViews,
            WatchError::Unavailable(status) => {
                let error = status.as_ref() as &dyn std::error::Error;
                tracing::warn!(error, "log-sealer shows nothing to an admin");
                AdminError::NoLiveView
            }
        })?;
        Ok((source, place))
    }
}

/// Whether a view may be opened there at all. Opening one is an action, which no page of somebody else's is to make a browser do; and
/// `LOG_LIVE` promises a connection that was proved, also where `ADMIN_ACCESS` opens other pages to any. Without TLS
/// (`TLS_MODE=off`) there is none to prove.
fn may_open(asking: &Asking<'_>) -> Result<(), AdminError> {
    asking.is_of_our_site()?;
    if asking.has_channel && !asking.proved { Err(AdminError::NotProved) } else { Ok(()) }
}

/// Begins a view for a session, and puts that on record.
async fn open(
    admin: &Admin,
    session: &Open,
    filter: &Filter,
    form: impl feed::Form,
) -> Result<Body, AdminError> {
    let live = admin.parts.live.as_ref().ok_or(AdminError::NoLogSealer)?;
    let (source, place) = live.begin(session, filter).await?;
    admin.record(Action::LiveViewOpened, session, "", &filter.names());
    let feed = Feed {
        source,
        form,
        session: session.clone(),
        sessions: admin.sessions.clone(),
        audit: admin.audit.clone(),
        stop: live.stop.clone(),
        shown: 0,
        missed: 0,
        written: 0,
        _place: place,
    };
    Ok(feed.start())
}

/// `GET /admin/api/logs`: a line of JSON a record.
pub(super) async fn json_lines(
    admin: &Admin,
    asking: &Asking<'_>,
    session: &Open,
) -> Result<Response<Body>, AdminError> {
    may_open(asking)?;
    let filter = Filter::of(&asking.query)?;
    // nobody would see it: nothing is opened
    let body = if asking.is_head {
        crate::body::full(bytes::Bytes::new())
    } else {
        open(admin, session, &filter, Lines).await?
    };
    Ok(respond::json_lines(body))
}
