//! `cargo run --release -p stack`: the whole group and its outside world on this machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use attestation::policy::Hex;
use attestation::{Expect, Policy, danger};
use clap::{Parser, Subcommand};
use client::{Connector, Target};
use service::BoxError;
use stack::bench::{logs, proxy, skr, tls};
use stack::check::{Endpoint, end_to_end};
use stack::{Options, Stack, StartError, soak};

/// Runs the whole group and its outside world on this machine, until Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "stack", version)]
struct Arguments {
    /// The port for clients on 127.0.0.1.
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// Where everything is written.
    #[arg(long, default_value = "run")]
    folder: PathBuf,
    /// A real OpenAI-compatible server instead of the simulated model.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// File with the credential for that server.
    #[arg(long, value_name = "FILE", requires = "upstream")]
    upstream_key_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Hold what a group must do for a client against a running one, end to end.
    Check {
        /// Its URL.
        url: Target,
        /// PEM file of the ARKs to believe.
        #[arg(long, value_name = "PEM")]
        danger_anchors: PathBuf,
        /// The digest of its enforcement policy.
        #[arg(long, value_name = "HEX")]
        host_data: Hex<32>,
        /// A key for it.
        #[arg(long)]
        api_key: String,
    },
    /// Measure what the product costs beside its peers.
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Look for growth over a long time.
    Soak {
        #[command(subcommand)]
        what: Soak,
    },
    /// Be one role of the group, configured by the environment, as its own binary would.
    #[command(hide = true)]
    Role {
        /// Which role.
        name: String,
        /// What its binary would be given.
        arguments: Vec<String>,
    },
    /// Be `pmc`, as its own binary would.
    #[command(hide = true)]
    Pmc {
        /// What it would be given.
        #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
        arguments: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Attested connections, the forwarder, proofs in numbers.
    Tls {
        /// Only see that it runs; the figures mean nothing.
        #[arg(long)]
        smoke: bool,
        /// Only this part. May be given several times.
        #[arg(long, value_name = "PART")]
        only: Vec<tls::Part>,
    },
    /// The proxy beside nginx and the model server itself.
    Proxy {
        /// Only see that it runs; the figures mean nothing.
        #[arg(long)]
        smoke: bool,
        /// A database of the proxy with many rows of usage, its key file beside it.
        #[arg(long, value_name = "FILE")]
        rows: Option<PathBuf>,
    },
    /// A sealed log record beside the same work done bare.
    Logs {
        /// Only see that it runs; the figures mean nothing.
        #[arg(long)]
        smoke: bool,
    },
    /// Releases and reports of the two sidecars that replace Microsoft's.
    Skr {
        /// Only see that it runs; the figures mean nothing.
        #[arg(long)]
        smoke: bool,
        /// Only this part. May be given several times.
        #[arg(long, value_name = "PART")]
        only: Vec<skr::Part>,
    },
}

#[derive(Debug, Subcommand)]
enum Soak {
    /// The two sidecars that replace Microsoft's.
    Skr {
        /// How many reports.
        #[arg(long, default_value_t = 100_000)]
        attestations: u32,
        /// How many releases.
        #[arg(long, default_value_t = 500)]
        releases: u32,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Bench { what: Bench::Tls { smoke, only } }) => {
            ending(bench_tls(&arguments.folder, smoke, &only))
        }
        Some(Command::Bench { what: Bench::Proxy { smoke, rows } }) => {
            ending(bench_proxy(&arguments.folder, smoke, rows))
        }
        Some(Command::Bench { what: Bench::Logs { smoke } }) => {
            ending(bench_logs(&arguments.folder, smoke))
        }
        Some(Command::Bench { what: Bench::Skr { smoke, only } }) => {
            ending(bench_skr(&arguments.folder, smoke, &only))
        }
        Some(Command::Soak { what: Soak::Skr { attestations, releases } }) => {
            ending(soak_skr(&arguments.folder, soak::Plan { attestations, releases }))
        }
        Some(Command::Role { name, arguments }) => role(&name, arguments),
        Some(Command::Pmc { arguments }) => {
            client::cli::main_with(std::iter::once("pmc".to_owned()).chain(arguments))
        }
        Some(Command::Check { url, danger_anchors, host_data, api_key }) => {
            ending(check(url, &danger_anchors, host_data, api_key))
        }
        None => ending(laptop(arguments)),
    }
}

