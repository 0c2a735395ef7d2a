//! `stack soak skr`: whether the sidecars grow, by attestations and releases in great numbers.
//!
//! The work is done in windows; after each one the processes are looked at while nothing runs. Growth is what the last
//! quarter of the windows has over the first.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::bench::figures::{Times, ratio, shown};
use crate::bench::{BenchError, memory};
use crate::pair::{Outside, Pair, RoleChild, post};
use crate::straight::Straight;

/// Windows in all.
const WINDOWS: u32 = 40;

/// Connections for attestations, open from the beginning to the end.
const ATTESTING: u32 = 8;

/// Releases that run at once.
const RELEASING: u32 = 2;

/// Growth of memory that is none: a share of it, or this many bytes.
const SLACK: (f64, u64) = (1.1, 2_000_000);

/// How much slower the slowest requests may become.
const SLOWER: f64 = 1.5;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Attestations: `/attest/raw` and `/attest/combined` in turns.
    pub attestations: u32,
    /// Releases.
    pub releases: u32,
}

/// What was seen after one window.
#[derive(Default)]
struct Sample {
    attestations: Times,
    releases: Times,
    /// Of `skr-sidecar`, then of `attest-sidecar`.
    descriptors: [usize; 2],
    rss: [u64; 2],
}

/// Does the work. Says what has grown; nothing is what should be.
///
/// # Errors
///
/// [`BenchError`]; a request that fails ends it.
pub async fn run(
    program: PathBuf,
    folder: PathBuf,
    state: PathBuf,
    plan: Plan,
    mut say: impl FnMut(&str),
) -> Result<Vec<String>, BenchError> {
    let outside = Outside::start(program, &folder, state).await?;
    let pair = outside.pair("soaked").await?;
    let soaked = Box::pin(soaked(&outside, &pair, plan, &mut say)).await;
    let stopped = pair.stop().await;
    outside.world.stop().await;
    let samples = soaked?;
    stopped?;
    Ok(growth(&samples))
}

async fn soaked(
    outside: &Outside,
    pair: &Pair,
    plan: Plan,
    say: &mut impl FnMut(&str),
) -> Result<Vec<Sample>, BenchError> {
    let release = Bytes::from(outside.release()?.to_string());
    let mut attesting = connections(pair, ATTESTING).await?;
    let mut releasing = connections(pair, RELEASING).await?;
    let mut samples = Vec::new();
    for window in 1..=WINDOWS {
        // One that was idle for long, while others waited for wrapping keys, was closed.
        for one in attesting.iter_mut().chain(&mut releasing) {
            if !one.is_ready().await {
                *one = pair.connect().await?;
            }
        }
        let share = |all: u32, among: u32| (all / WINDOWS).div_ceil(among).max(1);
        let (attest, many) = (Work::Attest, share(plan.attestations, ATTESTING));
        let attested = try_join_all(attesting.iter_mut().map(|one| attest.repeat(one, many)));
        let (work, many) = (Work::Release(release.clone()), share(plan.releases, RELEASING));
        let released = try_join_all(releasing.iter_mut().map(|one| work.repeat(one, many)));
        let (attested, released) = tokio::join!(attested, released);
        let sample = Sample {
            attestations: attested?.concat().into(),
            releases: released?.concat().into(),
            descriptors: each(pair, memory::descriptors)?,
            rss: each(pair, |pid| memory::held(pid).map(|memory| memory.rss))?,
        };
        say(&sample.line(window));
        samples.push(sample);
    }
    Ok(samples)
}

async fn connections(pair: &Pair, number: u32) -> Result<Vec<Straight>, BenchError> {
    try_join_all((0..number).map(|_| pair.connect())).await
}

fn each<T>(pair: &Pair, of: impl Fn(u32) -> Result<T, BenchError>) -> Result<[T; 2], BenchError> {
    let seen = |role: &RoleChild| of(role.pid()?);
    Ok([seen(&pair.skr)?, seen(&pair.attest)?])
}

/// What one connection is used for.
enum Work {
    Attest,
    Release(Bytes),
}

