//! `proxy keys …`, `proxy usage …`, `proxy state …`: what an operator does beside a proxy that runs, or without one. With the
//! proxy's own environment, so that both mean the same files.
//!
//! Must not know how a key is changed or usage is kept: it asks the parts that do, and prints.

mod keys;
mod state;
mod usage;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use service::core_dumps;
use service::env::{Environment, Reader};

use crate::config::{Config, VARS};
use crate::keys::{EditError, Keys, List, Place};
use crate::store::{self, Store, StoreError};

/// The first words that are commands, and not the role's own.
const COMMANDS: [&str; 3] = ["keys", "usage", "state"];

/// As of sysexits.h: the environment cannot be used.
const EXIT_CONFIG: u8 = 64;

#[derive(Parser)]
#[command(name = "proxy", about = "API keys, usage and stored state of the proxy", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// API keys: in API_KEYS_FILE if the environment names it, else in the database.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Usage, in the form of the proxy before this one.
    #[command(subcommand)]
    Usage(usage::Command),
    /// The database itself.
    #[command(subcommand)]
    State(state::Command),
}

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Refused(&'static str),
    #[error("{0} cannot be read")]
    Unreadable(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}

/// Whether these arguments are a command's.
pub(crate) fn is_command(first: Option<&str>) -> bool {
    first.is_some_and(|first| COMMANDS.contains(&first))
}

/// Does what the arguments say, program name first. 0: done; 1: not done; 2: no such command; 64: the environment.
pub(crate) fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    if let Err(error) = core_dumps::forbid() {
        complain(&format!("Error: {}\n", service::chain(&error)));
        return ExitCode::FAILURE;
    }
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout, mistakes to stderr.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let environment = Environment::of_process();
    let mut reader = Reader::new(&environment, VARS);
    let config = Config::read(&mut reader);
    let config = match reader.finish(config) {
        Ok((config, _)) => config,
        Err(problems) => {
            complain(&format!("the environment cannot be used:\n{problems}"));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(CliError::from).and_then(|runtime| {
        runtime.block_on(async {
            let mut out = io::BufWriter::new(io::stdout());
            let done = match arguments.command {
                Command::Keys(command) => keys::run(command, &config, &mut out).await,
                Command::Usage(command) => usage::run(command, &config, &mut out).await,
                Command::State(command) => state::run(command, &config, &mut out).await,
            };
            out.flush()?;
            done
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("Error: {}\n", service::chain(&error)));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "for whoever typed the command; holds no secret")]
fn complain(text: &str) {
    eprint!("{text}");
}

/// The database of the configuration, if there is one.
async fn database(config: &Config) -> Result<Option<Store>, StoreError> {
    match &config.state.place {
        store::Place::File(path) if path.exists() => {
            Store::visit(path.clone(), config.state.key.clone()).await.map(Some)
        }
        _ => Ok(None),
    }
}

/// The database of the configuration, which must be one.
async fn the_database(config: &Config) -> Result<Store, CliError> {
    database(config).await?.ok_or(CliError::Refused(NO_DATABASE))
}

const NO_DATABASE: &str =
    "there is no database: set PROXY_STATE as it is set for the proxy, and start that once";

/// Every key that can be changed here.
async fn view(config: &Config) -> Result<(Arc<Keys>, Option<Store>), CliError> {
    let none = List { keys: "", ids: "env_key" };
    let keys = Keys::new(none, config.keys_file.clone());
    let home = config.home_of_keys();
    match database(config).await? {
        Some(store) => Ok((Arc::new(keys.stored_in(store.clone(), home).await?), Some(store))),
        None if home == Place::File => Ok((Arc::new(keys), None)),
        None => Err(CliError::Refused(
            "keys are kept nowhere: set API_KEYS_FILE, or PROXY_STATE as it is set for the proxy, and start that once",
        )),
    }
}
