//! `proxy state …`: copies of the database, and whether it is whole.
//!
//! Must not know what is in it.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;

use super::{CliError, NO_DATABASE};
use crate::config::Config;
use crate::store::{self, Place};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Writes a consistent copy, encrypted with the same key, while the proxy may run. The file must not exist.
    Backup {
        /// Where to.
        file: PathBuf,
    },
    /// Puts a copy into the database's place, if every page of it is authentic. The proxy must not run. What was there is
    /// kept beside it.
    Restore {
        /// Where from.
        file: PathBuf,
    },
    /// Authenticates every page.
    Check,
    /// Shows how often a proxy has started on this database: the number that its log says at each start. A lower one than
    /// the log's is an older state in a newer one's place.
    Epoch,
}

pub(super) async fn run(
    command: Command,
    config: &Config,
    out: &mut (impl Write + Send),
) -> Result<(), CliError> {
    let Place::File(path) = &config.state.place else {
        return Err(CliError::Refused(NO_DATABASE));
    };
    let (path, key) = (path.clone(), config.state.key.clone());
    match command {
        Command::Backup { file } => {
            store::back_up(path, key, file).await?;
            writeln!(out, "The backup is complete.")?;
        }
        Command::Restore { file } => {
            store::restore(path, key, file).await?;
            writeln!(out, "The backup is in place.")?;
        }
        Command::Check => {
            store::check(path, key).await?;
            writeln!(out, "Every page is authentic.")?;
        }
        Command::Epoch => {
            let store = super::the_database(config).await?;
            writeln!(out, "{}", store.epoch.0)?;
            store.close().await;
        }
    }
    Ok(())
}
