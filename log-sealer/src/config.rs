//! What the environment says.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use attestation::log_record::MAX_HEARTBEAT;
use service::env::{Class, Reader, Var};
use service::listen::Local;
use service::roots::{self, Roots};
use url::Url;

use crate::intake::Limits;
use crate::lines;
use crate::live::Allowed;
use crate::metrics::forward;
use crate::readers_file;
use crate::recipients::Recipients;
use crate::sink::{Address, Addresses, ClientId, Login, Outside};
use crate::spool::{self, Full};

/// The role's variables.
pub(crate) const VARS: [Var; 22] = [
    Var {
        name: "LOG_LISTEN",
        class: Class::Measured,
        default: Some("127.0.0.1:4317"),
        help: "Where every container of the group sends its logs, traces and metrics by OTLP/gRPC: host:port on loopback, or unix:/path.",
    },
    Var {
        name: "LOG_HTTP_LISTEN",
        class: Class::Measured,
        default: Some("127.0.0.1:4318"),
        help: "Where every container of the group sends its logs, traces and metrics by OTLP/HTTP, as protobuf or JSON: host:port on loopback, or unix:/path.",
    },
    Var {
        name: "LOG_RECIPIENTS",
        class: Class::Measured,
        default: None,
        help: "Who can read the logs: 1 to 16 age recipients (age1…), separated by commas or white space. Make a pair with age-keygen; the secret half never comes here.",
    },
    Var {
        name: "LOG_SINK",
        class: Class::Measured,
        default: Some("stdout"),
        help: "Where sealed segments and their records go: `stdout`, folder:/absolute/path of a folder that exists, `http` (to LOG_ENDPOINT), blob:https://account.blob.core.windows.net/container (append blobs, with the managed identity's token), or several of them, separated by commas.",
    },
    Var {
        name: "LOG_ENDPOINT",
        class: Class::Measured,
        default: None,
        help: "Where `http` of LOG_SINK posts sealed lines: an https URL; http on loopback only.",
    },
    Var {
        name: "LOG_IDENTITY_ENDPOINT",
        class: Class::Measured,
        default: Some("http://169.254.169.254"),
        help: "Where the managed identity's token for a `blob` of LOG_SINK comes from.",
    },
    Var {
        name: "AZURE_CLIENT_ID",
        class: Class::Measured,
        default: None,
        help: "Client id of the user-assigned identity whose token that is. Without it, the group's only one.",
    },
    Var {
        name: "LOG_SPOOL",
        class: Class::Measured,
        default: None,
        help: "Where sealed segments wait for their sinks: the absolute path of a folder that exists and is this role's alone. With it, an export is answered when it is there, and a crash loses nothing that was answered. Without it they wait in memory.",
    },
    Var {
        name: "LOG_SPOOL_BYTES",
        class: Class::Measured,
        default: Some("268435456"),
        help: "The most bytes that wait in LOG_SPOOL, or in memory: 33554432 to 1099511627776. Without LOG_SPOOL 33554432 unless it is set.",
    },
    Var {
        name: "LOG_SPOOL_FULL",
        class: Class::Measured,
        default: Some("block"),
        help: "`block`: when there is no room, senders are told to come back. `drop`: what comes then is dropped, its sender is told so, and a record of the log says how much it was.",
    },
    Var {
        name: "LOG_SEGMENT_SECONDS",
        class: Class::Measured,
        default: Some("10"),
        help: "The longest that a log record, a span or a data point waits for its segment, in seconds: 1 to 3600. A crash loses what waits. With LOG_SPOOL 1 unless it is set, and 5 at most, since senders wait for their answers.",
    },
    Var {
        name: "LOG_SEGMENT_BYTES",
        class: Class::Measured,
        default: Some("1048576"),
        help: "A segment is closed when what is in it, as JSON before compression, reaches this many bytes: 4096 to 16777216. With LOG_SPOOL 65536 unless it is set, and up to 1048576 if so much piled up.",
    },
    Var {
        name: "LOG_METRICS_ENDPOINT",
        class: Class::Measured,
        default: None,
        help: "Base URL of a receiver of OTLP/HTTP to which metrics of the roles' own instruments are sent in the clear; all others are sealed. Unset: all are.",
    },
    Var {
        name: "APPINSIGHTS_CONNECTION_STRING",
        class: Class::Measured,
        default: None,
        help: "Where the metrics of LOG_METRICS_ENDPOINT are sent in the clear to Azure Monitor: InstrumentationKey=…;IngestionEndpoint=https://….",
    },
    Var {
        name: "LOG_HEARTBEAT_SECONDS",
        class: Class::Measured,
        default: Some("60"),
        help: "When nothing else was signed for this many seconds, a heartbeat is, so that a log whose end was cut off shows it: 5 to 3600.",
    },
    Var {
        name: "LOG_LIVE",
        class: Class::Measured,
        default: Some("off"),
        help: "Who may watch log records in the clear as they come in, beside the readers of the sealed log: `off`: nobody; `admin`: whoever is logged in to the proxy's admin pages, over a proved connection; needs LOG_SPOOL. Every opening and closing is a record of the log.",
    },
    readers_file::FILE_VAR,
    readers_file::SIGNER_VAR,
    readers_file::GROUP_VAR,
    readers_file::MIN_VERSION_VAR,
    Var {
        name: "ATTEST_SIDECAR",
        class: Class::Measured,
        default: Some("127.0.0.1:50051"),
        help: "Where attest-sidecar answers gRPC: host:port on loopback, or unix:/path.",
    },
    roots::VAR,
];

