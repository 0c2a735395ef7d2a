//! `stack bench proxy`: what the proxy costs, with TLS, keys, limits and usage on, beside nginx as a TLS-terminating
//! reverse proxy in front of the same server, and beside that server itself.
//!
//! All of them share the processors of this machine with the model server and with whoever asks, so a saturated rate is one
//! of the whole. The sides take turns, and ratios are what counts.

mod certificate;
mod client;
mod goal;
mod load;
mod message;
mod model;
mod nginx;
mod ours;
mod side;
mod streams;
mod threads;

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::certificate::Certificate;
use self::client::Target;
use self::goal::{Bound, Goal};
use self::load::Rate;
use self::nginx::Nginx;
use self::ours::{Ours, Plan, STATE, has, unlimited_in_a_stack};
use self::side::{Side, Turns};
pub use self::streams::Streams;
use self::threads::Threads;
use super::figures::{Times, ratio, shown};
use super::{BenchError, memory};
use crate::{Options, RoleName, Stack};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How long one side is asked before it is the next one's turn.
    pub turn: Duration,
    /// Turns of each side.
    pub rounds: u32,
    /// Numbers of connections.
    pub connections: [usize; 3],
    /// Connections where the load is equal, and where one proxy is held against another.
    pub equal: usize,
    /// Streams.
    pub streams: [Streams; 3],
    /// How often each side streams.
    pub stream_rounds: u32,
    /// Streams on which nothing happens.
    pub idle: usize,
    /// Keys that one proxy knows, and another.
    pub keys: [u32; 2],
}

/// Streams of which each has so many chunks a second.
const fn streams(number: usize, chunks: u32, a_second: u64) -> Streams {
    Streams { number, chunks, pace: Duration::from_micros(1_000_000 / a_second) }
}

impl Effort {
    /// Enough for figures; takes some minutes.
    pub const FULL: Self = Self {
        turn: Duration::from_secs(3),
        rounds: 4,
        connections: [1, 64, 512],
        equal: 64,
        streams: [streams(1, 150, 50), streams(100, 200, 50), streams(2000, 12, 2)],
        stream_rounds: 3,
        idle: 2000,
        keys: [10, 100_000],
    };
    /// Enough to see that the benchmark runs.
    pub const SMOKE: Self = Self {
        turn: Duration::from_millis(100),
        rounds: 1,
        connections: [1, 2, 4],
        equal: 2,
        streams: [streams(1, 3, 50), streams(2, 3, 50), streams(4, 3, 20)],
        stream_rounds: 1,
        idle: 4,
        keys: [1, 50],
    };
}

/// What to measure with.
#[derive(Clone, Debug)]
pub struct Setting {
    /// A build of this crate's binary; the proxy's own is taken where it lies beside it.
    pub program: PathBuf,
    /// Where everything is written.
    pub folder: PathBuf,
    /// Where RSA keys of the simulated world are kept between starts.
    pub state: PathBuf,
    /// A database of the proxy with many rows of usage, its key file beside it, to hold against an empty one.
    pub rows: Option<PathBuf>,
}

/// Measures everything. `say` gets one line a figure.
///
/// # Errors
///
/// [`BenchError`]; a figure that cannot be had ends the benchmark. A goal that is not met is a line like others.
pub async fn run(
    setting: Setting,
    effort: Effort,
    mut say: impl FnMut(&str),
) -> Result<(), BenchError> {
    let failed = super::io("the folder of the benchmark cannot be made");
    std::fs::create_dir_all(&setting.folder).map_err(&failed)?;
    let folder = setting.folder.canonicalize().map_err(&failed)?;
    let (model, clients) = (Threads::start("bench-model")?, Threads::start("bench-clients")?);
    let server = model::start(&model).await?;
    let certificate = Certificate::make(&folder)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    say(&format!(
        "{processors} processors, shared by what is measured, the model server (1 thread) and whoever asks (1 thread)"
    ));
    let nginx = Nginx::start(&folder, server, &certificate, processors).await?;
    if nginx.is_none() {
        say("no nginx here to compare with (Debian: nginx-light)");
    }
    let bench = Bench { setting, folder, effort, clients, server, certificate };
    let ours = bench.start("proxy", *effort.keys.first().unwrap_or(&1), None).await?;
    if !ours.is_own() {
        say("the proxy's own binary is not beside this program, which stands in for it");
    }
    let compared = Box::pin(bench.compared(&ours, nginx.as_ref(), &mut say)).await;
    ours.stop().await?;
    if let Some(nginx) = nginx {
        nginx.stop().await?;
    }
    let goals = compared?;
    Box::pin(bench.flat(&mut say)).await?;
    say(&Box::pin(bench.attested()).await?);
    for goal in goals {
        say(&goal.line());
    }
    Ok(())
}

