//! The one queue in front of the security processor, which makes one report at a time, in milliseconds.
//!
//! Bindings that wait share the next report by a Merkle tree (`wire.md` part 1), so that a slow report serves
//! everybody who waits. Reports of the other shapes are made one by one. The two take turns: neither a flood
//! of bindings nor one of single reports makes the other wait for more than one report beyond its own.

use std::sync::Arc;

use attestation::merkle::{Inclusion, Tree};
use attestation::{Binding, ReportData, binding};
use service::BoxError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::device::{Device, DeviceError, RawReport, Source};

/// Bindings that may wait for one report, of all callers. More are refused: their callers ask again.
const WAITING_BINDINGS: usize = 16 * 1024;

/// Single reports that may wait.
const WAITING_REPORTS: usize = 64;

/// Why no report was made.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ProcessorError {
    /// Too many wait already.
    #[error("too many wait for the security processor; try again")]
    Busy,
    /// There is no device, and there may be one later.
    #[error(transparent)]
    NoDevice(Arc<DeviceError>),
    /// The device failed; its error is shared by everybody who waited.
    #[error("failed to retrieve attestation report")]
    Device(#[source] Arc<DeviceError>),
    /// The processor's thread is gone: only at the end of the process.
    #[error("the security processor is no longer asked")]
    Gone,
}

type Answer<T> = oneshot::Sender<Result<T, ProcessorError>>;

/// One caller's bindings, which wait for a report.
struct Waiting {
    leaves: Vec<Vec<u8>>,
    answer: Answer<(RawReport, Vec<Inclusion>)>,
    /// Their places in the queue.
    _places: OwnedSemaphorePermit,
}

/// A report of another shape.
struct Single {
    report_data: ReportData,
    answer: Answer<RawReport>,
}

/// The way to the security processor. Clones share its queue.
#[derive(Clone)]
pub(crate) struct Processor {
    places: Arc<Semaphore>,
    bindings: mpsc::Sender<Waiting>,
    singles: mpsc::Sender<Single>,
}

impl Processor {
    /// Starts the one thread that talks to the device. It ends when the last clone is dropped.
    pub(crate) fn start(source: &Source) -> Result<Self, BoxError> {
        Self::ask(source.device())
    }

    fn ask(device: Box<dyn Device>) -> Result<Self, BoxError> {
        let (bindings, waiting) = mpsc::channel(WAITING_BINDINGS);
        let (singles, single) = mpsc::channel(WAITING_REPORTS);
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new()
            .name("security-processor".to_owned())
            .spawn(move || runtime.block_on(Turns { device, waiting, single }.take()))?;
        let places = Arc::new(Semaphore::new(WAITING_BINDINGS));
        Ok(Self { places, bindings, singles })
    }

    /// A report of the batch shape that covers these bindings, with each one's place in it, in their order. There must
    /// be one at least.
    pub(crate) async fn prove(
        &self,
        bindings: &[Binding],
    ) -> Result<(RawReport, Vec<Inclusion>), ProcessorError> {
        let count = u32::try_from(bindings.len()).map_err(|_| ProcessorError::Busy)?;
        let places = self.places.clone().try_acquire_many_owned(count);
        let places = places.map_err(|_| ProcessorError::Busy)?;
        let (answer, answered) = oneshot::channel();
        let leaves = bindings.iter().map(Binding::leaf).collect();
        let waiting = Waiting { leaves, answer, _places: places };
        self.bindings.try_send(waiting).map_err(|error| refused(&error))?;
        answered.await.map_err(|_| ProcessorError::Gone)?
    }

    /// A report of a shape that is not the batch's.
    pub(crate) async fn report(
        &self,
        report_data: ReportData,
    ) -> Result<RawReport, ProcessorError> {
        let (answer, answered) = oneshot::channel();
        let single = Single { report_data, answer };
        self.singles.try_send(single).map_err(|error| refused(&error))?;
        answered.await.map_err(|_| ProcessorError::Gone)?
    }

    /// Resolves if the processor's thread has ended: nothing can be proved from then on.
    pub(crate) async fn ended(&self) {
        self.bindings.closed().await;
    }
}

fn refused<T>(error: &mpsc::error::TrySendError<T>) -> ProcessorError {
    match error {
        mpsc::error::TrySendError::Full(_) => ProcessorError::Busy,
        mpsc::error::TrySendError::Closed(_) => ProcessorError::Gone,
    }
}

/// The thread's state.
struct Turns {
    device: Box<dyn Device>,
    waiting: mpsc::Receiver<Waiting>,
    single: mpsc::Receiver<Single>,
}

