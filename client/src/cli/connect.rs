//! `pmc connect`: the forwarder.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use attestation::connection::ProvenConnection;
use attestation::{Expect, Outcome, Trust};
use clap::{Args, ValueEnum};

use super::expectations::Expectations;
use super::token_file::TokenFile;
use super::{Failure, pin, print, runtime, say};
use crate::attested::AttestedClient;
use crate::causes::{chain, printable};
use crate::connection::{ConnectError, Connector};
use crate::forwarder::{Forwarder, Port};
use crate::mutual::{AttestSidecar, MOST_KEYS, SidecarAddress};
use crate::target::Target;

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
    #[command(flatten)]
    token: TokenFile,
    /// Verify again at this interval, and take no other group than the one that was verified first: launch measurement,
    /// enforcement policy, owner's key and measured variables are remembered.
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "60",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    watch: Option<u64>,
    /// What to do when another group answers: answer every request with 502 until restarted, or end with status 3. Who
    /// ends leaves the port to whoever binds it next, and clients send that one their keys.
    #[arg(long, value_enum, default_value_t = OnChange::Block, requires = "watch")]
    on_change: OnChange,
    /// TRUST ON FIRST USE: believe whoever answers first, write what it is to this policy file, and hold to the file
    /// from then on. Better: `pmc policy init`, and compare host_data with what you deployed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["policy", "host_data"])]
    pin_first: Option<PathBuf>,
    /// Prove this program to the server, too, by evidence of the attest-sidecar at this address (127.0.0.1:PORT or
    /// unix:/PATH): for API keys that are good only for attested clients. Requests for which it is not accepted are
    /// not sent.
    #[arg(long, value_name = "ADDRESS", requires = "prove_key_id")]
    prove_with: Option<SidecarAddress>,
    /// Id of an API key to prove it for. May be given several times.
    #[arg(long, value_name = "ID", requires = "prove_with")]
    prove_key_id: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnChange {
    Exit,
    Block,
}

/// Runs until it is stopped, or another group answers.
pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let anchors = options.expectations.anchors()?;
    let policy = match &options.pin_first {
        Some(file) => pin::policy(file, &options.url, &anchors)?,
        None => options.expectations.policy(Expect::Value(Vec::new()))?,
    };
    if options.prove_key_id.len() > MOST_KEYS {
        let text = format!("--prove-key-id: a connection is proved for {MOST_KEYS} keys at most");
        return Err(Failure::Unusable(text));
    }
    let mut connector = Connector::new(options.url.clone(), anchors, policy);
    if let Some(address) = &options.prove_with {
        let sidecar = AttestSidecar::at(address.clone());
        connector = connector.proving_self(sidecar, &options.prove_key_id);
    }
    runtime()?.block_on(serve(options, connector))
}

async fn serve(options: &Options, connector: Connector) -> Result<(), Failure> {
    let trust = connector.trust();
    let client = match options.watch {
        Some(_) => AttestedClient::connect_and_remember(connector).await,
        None => AttestedClient::connect(connector).await,
    };
    let client = client.map_err(|error| Failure::refused(&error))?;
    let port = Port::bind(options.listen).await.map_err(|error| Failure::unusable(&error))?;
    // Made only now, so that neither a refusal nor a port that is taken leaves a token behind.
    let token = options.token.token()?;
    let segment = options.token.segment();
    let forwarder = Forwarder::new(port, client.clone(), token);
    let address = forwarder.address().map_err(|error| Failure::unusable(&error))?;
    print(&format!(
        "{} is verified\n{}{}{}anchors: {trust}\nbase URL for clients: http://{address}{segment}/v1\n",
        options.url,
        reservations(&client.proof()),
        not_watched(&client.untold()),
        accepted_for(&options.prove_key_id),
    ));
    tokio::select! {
        () = forwarder.serve() => Ok(()),
        change = watch(&client, options) => Err(Failure::Changed(chain(change.as_ref()))),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// What a verdict leaves open, a line each.
fn reservations(proof: &ProvenConnection) -> String {
    let mut lines = String::new();
    for finding in proof.appraised.findings() {
        if let Outcome::Unchecked { why } = &finding.outcome {
            let line = format!("unchecked: {} {}: {why}", finding.check.id, finding.check.title);
            let _ = writeln!(lines, "{}", printable(&line));
        }
    }
    // What the group itself believes: the roots of its vault, say. Its proof covers the word.
    let own = &proof.manifest.anchors;
    if *own != Trust::Production.to_string() {
        let _ = writeln!(lines, "the group's own anchors: {}", printable(own));
    }
    lines
}

/// What cannot be held to what it was, one line.
fn not_watched(untold: &[String]) -> String {
    if untold.is_empty() {
        return String::new();
    }
    format!("not watched (the group does not say): {}\n", printable(&untold.join(", ")))
}

/// The keys that this program was proved for, one line.
fn accepted_for(key_ids: &[String]) -> String {
    if key_ids.is_empty() {
        return String::new();
    }
    format!("this program is accepted for the keys: {}\n", printable(&key_ids.join(", ")))
}

/// Waits for another group. A server that cannot be reached, does not answer, or does not say for now what it said
/// before, may come back; one that proves itself as something else is not the one that was verified.
async fn watch(client: &AttestedClient, options: &Options) -> Arc<ConnectError> {
    let Some(seconds) = options.watch else { return std::future::pending().await };
    let refused = async {
        loop {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            match client.verify_again().await {
                Err(error) if error.is_final() => return error,
                Err(error) => say(Some(&chain(error.as_ref()))),
                Ok(_) => {}
            }
        }
    };
    let why = tokio::select! {
        why = client.changed() => why,
        why = refused => why,
    };
    match options.on_change {
        OnChange::Exit => why,
        OnChange::Block => {
            say(Some(&chain(why.as_ref())));
            client.block(why);
            std::future::pending().await
        }
    }
}
