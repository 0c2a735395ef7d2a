//! The life of a boot's log: evidence, first record, segments and what else is on record, last record.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use attestation::crypto::sha256;
use attestation::log_record::{Event, Why};
use service::lifecycle;
use tokio::time::{Instant, sleep_until};

use crate::counts::Counts;
use crate::error::Refused;
use crate::evidence::EvidenceSource;
use crate::intake::{Batch, Intake, Limits};
use crate::readers_file::{Change, Changes};
use crate::recipients::Recipients;
use crate::segment::{self, SealError};
use crate::signer::{Signer, SignerError};
use crate::status::Part;
use crate::storing::Storing;

/// [`segment::seal`], or what a test puts in its place.
type Seal = fn(&Batch, &Recipients) -> Result<Vec<u8>, SealError>;

/// Everything that one boot's log takes.
pub(crate) struct Sealer {
    pub(crate) intake: Arc<Intake>,
    pub(crate) limits: Limits,
    /// How a batch becomes a segment.
    pub(crate) seal: Seal,
    /// Who can read what is sealed now.
    pub(crate) recipients: Arc<Recipients>,
    pub(crate) changes: Changes,
    /// The longest that nothing is signed.
    pub(crate) heartbeat: Duration,
    pub(crate) evidence: EvidenceSource,
    pub(crate) signer: Signer,
    pub(crate) storing: Storing,
    /// What was accepted, is in no segment, and is not on record yet.
    pub(crate) lost: BTreeMap<Why, Counts>,
}

