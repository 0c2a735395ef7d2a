//! The story of a process, from its first line to its exit code.

use std::process::ExitCode;
use std::time::Duration;

use crate::env::{Environment, Measured, Problems, Reader, Var};
use crate::health::{self, Health, Probe};
use crate::logs::{self, Logs, console_end, console_line};
use crate::{Shutdown, clock, core_dumps, env};

/// Any error that ends a role. Its text, with its causes, goes to stderr, which the operator of the cloud can
/// read: errors of roles carry no secret.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// `EX_USAGE` of sysexits.h: the environment cannot be used; starting again will not help.
const EXIT_USAGE: u8 = 64;

/// How long a role may take to finish its work after the signal to stop.
const DRAIN: Duration = Duration::from_secs(25);

/// One of the group's roles.
pub trait Role {
    /// Its name: of the crate, of the binary, of the container.
    const NAME: &'static str;
    /// What it does, in one sentence.
    const ABOUT: &'static str;
    /// Its version, as the manifest reports it.
    const VERSION: &'static str;
    /// Its own variables; [`env::COMMON`] comes on top.
    const VARS: &'static [Var];
    /// What its variables mean.
    type Config: Send + 'static;

    /// Reads every variable, then says whether all were good.
    fn read(env: &mut Reader<'_>) -> Option<Self::Config>;

    /// Where it says whether it is ready.
    fn health(config: &Self::Config) -> Probe<'_>;

    /// Serves until [`Process::shutdown`] fires.
    ///
    /// # Errors
    ///
    /// Whatever makes it impossible to serve at all.
    fn serve(
        config: Self::Config,
        process: Process,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Who this process is, for the `Info` call and the logs.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The role's name.
    pub role: &'static str,
    /// The software's version.
    pub version: &'static str,
    /// 16 random bytes of this start, as 32 hexadecimal digits.
    pub boot_id: String,
    /// When it started, in Unix seconds by the host's clock.
    pub started: u64,
    /// What the environment contributes.
    pub measured: Measured,
}

/// What a role is given to serve with.
#[derive(Debug)]
pub struct Process {
    /// Who it is.
    pub identity: Identity,
    /// When to stop.
    pub shutdown: Shutdown,
    /// How it says that it is ready, or no longer.
    pub health: Health,
}

impl Process {
    /// Prepares a role that runs inside another process, as tests do: reads `environment` as [`main`] would,
    /// but installs neither a log pipeline nor signal handlers. Call the role's `serve` with what comes back,
    /// and fire [`Process::shutdown`] to end it.
    ///
    /// # Errors
    ///
    /// What is wrong with the environment.
    ///
    /// # Panics
    ///
    /// The system has no random numbers.
    pub async fn embedded<R: Role>(
        environment: &Environment,
    ) -> Result<(R::Config, Self), Problems> {
        let (config, _, measured) = configuration::<R>(environment)?;
        let identity = identity::<R>(measured).expect("the system has random numbers");
        let shutdown = Shutdown::default();
        Ok((config, Self { identity, shutdown, health: Health::new().await }))
    }
}

/// Runs a role: `fn main() -> ExitCode { service::main::<Proxy>() }`.
///
/// Without arguments it serves; `child` makes it stop as well when its standard input ends, which whoever started it
/// holds open. `healthcheck` asks the running process whether it is ready, because images hold no shell; `vars` prints
/// the table of variables; `--version` the version.
#[must_use]
pub fn main<R: Role>() -> ExitCode {
    main_with::<R>(std::env::args().skip(1))
}

/// [`main`] with the arguments of another command line, for a binary that holds several roles.
#[must_use]
pub fn main_with<R: Role>(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    if let Err(error) = core_dumps::forbid() {
        complain(&format!("{}: {}\n", R::NAME, chain(&error)));
        return ExitCode::FAILURE;
    }
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => ending::<R>(run::<R>(&Environment::of_process(), Until::Signal)),
        (Some("child"), None) => {
            ending::<R>(run::<R>(&Environment::of_process(), Until::InputEnds))
        }
        (Some("healthcheck"), None) => ending::<R>(healthcheck::<R>(&Environment::of_process())),
        (Some("vars"), None) => print(&env::markdown(&[R::VARS, &env::COMMON].concat())),
        (Some("--version"), None) => print(&format!("{} {}\n", R::NAME, R::VERSION)),
        _ => {
            complain(&format!(
                "{}: {}\nusage: {} [child | healthcheck | vars | --version]\n",
                R::NAME,
                R::ABOUT,
                R::NAME
            ));
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// What a role serves until.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// SIGTERM or SIGINT.
    Signal,
    /// One of these, or the end of standard input: it was started by another process, and ends with it.
    InputEnds,
}

/// Why a role does not run.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Its environment says nothing that it could run with. Starting again will not help.
    #[error("the environment cannot be used:\n{0}")]
    Environment(#[from] Problems),
    /// It could not serve, or not to the end.
    #[error("{}", chain(.0.as_ref()))]
    Serving(BoxError),
}

/// Serves, and says what it was that ended it. Whoever calls this instead of [`main`] has called [`core_dumps::forbid`].
///
/// # Errors
///
/// [`Failure`].
pub fn run<R: Role>(environment: &Environment, until: Until) -> Result<(), Failure> {
    let (config, logs, measured) = configuration::<R>(environment)?;
    console_line(R::NAME, "starting");
    quiet_panics(R::NAME);
    let runtime = runtime().map_err(Failure::Serving)?;
    let outcome = runtime.block_on(serve::<R>(config, &logs, measured, until));
    runtime.shutdown_timeout(Duration::from_secs(1));
    if outcome.is_ok() {
        console_line(R::NAME, "stopped");
    }
    console_end();
    outcome.map_err(Failure::Serving)
}

/// Asks the role that runs with this environment whether it is ready.
///
/// # Errors
///
/// [`Failure`]: it is not, or gives no answer.
pub fn healthcheck<R: Role>(environment: &Environment) -> Result<(), Failure> {
    let (config, _, _) = configuration::<R>(environment)?;
    let asked = runtime().and_then(|runtime| runtime.block_on(health::ask(R::health(&config))));
    asked.map_err(Failure::Serving)
}

fn ending<R: Role>(outcome: Result<(), Failure>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    match failure {
        Failure::Environment(_) => {
            complain(&format!("{}: {failure}", R::NAME));
            ExitCode::from(EXIT_USAGE)
        }
        Failure::Serving(_) => {
            complain(&format!("{}: {failure}\n", R::NAME));
            ExitCode::FAILURE
        }
    }
}

async fn serve<R: Role>(
    config: R::Config,
    logs: &logs::Config,
    measured: Measured,
    until: Until,
) -> Result<(), BoxError> {
    let shutdown = Shutdown::on_signal()?;
    if until == Until::InputEnds {
        shutdown.fire_when_input_ends()?;
    }
    let identity = identity::<R>(measured)?;
    let logs = Logs::start(logs, &identity)?;
    for name in &identity.measured.unsealed {
        tracing::warn!(variable = name, "a secret came from the environment: seal it instead");
    }
    let process = Process { identity, shutdown: shutdown.clone(), health: Health::new().await };
    let late = async {
        shutdown.fired().await;
        tokio::time::sleep(DRAIN).await;
    };
    let outcome = tokio::select! {
        outcome = R::serve(config, process) => outcome,
        () = late => Err("did not finish its work in time after the signal to stop".into()),
    };
    logs.stop().await;
    outcome
}

/// A panic's text may hold data of whoever caused it, and stderr belongs to the cloud operator: there goes one constant
/// line; the text goes to the sealed log.
fn quiet_panics(role: &'static str) {
    std::panic::set_hook(Box::new(move |panic| {
        console_line(role, "a task panicked");
        let message = panic.payload_as_str().unwrap_or("no text");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(message, place, "a task panicked");
    }));
}

fn configuration<R: Role>(
    environment: &Environment,
) -> Result<(R::Config, logs::Config, Measured), Problems> {
    let mut reader = Reader::new(environment, R::VARS);
    let logs = logs::Config::read(&mut reader);
    let config = R::read(&mut reader);
    let ((config, logs), measured) = reader.finish(config.zip(logs))?;
    Ok((config, logs, measured))
}

/// One thread: a role waits for others most of its time, and what passes between its tasks then wakes nobody. What
/// computes for long or blocks belongs to threads of its own, with several here as well as with one.
fn runtime() -> Result<tokio::runtime::Runtime, BoxError> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn identity<R: Role>(measured: Measured) -> Result<Identity, BoxError> {
    let mut boot_id = [0; 16];
    aws_lc_rs::rand::fill(&mut boot_id).map_err(|_| "the system has no random numbers")?;
    Ok(Identity {
        role: R::NAME,
        version: R::VERSION,
        boot_id: hex::encode(boot_id),
        started: clock::unix_now(),
        measured,
    })
}

/// An error and its causes as one text, outermost first.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[expect(clippy::print_stdout, reason = "what a person asked for on the command line")]
fn print(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "why the process does not run; holds no secret")]
fn complain(text: &str) {
    eprint!("{text}");
}