impl Turns {
    async fn take(mut self) {
        loop {
            tokio::select! {
                first = self.waiting.recv() => match first {
                    Some(first) => self.batch(first),
                    None => return,
                },
                first = self.single.recv() => match first {
                    Some(first) => self.one(first),
                    None => return,
                },
            }
            // Whoever was not chosen is served now, so that the turns alternate under load.
            if let Ok(next) = self.single.try_recv() {
                self.one(next);
            }
            if let Ok(next) = self.waiting.try_recv() {
                self.batch(next);
            }
        }
    }

    fn one(&mut self, Single { report_data, answer }: Single) {
        if !answer.is_closed() {
            let report = self.device.report(&report_data).map_err(shared);
            let _ = answer.send(report);
        }
    }

    /// Everybody who waits now shares one report.
    fn batch(&mut self, first: Waiting) {
        let rest = std::iter::from_fn(|| self.waiting.try_recv().ok()).take(WAITING_BINDINGS);
        let waiting = std::iter::once(first).chain(rest).filter(|one| !one.answer.is_closed());
        let (mut leaves, mut answers) = (Vec::new(), Vec::new());
        for Waiting { leaves: own, answer, .. } in waiting {
            answers.push((own.len(), answer));
            leaves.extend(own);
        }
        let Some(tree) = Tree::new(&leaves) else { return };
        let report = self.device.report(&binding::batch(&tree.root)).map_err(shared);
        let mut inclusions = tree.inclusions.into_iter();
        for (count, answer) in answers {
            let own = inclusions.by_ref().take(count).collect();
            let _ = answer.send(report.clone().map(|report| (report, own)));
        }
    }
}