/// A batch could not be sealed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BatchError {
    #[error("sealing failed")]
    Seal(#[from] SealError),
    #[error("sealing broke off")]
    BrokeOff(#[source] tokio::task::JoinError),
}

/// What is to be done next.
enum Next {
    /// The readers change.
    Readers(Change),
    /// A batch is due; `None`: there will be no other.
    Batch(Option<Batch>),
    /// Nothing was signed for long enough.
    Heartbeat,
}

impl Sealer {
    /// Seals until the queue is closed and empty, then ends the log in order.
    ///
    /// # Errors
    ///
    /// [`SignerError`]: the log cannot go on.
    pub(crate) async fn run(mut self) -> Result<(), SignerError> {
        let identity = self.evidence.obtain(&self.signer.binding()).await;
        self.storing.begins().await;
        // The disk is the host's: this is its word, and readers hold it against what they have.
        let start = Event::Start {
            previous: self.storing.spool.previous().cloned(),
            heartbeat_seconds: self.heartbeat.as_secs(),
            recipients: self.recipients.texts(),
        };
        let start = self.signer.sign(start, Some(identity))?;
        self.storing.store(self.signer.boot(), start, None).await;
        if let Some(change) = self.changes.first().await {
            self.change_readers(change).await?;
        }
        self.storing.status.works(Part::Start).await;
        lifecycle!("ready");

        self.segments().await?;
        self.record(Event::Stop, None).await
    }

    async fn segments(&mut self) -> Result<(), SignerError> {
        let mut pulse = Instant::now() + self.heartbeat;
        loop {
            let next = tokio::select! {
                biased;
                change = self.changes.next() => Next::Readers(change),
                batch = self.intake.batch(&self.limits) => Next::Batch(batch),
                () = sleep_until(pulse) => Next::Heartbeat,
            };
            match next {
                Next::Readers(change) => self.change_readers(change).await?,
                Next::Batch(Some(batch)) => {
                    if !self.segment(batch).await? {
                        continue;
                    }
                }
                Next::Batch(None) => return self.losses().await,
                // A spool without room gets none: its bound holds for a sink that is down for days, too.
                Next::Heartbeat if !self.storing.spool.fits(0) => {}
                // what is lost shows as well that the sealer works
                Next::Heartbeat if !self.lost.is_empty() => self.losses().await?,
                Next::Heartbeat => self.record(Event::Heartbeat, None).await?,
            }
            pulse = Instant::now() + self.heartbeat;
        }
    }

    /// A batch becomes a segment, or is lost; its senders hear which. Says whether anything was signed.
    async fn segment(&mut self, mut batch: Batch) -> Result<bool, SignerError> {
        let (counts, times) = (batch.counts, batch.times);
        let senders = std::mem::take(&mut batch.senders);
        let sealed = match seal(self.seal, batch, &self.recipients).await {
            Ok(sealed) => sealed,
            Err(error) => {
                self.lose(counts, Why::Sealing, &error);
                senders.tell(Err(Refused::Unsealed));
                return Ok(false);
            }
        };
        if !self.storing.admits(sealed.len()).await {
            self.lose(counts, Why::SpoolFull, &Refused::Dropped);
            senders.tell(Err(Refused::Dropped));
            return Ok(false);
        }
        self.losses().await?;
        let (first, last) = times.unzip();
        let event = Event::Segment {
            sha256: sha256(&sealed),
            bytes: length(sealed.len()),
            records: length(counts.records),
            spans: length(counts.spans),
            points: length(counts.points),
            first,
            last,
        };
        self.record(event, Some(sealed)).await?;
        senders.tell(Ok(()));
        Ok(true)
    }

    /// Counts what was accepted and is in no segment. Of losses in a row the first is announced: an announcement is a
    /// log record, and may itself be lost.
    fn lose(&mut self, counts: Counts, why: Why, error: &dyn Error) {
        if self.lost.is_empty() {
            let cause = error.source().map(tracing::field::display);
            tracing::error!(error = %error, cause = cause, "log records are lost");
        }
        *self.lost.entry(why).or_default() += counts;
    }

    /// Puts on record what was lost: before the next segment, in place of a heartbeat, and before the end, so that many
    /// losses are few records.
    async fn losses(&mut self) -> Result<(), SignerError> {
        for (why, counts) in std::mem::take(&mut self.lost) {
            let Counts { records, spans, points } = counts;
            let [records, spans, points] = [records, spans, points].map(length);
            self.record(Event::Loss { records, spans, points, why }, None).await?;
        }
        Ok(())
    }

    /// What follows is sealed for these.
    async fn change_readers(&mut self, change: Change) -> Result<(), SignerError> {
        self.signer.change_readers(&change.recipients);
        self.recipients = change.recipients;
        self.record(Event::Recipients { signed: change.signed }, None).await
    }

    async fn record(&mut self, event: Event, segment: Option<Vec<u8>>) -> Result<(), SignerError> {
        let signed = self.signer.sign(event, None)?;
        self.storing.store(self.signer.boot(), signed, segment).await;
        Ok(())
    }
}

/// Finds out before anything is accepted whether these readers can be encrypted to at all.
///
/// # Errors
///
/// [`BatchError`].
pub(crate) async fn try_out(recipients: &Arc<Recipients>) -> Result<(), BatchError> {
    seal(segment::seal, Batch::default(), recipients).await.map(drop)
}

/// Seals where blocking is allowed; the batch is wiped before this returns, but for what somebody watched when it
/// came: that is wiped once it is stored and shown.
async fn seal(
    seal: Seal,
    batch: Batch,
    recipients: &Arc<Recipients>,
) -> Result<Vec<u8>, BatchError> {
    let recipients = recipients.clone();
    let work = move || seal(&batch, &recipients);
    Ok(tokio::task::spawn_blocking(work).await.map_err(BatchError::BrokeOff)??)
}

fn length(number: usize) -> u64 {
    u64::try_from(number).expect("no length of this platform exceeds 64 bits")
}

#[cfg(test)]
mod tests {
    use attestation::jws::Jws;
    use attestation::log_record::Record;
    use service::Process;
    use service::env::Environment;
    use zeroize::Zeroizing;

    use super::*;
    use crate::lines::Lines;
    use crate::outage::Announced;
    use crate::spool::{Full, Settings, Spool};
    use crate::status::Status;
    use crate::{Config, LogSealer};

    fn fragile(batch: &Batch, recipients: &Recipients) -> Result<Vec<u8>, SealError> {
        if batch.lines.iter().any(|lines| lines.starts_with(b"fails")) {
            return Err(SealError::Write(std::io::ErrorKind::OutOfMemory.into()));
        }
        assert!(!batch.lines.iter().any(|lines| lines.starts_with(b"panics")), "as it was told");
        segment::seal(batch, recipients)
    }

    /// With a spool in memory of that many bytes, of which the last MiB is for records without a segment.
    async fn sealer(full: Full, bytes: u64) -> Sealer {
        let recipient = age::x25519::Identity::generate().to_public().to_string();
        let environment: Environment =
            [("LOG_RECIPIENTS", recipient.as_str())].into_iter().collect();
        let (config, process): (Config, Process) =
            Process::embedded::<LogSealer>(&environment).await.unwrap();
        let signer = Signer::new(&process.identity.boot_id, &config.recipients).unwrap();
        let settings = Settings { folder: None, bytes };
        let spool = Arc::new(Spool::open(settings, vec!["sink".to_owned()]).await.unwrap());
        let intake = Arc::new(Intake::default());
        let status = Status::new(process.health, 1, []);
        let storing = Storing {
            spool,
            intake: intake.clone(),
            full,
            status,
            announced: Announced::default(),
        };
        Sealer {
            intake,
            limits: Limits { bytes: 8, most: 8, wait: Duration::from_secs(1) },
            seal: fragile,
            recipients: Arc::new(config.recipients),
            changes: Changes::start(config.readers),
            heartbeat: config.heartbeat,
            evidence: EvidenceSource::new(&config.attest_sidecar),
            signer,
            storing,
            lost: BTreeMap::new(),
        }
    }

    fn push(intake: &Intake, text: &[u8], records: usize) {
        let text = Zeroizing::new(text.to_vec()).into();
        let counts = Counts { records, ..Counts::default() };
        intake.push(Lines { text, counts, times: None }).unwrap();
    }

    /// What was signed and is in the spool, in order.
    async fn events(sealer: &Sealer) -> Vec<Event> {
        let mut events = Vec::new();
        while sealer.storing.spool.waiting() > 0 {
            let portion = sealer.storing.spool.portion(0, 0).await.unwrap();
            sealer.storing.spool.passed(0, portion.end).await;
            for item in portion.items {
                let record: Record = Jws::parse(&item.record, 4096).unwrap().unverified().unwrap();
                events.push(record.event);
            }
        }
        events
    }

    fn loss(records: u64, why: Why) -> Event {
        Event::Loss { records, spans: 0, points: 0, why }
    }

    #[tokio::test]
    async fn what_was_accepted_and_could_not_be_sealed_is_on_record() {
        let mut sealer = sealer(Full::Block, 3 << 20).await;
        for (text, records) in
            [("good one", 1), ("fails it", 2), ("panics !", 3), ("good two", 4), ("fails it", 5)]
        {
            push(&sealer.intake, text.as_bytes(), records);
        }
        sealer.intake.close();
        assert_eq!(sealer.segments().await, Ok(()));
        let events = events(&sealer).await;
        assert!(matches!(events[0], Event::Segment { records: 1, .. }));
        assert!(events[1] == loss(5, Why::Sealing), "before what follows, in one record");
        assert!(matches!(events[2], Event::Segment { records: 4, .. }));
        let last = loss(5, Why::Sealing);
        assert!(events[3] == last && events.len() == 4, "none is left out at the end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_sealer_shows_that_it_works() {
        let mut sealer = sealer(Full::Block, 3 << 20).await;
        let intake = sealer.intake.clone();
        let quiet = sealer.heartbeat * 5 / 2;
        let later = async {
            tokio::time::sleep(quiet).await;
            // what cannot be sealed is on record when the next heartbeat is due
            push(&intake, b"fails", 7);
            tokio::time::sleep(quiet).await;
            push(&intake, b"one", 1);
            // longer than a batch waits, shorter than a heartbeat
            tokio::time::sleep(Duration::from_secs(2)).await;
            intake.close();
        };
        let (outcome, ()) = tokio::join!(sealer.segments(), later);
        assert_eq!(outcome, Ok(()));
        let events = events(&sealer).await;
        assert!(events[..2] == [Event::Heartbeat, Event::Heartbeat]);
        assert!(events[2..5] == [loss(7, Why::Sealing), Event::Heartbeat, Event::Heartbeat]);
        assert!(matches!(events[5], Event::Segment { .. }) && events.len() == 6);
    }

    /// What cannot be compressed.
    fn noise() -> Vec<u8> {
        let mut state = 0x9E37_79B9_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        (0..600_000).map(|_| next()).collect()
    }

    #[tokio::test]
    async fn what_finds_no_room_is_dropped_and_on_record_where_that_is_the_rule() {
        // one segment fits into the spool, and no other beside it
        let mut sealer = sealer(Full::Drop, 3 << 20).await;
        for records in 1..=4 {
            push(&sealer.intake, &noise(), records);
        }
        sealer.intake.close();
        sealer.segments().await.unwrap();
        let events = events(&sealer).await;
        assert!(matches!(events[0], Event::Segment { records: 1, .. }));
        assert!(events[1..] == [loss(9, Why::SpoolFull)]);
    }

    /// A sink may be down for days: what is signed meanwhile has no room without end.
    #[tokio::test(start_paused = true)]
    async fn without_any_room_losses_wait_for_their_record_and_nothing_is_signed() {
        let mut sealer = sealer(Full::Drop, (1 << 20) + 1).await;
        for records in 1..=4 {
            push(&sealer.intake, b"too much", records);
        }
        let intake = sealer.intake.clone();
        let days = async {
            tokio::time::sleep(Duration::from_secs(3 * 86_400)).await;
            intake.close();
        };
        let (outcome, ()) = tokio::join!(sealer.segments(), days);
        outcome.unwrap();
        // the end alone has room of its own
        assert!(events(&sealer).await == [loss(10, Why::SpoolFull)]);
    }
}
