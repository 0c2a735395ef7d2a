//! `proxy keys …`, with the names, options and exit codes of the reference's script (`proxy.md` cases 114 and 115), and what
//! it did not have.
//!
//! Must not know where keys are kept.

use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use service::clock::unix_now;
use service::plain_file;

use super::CliError;
use crate::config::Config;
use crate::keys::{ApiKey, Change, Made, New, Rotation};
use crate::ledger::{date_of, day_of};
use crate::money::Money;
use crate::printable::{printable, printable_json};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Makes a key and shows it, once.
    Generate(Generate),
    /// Lists the keys.
    List,
    /// Revokes a key: it is good no longer, and stays listed.
    Revoke {
        /// Its id.
        id: String,
    },
    /// Makes a revoked key good again.
    Enable {
        /// Its id.
        id: String,
    },
    /// Makes a new key in a key's place, with the same limits.
    Rotate {
        /// The old key's id.
        id: String,
        /// Days until the new key expires; as long as the old one lived, if it is not said.
        #[arg(short, long = "expires", value_name = "DAYS")]
        expires: Option<u32>,
        /// Seconds for which the old key stays good.
        #[arg(short, long, value_name = "SECONDS", default_value_t = 0)]
        grace: u64,
    },
    /// Takes a key away for good.
    Delete {
        /// Its id.
        id: String,
    },
    /// Changes a key. `none` takes a limit away.
    Set(Set),
    /// Brings in keys of a keys file. Those whose id or key is there already are left out.
    Import {
        /// The keys file.
        file: PathBuf,
    },
    /// Writes every key in the form of the keys file. No key can be told from its hash.
    Export,
}

#[derive(Args)]
pub(super) struct Generate {
    /// What it is for.
    #[arg(short, long, default_value = "")]
    description: String,
    /// Days until it expires.
    #[arg(short, long = "expires", value_name = "DAYS")]
    expires: Option<u32>,
    /// Requests in each window.
    #[arg(short, long, value_name = "N")]
    rate_limit: Option<u64>,
    /// Whose it is.
    #[arg(long, default_value = "")]
    owner: String,
    /// Anything else.
    #[arg(long, default_value = "")]
    note: String,
    /// Tokens in each minute.
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,
    /// Euros in each calendar month (UTC).
    #[arg(long, value_name = "EUR")]
    monthly_budget: Option<Euros>,
    /// Models that it may use, comma separated.
    #[arg(long, value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// It is good for attested clients only.
    #[arg(long)]
    attested_client: bool,
}

#[derive(Args)]
pub(super) struct Set {
    /// Its id.
    id: String,
    #[arg(short, long)]
    description: Option<String>,
    #[arg(long)]
    owner: Option<String>,
    #[arg(long)]
    note: Option<String>,
    /// Days from now until it expires, or `none`.
    #[arg(short, long = "expires", value_name = "DAYS")]
    expires: Option<OrNone<u32>>,
    /// Requests in each window, or `none`.
    #[arg(short, long, value_name = "N")]
    rate_limit: Option<OrNone<u64>>,
    /// Tokens in each minute, or `none`.
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<OrNone<u64>>,
    /// Euros in each calendar month (UTC), or `none`.
    #[arg(long, value_name = "EUR")]
    monthly_budget: Option<OrNone<Euros>>,
    /// Models that it may use, comma separated, or `none` for all.
    #[arg(long)]
    models: Option<OrNone<Models>>,
}

/// A value, or the word `none`.
#[derive(Clone)]
struct OrNone<T>(Option<T>);

impl<T: FromStr> FromStr for OrNone<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|value| Self(Some(value))) }
    }
}

/// An amount.
#[derive(Clone, Copy)]
struct Euros(Money);

/// Not one.
#[derive(Debug, thiserror::Error)]
#[error("must be euros, such as 25 or 0.5")]
struct NotEuros;

impl FromStr for Euros {
    type Err = NotEuros;

    fn from_str(text: &str) -> Result<Self, NotEuros> {
        let euros = text.parse().ok().and_then(Money::from_euros);
        euros.map(Self).ok_or(NotEuros)
    }
}

/// Names of models.
#[derive(Clone)]
struct Models(Vec<String>);

impl FromStr for Models {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.split(',').map(|name| name.trim().to_owned()).collect()))
    }
}