fn check(
    url: Target,
    danger_anchors: &Path,
    host_data: Hex<32>,
    api_key: String,
) -> Result<(), BoxError> {
    let anchors = danger::Anchors::from_pem(&std::fs::read_to_string(danger_anchors)?)?;
    let policy = Policy::for_host_data(Expect::Value(vec![host_data]));
    let connector = Connector::new(url, anchors, policy);
    runtime()?.block_on(end_to_end(&Endpoint { connector, api_key }))?;
    say("every check of the group holds");
    Ok(())
}

fn warn_of_debug(smoke: bool) {
    if cfg!(debug_assertions) && !smoke {
        say("this is a debug build: its figures mean nothing (use --release)");
    }
}

fn bench_proxy(folder: &Path, smoke: bool, rows: Option<PathBuf>) -> Result<(), BoxError> {
    warn_of_debug(smoke);
    let effort = if smoke { proxy::Effort::SMOKE } else { proxy::Effort::FULL };
    let (program, state) = (std::env::current_exe()?, folder.join("state"));
    let setting = proxy::Setting { program, folder: folder.join("bench"), state, rows };
    runtime()?.block_on(async {
        tokio::select! {
            measured = Box::pin(proxy::run(setting, effort, say)) => Ok(measured?),
            // What was started is stopped on the way out.
            _ = tokio::signal::ctrl_c() => Err("stopped before the end".into()),
        }
    })
}

fn bench_skr(folder: &Path, smoke: bool, only: &[skr::Part]) -> Result<(), BoxError> {
    warn_of_debug(smoke);
    let parts = if only.is_empty() { &skr::Part::ALL } else { only };
    let effort = if smoke { skr::Effort::SMOKE } else { skr::Effort::FULL };
    let (program, state) = (std::env::current_exe()?, folder.join("state"));
    runtime()?.block_on(skr::run(program, folder.join("bench"), state, effort, parts, say))?;
    Ok(())
}

fn soak_skr(folder: &Path, plan: soak::Plan) -> Result<(), BoxError> {
    let (program, state) = (std::env::current_exe()?, folder.join("state"));
    let grown = runtime()?.block_on(soak::run(program, folder.join("soak"), state, plan, say))?;
    if grown.is_empty() {
        say("nothing has grown");
        return Ok(());
    }
    Err(format!("this has grown: {}", grown.join("; ")).into())
}

fn bench_tls(folder: &Path, smoke: bool, only: &[tls::Part]) -> Result<(), BoxError> {
    warn_of_debug(smoke);
    let effort = if smoke { tls::Effort::SMOKE } else { tls::Effort::FULL };
    let parts = if only.is_empty() { &tls::Part::ALL } else { only };
    runtime()?.block_on(tls::run(for_bench(folder)?, effort, parts, say))?;
    Ok(())
}

fn bench_logs(folder: &Path, smoke: bool) -> Result<(), BoxError> {
    warn_of_debug(smoke);
    let effort = if smoke { logs::Effort::SMOKE } else { logs::Effort::FULL };
    runtime()?.block_on(logs::run(for_bench(folder)?, effort, say))?;
    Ok(())
}

