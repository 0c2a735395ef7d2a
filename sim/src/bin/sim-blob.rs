//! `sim-blob`: an account of Azure Blob Storage, HTTPS.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use sim::blob::{self, BlobConfig, MAX_BLOCKS, MAX_PAGE};
use sim::cli::{self, Common, Failure};
use sim::faults::Switch;
use sim::http::{serve, tls};
use sim::identity::Identity;
use sim::seed::Seed;
use sim::tally::Tally;
use sim::world::https_url;
use tokio_util::sync::CancellationToken;

/// Append blobs of one storage account
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    common: Common,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:10443")]
    listen: SocketAddr,
    /// A host name of the certificate; may be given more than once
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// A container; may be given more than once
    #[arg(long = "container", value_name = "NAME", default_value = "logs")]
    containers: Vec<String>,
    /// An identity that may read and write; may be given more than once
    #[arg(long = "identity", value_name = "NAME", default_value = "group")]
    identities: Vec<String>,
    #[command(subcommand)]
    command: Option<cli::Command>,
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
    let seed = Seed::new(flags.common.seed.clone());
    let object_id = |name: &String| Identity::derive(&seed, name).object_id;
    let config = BlobConfig {
        provider: foundation.provider().clone(),
        contributors: flags.identities.iter().map(object_id).collect(),
        containers: flags.containers.iter().cloned().collect(),
        max_blocks: MAX_BLOCKS,
        max_page: MAX_PAGE,
        key: seed.bytes(blob::KEY),
        faults: Switch::default(),
        reads: Switch::default(),
        appends: Tally::default(),
    };
    let listener = serve::bind(flags.listen).await?;
    let names = cli::certificate_names(&flags.hosts);
    let host = names.first().map_or("127.0.0.1", String::as_str);
    let url = https_url(host, listener.local_addr()?.port());
    let identity = foundation.tls.server(&foundation.keys, &names)?;
    let server = serve::serve(listener, Some(tls::server(&identity)?), blob::router(config))?;
    let line = format!("sim-blob ready on {} as {url}", server.url());
    cli::serve_until(stop, &line, vec![server]).await;
    Ok(())
}
