//! `stack bench tls`: what a proof adds to a connection, what the forwarder adds to a request, how many connections can
//! be proved at once, and whether a rotation loses anything.

use std::net::SocketAddr;
use std::time::Duration;

use super::figures::{Times, ratio, shown};
use super::requests::Requests;
use super::upstream::Upstream;
use super::{BenchError, forwarder, io, requests};
use crate::load::Load;
use crate::local::Forwarder;
use crate::{Options, RoleName, Stack, proofs};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// First requests, each on a connection of its own.
    pub connections: u32,
    /// Requests on open connections, for latencies.
    pub requests: u32,
    /// Long answers.
    pub downloads: u32,
    /// Requests for processor time, in each of [`Effort::rounds`].
    pub batch: u32,
    /// Rounds in which the sides of a ratio take turns.
    pub rounds: u32,
    /// Connections that ask for a proof at once.
    pub proofs: usize,
    /// How long certificates are rotated under load.
    pub rotation: Duration,
}

impl Effort {
    /// Enough for figures; takes some minutes.
    pub const FULL: Self = Self {
        connections: 200,
        requests: 3000,
        downloads: 60,
        batch: 4000,
        rounds: 6,
        proofs: 2000,
        rotation: Duration::from_secs(60),
    };
    /// Enough to see that the benchmark runs.
    pub const SMOKE: Self = Self {
        connections: 2,
        requests: 10,
        downloads: 2,
        batch: 16,
        rounds: 1,
        proofs: 20,
        rotation: Duration::from_secs(2),
    };
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// How long requests take, attested and through the forwarder.
    Times,
    /// The forwarder's processor time for a request.
    Processor,
    /// Many proofs at once.
    Proofs,
    /// Rotations under load.
    Rotation,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Times, Self::Processor, Self::Proofs, Self::Rotation];
}

/// How long the device takes for a report while many ask for one.
const DEVICE: Duration = Duration::from_millis(20);

/// Measures these parts, on stacks of their own. `say` gets one line a figure.
///
/// # Errors
///
/// [`BenchError`]; a figure that cannot be had ends the benchmark.
pub async fn run(
    options: Options,
    effort: Effort,
    parts: &[Part],
    mut say: impl FnMut(&str),
) -> Result<(), BenchError> {
    if parts.contains(&Part::Times) || parts.contains(&Part::Processor) {
        for line in Box::pin(costs(options.clone(), effort, parts)).await? {
            say(&line);
        }
    }
    if parts.contains(&Part::Proofs) {
        say(&Box::pin(many_proofs(options.clone(), effort)).await?);
    }
    if parts.contains(&Part::Rotation) {
        say(&Box::pin(rotation(options, effort)).await?);
    }
    Ok(())
}

fn server(url: &str) -> Result<SocketAddr, BenchError> {
    let address = url.trim_start_matches("https://").parse();
    address.map_err(|_| BenchError::Unexpected(format!("{url} is no address of this machine")))
}

async fn stopped<T>(stack: Stack, outcome: Result<T, BenchError>) -> Result<T, BenchError> {
    let unwell = stack.stop().await;
    let value = outcome?;
    if unwell.is_empty() {
        Ok(value)
    } else {
        Err(BenchError::Unexpected(format!("these roles did not end well: {unwell:?}")))
    }
}

/// Times and processor time of requests, in front of a server that does nothing.
async fn costs(
    mut options: Options,
    effort: Effort,
    parts: &[Part],
) -> Result<Vec<String>, BenchError> {
    let upstream = Upstream::start().await?;
    options.upstream = Some((upstream.url.clone(), "bench".to_owned()));
    let program = options.program.clone();
    let stack = Box::pin(Stack::start(options, |_| {})).await?;
    let measured = async {
        let url = stack.group.url().await?;
        let (server, requests) = (server(&url)?, Requests::new(&stack.api_key)?);
        let connector = stack.connector().await?;
        let mut lines = Vec::new();
        if parts.contains(&Part::Times) {
            lines.push(requests::first(&connector, server, &requests, effort).await?);
            lines.push(requests::later(&connector, server, &requests, effort).await?);
        }
        let local = Forwarder::start(&program, &url, &stack.trusting()).await;
        let local = local.map_err(io("pmc connect does not run"))?;
        if parts.contains(&Part::Times) {
            lines.extend(forwarder::times(&local, server, &requests, effort).await?);
        }
        if parts.contains(&Part::Processor) {
            let certificate = stack.folder().join("server.pem");
            let cpu = forwarder::processor_time(&local, server, &certificate, &requests, effort);
            lines.extend(cpu.await?);
        }
        Ok(lines)
    };
    let outcome = Box::pin(measured).await;
    stopped(stack, outcome).await
}

/// Connections that all ask at once for a proof, of a device that is slow.
async fn many_proofs(mut options: Options, effort: Effort) -> Result<String, BenchError> {
    options.amend = |world| {
        for group in &mut world.groups {
            group.time_per_report = DEVICE;
        }
    };
    let stack = Box::pin(Stack::start(options, |_| {})).await?;
    let measured = async {
        let server = server(&stack.group.url().await?)?;
        let waits =
            proofs::at_once(server, effort.proofs, &stack.anchors()?, &stack.policy()).await?;
        let waits = Times::from(waits.waits);
        let (half, most) = (waits.median(), waits.quantile(0.99));
        Ok(format!(
            "{} proofs at once, a report takes {}: median {}, p99 {}: {:.1} x the device's time",
            effort.proofs,
            shown(DEVICE),
            shown(half),
            shown(most),
            ratio(most, DEVICE)
        ))
    };
    let outcome = Box::pin(measured).await;
    stopped(stack, outcome).await
}

/// A new certificate every second, under load by every way that clients come.
async fn rotation(mut options: Options, effort: Effort) -> Result<String, BenchError> {
    options.variables = [("TLS_CERT_LIFETIME", "5"), ("TLS_CERT_ROTATION", "1")]
        .map(|(name, value)| (RoleName::Proxy, name, value.to_owned()))
        .to_vec();
    let program = options.program.clone();
    let stack = Box::pin(Stack::start(options, |_| {})).await?;
    let measured = async {
        let url = stack.group.url().await?;
        let local = Forwarder::start(&program, &url, &stack.trusting()).await;
        let local = local.map_err(io("pmc connect does not run"))?;
        let load = Load {
            server: server(&url)?,
            forwarder: Some(local.address),
            api_key: stack.api_key.clone(),
            clients: 4,
            duration: effort.rotation,
        };
        let outcome = load.run().await;
        if outcome.failed > 0 {
            let why = outcome.failures.join("; ");
            let text = format!("{} requests were lost in rotations: {why}", outcome.failed);
            return Err(BenchError::Unexpected(text));
        }
        Ok(format!(
            "a rotation every second for {} s: {} requests, none failed; {} certificates",
            effort.rotation.as_secs(),
            outcome.answered,
            outcome.certificates.len()
        ))
    };
    let outcome = Box::pin(measured).await;
    stopped(stack, outcome).await
}
