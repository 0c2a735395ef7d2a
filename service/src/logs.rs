//! Where the events of a role go: sealed, to `log-sealer` by OTLP; in the clear, only their constant names, unless the
//! role's measured configuration names a file (`log_file`).
//!
//! A container's stdout belongs to the cloud operator. The console therefore prints the *name* of a
//! [`lifecycle!`](crate::lifecycle) event and nothing else of it: a name is a `&'static str`, so no value can
//! slip in. Libraries (hyper, h2, rustls, …) log headers and frames at their lower levels; none of their
//! events goes anywhere, at any level.

use std::io::Write as _;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchConfigBuilder, BatchLogProcessor, SdkLoggerProvider};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::env::Reader;
use crate::grpc;
use crate::listen::Local;
use crate::log_file::{self, LogFile, LogFileError};
use crate::process::Identity;

/// Crates whose events are ours.
const TARGETS: [&str; 7] =
    ["attest_sidecar", "lifecycle", "log_sealer", "proxy", "service", "skr_sidecar", "stack"];

/// Events that wait for `log-sealer`; more are dropped, and the SDK counts them.
const QUEUE: usize = 4096;

/// How often what waits is sent.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long the last events may take to leave when the process stops.
const FLUSH: Duration = Duration::from_secs(3);

/// Announces a step in the life of a role: its name alone goes to stdout, the whole event to `log-sealer`.
///
/// The name must be a constant; fields go to `log-sealer` only.
#[macro_export]
macro_rules! lifecycle {
    ($name:literal $(, $($field:tt)*)?) => {
        $crate::__tracing::info!(name: $name, target: "lifecycle", $($($field)*,)? $name)
    };
}

/// What the environment says about logs.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    sealer: Sealer,
    level: LevelFilter,
    file: Option<log_file::Place>,
}

#[derive(Clone, Debug)]
enum Sealer {
    Off,
    At(Local),
}

impl FromStr for Sealer {
    type Err = <Local as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::At) }
    }
}

impl Config {
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let sealer = env.parse("LOG_SEALER");
        let level = env.parse::<Level>("LOG_LEVEL");
        let level = match level {
            Some(Level::TRACE) => {
                env.refuse("LOG_LEVEL", &"must be error, warn, info or debug");
                None
            }
            level => level,
        };
        let writes = env.declares(log_file::VARIABLE);
        let file = writes.then(|| env.optional(log_file::VARIABLE)).flatten();
        Some(Self { sealer: sealer?, level: LevelFilter::from_level(level?), file })
    }
}

/// Keeps the pipeline alive; flushes it when the role stops.
#[derive(Debug)]
pub(crate) struct Logs {
    provider: Option<SdkLoggerProvider>,
    file: Option<LogFile>,
}

impl Logs {
    /// Starts the pipeline. Must be called inside the runtime, because the exporter's channel lives on it.
    ///
    /// # Errors
    ///
    /// There is to be a file, and it cannot be written.
    pub(crate) fn start(config: &Config, identity: &Identity) -> Result<Self, LogFileError> {
        let file = config.file.as_ref().map(LogFile::open).transpose()?;
        let provider = match &config.sealer {
            Sealer::Off => None,
            Sealer::At(sealer) => exporter(sealer).map(|exporter| provider(exporter, identity)),
        };
        let ours = Targets::new().with_targets(TARGETS.map(|target| (target, config.level)));
        let filed = file.clone().map(|file| file.with_filter(ours.clone()));
        let sealed = provider
            .as_ref()
            .map(|provider| OpenTelemetryTracingBridge::new(provider).with_filter(ours));
        let console = Console { role: identity.role }
            .with_filter(Targets::new().with_target("lifecycle", LevelFilter::INFO));
        // A second subscriber in one process can only be a test's own; it stays.
        let _ = tracing_subscriber::registry().with(console).with(sealed).with(filed).try_init();
        Ok(Self { provider, file })
    }

    /// Sends what waits, within a bound.
    pub(crate) async fn stop(self) {
        let Self { provider, file } = self;
        // Both block their caller, and the SDK's exporter needs the runtime.
        let flush = tokio::task::spawn_blocking(move || {
            if let Some(file) = file {
                file.flush();
            }
            provider.map(|provider| provider.shutdown_with_timeout(FLUSH))
        });
        let _ = tokio::time::timeout(FLUSH, flush).await;
    }
}

fn exporter(sealer: &Local) -> Option<LogExporter> {
    // The channel is given, so none of the SDK's own variables can send a record elsewhere.
    LogExporter::builder()
        .with_tonic()
        .with_channel(grpc::channel(sealer))
        .build()
        .inspect_err(|_| console_line("logs", "the log exporter could not be built"))
        .ok()
}

fn provider(exporter: LogExporter, identity: &Identity) -> SdkLoggerProvider {
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_scheduled_delay(INTERVAL)
        .build();
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", identity.role),
            KeyValue::new("service.version", identity.version),
            KeyValue::new("service.instance.id", identity.boot_id.clone()),
        ])
        .build();
    SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_log_processor(BatchLogProcessor::builder(exporter).with_batch_config(batches).build())
        .build()
}

/// Prints the names of lifecycle events.
struct Console {
    role: &'static str,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Console {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        console_line(self.role, event.metadata().name());
    }
}

/// Lines that wait for whoever reads stdout. More are not printed.
const CONSOLE: usize = 256;

/// How long the last lines may take to be printed.
const LAST_LINES: Duration = Duration::from_millis(500);

/// What the thread of the console is to do.
enum Line {
    Print(&'static str, &'static str),
    /// Everything before this is printed when the sender is gone.
    End(SyncSender<()>),
}

/// One constant line on stdout. A closed stdout is no reason to stop serving, and neither is a pipe that nobody reads:
/// a thread of its own waits for that.
pub(crate) fn console_line(role: &'static str, line: &'static str) {
    drop(console().try_send(Line::Print(role, line)));
}

/// Waits until what was to be printed is, within a bound.
pub(crate) fn console_end() {
    let (done, printed) = sync_channel(0);
    drop(console().try_send(Line::End(done)));
    let _ = printed.recv_timeout(LAST_LINES);
}

fn console() -> &'static SyncSender<Line> {
    static LINES: OnceLock<SyncSender<Line>> = OnceLock::new();
    LINES.get_or_init(|| {
        let (sender, lines) = sync_channel(CONSOLE);
        let print = move || {
            for line in lines {
                match line {
                    Line::Print(role, line) => {
                        let _ = writeln!(std::io::stdout().lock(), "{role}: {line}");
                    }
                    Line::End(done) => drop(done),
                }
            }
        };
        // Without a thread nothing is printed; the sealed log has it all.
        drop(std::thread::Builder::new().name("console".to_owned()).spawn(print));
        sender
    })
}
