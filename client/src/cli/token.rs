//! `pmc token`: another party's word about a group. Offline: the issuer's keys come from a file.

use std::path::PathBuf;

use attestation::maa::{
    AciExpectations, Issuer, Jwks, MAX_JWKS, MAX_TOKEN, TokenError, appraise_aci, verify_token,
};
use attestation::policy::TokenPolicy;
use attestation::{Expect, Finding, Rejected, Trust};
use clap::Args;

use super::Failure;
use super::expectations::GroupOptions;
use super::verify::time_of;
use crate::verdict::Verdict;
use crate::{clock, offline};

/// The longest runtime data that is read, in bytes.
const MAX_RUNTIME_DATA: usize = 1024 * 1024;

/// Options of `pmc token`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The token: a JWT.
    token: PathBuf,
    /// The keys of its issuer, as fetched from `<issuer>/certs` over TLS.
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Whose keys these are, if the policy names several issuers.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    #[command(flatten)]
    group: GroupOptions,
    /// The exact runtime data that the token must be about.
    #[arg(long, value_name = "FILE")]
    runtime_data: Option<PathBuf>,
    /// The nonce that was sent with the report.
    #[arg(long, value_name = "NUMBER")]
    nonce: Option<u64>,
    /// Judge at this time: RFC 3339 or Unix seconds.
    #[arg(long, value_name = "TIME", value_parser = time_of)]
    at: Option<u64>,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let read =
        |path, longest| offline::read(path, longest).map_err(|error| Failure::unusable(&error));
    let policy = options.group.policy(Expect::Value(Vec::new()))?;
    let Expect::Value(tokens) = &policy.tokens else {
        let what = "the policy names no issuer: --policy FILE must say \
                    tokens = { issuers = [\"https://…\"], policy_hashes = [\"…\"] }";
        return Err(Failure::Unusable(what.to_owned()));
    };
    let runtime_data = match &options.runtime_data {
        Some(path) => Expect::Value(read(path, MAX_RUNTIME_DATA)?),
        None => Expect::unchecked("no --runtime-data is given: nothing says what it is about"),
    };
    let nonce = options.nonce.map_or_else(
        || Expect::unchecked("no --nonce is given: the token may have been made for another"),
        |nonce| Expect::Value(nonce.to_string()),
    );
    let keys = Jwks::parse(&read(&options.keys, MAX_JWKS)?)
        .map_err(|error| Failure::Unusable(format!("{}: {error}", options.keys.display())))?;
    let issuer = Issuer::new(issuer(options, tokens)?, keys);
    let token = read(&options.token, MAX_TOKEN)?;
    let token = std::str::from_utf8(&token).unwrap_or_default().trim();
    let at = options.at.unwrap_or_else(clock::unix_now);

    let expectations = AciExpectations::of(&policy, tokens, runtime_data, nonce);
    let outcome = verify_token(token, &[issuer], at)
        .and_then(|verified| Ok(appraise_aci(verified, &expectations)?));
    match outcome {
        Ok(claims) => show(options, at, true, claims.trust(), claims.findings()),
        Err(TokenError::Rejected(Rejected { findings, trust })) => {
            show(options, at, false, trust, &findings)
        }
        Err(error) => Err(Failure::unusable(&error)),
    }
}

/// One issuer's keys must not stand for another's word.
fn issuer(options: &Options, tokens: &TokenPolicy) -> Result<String, Failure> {
    let wanted = |url: &&String| options.issuer.as_ref().is_none_or(|named| named == *url);
    match tokens.issuers.iter().filter(wanted).collect::<Vec<_>>().as_slice() {
        [url] => Ok((*url).clone()),
        [] => Err(Failure::Unusable("the policy does not name this issuer".to_owned())),
        _ => Err(Failure::Unusable("say with --issuer whose keys these are".to_owned())),
    }
}

fn show(
    options: &Options,
    at: u64,
    accepted: bool,
    trust: Trust,
    findings: &[Finding],
) -> Result<(), Failure> {
    Verdict { accepted, trust, at, findings, facts: Vec::new() }.show(options.json)
}
