//! The life of a boot's log: evidence, first record, segments and what else is on record, last record.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use attestation::crypto::sha256;
use attestation::log_record::{Event, Previous, Why};
use service::lifecycle;
use tokio::time::{Instant, sleep_until};

use crate::delivery::Delivery;
use crate::evidence::EvidenceSource;
use crate::intake::{Batch, Intake, Limits};
use crate::readers_file::{Change, Changes};
use crate::recipients::Recipients;
use crate::segment::{self, SealError};
use crate::signer::{Signer, SignerError};

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
    /// The newest record of the boot before, where it is known.
    pub(crate) previous: Option<Previous>,
    /// The longest that nothing is signed.
    pub(crate) heartbeat: Duration,
    pub(crate) evidence: EvidenceSource,
    pub(crate) signer: Signer,
    pub(crate) delivery: Delivery,
    /// Log records that are in no segment and not on record yet.
    pub(crate) lost: BTreeMap<Why, u64>,
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
        let start = Event::Start {
            previous: self.previous.take(),
            heartbeat_seconds: self.heartbeat.as_secs(),
            recipients: self.recipients.texts(),
        };
        let start = self.signer.sign(start, Some(identity))?;
        self.delivery.deliver(self.signer.boot(), start, None).await;
        if let Some(change) = self.changes.first().await {
            self.change_readers(change).await?;
        }
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
                // what is lost shows as well that the sealer works
                Next::Heartbeat if !self.lost.is_empty() => self.losses().await?,
                Next::Heartbeat => self.record(Event::Heartbeat, None).await?,
            }
            pulse = Instant::now() + self.heartbeat;
        }
    }

    /// A batch becomes a segment, or is lost. Says whether anything was signed.
    async fn segment(&mut self, batch: Batch) -> Result<bool, SignerError> {
        let records = length(batch.records);
        let sealed = match seal(self.seal, batch, &self.recipients).await {
            Ok(sealed) => sealed,
            Err(error) => {
                self.lose(records, Why::Sealing, &error);
                return Ok(false);
            }
        };
        self.losses().await?;
        let event = Event::Segment {
            sha256: sha256(&sealed),
            bytes: length(sealed.len()),
            records,
            spans: 0,
            points: 0,
            first: None,
            last: None,
        };
        self.record(event, Some(sealed)).await?;
        Ok(true)
    }

    /// Counts what was accepted and is in no segment. Of losses in a row the first is announced: an announcement is a
    /// log record, and may itself be lost.
    fn lose(&mut self, records: u64, why: Why, error: &dyn Error) {
        if self.lost.is_empty() {
            let cause = error.source().map(tracing::field::display);
            tracing::error!(error = %error, cause = cause, "log records are lost");
        }
        let lost = self.lost.entry(why).or_default();
        *lost = lost.saturating_add(records);
    }

    /// Puts on record what was lost: before the next segment, and in place of a heartbeat, so that many losses are few
    /// records.
    async fn losses(&mut self) -> Result<(), SignerError> {
        for (why, records) in std::mem::take(&mut self.lost) {
            self.record(Event::Loss { records, spans: 0, points: 0, why }, None).await?;
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
        self.delivery.deliver(self.signer.boot(), signed, segment).await;
        Ok(())
    }
}

/// Finds out before anything is accepted whether these readers can be encrypted to at all.
///
/// # Errors
///
/// [`BatchError`].
pub(crate) async fn try_out(recipients: &Arc<Recipients>) -> Result<(), BatchError> {
    let nothing = Batch { lines: Vec::new(), records: 0 };
    seal(segment::seal, nothing, recipients).await.map(drop)
}

