//! The life of a boot's log: evidence, first record, segments, last record.

use std::error::Error as _;
use std::sync::Arc;

use attestation::crypto::sha256;
use attestation::log_record::Event;
use service::lifecycle;

use crate::delivery::Delivery;
use crate::evidence::EvidenceSource;
use crate::intake::{Batch, Intake, Limits};
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
    pub(crate) recipients: Arc<Recipients>,
    pub(crate) evidence: EvidenceSource,
    pub(crate) signer: Signer,
    pub(crate) delivery: Delivery,
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
        let start = self.signer.sign(Event::Start, Some(identity))?;
        self.delivery.deliver(self.signer.boot(), start, None).await;
        lifecycle!("ready");

        let lost = self.segments().await?;
        let stop = self.signer.sign(Event::Stop { lost }, None)?;
        self.delivery.deliver(self.signer.boot(), stop, None).await;
        Ok(())
    }

    /// Returns how many log records were lost since the last segment.
    async fn segments(&mut self) -> Result<u64, SignerError> {
        let mut lost = 0;
        while let Some(batch) = self.intake.batch(&self.limits).await {
            let records = length(batch.counts.all());
            let sealed = match seal(self.seal, batch, &self.recipients).await {
                Ok(sealed) => sealed,
                Err(error) => {
                    if lost == 0 {
                        let cause = error.source().map(tracing::field::display);
                        tracing::error!(error = %error, cause = cause, "log records are lost");
                    }
                    lost += records;
                    continue;
                }
            };
            let event = Event::Segment {
                sha256: sha256(&sealed),
                bytes: length(sealed.len()),
                records,
                lost: std::mem::take(&mut lost),
            };
            let signed = self.signer.sign(event, None)?;
            self.delivery.deliver(self.signer.boot(), signed, Some(sealed)).await;
        }
        Ok(lost)
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
    use crate::counts::Counts;
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
            evidence: EvidenceSource::new(&config.attest_sidecar),
            signer,
            delivery,
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
            let counts = Counts { records, ..Counts::default() };
            sealer.intake.push(Lines { text, counts, times: None }).unwrap();
        }
        sealer.intake.close();
        assert_eq!(sealer.segments().await, Ok(5), "the last ones go into the last record");

        let event = |seq: u8| {
            let name = format!("{}-{seq:08}.jws", sealer.signer.boot());
            let compact = std::fs::read_to_string(folder.path().join(name)).unwrap();
            let record: Record = Jws::parse(&compact, 4096).unwrap().unverified().unwrap();
            match record.event {
                Event::Segment { records, lost, .. } => (records, lost),
                Event::Start | Event::Stop { .. } => panic!("only segments here"),
            }
        };
        assert_eq!([event(0), event(1)], [(1, 0), (4, 5)]);
    }
}
