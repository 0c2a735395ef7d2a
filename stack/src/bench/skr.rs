//! `stack bench skr`: what a release costs over the bare round trips to attestation service and vault, what a report
//! costs, how fast wrapping keys are made, how soon the sidecars answer, and what they hold.
//!
//! Figures of the reference are those of its contract (`skr.md`), measured on another machine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use attestation::encoding::to_b64u;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
    PrivateDecryptingKey, PublicKey,
};
use bytes::Bytes;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use proto::attest::token_request::Runtime;
use proto::attest::{ReleaseKeyRuntime, TokenRequest};
use serde_json::{Value, json};
use service::outbound::{Call, Limits, Outbound};
use service::roots::Roots;
use tokio::sync::{mpsc, oneshot};

use super::figures::{Times, compared, ratio, shown};
use super::{BenchError, cpu, io, memory};
use crate::pair::{KID, Outside, Pair, RoleChild, post};

/// What the threads that make wrapping keys are called.
const MAKERS: &str = "wrapping-keys";

/// What the thread that makes the bare round trips is called.
const BARE: &str = "bare-trips";

/// Clients that release at once when the pool is to run dry.
const GREEDY: u32 = 4;

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// What a release costs.
    Releases,
    /// What a report costs.
    Reports,
    /// Releases as fast as they go.
    Dry,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Releases, Self::Reports, Self::Dry];
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Releases while the pool lasts.
    pub releases: u32,
    /// Releases when it is dry, for each of [`GREEDY`] clients.
    pub dry: u32,
    /// Wrapping keys that are made in this process.
    pub keys: u32,
    /// Reports.
    pub raw: u32,
    /// Whether releases wait for the pool.
    pub paced: bool,
}

impl Effort {
    /// Enough for figures; takes some minutes.
    pub const FULL: Self = Self { releases: 300, dry: 20, keys: 60, raw: 30_000, paced: true };
    /// Enough to see that the benchmark runs.
    pub const SMOKE: Self = Self { releases: 2, dry: 1, keys: 1, raw: 20, paced: false };
}

/// Measures these parts, and start, memory and size with them. `program` is a build of this crate's binary; the sidecars'
/// own binaries are taken where they lie beside it. `say` gets one line a figure.
///
/// # Errors
///
/// [`BenchError`]; a figure that cannot be had ends the benchmark.
pub async fn run(
    program: PathBuf,
    folder: PathBuf,
    state: PathBuf,
    effort: Effort,
    parts: &[Part],
    mut say: impl FnMut(&str),
) -> Result<(), BenchError> {
    let outside = Outside::start(program, &folder, state).await?;
    let pair = outside.pair("measured").await?;
    if !pair.skr.is_own {
        say(
            "the sidecars' own binaries are not beside this program: it stands in for them, and is larger",
        );
    }
    let measured = Box::pin(measured(&outside, &pair, effort, parts, &mut say)).await;
    let stopped = pair.stop().await;
    outside.world.stop().await;
    measured?;
    stopped
}

async fn measured(
    outside: &Outside,
    pair: &Pair,
    effort: Effort,
    parts: &[Part],
    say: &mut impl FnMut(&str),
) -> Result<(), BenchError> {
    if let [status, raw] = *pair.first.as_slice() {
        let (status, raw) = (shown(status), shown(raw));
        say(&format!("start to first answer: /status {status}, /attest/raw {raw}"));
    }
    until_idle(pair).await?;
    say(&held("memory idle", pair)?);
    let made = made(effort.keys)?;
    let mut again = Times::default();
    for _ in 0..effort.keys.max(10) {
        again.push(made.use_once()?);
    }
    say(&format!(
        "a wrapping key of RSA-3072: made in {} (p99 {}, mean {}), used in {} again and again",
        shown(made.generated.median()),
        shown(made.generated.quantile(0.99)),
        shown(made.generated.mean()),
        shown(again.median())
    ));
    if parts.contains(&Part::Releases) {
        for line in releases(outside, pair, &made, effort).await? {
            say(&line);
        }
    }
    if parts.contains(&Part::Reports) {
        say(&reports(pair, effort).await?);
    }
    if parts.contains(&Part::Dry) {
        say(&dry(outside, pair, effort).await?);
    }
    say(&held("memory loaded", pair)?);
    say(&sizes(pair)?);
    Ok(())
}

