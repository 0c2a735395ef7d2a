//! `pmc logs keygen` and `pmc logs recipients`: who can read.

use std::num::NonZeroU64;
use std::path::PathBuf;

use attestation::log_record::Readers;
use clap::Args;

use crate::cli::{Failure, new_file, print, private_file};
use crate::clock;
use crate::logs::{pair, sign_readers};
use crate::secrets::OperatorKey;

/// The longest file with a key that is read, in bytes.
const MAX_KEY: usize = 64 * 1024;

/// Options of `pmc logs keygen`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Keygen {
    /// Write the secret half to this file, which must not be there yet. Only its owner can read it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Options of `pmc logs recipients`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Recipients {
    /// Those who can read from then on: age1…
    #[arg(required = true, value_name = "RECIPIENT")]
    recipients: Vec<String>,
    /// The operator's signing key, as `pmc secrets new-signer` writes it.
    #[arg(long, value_name = "FILE")]
    signer: PathBuf,
    /// The group's name, as in LOG_RECIPIENTS_GROUP.
    #[arg(long, value_name = "NAME")]
    group: String,
    /// The list's number: higher than that of any list before it.
    #[arg(long, value_name = "NUMBER")]
    version: NonZeroU64,
    /// Write the signed list to this file, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn keygen(options: &Keygen) -> Result<(), Failure> {
    let pair = pair(clock::unix_now());
    new_file::write(&options.out, &pair.file)?;
    print(&format!("{}\n", pair.recipient));
    Ok(())
}

pub(super) fn recipients(options: &Recipients) -> Result<(), Failure> {
    let pem = private_file::read(&options.signer, MAX_KEY)?;
    let operator = OperatorKey::from_pem(&pem)
        .map_err(|error| Failure::Unusable(format!("{}: {error}", options.signer.display())))?;
    let readers = Readers {
        group: options.group.clone(),
        version: options.version,
        recipients: options.recipients.clone(),
    };
    let signed = sign_readers(&readers, &operator).map_err(|error| Failure::unusable(&error))?;
    new_file::write(&options.out, &format!("{signed}\n"))?;
    print(&format!(
        "LOG_RECIPIENTS_SIGNER={}\nLOG_RECIPIENTS_GROUP={}\nLOG_RECIPIENTS_MIN_VERSION={}\n",
        operator.signer().to_text(),
        readers.group,
        readers.version
    ));
    Ok(())
}