fn shared(error: DeviceError) -> ProcessorError {
    match error {
        DeviceError::Missing => ProcessorError::NoDevice(Arc::new(error)),
        _ => ProcessorError::Device(Arc::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use attestation::merkle;

    use super::*;

    /// A device that announces what it is asked for and answers when it is told to.
    struct Stepped {
        asked: SyncSender<ReportData>,
        go: Receiver<bool>,
    }

    impl Device for Stepped {
        fn report(&mut self, report_data: &[u8; 64]) -> Result<RawReport, DeviceError> {
            self.asked.send(*report_data).unwrap();
            if !self.go.recv().unwrap() {
                return Err(DeviceError::Status(1));
            }
            let mut report = Box::new([0; crate::device::REPORT]);
            report[..64].copy_from_slice(report_data);
            Ok(report)
        }
    }

    struct Bench {
        processor: Processor,
        asked: Receiver<ReportData>,
        go: SyncSender<bool>,
    }

    fn bench() -> Bench {
        let (asked_in, asked) = sync_channel(64);
        let (go, go_out) = sync_channel(64);
        let device = Stepped { asked: asked_in, go: go_out };
        Bench { processor: Processor::ask(Box::new(device)).unwrap(), asked, go }
    }

    fn binding(n: u8) -> Binding {
        Binding::LogKey { public_key: vec![n], boot_id: [0; 16], recipients_sha256: [0; 32] }
    }

    async fn prove(processor: Processor, n: u8) -> Result<(RawReport, Inclusion), ProcessorError> {
        let (report, mut inclusions) = processor.prove(&[binding(n)]).await?;
        assert_eq!(inclusions.len(), 1);
        Ok((report, inclusions.remove(0)))
    }

    /// Starts a call and returns once it waits in the queue.
    async fn waiting<T: Send + 'static>(
        processor: &Processor,
        call: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let before = processor.bindings.capacity();
        let proof = tokio::spawn(call);
        while processor.bindings.capacity() == before {
            tokio::task::yield_now().await;
        }
        proof
    }

    /// Waits until the device is asked, beside whatever else runs.
    async fn until_asked(asked: Receiver<ReportData>) -> (ReportData, Receiver<ReportData>) {
        tokio::task::spawn_blocking(move || (asked.recv().unwrap(), asked)).await.unwrap()
    }

    #[tokio::test]
    async fn whoever_waits_while_the_device_is_busy_shares_the_next_report() {
        let Bench { processor, asked, go } = bench();
        let first = tokio::spawn(prove(processor.clone(), 0));
        let (alone, asked) = until_asked(asked).await;
        let mut others = Vec::new();
        for n in 1..=5 {
            others.push(waiting(&processor, prove(processor.clone(), n)).await);
        }
        go.send(true).unwrap();
        go.send(true).unwrap();

        let (report, inclusion) = first.await.unwrap().unwrap();
        assert_eq!(inclusion.size, 1);
        assert_eq!(binding(0).report_data(&inclusion), Some(alone));
        assert_eq!(report[..64], alone);

        let shared = asked.recv().unwrap();
        for (n, proof) in (1..).zip(others) {
            let (report, inclusion) = proof.await.unwrap().unwrap();
            assert_eq!((inclusion.size, inclusion.index), (5, u64::from(n) - 1));
            assert_eq!(binding(n).report_data(&inclusion), Some(shared));
            assert_eq!(report[..64], shared);
        }
        assert!(asked.try_recv().is_err(), "two reports for six callers");
    }

    /// However many bindings others bring, whoever comes while a report is made is in the next one.
    #[tokio::test]
    async fn a_flood_of_bindings_delays_nobody_beyond_the_next_report() {
        let Bench { processor, asked, go } = bench();
        let first = tokio::spawn(prove(processor.clone(), 0));
        let (_, asked) = until_asked(asked).await;
        let mut flood = Vec::new();
        for _ in 0..15 {
            let clone = processor.clone();
            let call = async move { clone.prove(&vec![binding(7); 1000]).await };
            flood.push(waiting(&processor, call).await);
        }
        let newcomer = waiting(&processor, prove(processor.clone(), 9)).await;
        let too_many = processor.prove(&vec![binding(8); 2000]).await.err().unwrap();
        assert!(matches!(too_many, ProcessorError::Busy), "the queue has an end");
        go.send(true).unwrap();
        go.send(true).unwrap();

        first.await.unwrap().unwrap();
        let (report, inclusion) = newcomer.await.unwrap().unwrap();
        assert_eq!((inclusion.size, inclusion.index), (15_001, 15_000));
        assert_eq!(binding(9).report_data(&inclusion).unwrap(), report[..64]);
        for (caller, call) in (0..).zip(flood) {
            let (_, inclusions) = call.await.unwrap().unwrap();
            let places: Vec<u64> = inclusions.iter().map(|one| one.index).collect();
            assert_eq!(places, (caller * 1000..(caller + 1) * 1000).collect::<Vec<_>>());
        }
        assert_eq!(asked.try_iter().count(), 1, "one report for all of them");
        assert_eq!(processor.places.available_permits(), WAITING_BINDINGS);
    }

    #[tokio::test]
    async fn single_reports_and_batches_take_turns() {
        let Bench { processor, asked, go } = bench();
        let clone = processor.clone();
        let first = tokio::spawn(async move { clone.report([1; 64]).await });
        let (alone, asked) = until_asked(asked).await;
        assert_eq!(alone, [1; 64]);
        let mut singles = Vec::new();
        for n in 2..5 {
            let before = processor.singles.capacity();
            let clone = processor.clone();
            singles.push(tokio::spawn(async move { clone.report([n; 64]).await }));
            while processor.singles.capacity() == before {
                tokio::task::yield_now().await;
            }
        }
        let proof = waiting(&processor, prove(processor.clone(), 9)).await;
        for _ in 0..5 {
            go.send(true).unwrap();
        }
        let (_, inclusion) = proof.await.unwrap().unwrap();
        first.await.unwrap().unwrap();
        for single in singles {
            single.await.unwrap().unwrap();
        }
        let batch = binding(9).report_data(&inclusion).unwrap();
        let order: Vec<_> = asked.try_iter().collect();
        let turn = order.iter().position(|data| *data == batch).unwrap();
        assert!(turn <= 1, "the batch waited for {turn} reports that came in with it");
    }

    #[tokio::test]
    async fn an_error_reaches_everybody_and_the_next_report_is_fine() {
        let Bench { processor, asked, go } = bench();
        go.send(false).unwrap();
        let error = prove(processor.clone(), 1).await.err().unwrap();
        assert!(matches!(error, ProcessorError::Device(_)));
        go.send(true).unwrap();
        let (_, inclusion) = prove(processor, 1).await.unwrap();
        let data = asked.try_iter().last().unwrap();
        assert_eq!(binding(1).report_data(&inclusion), Some(data));
        assert!(inclusion.size < merkle::MAX_LEAVES);
    }

    #[tokio::test]
    async fn the_queue_has_an_end() {
        let Bench { processor, go: _go, .. } = bench();
        let mut refused = 0;
        let mut calls = Vec::new();
        for n in 0..(WAITING_REPORTS + 8) {
            let mut call = Box::pin(processor.report([u8::try_from(n % 256).unwrap(); 64]));
            match futures_util::poll!(&mut call) {
                std::task::Poll::Ready(Err(ProcessorError::Busy)) => refused += 1,
                _ => calls.push(call),
            }
        }
        assert!(refused >= 6, "{refused} were refused");
    }
}