/// An RSA-3072 key of the provider, in this process.
struct Made {
    generated: Times,
    private: OaepPrivateDecryptingKey,
    /// What was encrypted to it.
    sealed: Vec<u8>,
    /// The runtime data of a release, for the bare round trips.
    runtime: ReleaseKeyRuntime,
}

fn no_key() -> BenchError {
    BenchError::Unexpected("the provider makes no RSA-3072 key that can be used".to_owned())
}

fn made(keys: u32) -> Result<Made, BenchError> {
    let mut generated = Times::default();
    let generate = || PrivateDecryptingKey::generate(KeySize::Rsa3072).map_err(|_| no_key());
    let mut key = generate()?;
    for _ in 0..keys {
        let begin = Instant::now();
        key = generate()?;
        generated.push(begin.elapsed());
    }
    let public = key.public_key();
    let der = public.as_der().map_err(|_| no_key())?;
    let numbers = PublicKey::from_der(der.as_ref()).map_err(|_| no_key())?;
    let runtime = ReleaseKeyRuntime {
        modulus: numbers.modulus().big_endian_without_leading_zero().to_vec(),
        exponent: numbers.exponent().big_endian_without_leading_zero().to_vec(),
    };
    let public = OaepPublicEncryptingKey::new(public).map_err(|_| no_key())?;
    let private = OaepPrivateDecryptingKey::new(key).map_err(|_| no_key())?;
    let mut sealed = vec![0; private.key_size_bytes()];
    public.encrypt(&OAEP_SHA256_MGF1SHA256, &[7; 32], &mut sealed, None).map_err(|_| no_key())?;
    let made = Made { generated, private, sealed, runtime };
    // The first operation prepares the key, as it does in `skr-sidecar` before a key is in the pool.
    made.use_once()?;
    Ok(made)
}

impl Made {
    /// How long one private operation takes.
    fn use_once(&self) -> Result<Duration, BenchError> {
        let mut opened = vec![0; self.private.min_output_size()];
        let begin = Instant::now();
        let done = self.private.decrypt(&OAEP_SHA256_MGF1SHA256, &self.sealed, &mut opened, None);
        done.map_err(|_| no_key())?;
        Ok(begin.elapsed())
    }
}

/// Processor time so far: of `skr-sidecar` without making keys, and of `attest-sidecar`.
fn used(pair: &Pair) -> Result<(Duration, Duration), BenchError> {
    let skr = pair.skr.pid()?;
    let making = cpu::used_by_threads(skr, MAKERS)?;
    Ok((cpu::used(skr)?.saturating_sub(making), cpu::used(pair.attest.pid()?)?))
}

/// What was used from one look to the other. A thread may make keys between the two readings of one look, and the kernel
/// counts in ticks: where next to nothing else was done, the later look can show less.
fn between(before: (Duration, Duration), after: (Duration, Duration)) -> [Duration; 2] {
    [after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)]
}

