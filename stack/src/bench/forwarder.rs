//! What `pmc connect` adds to a request: in time, beside a relay that copies bytes, and in processor time, beside nginx
//! as the TLS side of a client.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::figures::{Times, compared, ratio, shown};
use super::peers::{Nginx, Relay};
use super::requests::{Requests, straight};
use super::tls::Effort;
use super::upstream::LARGE;
use super::{BenchError, cpu};
use crate::local::Forwarder;
use crate::straight::{Straight, Version};

/// Clients that ask at the same time when processor time is measured. The more there are, the more requests share a write
/// to the server and a wake-up; nginx keeps a connection for each of them, and 64 at most.
const CLIENTS: [u32; 3] = [1, 8, 64];

const OURS: &str = "pmc connect";
const PEER: &str = "TLS through a TCP relay";

async fn plain(address: SocketAddr) -> Result<Straight, BenchError> {
    Straight::plain(address).await.map_err(|error| BenchError::Straight("a local client", error))
}

/// Latency of short requests, and the time that a long answer takes.
pub(crate) async fn times(
    forwarder: &Forwarder,
    server: SocketAddr,
    requests: &Requests,
    effort: Effort,
) -> Result<Vec<String>, BenchError> {
    let relay = Relay::start(server).await?;
    let relayed = Straight::tls(relay.address, Version::Http1).await;
    let mut theirs = relayed.map_err(|error| BenchError::Straight(PEER, error))?;
    let mut ours = plain(forwarder.address).await?;
    let mut lines = Vec::new();
    let download = format!("a download of {} MiB", LARGE >> 20);
    for (what, rounds) in [("a short request", effort.requests), (&download, effort.downloads)] {
        let (mut our_times, mut their_times) = (Times::default(), Times::default());
        for _ in 0..rounds {
            let next = || if what == download { requests.download() } else { requests.chat() };
            let begin = Instant::now();
            straight(PEER, &mut theirs, next()).await?;
            their_times.push(begin.elapsed());
            let begin = Instant::now();
            straight(OURS, &mut ours, next()).await?;
            our_times.push(begin.elapsed());
        }
        lines.push(compared(what, (OURS, &our_times), (PEER, &their_times)));
    }
    Ok(lines)
}

/// Processor time of the forwarder for a request, and of nginx for the same.
pub(crate) async fn processor_time(
    forwarder: &Forwarder,
    server: SocketAddr,
    certificate: &Path,
    requests: &Requests,
    effort: Effort,
) -> Result<Vec<String>, BenchError> {
    let folder = certificate.with_file_name("nginx");
    let Some(nginx) = Nginx::start(&folder, server, certificate).await? else {
        let none = "processor time: no nginx here to compare with (Debian: nginx-light)";
        return Ok(vec![none.to_owned()]);
    };
    let mut lines = Vec::new();
    for clients in CLIENTS {
        let each = (effort.batch / clients).max(1);
        let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..effort.rounds {
            theirs += spent(nginx.pid(), nginx.address, requests, clients, each).await?;
            ours += spent(forwarder.pid(), forwarder.address, requests, clients, each).await?;
        }
        let what = format!("processor time a request, {clients} clients at once");
        if theirs.is_zero() {
            lines.push(format!("{what}: too few requests to count"));
            continue;
        }
        let count = (effort.rounds * clients * each).max(1);
        let (ours, theirs) = (ours / count, theirs / count);
        let times = ratio(ours, theirs);
        let (ours, theirs) = (shown(ours), shown(theirs));
        lines.push(format!("{what}: {OURS} {ours}, nginx {theirs}: {times:.2} x"));
    }
    Ok(lines)
}

/// Processor time of a process while it forwards requests: so many of each client.
async fn spent(
    pid: u32,
    address: SocketAddr,
    requests: &Requests,
    clients: u32,
    each: u32,
) -> Result<Duration, BenchError> {
    let before = cpu::used(pid)?;
    let clients = (0..clients).map(|_| async {
        let mut client = plain(address).await?;
        for _ in 0..each {
            straight("a local client", &mut client, requests.chat()).await?;
        }
        Ok::<_, BenchError>(())
    });
    futures_util::future::try_join_all(clients).await?;
    Ok(cpu::used(pid)?.saturating_sub(before))
}