/// The longest segment that can be configured is the longest that a reader opens.
const BYTES: RangeInclusive<usize> = 4096..=lines::MAX;
const SECONDS: RangeInclusive<u64> = 1..=3600;
const HEARTBEAT: RangeInclusive<u64> = 5..=MAX_HEARTBEAT;

/// Twice the longest segment, or nearly so: every segment fits in once others have left.
const SPOOL: RangeInclusive<u64> = (32 << 20)..=(1 << 40);

/// What is so when nothing is set, with a spool on disk.
const SPOOLED: Limits = Limits { bytes: 64 << 10, most: 1 << 20, wait: Duration::from_secs(1) };

/// The longest that senders wait for their answers: half of what exporters wait by default.
const ANSWER: Duration = Duration::from_secs(5);

/// The role's configuration.
pub struct Config {
    pub(crate) listen: Local,
    pub(crate) http_listen: Local,
    pub(crate) recipients: Recipients,
    pub(crate) sinks: Vec<Address>,
    pub(crate) outside: Outside,
    pub(crate) spool: spool::Settings,
    pub(crate) full: Full,
    pub(crate) segment: Limits,
    pub(crate) heartbeat: Duration,
    /// Who may watch what comes in.
    pub(crate) live: Allowed,
    pub(crate) readers: Option<readers_file::Settings>,
    pub(crate) attest_sidecar: Local,
    /// Where metrics go in the clear.
    pub(crate) metrics: Vec<forward::Address>,
}

/// A folder, by its absolute path.
struct Folder(PathBuf);

impl FromStr for Folder {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = PathBuf::from(text);
        if path.is_absolute() { Ok(Self(path)) } else { Err("must be an absolute path") }
    }
}

