//! `log-sealer`: an OpenTelemetry endpoint for every container of the group, from which only ciphertext leaves.
//!
//! OTLP in → a bounded queue → batches by size and time → OTLP/JSON lines → zstd → padding → age, to the
//! configured readers → a segment, and a record signed by a key of this boot that evidence binds to the group
//! → the spool → every sink, each at its own pace. Records form a chain ([`attestation::log_record`]), so that nobody can take one out, and a boot
//! that ended in order says so in its last one.
//!
//! # What a sink holds
//!
//! | what | is |
//! |---|---|
//! | record | a compact JWS (ES256) for each number of a boot, from 0: the start with the key's evidence, one for each segment, loss, change of readers and heartbeat, the stop. Each names the record before it |
//! | segment | an [age file](https://age-encryption.org/v1) to every reader; its record names its SHA-256 |
//! | in the age file | one zstd frame, and a skippable frame that pads the two to a power of two from 4 KiB to 1 MiB, or to a multiple of 1 MiB |
//! | in the zstd frame | lines of OTLP/JSON, `{"resourceLogs":[…]}`, `{"resourceSpans":[…]}` or `{"resourceMetrics":[…]}`, 16 MiB at most; so `age -d \| zstd -d` gives the log |
//!
//! A folder holds `<boot>-<seq>.jws` and `<boot>-<seq>.age`, seq in eight digits; stdout, whoever `LOG_ENDPOINT` names,
//! and a blob get a line `{"record":"<JWS>","segment":"<base64>"}` for each number. Every sink gets every number at least
//! once, in order; boot and number say whether it had it before.
//!
//! # What is safe
//!
//! With `LOG_SPOOL`, an export is answered OK once its segment and the segment's record are on disk, and what is there
//! outlives the process: a sink gets it from this boot or the next. Without it, an export is answered OK once its
//! records are in the queue, which is memory, as the spool then is. A crash, or a stop without evidence or sink, loses
//! what waits there; the missing last record shows it. Until evidence has been obtained nothing is sealed. While a
//! sink fails the spool fills; when it is full senders are told to come back, or lose what they send
//! (`LOG_SPOOL_FULL`).
//!
//! No byte of a log record or a span goes anywhere but into the sealed segment, and to whoever watches it live where the
//! configuration says so (`live/`). Of metrics, numbers may leave in the clear, where it says so (`metrics/`). This role must not know what a record means, who
//! wrote it, or how a reader decides whom to trust.

mod buffer;
mod claims;
mod config;
mod counts;
mod delivery;
mod error;
mod evidence;
mod grpc;
mod intake;
mod lines;
mod live;
mod metrics;
mod otlp;
mod outage;
mod readers_file;
mod recipients;
mod sealed;
mod sealer;
mod segment;
mod signer;
mod sink;
mod spool;
mod status;
mod storing;
mod whole_file;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use service::env::{Reader, Var};
use service::health::Probe;
use service::listen::Listener;
use service::{BoxError, Process, Role, Shutdown, lifecycle};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::counts::Counts;
use crate::delivery::Delivery;
use crate::evidence::EvidenceSource;
use crate::grpc::OfLog;
use crate::intake::Intake;
use crate::live::views::Views;
use crate::metrics::forward::Forwards;
use crate::otlp::Exports;
use crate::outage::Announced;
use crate::readers_file::Changes;
use crate::sealer::Sealer;
use crate::signer::Signer;
use crate::sink::{Address, Outside, Sink};
use crate::spool::Spool;
use crate::status::{Part, Status};
use crate::storing::Storing;

pub use crate::config::Config;

/// The signal to stop reaches all containers at once, and their last events come after it. So the listeners
/// stay open until nothing came for this long, four times what an exporter of ours collects for, …
const QUIET: Duration = Duration::from_secs(2);

/// … but no longer than this.
const LINGER: Duration = Duration::from_secs(5);

/// How long open connections may take to end.
const CLOSE: Duration = Duration::from_secs(2);

/// How long the last segments and the last record may take, into the spool and to the sinks. With the times above, less
/// than what a role has between the signal and the end of its process.
const FINISH: Duration = Duration::from_secs(15);

/// The role.
#[derive(Debug)]
pub struct LogSealer;

/// Why the log did not end in order.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(
        "the end of the log is not safe, {counts} are lost, and {items} sealed records: \
         see that ATTEST_SIDECAR answers and that LOG_SPOOL and LOG_SINK can be written to"
    )]
    Late { counts: Counts, items: usize },
    #[error("serving or sealing ended by itself")]
    Early,
    #[error("nothing can be encrypted to LOG_RECIPIENTS: make new ones with age-keygen")]
    Recipients(#[source] sealer::BatchError),
}

impl Role for LogSealer {
    const NAME: &'static str = "log-sealer";
    const ABOUT: &'static str = "seals the group's logs for their reader's keys only";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const VARS: &'static [Var] = &config::VARS;
    type Config = Config;

    fn read(env: &mut Reader<'_>) -> Option<Config> {
        Config::read(env)
    }

