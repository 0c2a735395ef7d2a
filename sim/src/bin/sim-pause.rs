//! `sim-pause`: sleeps until SIGTERM or SIGINT, and holds a network namespace meanwhile.

use std::process::ExitCode;

use clap::Parser;
use sim::cli;

/// Sleeps until SIGTERM or SIGINT; holds a network namespace for other containers
#[derive(Debug, Parser)]
struct Flags {
    #[command(subcommand)]
    command: Option<cli::Command>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    cli::run(async move |stop| {
        // Whoever can ask for its health has a running container.
        if flags.command.is_none() {
            cli::serve_until(stop, "sim-pause ready", Vec::new()).await;
        }
        Ok(())
    })
}