impl Config {
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let listen = env.parse("LOG_LISTEN");
        let http_listen = env.parse("LOG_HTTP_LISTEN");
        let recipients = env.parse("LOG_RECIPIENTS");
        let sinks = env.parse("LOG_SINK").map(|Addresses(sinks)| sinks);
        let outside = outside(env, sinks.as_deref());
        let spool = spool(env, sinks.as_deref());
        let full = env.parse("LOG_SPOOL_FULL");
        let segment = segment(env, spool.as_ref());
        let heartbeat = within(env, "LOG_HEARTBEAT_SECONDS", &HEARTBEAT);
        let live = env.parse("LOG_LIVE");
        if live == Some(Allowed::Admin)
            && spool.as_ref().is_some_and(|spool| spool.folder.is_none())
        {
            env.refuse(
                "LOG_LIVE",
                &"admin needs LOG_SPOOL: that somebody watches must be on disk before anything is shown",
            );
        }
        let readers = readers_file::Settings::read(env);
        let attest_sidecar = env.parse("ATTEST_SIDECAR");
        let otlp = env.optional("LOG_METRICS_ENDPOINT").and_then(|base| receiver(env, base));
        let azure = env.optional("APPINSIGHTS_CONNECTION_STRING");
        own_logs(env, listen.as_ref());
        Some(Self {
            listen: listen?,
            http_listen: http_listen?,
            recipients: recipients?,
            sinks: sinks?,
            outside: outside?,
            spool: spool?,
            full: full?,
            segment: segment?,
            heartbeat: Duration::from_secs(heartbeat?),
            live: live?,
            readers,
            attest_sidecar: attest_sidecar?,
            metrics: otlp
                .map(forward::Address::Otlp)
                .into_iter()
                .chain(azure.map(forward::Address::Azure))
                .collect(),
        })
    }
}

/// `/v1/metrics` below a base (OTLP exporter specification, "Endpoint URLs for OTLP/HTTP").
fn receiver(env: &mut Reader<'_>, mut base: Url) -> Option<Url> {
    let plain = matches!(base.scheme(), "https" | "http")
        && base.query().is_none()
        && base.fragment().is_none()
        && base.username().is_empty()
        && base.password().is_none();
    if !plain {
        let why = "must be http or https, without a query or credentials";
        env.refuse("LOG_METRICS_ENDPOINT", &why);
        return None;
    }
    base.path_segments_mut().ok()?.pop_if_empty().extend(["v1", "metrics"]);
    Some(base)
}

/// An endpoint and a sink that uses it come together.
fn outside(env: &mut Reader<'_>, sinks: Option<&[Address]>) -> Option<Outside> {
    let endpoint = env.optional("LOG_ENDPOINT");
    let identity = env.parse("LOG_IDENTITY_ENDPOINT");
    let client: Option<ClientId> = env.optional("AZURE_CLIENT_ID");
    let roots = Roots::read(env);
    if let Some(sinks) = sinks {
        match (env.is_set("LOG_ENDPOINT"), sinks.contains(&Address::Http)) {
            (true, false) => env.refuse(
                "LOG_ENDPOINT",
                &"is set, but LOG_SINK does not name `http`: add it, as in LOG_SINK=stdout,http, or remove LOG_ENDPOINT",
            ),
            (false, true) => env.refuse(
                "LOG_SINK",
                &"names `http`, so LOG_ENDPOINT must say where that is",
            ),
            _ => {}
        }
    }
    Some(Outside { endpoint, login: Login { endpoint: identity?, client }, roots: roots? })
}

fn spool(env: &mut Reader<'_>, sinks: Option<&[Address]>) -> Option<spool::Settings> {
    let folder = env.optional("LOG_SPOOL").map(|Folder(path)| path);
    let bytes = within(env, "LOG_SPOOL_BYTES", &SPOOL);
    let shared = |path: &PathBuf| sinks.is_some_and(|s| s.contains(&Address::Folder(path.clone())));
    if folder.as_ref().is_some_and(shared) {
        env.refuse("LOG_SPOOL", &"is a folder of LOG_SINK, too: give each its own");
    }
    let small = folder.is_none() && !env.is_set("LOG_SPOOL_BYTES");
    Some(spool::Settings { folder, bytes: if small { *SPOOL.start() } else { bytes? } })
}

fn segment(env: &mut Reader<'_>, spool: Option<&spool::Settings>) -> Option<Limits> {
    let seconds = within(env, "LOG_SEGMENT_SECONDS", &SECONDS);
    let bytes = within(env, "LOG_SEGMENT_BYTES", &BYTES);
    let bytes = bytes?;
    let mut limits = Limits { bytes, most: bytes, wait: Duration::from_secs(seconds?) };
    if spool?.folder.is_some() {
        if !env.is_set("LOG_SEGMENT_SECONDS") {
            limits.wait = SPOOLED.wait;
        } else if limits.wait > ANSWER {
            env.refuse(
                "LOG_SEGMENT_SECONDS",
                &"must be 1 to 5 with LOG_SPOOL, since senders wait for their answers: leave it out for 1",
            );
        }
        if !env.is_set("LOG_SEGMENT_BYTES") {
            (limits.bytes, limits.most) = (SPOOLED.bytes, SPOOLED.most);
        }
    }
    Some(limits)
}

