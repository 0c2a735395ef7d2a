//! `sim-imds`: the instance metadata service, plain HTTP, with the key distribution services.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use sim::cli::{self, Common, Failure};
use sim::http::{serve, tls};
use sim::identity::Identity;
use sim::imds::{self, Imds, ImdsFaults};
use sim::kds::{self, Kds, KdsCalls, KdsFaults};
use sim::machine::Machine;
use sim::seed::Seed;
use sim::tally::Tally;
use sim::tcb::Product;
use sim::world::Foundation;
use tokio_util::sync::CancellationToken;

/// Host certificates and managed identity tokens, as at 169.254.169.254
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    common: Common,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8169")]
    listen: SocketAddr,
    /// Where the key distribution services listen over HTTPS besides; nowhere without it
    #[arg(long, value_name = "ADDR")]
    kds_listen: Option<SocketAddr>,
    /// A host name of that listener; may be given more than once
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// The machine under the group; sim-snp must name the same
    #[arg(long, value_name = "NAME", default_value = "machine")]
    machine: String,
    /// The machine's product: milan, genoa or turin
    #[arg(long, default_value = "milan")]
    product: Product,
    /// An attached identity; may be given more than once, the first needs no client id
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
    if flags.command.is_some() {
        return cli::healthcheck(flags.listen, None).await;
    }
    let foundation = flags.common.foundation()?;
    let (imds, kds) = prepare(&flags, &foundation)?;
    let listener = serve::bind(flags.listen).await?;
    let server = serve::serve(listener, None, imds::router(imds, Arc::clone(&kds)))?;
    let line = format!("sim-imds ready on {}", server.url());
    let mut servers = vec![server];
    if let Some(address) = flags.kds_listen {
        let names = cli::certificate_names(&flags.hosts);
        let identity = foundation.tls.server(&foundation.keys, &names)?;
        let listener = serve::bind(address).await?;
        servers.push(serve::serve(listener, Some(tls::server(&identity)?), kds::router(kds))?);
    }
    cli::serve_until(stop, &line, servers).await;
    Ok(())
}

fn prepare(flags: &Flags, foundation: &Foundation) -> Result<(Imds, Arc<Kds>), Failure> {
    let seed = Seed::new(flags.common.seed.clone());
    let amd = foundation.amd(flags.product)?;
    if let Some(out) = &flags.common.out {
        foundation.write_anchors(out, &[Arc::clone(&amd)])?;
    }
    let machine = Machine::derive(amd, &seed, &flags.machine, flags.product.current_tcb());
    let kds = Kds {
        machines: vec![machine.clone()],
        revoked: Vec::new(),
        keys: foundation.key_ring(),
        foreign: foundation.foreign(),
        faults: KdsFaults::default(),
        calls: KdsCalls::default(),
    };
    let imds = Imds {
        machine,
        identities: flags.identities.iter().map(|name| Identity::derive(&seed, name)).collect(),
        provider: foundation.provider().clone(),
        foreign: foundation.foreign(),
        faults: ImdsFaults::default(),
        thim_calls: Tally::default(),
    };
    Ok((imds, Arc::new(kds)))
}