/// Seals where blocking is allowed; the batch is wiped before this returns.
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
    use crate::sink::Sink;
    use crate::{Config, LogSealer};

    fn fragile(batch: &Batch, recipients: &Recipients) -> Result<Vec<u8>, SealError> {
        if batch.lines.iter().any(|lines| lines.starts_with(b"fails")) {
            return Err(SealError::Write(std::io::ErrorKind::OutOfMemory.into()));
        }
        assert!(!batch.lines.iter().any(|lines| lines.starts_with(b"panics")), "as it was told");
        segment::seal(batch, recipients)
    }

    async fn sealer(folder: &std::path::Path) -> Sealer {
        let recipient = age::x25519::Identity::generate().to_public().to_string();
        let sink = format!("folder:{}", folder.display());
        let environment: Environment =
            [("LOG_RECIPIENTS", recipient.as_str()), ("LOG_SINK", &sink)].into_iter().collect();
        let (config, process): (Config, Process) =
            Process::embedded::<LogSealer>(&environment).await.unwrap();
        let signer = Signer::new(&process.identity.boot_id, &config.recipients).unwrap();
        let (delivery, _) = Delivery::new(Sink::new(config.sink), process.health);
        Sealer {
            intake: Arc::default(),
            limits: Limits { bytes: 8, wait: Duration::from_secs(1) },
            seal: fragile,
            recipients: Arc::new(config.recipients),
            changes: Changes::start(config.readers),
            previous: None,
            heartbeat: config.heartbeat,
            evidence: EvidenceSource::new(&config.attest_sidecar),
            signer,
            delivery,
            lost: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn what_was_accepted_and_could_not_be_sealed_is_on_record() {
        let folder = tempfile::tempdir().unwrap();
        let mut sealer = sealer(folder.path()).await;
        for (text, records) in
            [("good one", 1), ("fails it", 2), ("panics !", 3), ("good two", 4), ("fails it", 5)]
        {
            let text = Zeroizing::new(text.as_bytes().to_vec());
            sealer.intake.push(Lines { text, records }).unwrap();
        }
        sealer.intake.close();
        assert_eq!(sealer.segments().await, Ok(()));
        let loss = |records| Event::Loss { records, spans: 0, points: 0, why: Why::Sealing };
        let events = events(&sealer, folder.path());
        assert!(matches!(events[0], Event::Segment { records: 1, .. }));
        assert!(events[1] == loss(5), "before what follows, in one record");
        assert!(matches!(events[2], Event::Segment { records: 4, .. }));
        assert!(events[3] == loss(5) && events.len() == 4, "none is left out at the end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_sealer_shows_that_it_works() {
        let folder = tempfile::tempdir().unwrap();
        let mut sealer = sealer(folder.path()).await;
        let intake = sealer.intake.clone();
        let quiet = sealer.heartbeat * 5 / 2;
        let later = async {
            tokio::time::sleep(quiet).await;
            // what cannot be sealed is on record when the next heartbeat is due
            intake.push(Lines { text: Zeroizing::new(b"fails".to_vec()), records: 7 }).unwrap();
            tokio::time::sleep(quiet).await;
            intake.push(Lines { text: Zeroizing::new(b"one".to_vec()), records: 1 }).unwrap();
            tokio::time::sleep(sealer_wait()).await;
            intake.close();
        };
        let (outcome, ()) = tokio::join!(sealer.segments(), later);
        assert_eq!(outcome, Ok(()));
        let events = events(&sealer, folder.path());
        let loss = Event::Loss { records: 7, spans: 0, points: 0, why: Why::Sealing };
        assert!(events[..2] == [Event::Heartbeat, Event::Heartbeat]);
        assert!(events[2..5] == [loss, Event::Heartbeat, Event::Heartbeat]);
        assert!(matches!(events[5], Event::Segment { .. }) && events.len() == 6);
    }

    /// Longer than a batch waits, shorter than a heartbeat.
    fn sealer_wait() -> Duration {
        Duration::from_secs(2)
    }

    /// What was signed, in order.
    fn events(sealer: &Sealer, folder: &std::path::Path) -> Vec<Event> {
        let read = |seq: u32| {
            let name = format!("{}-{seq:08}.jws", sealer.signer.boot());
            let compact = std::fs::read_to_string(folder.join(name)).ok()?;
            let record: Record = Jws::parse(&compact, 4096).unwrap().unverified().unwrap();
            Some(record.event)
        };
        (0..).map_while(read).collect()
    }
}
