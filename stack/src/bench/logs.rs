//! `stack bench logs`: what a sealed record costs, from OTLP in to sealed bytes in the spool and the sink, beside the same
//! work done bare (decode, encode, compress, encrypt), beside encryption alone, and beside a script that encrypts and
//! posts each line by itself.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use service::listen::Local;
use tokio::process::Command;
use tonic::transport::Channel;

use super::figures::{ratio, shown};
use super::{BenchError, cpu, io, memory};
use crate::pair::RoleChild;
use crate::{Options, RoleName, Stack};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Exports in a round.
    pub exports: u32,
    /// Rounds in which the sides take turns.
    pub rounds: u32,
    /// Lines that the script posts.
    pub posts: u32,
}

impl Effort {
    /// Enough for figures; takes a minute or two.
    pub const FULL: Self = Self { exports: 2000, rounds: 5, posts: 5000 };
    /// Enough to see that the benchmark runs.
    pub const SMOKE: Self = Self { exports: 8, rounds: 1, posts: 20 };
}

/// Log records in an export, as SDKs batch them.
const BATCH: u32 = 512;

/// The longest that the sealer may take to its first record.
const READY: Duration = Duration::from_secs(60);

/// Senders at once.
const SENDERS: u32 = 8;

/// What the thread that does the bare work is called.
const BARE: &str = "bare-sealing";

/// Exports that the bare work goes through in turn. A segment holds a few of them: none may be in it twice, or compression
/// would have less to do than with what is sent.
const UNLIKE: u32 = 64;

/// Bytes of JSON that one bare segment holds: as many as the sealer lets pile up.
const SEGMENT: usize = 1 << 20;

/// One secretbox and one POST a line, to a server in a process of its own. Prints microseconds of processor time a line.
const SCRIPT: &str = r#"
import http.client, http.server, multiprocessing, sys, time
try:
    import nacl.secret, nacl.utils
except ImportError:
    sys.exit(3)
class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Sink)
sink = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
sink.start()
port = server.server_address[1]
server.socket.close()
box = nacl.secret.SecretBox(nacl.utils.random(32))
line = sys.argv[2].encode()
number = int(sys.argv[1])
connection = http.client.HTTPConnection("127.0.0.1", port)
begin = time.process_time()
for _ in range(number):
    connection.request("POST", "/", box.encrypt(line))
    connection.getresponse().read()
print((time.process_time() - begin) / number * 1e6)
sink.terminate()
"#;

/// Measures everything on one stack. `say` gets one line a figure.
///
/// # Errors
///
/// [`BenchError`]; a figure that cannot be had ends the benchmark.
pub async fn run(
    options: Options,
    effort: Effort,
    mut say: impl FnMut(&str),
) -> Result<(), BenchError> {
    let program = options.program.clone();
    let stack = Box::pin(Stack::start(options, |_| {})).await?;
    let outcome = Box::pin(measure(&program, &stack, effort, &mut say)).await;
    let unwell = stack.stop().await;
    outcome?;
    if unwell.is_empty() {
        Ok(())
    } else {
        Err(BenchError::Unexpected(format!("these roles did not end well: {unwell:?}")))
    }
}

/// What one side of the comparison took in all rounds.
#[derive(Default)]
struct Taken {
    wall: Duration,
    processor: Duration,
}

async fn measure(
    program: &Path,
    stack: &Stack,
    effort: Effort,
    say: &mut impl FnMut(&str),
) -> Result<(), BenchError> {
    let mut sealer = Measured::start(program, stack).await?;
    let figures = Box::pin(figures(&sealer, effort, say)).await;
    let well = sealer.role.stop().await;
    figures?;
    if well {
        Ok(())
    } else {
        Err(BenchError::Unexpected("log-sealer did not end well".to_owned()))
    }
}

/// A log-sealer beside the group's own, which has nothing else to do than what is measured.
struct Measured {
    role: RoleChild,
    channel: Channel,
}