/// Releases, bare round trips and private operations take turns, so that each begins as cold as the others: in a
/// processor that has made a wrapping key meanwhile, an operation takes longer than again and again in a row.
async fn releases(
    outside: &Outside,
    pair: &Pair,
    made: &Made,
    effort: Effort,
) -> Result<Vec<String>, BenchError> {
    let bare = BareThread::start(Bare::new(outside, pair, made.runtime.clone()).await?)?;
    let body = Bytes::from(outside.release()?.to_string());
    let mut connection = pair.connect().await?;
    // Once, so that connections are open and tokens at hand, on both sides.
    post(&mut connection, "/key/release", body.clone()).await?;
    bare.round_trips().await?;
    let without = || cpu::used_by_threads(std::process::id(), BARE);
    let pause = if effort.paced { made.generated.mean() * 3 / 2 } else { Duration::ZERO };
    let (mut ours, mut theirs, mut operations) =
        (Times::default(), Times::default(), Times::default());
    let (before, without_before) = (used(pair)?, without()?);
    for _ in 0..effort.releases {
        tokio::time::sleep(pause).await;
        let begin = Instant::now();
        post(&mut connection, "/key/release", body.clone()).await?;
        ours.push(begin.elapsed());
        theirs.push(bare.round_trips().await?);
        operations.push(made.use_once()?);
    }
    let (after, without_after) = (used(pair)?, without()?);
    let bare = without_after.saturating_sub(without_before) / effort.releases.max(1);
    let [skr, attest] = between(before, after).map(|all| all / effort.releases.max(1));
    let added = (skr + attest).saturating_sub(bare);
    let times = compared("a release", ("over HTTP", &ours), ("bare round trips", &theirs));
    let more = shown(ours.median().saturating_sub(theirs.median()));
    Ok(vec![
        format!("{times}, {more} more (reference: about 310 ms in all)"),
        format!(
            "processor time of a release: skr-sidecar {}, attest-sidecar {}, the bare round trips {}; {} more is {:.2} x \
             one RSA-3072 private operation ({} in its turn), making keys left out (reference: 318 ms)",
            shown(skr),
            shown(attest),
            shown(bare),
            shown(added),
            ratio(added, operations.median()),
            shown(operations.median())
        ),
    ])
}

/// What a release asks of others, without everything that it does itself.
struct Bare {
    maa: Call,
    vault: url::Url,
    authorization: HeaderValue,
    outbound: Outbound,
}

impl Bare {
    async fn new(
        outside: &Outside,
        pair: &Pair,
        runtime: ReleaseKeyRuntime,
    ) -> Result<Self, BenchError> {
        let (roots, maa, vault) = outside.parties()?;
        let unusable = |_| BenchError::Unexpected("an address of the world is none".to_owned());
        let mut client = pair.attest_client()?;
        let runtime = Some(Runtime::ReleaseKey(runtime));
        let asked = client.get_token(TokenRequest { runtime, ..Default::default() }).await;
        let asked = asked.map_err(|status| BenchError::Unexpected(status.message().to_owned()))?;
        let maa = format!("{maa}/attest/SevSnpVm?api-version=2022-08-01");
        let maa =
            Call::post_json(maa.parse().map_err(unusable)?, asked.into_inner().request.into());
        let vault = format!("{vault}/keys/{KID}/release?api-version=7.4");
        let authorization = format!("Bearer {}", outside.access_token()?).parse();
        let roots = Roots::from_file(&roots);
        Ok(Self {
            maa,
            vault: vault.parse().map_err(unusable)?,
            authorization: authorization
                .map_err(|_| BenchError::Unexpected("the token fits no header".to_owned()))?,
            outbound: Outbound::new(
                "the world",
                &roots.map_err(|error| BenchError::Unexpected(service::chain(&error)))?,
                Limits::default(),
            ),
        })
    }

    async fn round_trips(&self) -> Result<(), BenchError> {
        let failed = |error| BenchError::Unexpected(service::chain(&error));
        let answer = self.outbound.once(&self.maa).await.map_err(failed)?;
        let answer: Value = serde_json::from_slice(&answer.body)
            .map_err(|error| BenchError::Unexpected(error.to_string()))?;
        let token = answer.get("token").and_then(Value::as_str).unwrap_or_default();
        let body =
            json!({"target": token, "enc": "RSA_AES_KEY_WRAP_256", "nonce": to_b64u(&[7; 32])});
        let call = Call::post_json(self.vault.clone(), body.to_string().into());
        let call = call.header(AUTHORIZATION, self.authorization.clone());
        self.outbound.once(&call).await.map_err(failed)?;
        Ok(())
    }
}

/// The same on a thread of its own, so that its processor time can be told apart.
struct BareThread(mpsc::Sender<oneshot::Sender<Result<Duration, BenchError>>>);

