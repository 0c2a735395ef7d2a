//! The role as a drop-in: started as `/skr.sh` or `/bin/skr`, as the reference's image starts its own, it takes the
//! reference's flags and variables, ends with its exit codes and texts (contract `skr.md` parts 1.3 and 1.4), and brings
//! its own `attest-sidecar`, because the reference is one container (`docs/decisions/0013`).

mod args;
mod environment;
mod flags;
mod variables;

use std::path::Path;
use std::process::ExitCode;

use service::env::{Environment, Reader, Var};
use service::health::Probe;
use service::{BoxError, Failure, Process, Role, Until, core_dumps};

use self::environment::EnvironmentError;
use self::flags::{FlagError, Flags, USAGE};
use crate::SkrSidecar;
use crate::child::Child;
use crate::config::Config;
use crate::key_provider::WrapFile;

pub use self::variables::MORE as VARS;

/// What the reference says to whom it does not understand.
const EXIT_USAGE: u8 = 2;

/// The names that start this role as a drop-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `skr.sh`, the script of the reference's image.
    Script,
    /// `skr`, its binary.
    Binary,
}

impl Name {
    /// What a command line begins with, if it is one of them.
    #[must_use]
    pub fn of(program: &str) -> Option<Self> {
        match Path::new(program).file_name()?.to_str()? {
            "skr.sh" => Some(Self::Script),
            "skr" => Some(Self::Binary),
            _ => None,
        }
    }
}

/// Runs the role as the reference runs: `arguments` are those after the program's name. `healthcheck` before them asks the role
/// that runs with them whether it is ready.
#[must_use]
pub fn main(name: Name, arguments: impl Iterator<Item = String>) -> ExitCode {
    if let Err(error) = core_dumps::forbid() {
        return fatal(&service::chain(&error));
    }
    let mut arguments: Vec<String> = arguments.collect();
    let asks = arguments.first().is_some_and(|first| first == "healthcheck");
    if asks {
        arguments.remove(0);
    }
    match wrap(name, &arguments) {
        Ok(None) => {}
        Ok(Some(wrap)) => {
            return wrap
                .run()
                .map_or_else(|error| fatal(&error.to_string()), |()| ExitCode::SUCCESS);
        }
        Err(error) => return usage(&error),
    }
    let environment = environment::environment(Environment::of_process(), name, arguments);
    let environment = match environment {
        Ok(environment) => environment,
        Err(EnvironmentError::Flag(error)) => return usage(&error),
        Err(error) => return fatal(&error.to_string()),
    };
    let outcome = if asks {
        service::healthcheck::<DropIn>(&environment)
    } else {
        service::run::<DropIn>(&environment, Until::Signal)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Environment(problems)) => fatal(&problems.to_string()),
        Err(Failure::Serving(error)) => fatal(&service::chain(error.as_ref())),
    }
}

/// The binary can wrap a file instead of serving.
fn wrap(name: Name, arguments: &[String]) -> Result<Option<WrapFile>, FlagError> {
    match name {
        Name::Script => Ok(None),
        Name::Binary => Flags::parse(arguments.iter().cloned())?.wrap(),
    }
}

/// The role, started by the reference's names.
#[derive(Debug)]
pub struct DropIn;

/// What its variables say.
#[derive(Debug)]
pub struct DropInConfig {
    role: Config,
    child: Option<Child>,
}

impl Role for DropIn {
    const NAME: &'static str = SkrSidecar::NAME;
    const ABOUT: &'static str = SkrSidecar::ABOUT;
    const VERSION: &'static str = SkrSidecar::VERSION;
    const VARS: &'static [Var] = variables::ALL;
    type Config = DropInConfig;

    fn read(env: &mut Reader<'_>) -> Option<DropInConfig> {
        let role = Config::read(env);
        let child = Child::read(env);
        Some(DropInConfig { role: role?, child })
    }

    fn health(config: &DropInConfig) -> Probe<'_> {
        SkrSidecar::health(&config.role)
    }

    async fn serve(config: DropInConfig, process: Process) -> Result<(), BoxError> {
        let role = SkrSidecar::serve(config.role, process);
        match config.child {
            Some(child) => child.beside(role).await,
            None => role.await,
        }
    }
}

#[expect(clippy::print_stderr, reason = "what a person asked for, or must know; names no value")]
fn usage(error: &FlagError) -> ExitCode {
    if *error == FlagError::Help {
        eprint!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    eprint!("{error}\n{USAGE}");
    ExitCode::from(EXIT_USAGE)
}

/// One line of the reference's log for each line of the text.
#[expect(clippy::print_stderr, reason = "why the process does not run; holds no secret")]
fn fatal(text: &str) -> ExitCode {
    for line in text.lines() {
        eprintln!("level=fatal msg={}", line.trim());
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_in_is_known_by_its_file_name() {
        for (program, name) in [
            ("/skr.sh", Some(Name::Script)),
            ("skr.sh", Some(Name::Script)),
            ("/bin/skr", Some(Name::Binary)),
            ("/skr-sidecar", None),
            ("/skr/other", None),
            ("", None),
        ] {
            assert_eq!(Name::of(program), name, "{program}");
        }
    }
}