/// Everything that figures need.
struct Bench {
    setting: Setting,
    folder: PathBuf,
    effort: Effort,
    clients: Threads,
    server: std::net::SocketAddr,
    certificate: Certificate,
}

impl Bench {
    async fn start(
        &self,
        name: &'static str,
        keys: u32,
        state: Option<&Path>,
    ) -> Result<Ours, BenchError> {
        let (folder, certificate) = (&self.folder, &self.certificate);
        let plan = Plan { name, folder, server: self.server, certificate, keys, state };
        Ours::start(&self.setting.program, plan).await
    }

    fn turns(&self, connections: usize, rate: Rate) -> Turns {
        Turns { connections, rate, rounds: self.effort.rounds, turn: self.effort.turn }
    }

    /// The proxy beside nginx and the server itself.
    async fn compared(
        &self,
        ours: &Ours,
        nginx: Option<&Nginx>,
        say: &mut impl FnMut(&str),
    ) -> Result<Vec<Goal>, BenchError> {
        let key = ours.target.key.clone();
        let server = Target { name: "server", address: self.server, tls: false, key: key.clone() };
        let mut sides = vec![Side { target: server, pids: Vec::new() }];
        let proxy = Side { target: ours.target.clone(), pids: vec![ours.pid()?] };
        if let Some(nginx) = nginx {
            let target = Target { name: "nginx", address: nginx.address, tls: true, key };
            sides.push(Side { target, pids: nginx.pids()? });
        }
        sides.push(proxy);
        let mut goals = Vec::new();
        // First, while nothing is kept of greater loads.
        self.idle(&sides, &mut goals, say).await?;
        let mut rate = f64::INFINITY;
        for connections in self.effort.connections {
            let slowest = self.saturated(connections, &sides, &mut goals, say).await?;
            rate = rate.min(if connections == 1 { f64::INFINITY } else { slowest });
        }
        self.equal_load(rate / 2.0, &sides, &mut goals, say).await?;
        for streams in self.effort.streams {
            self.streamed(streams, &sides, &mut goals, say).await?;
        }
        Ok(goals)
    }

    /// As many answers as can be had. Returns the rate of the slowest side.
    async fn saturated(
        &self,
        connections: usize,
        sides: &[Side],
        goals: &mut Vec<Goal>,
        say: &mut impl FnMut(&str),
    ) -> Result<f64, BenchError> {
        let seen = self.turns(connections, Rate::Saturating).take(&self.clients, sides).await?;
        for (side, seen) in sides.iter().zip(&seen) {
            let (line, generator) = (seen.line(side), shown(seen.generator()));
            say(&format!("saturated, {connections} connections: {line} (asking {generator})"));
        }
        if let [_, nginx, ours] = seen.as_slice() {
            goals.push(Goal {
                what: format!("saturated throughput, {connections} connections"),
                value: ours.rate() / nginx.rate(),
                unit: "x nginx",
                bound: Bound::AtLeast(0.65),
            });
        }
        Ok(seen.iter().map(side::Seen::rate).fold(f64::INFINITY, f64::min))
    }

