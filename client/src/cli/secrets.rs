//! `pmc secrets`: values that only an attested group can read. Offline; nothing secret is printed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use attestation::secrets::Secrets;
use clap::{Args, Subcommand};

use super::{Failure, new_file, print, private_file, say, values_file};
use crate::offline;
use crate::secrets::{OperatorKey, VaultKey, seal};

/// The longest file with a key that is read, in bytes.
const MAX_KEY: usize = 64 * 1024;

/// An envelope that is longer, in bytes, hardly fits into an environment variable of a container group.
const LONG: usize = 16 * 1024;

/// Commands below `pmc secrets`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Seal a file of values for a group, to a key of its owner's vault.
    Seal(Seal),
    /// The same with the next version; also to move to another key of the vault, or another signer.
    Rotate(Rotate),
    /// Make a signing key. Its public half, which the enforcement policy names, is printed.
    NewSigner(NewSigner),
}

/// Options of `pmc secrets seal`.
#[derive(Debug, Args)]
pub(super) struct Seal {
    /// The values: TOML or JSON with `group`, `version` and `values`. Only its owner may be able to read it.
    values: PathBuf,
    #[command(flatten)]
    with: Keys,
}

/// Options of `pmc secrets rotate`.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// The values that were sealed last, changed or not.
    values: PathBuf,
    /// Write the values with the next version to this file, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    new_values: PathBuf,
    #[command(flatten)]
    with: Keys,
}

#[derive(Debug, Args)]
struct Keys {
    /// The public half of the vault's key: PEM, JWK, or what `az keyvault key show` prints.
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
    /// The signing key, as `pmc secrets new-signer` writes it.
    #[arg(long, value_name = "FILE")]
    signer: PathBuf,
    /// Write the envelope to this file, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Options of `pmc secrets new-signer`.
#[derive(Debug, Args)]
pub(super) struct NewSigner {
    /// Write the key to this file, which must not be there yet. Only its owner can read it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the command.
pub(super) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Seal(options) => {
            let sealed = options.with.seal(&values_file::read(&options.values)?)?;
            new_file::write(&options.with.out, &sealed.envelope)?;
            sealed.tell();
        }
        Command::Rotate(options) => rotate(options)?,
        Command::NewSigner(NewSigner { out }) => {
            let (key, pem) = OperatorKey::generate().map_err(|error| Failure::unusable(&error))?;
            new_file::write(out, &pem)?;
            print(&format!("SECRETS_SIGNER={}\n", key.signer().to_text()));
        }
    }
    Ok(())
}

fn rotate(options: &Rotate) -> Result<(), Failure> {
    let mut secrets = values_file::read(&options.values)?;
    secrets.version = secrets
        .version
        .checked_add(1)
        .ok_or_else(|| Failure::Unusable("there is no higher version".to_owned()))?;
    let sealed = options.with.seal(&secrets)?;
    new_file::write(&options.new_values, &values_file::text(&secrets)?)?;
    if let Err(failure) = new_file::write(&options.with.out, &sealed.envelope) {
        // Both or neither: a new number without its envelope would be skipped.
        let _ = std::fs::remove_file(&options.new_values);
        return Err(failure);
    }
    sealed.tell();
    Ok(())
}

/// An envelope, and what its group must be told about it.
struct Sealed {
    envelope: String,
    about: String,
}

impl Keys {
    fn seal(&self, secrets: &Secrets) -> Result<Sealed, Failure> {
        let named = |path: &Path, error: &dyn std::error::Error| {
            Failure::Unusable(format!("{}: {error}", path.display()))
        };
        let public = offline::read(&self.public_key, MAX_KEY);
        let public = public.map_err(|error| Failure::unusable(&error))?;
        let vault = VaultKey::parse(&public).map_err(|error| named(&self.public_key, &error))?;
        let signer = private_file::read(&self.signer, MAX_KEY)?;
        let operator =
            OperatorKey::from_pem(&signer).map_err(|error| named(&self.signer, &error))?;
        let envelope =
            seal(secrets, &operator, &vault).map_err(|error| Failure::unusable(&error))?;
        let about = about(secrets, &operator, &vault);
        Ok(Sealed { envelope, about })
    }
}

impl Sealed {
    fn tell(&self) {
        print(&self.about);
        if self.envelope.len() > LONG {
            say(Some(&format!(
                "the envelope has {} bytes: give it to the group as a file (SECRETS_FILE), not as a variable",
                self.envelope.len()
            )));
        }
    }
}

/// Names, never values.
fn about(secrets: &Secrets, operator: &OperatorKey, vault: &VaultKey) -> String {
    let names: Vec<&str> = secrets.values.keys().map(String::as_str).collect();
    let mut text = format!("# sealed to the vault's key {}: {}\n", vault.kid(), names.join(", "));
    for (name, value) in [
        ("SECRETS_SIGNER", operator.signer().to_text()),
        ("SECRETS_GROUP", secrets.group.clone()),
        ("SECRETS_MIN_VERSION", secrets.version.to_string()),
    ] {
        let _ = writeln!(text, "{name}={value}");
    }
    text
}
