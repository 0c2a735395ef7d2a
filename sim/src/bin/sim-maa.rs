//! `sim-maa`: Microsoft Azure Attestation, HTTPS.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use sim::cli::{self, Common, Failure};
use sim::faults::Switch;
use sim::http::{serve, tls};
use sim::maa::{self, MaaConfig};
use sim::tcb::Product;
use sim::world::https_url;
use tokio_util::sync::CancellationToken;

/// Microsoft Azure Attestation for SEV-SNP guests of the simulated world
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    common: Common,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// A host name of the certificate; may be given more than once, the first is in the issuer
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// The issuer of tokens; without it, the first host name and the port
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// A product whose AMD root is trusted; may be given more than once
    #[arg(long = "product", default_value = "milan")]
    products: Vec<Product>,
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
    let listener = serve::bind(flags.listen).await?;
    let names = cli::certificate_names(&flags.hosts);
    let host = names.first().map_or("127.0.0.1", String::as_str);
    let own_url = https_url(host, listener.local_addr()?.port());
    let issuer = flags.issuer.unwrap_or(own_url);
    let amd_roots = flags
        .products
        .iter()
        .map(|product| Ok(foundation.amd(*product)?.ark().clone()))
        .collect::<Result<_, Failure>>()?;
    let config = MaaConfig {
        issuer: issuer.clone(),
        amd_roots,
        uvm_did: foundation.uvm.did().to_owned(),
        faults: Switch::default(),
    };
    let identity = foundation.tls.server(&foundation.keys, &names)?;
    let app = maa::router(config, &foundation.keys)?;
    let server = serve::serve(listener, Some(tls::server(&identity)?), app)?;
    let line = format!("sim-maa ready on {} as {issuer}", server.url());
    cli::serve_until(stop, &line, vec![server]).await;
    Ok(())
}