pub(super) async fn run(
    command: Command,
    config: &Config,
    out: &mut (impl Write + Send),
) -> Result<(), CliError> {
    let (keys, store) = super::view(config).await?;
    let now = unix_now();
    match command {
        Command::Generate(asked) => {
            let new = New {
                description: asked.description,
                owner: asked.owner,
                note: asked.note,
                lifetime: asked.expires,
                rate_limit: asked.rate_limit,
                tokens_per_minute: asked.tokens_per_minute,
                monthly_budget: asked.monthly_budget.map(|euros| euros.0),
                models: asked.models,
                attested_client: asked.attested_client,
            };
            let made = keys.create(new, now).await?;
            writeln!(out, "API key generated:")?;
            show(&made, out)?;
        }
        Command::List => {
            let all = keys.list();
            if all.is_empty() {
                writeln!(out, "No API keys found.")?;
            }
            for listed in all {
                line(&listed.key, now, out)?;
            }
        }
        Command::Revoke { id } => {
            let change = Change { enabled: Some(false), ..Change::default() };
            keys.update(&id, change, now).await?;
            writeln!(out, "Key '{id}' has been revoked.")?;
        }
        Command::Enable { id } => {
            let change = Change { enabled: Some(true), ..Change::default() };
            keys.update(&id, change, now).await?;
            writeln!(out, "Key '{id}' has been enabled.")?;
        }
        Command::Rotate { id, expires, grace } => {
            let rotation = Rotation { overlap: grace, lifetime: expires };
            let made = keys.rotate(&id, rotation, now).await?;
            match grace {
                0 => writeln!(out, "Key '{id}' has been rotated and is revoked. The new key:")?,
                _ => writeln!(
                    out,
                    "Key '{id}' has been rotated and ends in {grace} s. The new key:"
                )?,
            }
            show(&made, out)?;
        }
        Command::Delete { id } => {
            keys.delete(&id).await?;
            writeln!(out, "Key '{id}' has been deleted.")?;
        }
        Command::Set(asked) => {
            let (id, change) = change(asked, now);
            keys.update(&id, change, now).await?;
            writeln!(out, "Key '{id}' has been changed.")?;
        }
        Command::Import { file } => {
            let text = plain_file::read(&file, 64 * 1024 * 1024)
                .map_err(|error| CliError::Unreadable(file.display().to_string(), error.into()))?;
            let (added, left_out) = keys.import(&text).await?;
            writeln!(out, "{added} keys were brought in, {left_out} left out.")?;
        }
        Command::Export => {
            let document = keys.export().await?;
            writeln!(out, "{}", printable_json(&format!("{document:#}")))?;
        }
    }
    if let Some(store) = store {
        store.close().await;
    }
    Ok(())
}

fn change(asked: Set, now: u64) -> (String, Change) {
    #[expect(clippy::cast_precision_loss, reason = "seconds fit a double for 200 million years")]
    let in_days = |days: u32| now as f64 + f64::from(days) * 86_400.0;
    let change = Change {
        description: asked.description,
        owner: asked.owner,
        note: asked.note,
        expires_at: asked.expires.map(|days| days.0.map(in_days)),
        rate_limit: asked.rate_limit.map(|limit| limit.0),
        tokens_per_minute: asked.tokens_per_minute.map(|limit| limit.0),
        monthly_budget: asked.monthly_budget.map(|budget| budget.0.map(|euros| euros.0)),
        models: asked.models.map(|models| models.0.map(|models| models.0)),
        ..Change::default()
    };
    (asked.id, change)
}

/// The key itself is written to the terminal here, and nowhere else.
fn show(made: &Made, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "  Key ID:      {}", printable(&made.key.id))?;
    writeln!(out, "  API Key:     {}", made.text.as_str())?;
    writeln!(out, "  Description: {}", printable(&made.key.description))?;
    writeln!(out, "  Expires:     {}", day(made.key.expires_at))?;
    writeln!(out, "Save the key now: it is not shown again.")
}

fn line(key: &ApiKey, now: u64, out: &mut impl Write) -> std::io::Result<()> {
    #[expect(clippy::cast_precision_loss, reason = "seconds fit a double for 200 million years")]
    let is_over = key.expires_at.is_some_and(|end| end <= now as f64);
    let status = match (key.enabled, is_over) {
        (false, _) => "revoked",
        (true, true) => "expired",
        (true, false) => "active",
    };
    let limit = key.rate_limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
    let expires = day(key.expires_at);
    writeln!(
        out,
        "{:<24} {status:<8} {:<10} {expires:<10} {limit:>8}  {}",
        printable(&key.id),
        day(key.created_at),
        printable(&key.description)
    )
}

/// The day (UTC) of a time, or `never`.
fn day(at: Option<f64>) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` takes the nearest number that there is"
    )]
    let date = at.map(|at| date_of(day_of(at as u64)));
    date.map_or_else(|| "never".to_owned(), |date| date.to_string())
}
