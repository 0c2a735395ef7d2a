//! `proxy usage …`: usage out of the database and into it, in the form of the reference's `usage.json`.
//!
//! Must not know how usage is kept.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Subcommand;
use service::clock::unix_now;

use super::CliError;
use crate::config::Config;
use crate::ledger::{self, Imported};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Writes everything as {"records":[…]}, one record a request: sums and counts are those of the database; times are the
    /// noon of the day.
    Export,
    /// Adds the records of a file, once.
    Import {
        /// The file.
        file: PathBuf,
    },
}

pub(super) async fn run(
    command: Command,
    config: &Config,
    out: &mut (impl Write + Send),
) -> Result<(), CliError> {
    let store = super::the_database(config).await?;
    match command {
        Command::Export => {
            // As it is read: there may be more than memory holds.
            let export = |connection: &mut rusqlite::Connection| {
                ledger::export(connection, &mut BufWriter::new(std::io::stdout()))
            };
            store.read(export).await?;
        }
        Command::Import { file } => {
            let name = file.display().to_string();
            let imported = ledger::import(&store, file, unix_now()).await;
            match imported.map_err(|error| CliError::Unreadable(name, Box::new(error)))? {
                Imported::Before => writeln!(out, "This file was brought in before.")?,
                Imported::Now { records, left_out } => {
                    writeln!(out, "{records} records were brought in, {left_out} left out.")?;
                }
            }
        }
    }
    store.close().await;
    Ok(())
}
