//! `log-sealer`: an OpenTelemetry endpoint for every container of the group, from which only ciphertext leaves.
//!
//! OTLP in → a bounded queue → batches by size and time → OTLP/JSON lines → zstd → padding → age, to the
//! configured readers → a segment, and a record signed by a key of this boot that evidence binds to the group
//! → the sink. Records form a chain ([`attestation::log_record`]), so that nobody can take one out, and a boot
//! that ended in order says so in its last one.
//!
//! # What a sink holds
//!
//! | what | is |
//! |---|---|
//! | record | a compact JWS (ES256) for each number of a boot, from 0: the start with the key's evidence, one for each segment, loss, change of readers and heartbeat, the stop. Each names the record before it |
//! | segment | an [age file](https://age-encryption.org/v1) to every reader; its record names its SHA-256 |
//! | in the age file | one zstd frame, and a skippable frame that pads the two to a power of two from 4 KiB to 1 MiB, or to a multiple of 1 MiB |
//! | in the zstd frame | lines of OTLP/JSON, `{"resourceLogs":[…]}`, 16 MiB at most; so `age -d \| zstd -d` gives the log |
//!
//! A folder holds `<boot>-<seq>.jws` and `<boot>-<seq>.age`, seq in eight digits; stdout a line
//! `{"record":"<JWS>","segment":"<base64>"}` for each number.
//!
//! # What is safe
//!
//! An export is answered OK once its records are in the queue, which is memory. A crash, or a stop without
//! evidence or sink, loses what waits there; the missing last record shows it. Until evidence has been obtained
//! nothing is sealed, and while the sink fails nothing more is: the queue fills and senders are told to come
//! back.
//!
//! No byte of a log record goes anywhere but into the sealed segment. This role must not know what a record
//! means, who wrote it, or how a reader decides whom to trust.

mod config;
mod decoded;
mod delivery;
mod error;
mod evidence;
mod grpc;
mod intake;
mod lines;
mod otlp;
mod readers_file;
mod recipients;
mod sealer;
mod segment;
mod signer;
mod sink;
mod weigh;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use service::env::{Reader, Var};
use service::health::Probe;
use service::listen::Listener;
use service::{BoxError, Process, Role, Shutdown, lifecycle};
use tokio::time::timeout;

use crate::delivery::Delivery;
use crate::evidence::EvidenceSource;
use crate::grpc::HeadOfLog;
use crate::intake::Intake;
use crate::readers_file::Changes;
use crate::sealer::Sealer;
use crate::signer::Signer;
use crate::sink::Sink;

pub use crate::config::Config;

/// The signal to stop reaches all containers at once, and their last events come after it. So the listener
/// stays open until nothing came for this long, four times what an exporter of ours collects for, …
const QUIET: Duration = Duration::from_secs(2);

/// … but no longer than this.
const LINGER: Duration = Duration::from_secs(5);

/// How long open connections may take to end.
const CLOSE: Duration = Duration::from_secs(2);

/// How long the last segments and the last record may take. With the times above, less than what a role has
/// between the signal and the end of its process.
const FINISH: Duration = Duration::from_secs(15);

/// The role.
#[derive(Debug)]
pub struct LogSealer;

/// Why the log did not end in order.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(
        "the end of the log did not reach its sink in time, {0} log records are lost: \
         see that ATTEST_SIDECAR answers and that LOG_SINK can be written to"
    )]
    Late(usize),
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
        let listener = Listener::bind(config.listen.address()).await?;
        let signer = Signer::new(&process.identity.boot_id, &recipients)?;
        let intake = Arc::new(Intake::default());
        let (delivery, newest) = Delivery::new(Sink::new(config.sink), process.health.clone());

        let head = HeadOfLog::new(&signer, newest);
        let router = grpc::router(&process, &listener, intake.clone(), head);
        let closing = Shutdown::default();
        let close = closing.clone();
        let mut server =
            tokio::spawn(async move { service::grpc::serve(router, listener, &closing).await });
        let sealer = Sealer {
            intake: intake.clone(),
            limits: config.segment,
            seal: segment::seal,
            recipients,
            changes: Changes::start(config.readers),
            previous: None,
            heartbeat: config.heartbeat,
            evidence: EvidenceSource::new(&config.attest_sidecar),
            signer,
            delivery,
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
            () = process.shutdown.fired() => lifecycle!("stopping"),
        }
        intake.quiet(QUIET, LINGER).await;
        close.fire();
        let _ = timeout(CLOSE, &mut server).await;
        server.abort();
        intake.close();
        let Ok(outcome) = timeout(FINISH, &mut sealing).await else {
            sealing.abort();
            return Err(Ended::Late(intake.records()).into());
        };
        Ok(outcome??)
    }
}