fn within<T>(env: &mut Reader<'_>, name: &'static str, range: &RangeInclusive<T>) -> Option<T>
where
    T: std::str::FromStr<Err: std::fmt::Display> + PartialOrd + std::fmt::Display,
{
    let value = env.parse::<T>(name)?;
    if range.contains(&value) {
        return Some(value);
    }
    env.refuse(name, &format_args!("must be {} to {}", range.start(), range.end()));
    None
}

/// This role's own events belong into the log that it seals; elsewhere, nobody may listen, or a stranger.
fn own_logs(env: &mut Reader<'_>, listen: Option<&Local>) {
    let sealer = env.optional::<String>("LOG_SEALER").filter(|sealer| sealer != "off");
    let Some((sealer, listen)) = sealer.zip(listen) else { return };
    if sealer.parse().is_ok_and(|sealer: Local| sealer != *listen) {
        env.refuse(
            "LOG_SEALER",
            &"must be LOG_LISTEN, so that this role seals its own logs, or `off`",
        );
    }
}

#[cfg(test)]
mod tests {
    use service::env::Environment;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
        let recipient = age::x25519::Identity::generate().to_public().to_string();
        let env: Environment =
            [("LOG_RECIPIENTS", recipient.as_str())].iter().chain(pairs).copied().collect();
        let mut reader = Reader::new(&env, &VARS);
        let config = Config::read(&mut reader);
        reader.finish(config).map(|(config, _)| config).map_err(|problems| problems.to_string())
    }

    #[test]
    fn recipients_are_all_that_must_be_set() {
        let config = read(&[]).ok().unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:4317");
        assert_eq!(config.http_listen.to_string(), "127.0.0.1:4318");
        assert_eq!(config.attest_sidecar.to_string(), "127.0.0.1:50051");
        assert_eq!(config.segment.bytes, 1 << 20);
        assert_eq!(config.segment.wait, Duration::from_secs(10));
        assert_eq!(config.heartbeat, Duration::from_secs(60));
        assert_eq!(config.live, Allowed::Nobody);
        assert!(config.readers.is_none());
        assert_eq!(config.spool, spool::Settings { folder: None, bytes: 32 << 20 });
        assert_eq!((config.full, config.sinks), (Full::Block, vec![Address::Stdout]));
        let problems = read(&[("LOG_RECIPIENTS", "")]).err().unwrap();
        assert!(problems.contains("LOG_RECIPIENTS is not set"), "{problems}");
    }

    #[test]
    fn every_value_has_its_bounds() {
        let problems = read(&[
            ("LOG_SEGMENT_SECONDS", "0"),
            ("LOG_SEGMENT_BYTES", "16777217"),
            ("LOG_HEARTBEAT_SECONDS", "4"),
            ("LOG_LISTEN", "0.0.0.0:4317"),
            ("LOG_HTTP_LISTEN", "10.0.0.1:4318"),
            ("LOG_SINK", "folder:relative"),
            ("LOG_SPOOL", "relative"),
            ("LOG_SPOOL_BYTES", "33554431"),
            ("LOG_SPOOL_FULL", "forget"),
            ("LOG_LIVE", "everybody"),
            ("LOG_ENDPOINT", "http://logs.test"),
            ("ATTEST_SIDECAR", "10.0.0.1:50051"),
        ]);
        let problems = problems.err().unwrap();
        for part in [
            "LOG_SEGMENT_SECONDS: must be 1 to 3600",
            "LOG_SEGMENT_BYTES: must be 4096 to 16777216",
            "LOG_HEARTBEAT_SECONDS: must be 5 to 3600",
            "LOG_LISTEN: must be on loopback",
            "LOG_HTTP_LISTEN: must be on loopback",
            "LOG_SINK: ",
            "LOG_SPOOL: must be an absolute path",
            "LOG_SPOOL_BYTES: must be 33554432 to",
            "LOG_SPOOL_FULL: must be block or drop",
            "LOG_LIVE: must be off or admin",
            "LOG_ENDPOINT: must be an https URL",
            "ATTEST_SIDECAR: must be on loopback",
        ] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
    }

    #[test]
    fn metrics_go_below_a_base() {
        assert!(read(&[]).ok().unwrap().metrics.is_empty());
        for (base, receiver) in [
            ("http://127.0.0.1:1", "http://127.0.0.1:1/v1/metrics"),
            ("https://collector.test/otlp/", "https://collector.test/otlp/v1/metrics"),
        ] {
            let config = read(&[("LOG_METRICS_ENDPOINT", base)]).ok().unwrap();
            assert_eq!(config.metrics, [forward::Address::Otlp(receiver.parse().unwrap())]);
        }
        for bad in ["ftp://a", "https://a/?b", "https://user@a/", "a"] {
            let problems = read(&[("LOG_METRICS_ENDPOINT", bad)]).err().unwrap();
            assert!(problems.contains("LOG_METRICS_ENDPOINT: "), "{problems}");
        }
    }

    #[test]
    fn nobody_watches_without_a_spool_that_remembers_it() {
        let watched = [("LOG_LIVE", "admin"), ("LOG_SPOOL", "/spool")];
        assert_eq!(read(&watched).ok().unwrap().live, Allowed::Admin);
        let problems = read(&watched[..1]).err().unwrap();
        assert!(problems.contains("LOG_LIVE: admin needs LOG_SPOOL"), "{problems}");
    }

    #[test]
    fn with_a_spool_senders_wait_and_batches_are_small() {
        let config = read(&[("LOG_SPOOL", "/spool")]).ok().unwrap();
        assert_eq!((config.segment.bytes, config.segment.wait), (SPOOLED.bytes, SPOOLED.wait));
        assert_eq!(config.spool.bytes, 256 << 20);
        let set = [("LOG_SEGMENT_SECONDS", "5"), ("LOG_SEGMENT_BYTES", "1048576")];
        let config = read(&[&set[..], &[("LOG_SPOOL", "/spool")]].concat()).ok().unwrap();
        assert_eq!((config.segment.bytes, config.segment.wait), (1 << 20, ANSWER));
        let problems = read(&[("LOG_SPOOL", "/spool"), ("LOG_SEGMENT_SECONDS", "10")]);
        let problems = problems.err().unwrap();
        assert!(
            problems.contains("LOG_SEGMENT_SECONDS: must be 1 to 5 with LOG_SPOOL"),
            "{problems}"
        );
        let problems = read(&[("LOG_SPOOL", "/a"), ("LOG_SINK", "folder:/a")]).err().unwrap();
        assert!(problems.contains("give each its own"), "{problems}");
    }

    #[test]
    fn an_endpoint_and_its_sink_come_together() {
        let endpoint = ("LOG_ENDPOINT", "https://logs.test/in");
        assert!(read(&[endpoint, ("LOG_SINK", "stdout,http")]).is_ok());
        let problems = read(&[endpoint]).err().unwrap();
        assert!(problems.contains("LOG_SINK=stdout,http"), "{problems}");
        let problems = read(&[("LOG_SINK", "http")]).err().unwrap();
        assert!(problems.contains("LOG_ENDPOINT must say where"), "{problems}");
    }

    #[test]
    fn its_own_logs_go_to_itself_or_nowhere() {
        assert!(read(&[("LOG_LISTEN", "unix:/a"), ("LOG_SEALER", "unix:/a")]).is_ok());
        assert!(read(&[("LOG_LISTEN", "unix:/a"), ("LOG_SEALER", "off")]).is_ok());
        let problems = read(&[("LOG_LISTEN", "unix:/a")]).err().unwrap();
        assert!(problems.contains("LOG_SEALER: must be LOG_LISTEN"), "{problems}");
    }
}
