//! `pmc`: what people type. Exit status 0 is accepted, 1 refused (`pmc diff`: differing), 2 unusable input, 3 another
//! group than the one that was verified first.

mod connect;
mod diff;
mod expectations;
mod logs;
mod new_file;
mod pin;
mod policy;
mod private_file;
mod secrets;
mod subject;
mod table;
mod token;
mod token_file;
mod values_file;
mod verify;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::causes::{chain, printable};
use crate::core_dumps;

/// Accepted.
const ACCEPTED: u8 = 0;
/// Refused: a check failed, or the server does not prove itself.
const REFUSED: u8 = 1;
/// The input cannot be used: an option, a file.
const UNUSABLE: u8 = 2;
/// `pmc connect --watch --on-change exit`: another group answers.
const CHANGED: u8 = 3;

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
    /// Show what changed between two deployments: saved proofs, or a saved proof and a server.
    Diff(diff::Options),
    /// Write the reference values that a deployment is held against.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Judge a token of Microsoft Azure Attestation that speaks of a group.
    Token(token::Options),
    /// Read the sealed log.
    #[command(subcommand)]
    Logs(logs::Logs),
    /// Seal secrets for a group.
    #[command(subcommand)]
    Secrets(secrets::Command),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    main_with(std::env::args())
}

/// [`main`] with another command line, whose first word is the program's name.
#[must_use]
pub fn main_with(words: impl Iterator<Item = String>) -> ExitCode {
    if let Err(error) = core_dumps::forbid() {
        say(Some(&chain(&error)));
        return ExitCode::from(UNUSABLE);
    }
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
        Command::Diff(options) => diff::run(&options),
        Command::Policy(policy) => policy::run(&policy),
        Command::Token(options) => token::run(&options),
        Command::Logs(logs) => logs::run(&logs),
        Command::Secrets(secrets) => secrets::run(&secrets),
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
        Err(Failure::Changed(why)) => {
            say(Some(&why));
            ExitCode::from(CHANGED)
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
    /// Another group answers than the one that was verified first.
    Changed(String),
}

impl Failure {
    fn refused(error: &dyn Error) -> Self {
        Self::Refused(Some(chain(error)))
    }

    fn unusable(error: &dyn Error) -> Self {
        Self::Unusable(chain(error))
    }
}

/// Says why. Parts of the text come from servers and from files that anybody may have written: no terminal obeys them. A
/// further line (an error in a policy has some) is indented, so that it is not taken for one of ours.
fn say(why: Option<&str>) {
    if let Some(why) = why {
        let lines: Vec<String> = why.trim_end().split('\n').map(printable).collect();
        let _ = writeln!(std::io::stderr().lock(), "pmc: {}", lines.join("\n     "));
    }
}

fn print(text: &str) {
    // A reader that went away is no reason to fail.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// One thread: a forwarded request passes between tasks several times, and each time another thread would have to be
/// woken (`stack bench tls` with eight clients: 1.8 times nginx' processor time with two threads, about 1.45 with one).
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
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
