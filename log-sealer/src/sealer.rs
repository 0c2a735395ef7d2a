//! The life of a boot's log: evidence, first record, segments, last record.

use std::error::Error;
use std::sync::Arc;

use attestation::crypto::sha256;
use attestation::log_record::Event;
use service::lifecycle;

use crate::error::Refused;
use crate::evidence::EvidenceSource;
use crate::intake::{Batch, Intake, Limits};
use crate::recipients::Recipients;
use crate::segment::{self, SealError};
use crate::signer::{Signer, SignerError};
use crate::spool::Previous;
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
    pub(crate) recipients: Arc<Recipients>,
    pub(crate) evidence: EvidenceSource,
    pub(crate) signer: Signer,
    pub(crate) storing: Storing,
    /// Log records that came in since the last record and are in no segment.
    pub(crate) lost: u64,
}

/// A batch could not be sealed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BatchError {
    #[error("sealing failed")]
    Seal(#[from] SealError),
    #[error("sealing broke off")]
    BrokeOff(#[source] tokio::task::JoinError),
}

impl Sealer {
    /// Seals until the queue is closed and empty, then ends the log in order.
    ///
    /// # Errors
    ///
    /// [`SignerError`]: the log cannot go on.
    pub(crate) async fn run(mut self) -> Result<(), SignerError> {
        let identity = self.evidence.obtain(&self.signer.binding()).await;
        // who reads this log learns which one it follows
        if let Some(Previous { boot, seq, digest }) = self.storing.spool.previous() {
            let digest = hex::encode(digest);
            tracing::info!(boot = %boot, seq = seq, digest = %digest, "an earlier boot's log ends here");
        }
        let start = self.signer.sign(Event::Start, Some(identity))?;
        self.storing.store(self.signer.boot(), start, None).await;
        self.storing.status.works(Part::Start).await;
        lifecycle!("ready");

        self.segments().await?;
        let lost = std::mem::take(&mut self.lost);
        let stop = self.signer.sign(Event::Stop { lost }, None)?;
        self.storing.store(self.signer.boot(), stop, None).await;
        Ok(())
    }

    async fn segments(&mut self) -> Result<(), SignerError> {
        while let Some(mut batch) = self.intake.batch(&self.limits).await {
            let (records, senders) = (length(batch.records), std::mem::take(&mut batch.senders));
            let sealed = match seal(self.seal, batch, &self.recipients).await {
                Ok(sealed) => sealed,
                Err(error) => {
                    self.lost(records, &error);
                    senders.tell(Err(Refused::Unsealed));
                    continue;
                }
            };
            if !self.storing.admits(sealed.len()).await {
                self.lost(records, &Refused::Dropped);
                senders.tell(Err(Refused::Dropped));
                continue;
            }
            let event = Event::Segment {
                sha256: sha256(&sealed),
                bytes: length(sealed.len()),
                records,
                lost: std::mem::take(&mut self.lost),
            };
            let signed = self.signer.sign(event, None)?;
            self.storing.store(self.signer.boot(), signed, Some(sealed)).await;
            senders.tell(Ok(()));
        }
        Ok(())
    }

    /// Counts what was accepted and is in no segment, for the next record; says so for the first of them.
    fn lost(&mut self, records: u64, error: &dyn Error) {
        if self.lost == 0 {
            let cause = error.source().map(tracing::field::display);
            tracing::error!(error = %error, cause = cause, "log records are lost");
        }
        self.lost += records;
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
    use std::time::Duration;

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

    async fn sealer(full: Full) -> Sealer {
        let recipient = age::x25519::Identity::generate().to_public().to_string();
        let environment: Environment =
            [("LOG_RECIPIENTS", recipient.as_str())].into_iter().collect();
        let (config, process): (Config, Process) =
            Process::embedded::<LogSealer>(&environment).await.unwrap();
        let signer = Signer::new(&process.identity.boot_id, &config.recipients).unwrap();
        let settings = Settings { folder: None, bytes: 3 << 20 };
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
            evidence: EvidenceSource::new(&config.attest_sidecar),
            signer,
            storing,
            lost: 0,
        }
    }

    fn push(sealer: &Sealer, text: &[u8], records: usize) {
        let text = Zeroizing::new(text.to_vec());
        sealer.intake.push(Lines { text, records }).unwrap();
    }

    /// Records in the next segment of the spool, and those that were lost before it.
    async fn next(sealer: &Sealer) -> (u64, u64) {
        let portion = sealer.storing.spool.portion(0, 0).await.unwrap();
        sealer.storing.spool.passed(0, portion.end).await;
        let jws = Jws::parse(&portion.items[0].record, 4096).unwrap();
        match jws.unverified::<Record>().unwrap().event {
            Event::Segment { records, lost, .. } => (records, lost),
            Event::Start | Event::Stop { .. } => panic!("only segments here"),
        }
    }

    #[tokio::test]
    async fn what_was_accepted_and_could_not_be_sealed_is_on_record() {
        let mut sealer = sealer(Full::Block).await;
        for (text, records) in
            [("good one", 1), ("fails it", 2), ("panics !", 3), ("good two", 4), ("fails it", 5)]
        {
            push(&sealer, text.as_bytes(), records);
        }
        sealer.intake.close();
        sealer.segments().await.unwrap();
        assert_eq!(sealer.lost, 5, "the last ones go into the last record");
        assert_eq!([next(&sealer).await, next(&sealer).await], [(1, 0), (4, 5)]);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_dropped_and_on_record_where_that_is_the_rule() {
        let mut sealer = sealer(Full::Drop).await;
        // what cannot be compressed: one fits into the spool, and no other beside it
        let noise = |seed: u64| -> Vec<u8> {
            let mut state = seed;
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            };
            (0..600_000).map(|_| next()).collect()
        };
        for records in 1..=4 {
            push(&sealer, &noise(0x9E37_79B9), records);
        }
        sealer.intake.close();
        sealer.segments().await.unwrap();
        assert_eq!(sealer.lost, 9);
        assert_eq!(next(&sealer).await, (1, 0));
    }
}
