//! `pmc`: what people type. Exit status 0 is accepted, 1 refused, 2 unusable input.

mod connect;
mod expectations;
mod logs;
mod policy;
mod subject;
mod table;
mod token;
mod verify;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::causes::chain;

/// Accepted.
const ACCEPTED: u8 = 0;
/// Refused: a check failed, or the server does not prove itself.
const REFUSED: u8 = 1;
/// The input cannot be used: an option, a file.
const UNUSABLE: u8 = 2;

/// Verifies attested servers, and forwards requests to them.
#[derive(Debug, Parser)]
#[command(name = "pmc", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judge a server, a saved proof, or evidence in files; print every check.
    Verify(verify::Options),
    /// Forward a local port to a server, after verifying it and never otherwise.
    Connect(connect::Options),
    /// Write the reference values that a deployment is held against.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Judge a token of Microsoft Azure Attestation that speaks of a group.
    Token(token::Options),
    /// Read the sealed log.
    #[command(subcommand)]
    Logs(logs::Logs),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    main_with(std::env::args())
}

/// [`main`] with another command line, whose first word is the program's name.
#[must_use]
pub fn main_with(words: impl Iterator<Item = String>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(help) => {
            let code = if help.use_stderr() { UNUSABLE } else { ACCEPTED };
            let _ = help.print();
            return ExitCode::from(code);
        }
    };
    let outcome = match arguments.command {
        Command::Verify(options) => verify::run(&options),
        Command::Connect(options) => connect::run(&options),
        Command::Policy(policy) => policy::run(&policy),
        Command::Token(options) => token::run(&options),
        Command::Logs(logs) => logs::run(&logs),
    };
    match outcome {
        Ok(()) => ExitCode::from(ACCEPTED),
        Err(Failure::Refused(why)) => {
            say(why.as_deref());
            ExitCode::from(REFUSED)
        }
        Err(Failure::Unusable(why)) => {
            say(Some(&why));
            ExitCode::from(UNUSABLE)
        }
    }
}

/// How a command ends when it does not end well.
#[derive(Debug)]
enum Failure {
    /// Refused; the text, if what was printed does not say it all.
    Refused(Option<String>),
    /// The input cannot be used.
    Unusable(String),
}

impl Failure {
    fn refused(error: &dyn Error) -> Self {
        Self::Refused(Some(chain(error)))
    }

    fn unusable(error: &dyn Error) -> Self {
        Self::Unusable(chain(error))
    }
}

fn say(why: Option<&str>) {
    if let Some(why) = why {
        let _ = writeln!(std::io::stderr().lock(), "pmc: {why}");
    }
}

fn print(text: &str) {
    // A reader that went away is no reason to fail.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unusable(&error))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Arguments::command().debug_assert();
    }
}