fn for_bench(folder: &Path) -> std::io::Result<Options> {
    Ok(Options {
        program: std::env::current_exe()?,
        folder: folder.join("bench"),
        state: folder.join("state"),
        port: 0,
        upstream: None,
        model_delay: Duration::ZERO,
        amend: |_| {},
        variables: Vec::new(),
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn role(name: &str, arguments: Vec<String>) -> ExitCode {
    // A role must not outlive the stack that started it, however that ends.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    let arguments = arguments.into_iter();
    match name {
        "attest-sidecar" => service::main_with::<attest_sidecar::AttestSidecar>(arguments),
        "log-sealer" => service::main_with::<log_sealer::LogSealer>(arguments),
        "proxy" => service::main_with::<::proxy::Proxy>(arguments),
        "skr-sidecar" => service::main_with::<skr_sidecar::SkrSidecar>(arguments),
        "skr.sh" => skr_sidecar::main(std::iter::once(name.to_owned()).chain(arguments)),
        _ => {
            complain(&format!("there is no role {name}"));
            ExitCode::FAILURE
        }
    }
}

fn laptop(arguments: Arguments) -> Result<(), BoxError> {
    Ok(runtime()?.block_on(until_stopped(arguments))?)
}

fn ending(outcome: Result<(), BoxError>) -> ExitCode {
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    complain(&service::chain(error.as_ref()));
    ExitCode::FAILURE
}

async fn until_stopped(arguments: Arguments) -> Result<(), StartError> {
    let begin = Instant::now();
    say("starting; the first start looks for RSA keys and takes some seconds longer");
    let upstream_key = arguments.upstream_key_file.as_ref().map(std::fs::read_to_string);
    let upstream_key = upstream_key.transpose()?.unwrap_or_default().trim().to_owned();
    let options = Options {
        program: std::env::current_exe()?,
        state: arguments.folder.join("state"),
        folder: arguments.folder,
        port: arguments.port,
        upstream: arguments.upstream.map(|url| (url, upstream_key)),
        model_delay: Duration::from_millis(40),
        amend: |_| {},
        variables: Vec::new(),
    };
    let stack = tokio::select! {
        stack = Box::pin(Stack::start(options, |step| {
            say(&format!("  {:>5.1} s  {step}", begin.elapsed().as_secs_f32()));
        })) => stack?,
        _ = tokio::signal::ctrl_c() => return Ok(()),
    };
    say(&welcome(&stack, &stack.group.url().await?));
    let _ = tokio::signal::ctrl_c().await;
    say("stopping");
    let unwell = stack.stop().await;
    if unwell.is_empty() {
        say("stopped");
        Ok(())
    } else {
        let names: Vec<&str> = unwell.iter().map(|role| role.name()).collect();
        Err(StartError::Unexpected(format!("these roles did not end well: {}", names.join(", "))))
    }
}

fn welcome(stack: &Stack, url: &str) -> String {
    let folder = stack.folder().display();
    let key = &stack.api_key;
    let anchors = format!("--danger-anchors {folder}/anchors.pem --policy {folder}/policy.toml");
    format!(
        r#"
The group runs. Its hardware is simulated: anchors are NOT PRODUCTION.

endpoint  {url}/v1
API key   {key}

curl --cacert {folder}/server.pem {url}/v1/chat/completions -H "Authorization: Bearer {key}" \
  -H "Content-Type: application/json" -d '{{"model":"gpt-oss-120b","messages":[{{"role":"user","content":"hello"}}]}}'

Python, with `pip install openai`:
  import openai, ssl; trust = ssl.create_default_context(cafile="{folder}/server.pem")
  ai = openai.OpenAI(base_url="{url}/v1", api_key="{key}", http_client=openai.DefaultHttpxClient(verify=trust))
  print(ai.chat.completions.create(model="gpt-oss-120b", messages=[{{"role": "user", "content": "hello"}}]).choices[0].message.content)

Verify it, and use it through the verifying forwarder (base URL http://127.0.0.1:8787/v1):
  cargo run --release -p client -- verify {url} {anchors}
  cargo run --release -p client -- connect {url} {anchors} --listen 127.0.0.1:8787

Ctrl-C stops everything."#
    )
}

#[expect(clippy::print_stdout, reason = "what a person at a laptop asked for")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "why the stack does not run")]
fn complain(line: &str) {
    eprintln!("stack: {line}");
}
