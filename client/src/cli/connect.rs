//! `pmc connect`: the forwarder.

use std::net::SocketAddr;

use attestation::{Expect, Outcome, Trust};
use clap::Args;

use super::expectations::Expectations;
use super::{Failure, print, runtime};
use crate::causes::printable;
use crate::connection::{Connector, Target};
use crate::forwarder::{Forwarder, StartError};

/// Options of `pmc connect`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The server: https://host[:port].
    url: Target,
    /// Where local clients reach it.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    #[command(flatten)]
    expectations: Expectations,
}

/// Runs until it is stopped.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let anchors = options.expectations.anchors()?;
    let trust = anchors.trust();
    let policy = options.expectations.policy(Expect::Value(Vec::new()))?;
    let connector = Connector::new(options.url.clone(), anchors, policy);
    runtime()?.block_on(async {
        let forwarder = Forwarder::start(connector, options.listen).await;
        let forwarder = forwarder.map_err(|error| match &error {
            StartError::Connect(_) => Failure::refused(&error),
            StartError::NotLocal(_) | StartError::Bind(..) => Failure::unusable(&error),
        })?;
        let address = forwarder.address().map_err(|error| Failure::unusable(&error))?;
        let mut unchecked = String::new();
        for finding in forwarder.proof().appraised.findings() {
            if let Outcome::Unchecked { why } = &finding.outcome {
                let line = format!("unchecked: {} {}: {why}", finding.check.id, finding.check.title);
                unchecked.push_str(&printable(&line));
                unchecked.push('\n');
            }
        }
        // What the group itself believes: the roots of its vault, say. Its proof covers the word.
        let own = &forwarder.proof().manifest.anchors;
        if *own != Trust::Production.to_string() {
            unchecked.push_str(&format!("the group's own anchors: {}\n", printable(own)));
        }
        print(&format!(
            "{} is verified\n{unchecked}anchors: {trust}\nbase URL for clients: http://{address}/v1\n",
            options.url
        ));
        tokio::select! {
            () = forwarder.serve() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(())
    })
}