    /// So many questions a second for each.
    async fn equal_load(
        &self,
        a_second: f64,
        sides: &[Side],
        goals: &mut Vec<Goal>,
        say: &mut impl FnMut(&str),
    ) -> Result<(), BenchError> {
        let seen = self.paced(a_second, sides, say).await?;
        if let [_, nginx, ours] = seen.as_slice() {
            goals.push(Goal {
                what: "processor time a request at equal load".to_owned(),
                value: ratio(ours.each(), nginx.each()),
                unit: "x nginx",
                bound: Bound::AtMost(1.5),
            });
        }
        Ok(())
    }

    async fn paced(
        &self,
        a_second: f64,
        sides: &[Side],
        say: &mut impl FnMut(&str),
    ) -> Result<Vec<side::Seen>, BenchError> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "some thousands, and the cast saturates"
        )]
        let rate = (a_second as u32).max(1);
        let turns = self.turns(self.effort.equal, Rate::PerSecond(rate));
        let seen = turns.take(&self.clients, sides).await?;
        for (side, seen) in sides.iter().zip(&seen) {
            say(&format!("equal load, {rate}/s: {}", seen.line(side)));
        }
        Ok(seen)
    }

    /// Streams of events, and what their chunks cost.
    async fn streamed(
        &self,
        streams: Streams,
        sides: &[Side],
        goals: &mut Vec<Goal>,
        say: &mut impl FnMut(&str),
    ) -> Result<(), BenchError> {
        let Streams { number, chunks, pace } = streams;
        let mut all: Vec<_> =
            sides.iter().map(|_| (Times::default(), Times::default(), Duration::ZERO)).collect();
        for _ in 0..self.effort.stream_rounds {
            for (side, (first, delays, used)) in sides.iter().zip(&mut all) {
                let before = side.used()?;
                let seen = self.clients.run(streams::watch(side.target.clone(), streams)).await?;
                *used += side.used()?.saturating_sub(before);
                seen.first.into_iter().for_each(|time| first.push(time));
                seen.delays.into_iter().for_each(|time| delays.push(time));
            }
        }
        let what = format!("{number} streams, {:.0} chunks/s each", 1.0 / pace.as_secs_f64());
        let count = u32::try_from(number).unwrap_or(u32::MAX);
        let sent = count.saturating_mul(chunks).saturating_mul(self.effort.stream_rounds).max(1);
        for (side, (first, delays, used)) in sides.iter().zip(&all) {
            say(&format!(
                "{what}: {}: first event p50 {} p99 {}, a chunk p50 {} p99 {}, processor {} a chunk",
                side.target.name,
                shown(first.median()),
                shown(first.quantile(0.99)),
                shown(delays.median()),
                shown(delays.quantile(0.99)),
                shown(*used / sent)
            ));
        }
        let (server, ours) = (all.first(), all.last());
        if let Some(((_, server, _), (_, ours, _))) = server.zip(ours) {
            let added = ours.median().saturating_sub(server.median());
            goals.push(Goal {
                what: format!("added delay of a chunk at p50, {what}"),
                value: added.as_secs_f64() * 1e3,
                unit: "ms",
                bound: Bound::AtMost(0.3),
            });
        }
        Ok(())
    }

    /// What a stream holds on which nothing happens.
    async fn idle(
        &self,
        sides: &[Side],
        goals: &mut Vec<Goal>,
        say: &mut impl FnMut(&str),
    ) -> Result<(), BenchError> {
        let number = self.effort.idle;
        for side in sides.iter().filter(|side| !side.pids.is_empty()) {
            let before = side.resident()?;
            let held = self.clients.run(streams::idle(side.target.clone(), number)).await?;
            let after = side.resident()?;
            drop(held);
            let each = after.saturating_sub(before) / u64::try_from(number).unwrap_or(1).max(1);
            #[expect(clippy::cast_precision_loss, reason = "some kilobytes")]
            let kibibytes = each as f64 / 1024.0;
            say(&format!(
                "{number} idle streams: {} {kibibytes:.1} KiB each, {} before",
                side.target.name,
                memory::shown(before)
            ));
            if side.target.name == "proxy" {
                goals.push(Goal {
                    what: "memory of an idle stream".to_owned(),
                    value: kibibytes,
                    unit: "KiB",
                    bound: Bound::AtMost(64.0),
                });
            }
        }
        Ok(())
    }

    /// Whether a request costs the same however many keys there are, and however much was used.
    async fn flat(&self, say: &mut impl FnMut(&str)) -> Result<(), BenchError> {
        let [few, many] = self.effort.keys;
        let one = self.start("few keys", few, None).await?;
        let other = self.start("many keys", many, None).await?;
        say(&format!("{few} and {many} keys: {}", self.beside(one, other).await?));
        let Some(rows) = self.setting.rows.as_deref().filter(|_| has(STATE)) else {
            say("rows of usage: not measured: --rows names a database that has many");
            return Ok(());
        };
        let one = self.start("no rows", few, None).await?;
        let other = self.start("many rows", few, Some(rows)).await?;
        let name = rows.display();
        say(&format!("no rows of usage, and those of {name}: {}", self.beside(one, other).await?));
        Ok(())
    }

    /// One proxy beside another.
    async fn beside(&self, one: Ours, other: Ours) -> Result<String, BenchError> {
        let sides = [
            Side { target: one.target.clone(), pids: vec![one.pid()?] },
            Side { target: other.target.clone(), pids: vec![other.pid()?] },
        ];
        let line = self.line_beside(&sides).await;
        one.stop().await?;
        other.stop().await?;
        line
    }

    async fn line_beside(&self, sides: &[Side; 2]) -> Result<String, BenchError> {
        let turns = self.turns(self.effort.equal, Rate::Saturating);
        let seen = turns.take(&self.clients, sides).await?;
        let ([one, other], [first, second]) = (sides, seen.as_slice()) else {
            return Err(BenchError::Unexpected("a side is missing".to_owned()));
        };
        Ok(format!(
            "{}; {}; processor {:.2} x, p50 {:.2} x",
            first.line(one),
            second.line(other),
            ratio(second.each(), first.each()),
            ratio(second.median(), first.median())
        ))
    }

    /// The whole group, its proxy with a certificate that it made itself and with a sealed log, beside the proxy alone.
    async fn attested(&self) -> Result<String, BenchError> {
        let options = Options {
            program: self.setting.program.clone(),
            folder: self.folder.join("group"),
            state: self.setting.state.clone(),
            port: 0,
            upstream: Some((format!("http://{}", self.server), "bench".to_owned())),
            model_delay: Duration::ZERO,
            amend: |_| {},
            variables: unlimited_in_a_stack(),
        };
        let stack = Box::pin(Stack::start(options, |_| {})).await?;
        let measured = Box::pin(self.beside_attested(&stack)).await;
        let unwell = stack.stop().await;
        let line = measured?;
        if unwell.is_empty() {
            Ok(line)
        } else {
            Err(BenchError::Unexpected(format!("these roles did not end well: {unwell:?}")))
        }
    }

    async fn beside_attested(&self, stack: &Stack) -> Result<String, BenchError> {
        let url = stack.group.url().await?;
        let unusable = |_| BenchError::Unexpected(format!("{url} is no address"));
        let address = url.trim_start_matches("https://").parse().map_err(unusable)?;
        let ended = || BenchError::Unexpected("the group's proxy has ended".to_owned());
        let pid = stack.group.pid(RoleName::Proxy).ok_or_else(ended)?;
        let key = stack.api_key.clone();
        let attested = Target { name: "attested, with a sealed log", address, tls: true, key };
        let attested = Side { target: attested, pids: vec![pid] };
        let ours = self.start("from files, without a log", 10, None).await?;
        let sides = [Side { target: ours.target.clone(), pids: vec![ours.pid()?] }, attested];
        let line = self.line_beside(&sides).await;
        ours.stop().await?;
        Ok(format!("TLS_MODE: {}", line?))
    }
}