impl Work {
    async fn repeat(
        &self,
        connection: &mut Straight,
        times: u32,
    ) -> Result<Vec<Duration>, BenchError> {
        const RUNTIME_DATA: &[u8] = br#"{"runtime_data":"e30="}"#;
        let mut taken = Vec::new();
        for n in 0..times {
            let (path, body) = match self {
                Self::Attest if n % 2 == 0 => ("/attest/raw", Bytes::from_static(RUNTIME_DATA)),
                Self::Attest => ("/attest/combined", Bytes::from_static(RUNTIME_DATA)),
                Self::Release(body) => ("/key/release", body.clone()),
            };
            let begin = Instant::now();
            post(connection, path, body).await?;
            taken.push(begin.elapsed());
        }
        Ok(taken)
    }
}

impl Sample {
    fn line(&self, window: u32) -> String {
        let ([skr, attest], [skr_rss, attest_rss]) = (self.descriptors, self.rss);
        format!(
            "window {window}: attestations {} (p99 {}), releases {} (p99 {}), descriptors {skr} and {attest}, memory {} \
             and {}",
            shown(self.attestations.median()),
            shown(self.attestations.quantile(0.99)),
            shown(self.releases.median()),
            shown(self.releases.quantile(0.99)),
            memory::shown(skr_rss),
            memory::shown(attest_rss)
        )
    }
}

/// What the last quarter has over the first.
fn growth(samples: &[Sample]) -> Vec<String> {
    let quarter = (samples.len() / 4).max(1);
    let first = samples.get(..quarter).unwrap_or(samples);
    let last = samples.get(samples.len().saturating_sub(quarter)..).unwrap_or(samples);
    let mut grown = Vec::new();
    for (role, name) in ["skr-sidecar", "attest-sidecar"].into_iter().enumerate() {
        // A connection more or less is no growth: what leaks has more at its best than it had at its worst.
        let open = |sample: &Sample| sample.descriptors.get(role).copied().unwrap_or_default();
        let before = first.iter().map(open).max().unwrap_or_default();
        let after = last.iter().map(open).min().unwrap_or_default();
        if after > before {
            grown.push(format!("descriptors of {name}: from {before} to {after}"));
        }
        let held = |samples: &[Sample]| {
            let mut held: Vec<u64> =
                samples.iter().filter_map(|sample| sample.rss.get(role).copied()).collect();
            held.sort_unstable();
            held.get(held.len() / 2).copied().unwrap_or_default()
        };
        let (before, after) = (held(first), held(last));
        #[expect(clippy::cast_precision_loss, reason = "a share of some megabytes")]
        let much = after as f64 > before as f64 * SLACK.0 && after > before + SLACK.1;
        if much {
            let (before, after) = (memory::shown(before), memory::shown(after));
            grown.push(format!("memory of {name}: from {before} to {after}"));
        }
    }
    for (name, of) in [
        ("attestations", (|sample: &Sample| &sample.attestations) as fn(&Sample) -> &Times),
        ("releases", |sample| &sample.releases),
    ] {
        for (share, what) in [(0.5, "median"), (0.99, "p99")] {
            let of = |samples: &[Sample]| {
                let times: Vec<_> =
                    samples.iter().map(|sample| of(sample).quantile(share)).collect();
                Times::from(times).median()
            };
            let (before, after) = (of(first), of(last));
            if ratio(after, before) > SLOWER {
                let (before, after) = (shown(before), shown(after));
                grown.push(format!("{what} of {name}: from {before} to {after}"));
            }
        }
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(descriptors: usize, megabytes: u64, milliseconds: u64) -> Sample {
        let times = || Times::from(vec![Duration::from_millis(milliseconds); 3]);
        Sample {
            attestations: times(),
            releases: times(),
            descriptors: [descriptors, 10],
            rss: [megabytes * 1_000_000, 20_000_000],
        }
    }

    fn grown(last: impl Fn() -> Sample) -> Vec<String> {
        let samples: Vec<_> =
            (0..40).map(|n| if n < 30 { sample(30 + n % 3, 20, 10) } else { last() }).collect();
        growth(&samples)
    }

    #[test]
    fn what_grows_is_told_by_name_and_what_varies_is_not() {
        assert_eq!(grown(|| sample(32, 21, 14)), Vec::<String>::new());
        assert_eq!(grown(|| sample(33, 20, 10)), ["descriptors of skr-sidecar: from 32 to 33"]);
        let memory = "memory of skr-sidecar: from 20.0 MB to 23.0 MB";
        assert_eq!(grown(|| sample(30, 23, 10)), [memory]);
        assert_eq!(grown(|| sample(30, 20, 16)).len(), 4, "medians and p99s of both");
        assert!(growth(&[]).is_empty());
    }
}