    fn health(config: &Config) -> Probe<'_> {
        Probe::Grpc(&config.listen)
    }

    async fn serve(config: Config, process: Process) -> Result<(), BoxError> {
        let recipients = Arc::new(config.recipients);
        sealer::try_out(&recipients).await.map_err(Ended::Recipients)?;
        let keys = config.sinks.iter().map(|sink| sink.key(&config.outside)).collect();
        let spool = Arc::new(Spool::open(config.spool, keys).await?);
        let listener = Listener::bind(config.listen.address()).await?;
        let http_listener = Listener::bind(config.http_listen.address()).await?;
        let signer = Signer::new(&process.identity.boot_id, &recipients)?;
        let intake = Arc::new(Intake::new(spool.is_durable()));
        let status = status(&process, &spool, config.sinks.len());

        let views = Views::new(config.live, &intake, &process.identity);
        let log = OfLog::new(&signer, spool.head(), views);
        let forwards = Forwards::start(config.metrics, &config.outside.roots);
        let exports = Exports::new(intake.clone(), forwards.all());
        let production = config.outside.roots.are_public();
        let router = grpc::router(&process, &listener, &http_listener, &exports, log, production);
        let closing = Shutdown::default();
        let (close, taking) = (closing.clone(), exports.clone());
        let mut server = tokio::spawn(async move {
            let answer = move |request| otlp::http::answer(taking.clone(), request);
            let http = async {
                service::http::serve(http_listener, &closing, answer).await;
                Ok(())
            };
            tokio::try_join!(service::grpc::serve(router, listener, &closing), http).map(drop)
        });
        let mut delivering = deliver(&config.sinks, &config.outside, &spool, &status);
        let storing = Storing {
            spool: spool.clone(),
            intake: intake.clone(),
            full: config.full,
            status,
            announced: Announced::default(),
        };
        let sealer = Sealer {
            intake: intake.clone(),
            limits: config.segment,
            seal: segment::seal,
            recipients,
            changes: Changes::start(config.readers),
            heartbeat: config.heartbeat,
            evidence: EvidenceSource::new(&config.attest_sidecar),
            signer,
            storing,
            lost: BTreeMap::new(),
        };
        let mut sealing = tokio::spawn(sealer.run());
        lifecycle!("listening");

        tokio::select! {
            outcome = &mut server => {
                outcome??;
                return Err(Ended::Early.into());
            }
            outcome = &mut sealing => {
                outcome??;
                return Err(Ended::Early.into());
            }
            Some(outcome) = delivering.join_next() => match outcome? {},
            () = process.shutdown.fired() => lifecycle!("stopping"),
        }
        intake.quiet(QUIET, LINGER).await;
        intake.hurry();
        close.fire();
        let _ = timeout(CLOSE, &mut server).await;
        server.abort();
        intake.close();
        let end = Instant::now() + FINISH;
        let Ok(outcome) = timeout_at(end, &mut sealing).await else {
            sealing.abort();
            return Err(Ended::of(&intake, &spool).into());
        };
        outcome??;
        // only now: what may leave in the clear is offered once what came with it is sealed
        let forwarded = forward_the_rest(&exports, forwards, end);
        let (drained, ()) = tokio::join!(timeout_at(end, spool.drained()), forwarded);
        // what is on disk is the next boot's to deliver
        if drained.is_ok() || spool.is_durable() {
            Ok(())
        } else {
            Err(Ended::of(&intake, &spool).into())
        }
    }
}

impl Ended {
    fn of(intake: &Intake, spool: &Spool) -> Self {
        let items = if spool.is_durable() { 0 } else { spool.waiting() };
        Self::Late { counts: intake.counts(), items }
    }
}

/// Waits for what was still underway, and sends what waits to leave in the clear.
async fn forward_the_rest(exports: &Exports, forwards: Forwards, end: Instant) {
    let _ = timeout_at(end.min(Instant::now() + CLOSE), exports.settled()).await;
    forwards.end(end.min(Instant::now() + CLOSE)).await;
}

/// A spool on disk bears with a sink that fails; one in memory does not for long.
fn status(process: &Process, spool: &Spool, sinks: usize) -> Status {
    let watched = if spool.is_durable() { 0 } else { sinks };
    let wrong = (0..watched).map(Part::Sink).chain([Part::Start]);
    Status::new(process.health.clone(), watched, wrong)
}

/// Starts a task for every sink.
fn deliver(
    sinks: &[Address],
    outside: &Outside,
    spool: &Arc<Spool>,
    status: &Status,
) -> JoinSet<Infallible> {
    let mut delivering = JoinSet::new();
    for (number, address) in sinks.iter().enumerate() {
        let Some(sink) = Sink::new(address, outside) else { continue };
        let (spool, status, kind) = (spool.clone(), status.clone(), address.kind());
        let announced = Announced::default();
        delivering.spawn(Delivery { spool, number, kind, sink, status, announced }.run());
    }
    delivering
}