impl BareThread {
    /// Starts it. It ends when this is dropped.
    fn start(bare: Bare) -> Result<Self, BenchError> {
        let (ask, mut asked) = mpsc::channel::<oneshot::Sender<Result<Duration, BenchError>>>(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(io("a runtime cannot be started"))?;
        let work = async move {
            while let Some(answer) = asked.recv().await {
                let begin = Instant::now();
                let done = bare.round_trips().await.map(|()| begin.elapsed());
                let _ = answer.send(done);
            }
        };
        let thread = std::thread::Builder::new().name(BARE.to_owned());
        thread.spawn(move || runtime.block_on(work)).map_err(io("a thread cannot be started"))?;
        Ok(Self(ask))
    }

    /// How long both round trips took.
    async fn round_trips(&self) -> Result<Duration, BenchError> {
        let ended = || BenchError::Unexpected("the thread of the round trips ended".to_owned());
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

/// The processor time of a report.
async fn reports(pair: &Pair, effort: Effort) -> Result<String, BenchError> {
    let body = Bytes::from_static(br#"{"runtime_data":"e30="}"#);
    let mut connection = pair.connect().await?;
    post(&mut connection, "/attest/raw", body.clone()).await?;
    let (mut times, before) = (Times::default(), used(pair)?);
    for _ in 0..effort.raw {
        let begin = Instant::now();
        post(&mut connection, "/attest/raw", body.clone()).await?;
        times.push(begin.elapsed());
    }
    let after = used(pair)?;
    let [skr, attest] = between(before, after).map(|all| all / effort.raw.max(1));
    Ok(format!(
        "processor time of /attest/raw: skr-sidecar {}, attest-sidecar {}, together {} (reference: 102 us, with no \
         device); median {}, p99 {}, with the simulated device's own signing",
        shown(skr),
        shown(attest),
        shown(skr + attest),
        shown(times.median()),
        shown(times.quantile(0.99))
    ))
}

/// Releases as fast as they go, after the pool has run dry.
async fn dry(outside: &Outside, pair: &Pair, effort: Effort) -> Result<String, BenchError> {
    let body = Bytes::from(outside.release()?.to_string());
    let greedily = async |each: u32| {
        let clients = (0..GREEDY).map(|_| async {
            let mut connection = pair.connect().await?;
            for _ in 0..each {
                post(&mut connection, "/key/release", body.clone()).await?;
            }
            Ok::<_, BenchError>(())
        });
        futures_util::future::try_join_all(clients).await
    };
    // What the pool has ready, whatever its size.
    greedily(effort.dry.min(4)).await?;
    let begin = Instant::now();
    greedily(effort.dry).await?;
    let rate = f64::from(GREEDY * effort.dry) / begin.elapsed().as_secs_f64();
    Ok(format!("releases with a dry pool, {GREEDY} clients: {rate:.1} a second"))
}

/// Waits until `skr-sidecar` has made its keys, or for so long that it does not matter.
async fn until_idle(pair: &Pair) -> Result<(), BenchError> {
    let (begin, mut before) = (Instant::now(), None);
    while begin.elapsed() < Duration::from_secs(30) {
        let now = cpu::used(pair.skr.pid()?)?;
        if before == Some(now) {
            break;
        }
        before = Some(now);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

fn held(what: &str, pair: &Pair) -> Result<String, BenchError> {
    let of = |role: &RoleChild| -> Result<String, BenchError> {
        let memory::Memory { rss, pss } = memory::held(role.pid()?)?;
        Ok(format!("{} resident ({} its own share)", memory::shown(rss), memory::shown(pss)))
    };
    let reference = if what.ends_with("idle") { "15 MB" } else { "24 MB" };
    let (skr, attest) = (of(&pair.skr)?, of(&pair.attest)?);
    Ok(format!("{what}: skr-sidecar {skr}, attest-sidecar {attest} (reference: {reference})"))
}

fn sizes(pair: &Pair) -> Result<String, BenchError> {
    let of = |role: &RoleChild| -> Result<String, BenchError> {
        let file = std::fs::metadata(&role.program).map_err(io("a binary cannot be read"))?;
        Ok(memory::shown(file.len()))
    };
    let (skr, attest) = (of(&pair.skr)?, of(&pair.attest)?);
    Ok(format!(
        "size of the binaries: skr-sidecar {skr}, attest-sidecar {attest} (reference: 23 MB)"
    ))
}