impl Measured {
    /// The role's own binary where it lies beside this program. Returns when the first record is out: its key has evidence
    /// then, and it has nothing to do.
    async fn start(program: &Path, stack: &Stack) -> Result<Self, BenchError> {
        let places = stack.group.places();
        let folder = places.folder.join("measured");
        let (socket, sealed, spool) =
            (folder.join("log.sock"), folder.join("sealed"), folder.join("spool"));
        // The first record of an earlier run would be taken for this one's.
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io("what an earlier run left cannot be removed")(error));
            }
            _ => {}
        }
        for folder in [&sealed, &spool] {
            std::fs::create_dir_all(folder).map_err(io("a folder cannot be made"))?;
        }
        let listen = format!("unix:{}", socket.display());
        let environment = vec![
            ("LOG_LISTEN", listen.clone()),
            ("LOG_SEALER", listen.clone()),
            ("LOG_HTTP_LISTEN", "127.0.0.1:0".to_owned()),
            ("LOG_RECIPIENTS", places.log_recipients.clone()),
            ("LOG_SINK", format!("folder:{}", sealed.display())),
            ("LOG_SPOOL", spool.display().to_string()),
            (
                "ATTEST_SIDECAR",
                format!("unix:{}", places.socket(RoleName::AttestSidecar).display()),
            ),
        ];
        let name = RoleName::LogSealer.name();
        let mut role = RoleChild::start(program, name, &folder, &environment)?;
        let begin = Instant::now();
        while std::fs::read_dir(&sealed)
            .map_err(io("the sealed log cannot be read"))?
            .next()
            .is_none()
        {
            if role.has_ended() || begin.elapsed() > READY {
                let printed = std::fs::read_to_string(folder.join(format!("{name}.out")));
                let printed = printed.unwrap_or_default();
                return Err(BenchError::Unexpected(format!(
                    "log-sealer seals nothing:\n{printed}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // What comes right after the start.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let too_long = |_| BenchError::Unexpected("a path is too long".to_owned());
        let address: Local = listen.parse().map_err(too_long)?;
        Ok(Self { role, channel: service::grpc::channel(&address) })
    }
}

async fn figures(
    Measured { role, channel }: &Measured,
    effort: Effort,
    say: &mut impl FnMut(&str),
) -> Result<(), BenchError> {
    if !role.is_own {
        say(
            "log-sealer's own binary is not beside this program, which stands in for it and is larger",
        );
    }
    let pid = role.pid()?;
    let idle = memory::held(pid)?;
    say(&format!(
        "memory idle: {} resident, {} its own share (aim: 15 MB)",
        memory::shown(idle.rss),
        memory::shown(idle.pss)
    ));

    let reader = age::x25519::Identity::generate().to_public();
    let message = export(0);
    let lines = json(&message)?;
    let encoded: Arc<[Vec<u8>]> =
        (0..UNLIKE).map(|number| export(number).encode_to_vec()).collect();
    // Once, so that everything is open and at hand.
    send(channel, SENDERS).await?;

    let [mut ours, mut bare, mut age] = [(); 3].map(|()| Taken::default());
    for _ in 0..effort.rounds {
        let (begin, before) = (Instant::now(), cpu::used(pid)?);
        send(channel, effort.exports).await?;
        ours.wall += begin.elapsed();
        ours.processor += cpu::used(pid)?.saturating_sub(before);
        let (encoded, to) = (encoded.clone(), reader.clone());
        bare.add(on_a_thread(move || sealed_bare(&encoded, effort.exports, &to))?);
        let (lines, to) = (lines.clone(), reader.clone());
        age.add(on_a_thread(move || encrypted(&lines, effort.exports, &to))?);
    }
    let loaded = memory::held(pid)?;
    let records = effort.rounds * effort.exports * BATCH;
    let bytes = u64::try_from(message.encoded_len()).unwrap_or(0)
        * u64::from(effort.rounds * effort.exports);
    say(&format!(
        "{SENDERS} senders, exports of {BATCH} records: {:.0} records/s, {:.1} MB/s of OTLP",
        f64::from(records) / ours.wall.as_secs_f64(),
        megabytes(bytes) / ours.wall.as_secs_f64(),
    ));
    say(&format!(
        "processor time of a record: log-sealer {}, bare decoding, encoding, compression and age {}: {:.2} x (aim: 1.5); \
         age alone {}: {:.2} x",
        nanoseconds(ours.processor, records),
        nanoseconds(bare.processor, records),
        ratio(ours.processor, bare.processor),
        nanoseconds(age.processor, records),
        ratio(ours.processor, age.processor),
    ));
    say(&match script(effort.posts, &lines).await? {
        Some(line) => format!(
            "processor time of a line by a script with a secretbox and a POST each: {}, {:.0} x",
            shown(line),
            ratio(line, ours.processor / records.max(1)),
        ),
        None => "a script with a secretbox and a POST each: not measured, python3 has no PyNaCl \
                 (python3 -m pip install pynacl)"
            .to_owned(),
    });
    say(&format!("memory loaded: {} resident", memory::shown(loaded.rss)));
    Ok(())
}

impl Taken {
    fn add(&mut self, processor: Duration) {
        self.processor += processor;
    }
}

/// Sends so many exports, [`SENDERS`] at once, each answered before its sender's next.
async fn send(channel: &Channel, exports: u32) -> Result<(), BenchError> {
    let senders = (0..SENDERS).map(|sender| {
        let channel = channel.clone();
        async move {
            let mut client = LogsServiceClient::new(channel);
            for number in (sender..exports.max(SENDERS)).step_by(SENDERS as usize) {
                client.export(export(number)).await?;
            }
            Ok::<_, tonic::Status>(())
        }
    });
    let sent = futures_util::future::try_join_all(senders).await;
    sent.map(drop).map_err(|status| BenchError::Unexpected(format!("an export failed: {status}")))
}

/// Records as a server that handles requests writes them: much is alike, and something is new in each.
fn export(number: u32) -> ExportLogsServiceRequest {
    let text = |text: String| AnyValue { value: Some(Value::StringValue(text)) };
    let attribute = |key: &str, value: String| KeyValue {
        key: key.to_owned(),
        value: Some(text(value)),
        ..KeyValue::default()
    };
    let record = |n: u32| {
        let unlike = u64::from(number * BATCH + n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        LogRecord {
            time_unix_nano: 1_700_000_000_000_000_000 + u64::from(n),
            severity_number: 9,
            severity_text: "INFO".to_owned(),
            body: Some(text(format!("request {unlike:016x} was answered"))),
            attributes: vec![
                attribute("http.route", "/v1/chat/completions".to_owned()),
                attribute("http.response.status_code", "200".to_owned()),
                attribute("request.id", format!("req_{:016x}", unlike.rotate_left(31))),
                attribute("duration", format!("{} us", unlike % 100_000)),
            ],
            trace_id: unlike.to_be_bytes().repeat(2),
            span_id: unlike.to_le_bytes().to_vec(),
            ..LogRecord::default()
        }
    };
    let resource = Resource {
        attributes: vec![attribute("service.name", "bench".to_owned())],
        ..Resource::default()
    };
    let scope = ScopeLogs { log_records: (0..BATCH).map(record).collect(), ..ScopeLogs::default() };
    let logs = ResourceLogs {
        resource: Some(resource),
        scope_logs: vec![scope],
        ..ResourceLogs::default()
    };
    ExportLogsServiceRequest { resource_logs: vec![logs] }
}

fn json(message: &ExportLogsServiceRequest) -> Result<Vec<u8>, BenchError> {
    let mut lines =
        serde_json::to_vec(message).map_err(std::io::Error::other).map_err(io("JSON"))?;
    lines.push(b'\n');
    Ok(lines)
}

/// The same work with libraries alone, without a queue, a record, a disk or an answer.
fn sealed_bare(
    encoded: &[Vec<u8>],
    exports: u32,
    to: &age::x25519::Recipient,
) -> Result<(), BenchError> {
    let mut segment = Vec::new();
    for (number, encoded) in (1..=exports).zip(encoded.iter().cycle()) {
        let message = ExportLogsServiceRequest::decode(encoded.as_slice())
            .map_err(|error| BenchError::Unexpected(error.to_string()))?;
        segment.extend(json(&message)?);
        if segment.len() >= SEGMENT || number == exports {
            let packed = zstd::encode_all(segment.as_slice(), 3).map_err(io("zstd"))?;
            std::hint::black_box(encrypt(&packed, to)?);
            segment.clear();
        }
    }
    Ok(())
}

/// Encryption of the same lines, as they are.
fn encrypted(lines: &[u8], exports: u32, to: &age::x25519::Recipient) -> Result<(), BenchError> {
    let together = (SEGMENT / lines.len().max(1)).max(1);
    let segment = lines.repeat(together);
    for _ in 0..usize::try_from(exports).unwrap_or(0).div_ceil(together) {
        std::hint::black_box(encrypt(&segment, to)?);
    }
    Ok(())
}

fn encrypt(bytes: &[u8], to: &age::x25519::Recipient) -> Result<Vec<u8>, BenchError> {
    let failed = |error: age::EncryptError| BenchError::Unexpected(error.to_string());
    let encryptor = age::Encryptor::with_recipients(std::iter::once(to as _)).map_err(failed)?;
    let mut sealed = Vec::with_capacity(bytes.len() + 1024);
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(io("age"))?;
    writer.write_all(bytes).and_then(|()| writer.finish()).map_err(io("age"))?;
    Ok(sealed)
}

/// The processor time of work on a thread of its own.
fn on_a_thread(
    work: impl FnOnce() -> Result<(), BenchError> + Send + 'static,
) -> Result<Duration, BenchError> {
    let timed = move || {
        work()?;
        cpu::used_by_threads(std::process::id(), BARE)
    };
    let thread = std::thread::Builder::new().name(BARE.to_owned()).spawn(timed);
    let ended = thread.map_err(io("a thread cannot be started"))?.join();
    ended.unwrap_or_else(|_| Err(BenchError::Unexpected("the bare work broke off".to_owned())))
}

/// What the script says; `None` if it cannot run here.
async fn script(posts: u32, lines: &[u8]) -> Result<Option<Duration>, BenchError> {
    let line = String::from_utf8_lossy(lines);
    let line: String = line.chars().take(lines.len() / BATCH as usize).collect();
    let output = Command::new("python3")
        .args(["-c", SCRIPT, &posts.to_string(), &line])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Ok(output) = output.await else { return Ok(None) };
    if !output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let micros: f64 = said.trim().parse().map_err(|_| {
        BenchError::Unexpected("the script printed something else than a number".to_owned())
    })?;
    Ok(Some(Duration::from_secs_f64(micros.max(0.0) / 1e6)))
}

fn nanoseconds(all: Duration, records: u32) -> String {
    format!("{:.0} ns", all.as_secs_f64() * 1e9 / f64::from(records.max(1)))
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
