//! `sim-vault`: Azure Key Vault or Managed HSM, HTTPS.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use serde::Deserialize;
use sim::cli::{self, Common, Failure};
use sim::faults::Switch;
use sim::http::{serve, tls};
use sim::identity::Identity;
use sim::seed::Seed;
use sim::vault::{self, KeySpec, Permission, Service, VaultConfig};
use sim::world::{Foundation, fill_keys, https_url};
use tokio_util::sync::CancellationToken;

/// Azure Key Vault, or a Managed HSM when the first host name says so
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    common: Common,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9443")]
    listen: SocketAddr,
    /// A host name of the certificates; may be given more than once, the first is in key ids
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Keys and permissions, a JSON file: {"keys": [{"name", "kty", "key_size" or "crv" or "jwk",
    /// "key_ops", "release_policy", "immutable"}], "access": {"NAME": ["get", "release",
    /// "create", "import", "update"]}}
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A value for ${NAME} in release policies; may be given more than once
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = cli::assignment)]
    values: Vec<(String, String)>,
    /// The same, with the value in a file
    #[arg(long = "set-file", value_name = "NAME=FILE", value_parser = cli::assignment)]
    files: Vec<(String, String)>,
    #[command(subcommand)]
    command: Option<cli::Command>,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(default)]
    keys: Vec<KeySpec>,
    #[serde(default)]
    access: BTreeMap<String, BTreeSet<Permission>>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    cli::run(|stop| story(flags, stop))
}

async fn story(flags: Flags, stop: CancellationToken) -> Result<(), Failure> {
    let foundation = flags.common.foundation()?;
    if flags.command.is_some() {
        return cli::healthcheck(flags.listen, Some(foundation.tls.root())).await;
    }
    if let Some(out) = &flags.common.out {
        foundation.write_tls_ca(out)?;
    }
    let listener = serve::bind(flags.listen).await?;
    let names = cli::certificate_names(&flags.hosts);
    let identity = foundation.tls.server(&foundation.keys, &names)?;
    let config = configure(&flags, &foundation, names, listener.local_addr()?.port())?;
    let base_url = config.base_url.clone();
    let app = vault::router(config, Arc::clone(&foundation.keys), &foundation.tls)?;
    let server = serve::serve(listener, Some(tls::server(&identity)?), app)?;
    let line = format!("sim-vault ready on {} as {base_url}", server.url());
    cli::serve_until(stop, &line, vec![server]).await;
    Ok(())
}

fn configure(
    flags: &Flags,
    foundation: &Foundation,
    names: Vec<String>,
    port: u16,
) -> Result<VaultConfig, Failure> {
    let contents: Contents = match &flags.config {
        Some(path) => serde_json::from_slice(&std::fs::read(path)?)?,
        None => Contents::default(),
    };
    let mut values: BTreeMap<String, String> = flags.values.iter().cloned().collect();
    for (name, path) in &flags.files {
        values.insert(name.clone(), std::fs::read_to_string(path)?.trim().to_owned());
    }
    let seed = Seed::new(flags.common.seed.clone());
    let object_id = |name: String| Identity::derive(&seed, &name).object_id;
    let host = names.first().map_or("127.0.0.1", String::as_str);
    Ok(VaultConfig {
        base_url: https_url(host, port),
        service: Service::of_host(host),
        names,
        keys: fill_keys(&contents.keys, &values)?,
        access: contents
            .access
            .into_iter()
            .map(|(name, granted)| (object_id(name), granted))
            .collect(),
        resolve: Vec::new(),
        foreign: Arc::new(foundation.foreign()),
        faults: Switch::default(),
    })
}
