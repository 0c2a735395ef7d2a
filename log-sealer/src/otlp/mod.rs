//! OTLP in: what both transports have in common, and the one place where an export is accepted.
//!
//! A message stays bytes until its turn comes: few are in hand at once, and one is written as lines at a time.
//! So memory is bounded whatever is sent on a connection, and connections are bounded by `service`.
//!
//! Handling an export logs nothing, at any level: this role's own events arrive here too.

pub(crate) mod grpc;
pub(crate) mod http;
mod json;
pub(crate) mod schema;
pub(crate) mod wire;

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use self::schema::Kind;
use crate::buffer::Buffer;
use crate::error::Refused;
use crate::intake::Intake;
use crate::lines::{self, Lines};
use crate::metrics::forward::Forward;
use crate::metrics::select::Clear;

/// The longest message, in bytes, before and after decompression.
const MESSAGE: usize = 4 << 20;

/// Messages that are received at the same time. Others wait, unread, on their connections.
const RECEIVING: usize = 8;

/// How long a message may take to arrive once it was admitted: it comes over loopback, and others wait.
const ARRIVAL: Duration = Duration::from_secs(2);

/// The longest that an export may take, from its first byte to the answer.
const EXPORT: Duration = Duration::from_secs(20);

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Log records.
    Logs,
    /// Spans.
    Traces,
    /// Data points of metrics.
    Metrics,
}

impl Signal {
    /// The message of an export.
    pub(crate) fn request(self) -> Kind {
        match self {
            Self::Logs => Kind::LogsRequest,
            Self::Traces => Kind::TraceRequest,
            Self::Metrics => Kind::MetricsRequest,
        }
    }
}

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
}

/// The bytes of a request. Wiped when dropped; without `Debug`.
struct Message {
    bytes: Zeroizing<Vec<u8>>,
    form: Form,
    /// Whether the bytes are compressed.
    gzip: bool,
}

/// Where exports go. Clones share the queue and the bounds.
#[derive(Clone)]
pub(crate) struct Exports {
    intake: Arc<Intake>,
    /// Where metrics go that may leave in the clear; nowhere: they are sealed.
    forward: Vec<Forward>,
    receiving: Arc<Semaphore>,
    encoding: Arc<Semaphore>,
    /// Exports whose message is here and that have no answer yet.
    underway: TaskTracker,
}

/// Leave to receive one message.
struct Admitted {
    _permit: OwnedSemaphorePermit,
}

impl Exports {
    pub(crate) fn new(intake: Arc<Intake>, forward: Vec<Forward>) -> Self {
        Self {
            intake,
            forward,
            receiving: Arc::new(Semaphore::new(RECEIVING)),
            encoding: Arc::new(Semaphore::new(1)),
            underway: TaskTracker::new(),
        }
    }

    /// Returns when no export is underway any more: all that was taken has been offered to whom it may leave for. The queue is
    /// closed by then, so that nothing else is taken.
    pub(crate) async fn settled(&self) {
        self.underway.close();
        self.underway.wait().await;
    }

    /// Waits for leave to receive a message.
    async fn admit(&self) -> Admitted {
        let permit = self.receiving.clone().acquire_owned().await;
        Admitted { _permit: permit.expect("the semaphore is never closed") }
    }

    /// Accepts an export. When this returns, it is as safe as an accepted one is.
    ///
    /// # Errors
    ///
    /// [`Refused`]: nothing of it was kept.
    async fn accept(
        &self,
        admitted: Admitted,
        signal: Signal,
        message: Message,
    ) -> Result<(), Refused> {
        let _underway = self.underway.token();
        let encoding = self.encoding.clone().acquire_owned().await;
        let mut clear =
            (signal == Signal::Metrics && !self.forward.is_empty()).then(Clear::default);
        let work = move || {
            // held to the end of the work, which goes on when a caller goes away
            let _permits = (admitted, encoding);
            let lines = lines(signal, message, clear.as_mut())?;
            Ok((lines, clear))
        };
        let done = tokio::task::spawn_blocking(work).await.map_err(|_| Refused::Failed)?;
        let (lines, clear) = done?;
        self.intake.push(lines)?.wait().await?;
        // only now: what is refused is sent again
        let metrics = clear.map(Clear::into_metrics).unwrap_or_default();
        for forward in &self.forward {
            forward.offer(metrics.clone());
        }
        Ok(())
    }
}

/// What a message becomes.
fn lines(signal: Signal, message: Message, clear: Option<&mut Clear>) -> Result<Lines, Refused> {
    let Message { mut bytes, form, gzip } = message;
    if gzip {
        bytes = inflated(&bytes)?;
    }
    if form == Form::Json {
        bytes = json::to_wire(signal.request(), &bytes)?;
    }
    lines::encode(signal, &bytes, clear)
}

/// What was compressed (RFC 1952). What would be too long is not inflated to its end.
fn inflated(packed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let mut from = MultiGzDecoder::new(packed);
    let mut to = Buffer::new(packed.len().saturating_mul(4), MESSAGE);
    let mut chunk = Zeroizing::new([0; 16 << 10]);
    loop {
        let length = from.read(&mut *chunk).map_err(|_| Refused::Malformed)?;
        match chunk.get(..length) {
            Some(read) if !read.is_empty() => to.push(read)?,
            _ => return Ok(to.finish()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A message from JSON, for tests of other parts.
    pub(crate) fn wire_of(signal: Signal, document: &serde_json::Value) -> Zeroizing<Vec<u8>> {
        json::to_wire(signal.request(), document.to_string().as_bytes()).ok().unwrap()
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_was_compressed_comes_back_up_to_a_bound() {
        let text = b"some text".repeat(1000);
        assert_eq!(**inflated(&packed(&text)).ok().unwrap(), *text);
        let twice = [packed(b"one "), packed(b"two")].concat();
        assert_eq!(**inflated(&twice).ok().unwrap(), *b"one two", "members follow each other");
        assert_eq!(inflated(&packed(&vec![0; MESSAGE])).ok().unwrap().len(), MESSAGE);
        let bomb = packed(&vec![0; 64 << 20]);
        assert!(bomb.len() < 1 << 17, "{}", bomb.len());
        assert_eq!(inflated(&bomb).err(), Some(Refused::TooMuch));
    }

    #[test]
    fn what_was_not_compressed_or_not_to_its_end_is_refused() {
        let whole = packed(b"some text");
        for bad in [&b"some text"[..], &whole[..whole.len() - 1], &whole[..5]] {
            assert_eq!(inflated(bad).err(), Some(Refused::Malformed));
        }
    }
}
