//! The sealer's side of the spool: what is sealed goes in, one after the other, however long that takes.
//!
//! While the spool takes nothing, exports are refused at the door where their senders wait for it anyway; without a
//! folder they fill the queue first. That is the back-pressure.

use std::error::Error as _;
use std::sync::Arc;

use service::lifecycle;
use tokio::time::{Instant, sleep};

use crate::intake::Intake;
use crate::outage::{Announced, Pauses};
use crate::sealed::Sealed;
use crate::signer::Signed;
use crate::spool::{Full, Spool};
use crate::status::{Part, Status};

/// The way into the spool.
pub(crate) struct Storing {
    pub(crate) spool: Arc<Spool>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) full: Full,
    pub(crate) status: Status,
    pub(crate) announced: Announced,
}

impl Storing {
    /// Waits until a boot can begin: a process that is started again and again while a sink is down would fill the disk
    /// with beginnings.
    pub(crate) async fn begins(&mut self) {
        if !self.spool.fits_beginning() {
            if self.fails(true).await {
                lifecycle!("spool full");
            }
            self.spool.room_for_beginning().await;
        }
    }

    /// Whether a segment of that many bytes is to be kept. If there is no room for it, `LOG_SPOOL_FULL` says whether
    /// this waits until there is, or says no. Nothing else may be put in before the segment then.
    pub(crate) async fn admits(&mut self, segment: usize) -> bool {
        if !self.spool.fits(segment) {
            let waits = self.full == Full::Block;
            if self.fails(waits).await {
                lifecycle!("spool full");
            }
            if !waits {
                return false;
            }
            self.spool.room(segment).await;
        }
        self.works().await;
        true
    }

    /// Returns once the record and its segment are in the spool.
    pub(crate) async fn store(&mut self, boot: &str, signed: Signed, segment: Option<Vec<u8>>) {
        let Signed { seq, compact, digest } = signed;
        let sealed = Arc::new(Sealed { boot: boot.to_owned(), seq, record: compact, segment });
        let mut pauses = Pauses::default();
        while let Err(error) = self.spool.put(&sealed, digest).await {
            if self.fails(true).await {
                let cause = error.source().map(tracing::field::display);
                lifecycle!("spool unavailable", error = %error, cause = cause);
            }
            sleep(pauses.next()).await;
        }
        self.works().await;
    }

    /// Whether to announce it.
    async fn fails(&mut self, waits: bool) -> bool {
        self.intake.hold(waits && self.spool.is_durable());
        self.status.fails(Part::Spool).await;
        self.announced.outage(Instant::now())
    }

    async fn works(&mut self) {
        self.intake.hold(false);
        self.status.works(Part::Spool).await;
        if self.announced.recovery() {
            lifecycle!("spool available again");
        }
    }
}
