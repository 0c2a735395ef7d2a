//! `sim-snp`: the security processor's socket and the security context of one container group.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sim::cli::{self, Common, Failure};
use sim::device::{self, Processor};
use sim::faults::Switch;
use sim::http::serve;
use sim::machine::{Guest, Machine, default_measurement};
use sim::security_context::{DEFAULT_POLICY, SecurityContext};
use sim::seed::Seed;
use sim::tcb::Product;
use sim::uvm::{self, DEFAULT_SVN, UvmForm};
use sim::world::Foundation;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// An AMD security processor on a Unix socket, and the folder that Azure mounts beside it
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    common: Common,
    /// The socket
    #[arg(long, value_name = "PATH", default_value = "/run/sim/sev.sock")]
    socket: PathBuf,
    /// The folder of the security context
    #[arg(long, value_name = "DIR", default_value = "/run/sim/security-context")]
    context_dir: PathBuf,
    /// The machine under the group; sim-imds must name the same
    #[arg(long, value_name = "NAME", default_value = "machine")]
    machine: String,
    /// The machine's product: milan, genoa or turin
    #[arg(long, default_value = "milan")]
    product: Product,
    /// The enforcement policy, a file of Rego text
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Launch the guest with debugging allowed
    #[arg(long)]
    debug: bool,
    /// Security version in the endorsement of the utility VM
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SVN)]
    uvm_svn: u32,
    /// Publish the endorsement with CWT claims instead of JSON
    #[arg(long)]
    uvm_cwt: bool,
    /// How long the processor takes for a report, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5)]
    report_ms: u64,
    /// Where to take faults over HTTP; nowhere without it
    #[arg(long, value_name = "ADDR")]
    control: Option<SocketAddr>,
    #[command(subcommand)]
    command: Option<cli::Command>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    cli::run(|stop| story(flags, stop))
}

async fn story(flags: Flags, stop: CancellationToken) -> Result<(), Failure> {
    if flags.command.is_some() {
        UnixStream::connect(&flags.socket).await?;
        return Ok(());
    }
    let foundation = flags.common.foundation()?;
    let processor = prepare(&flags, &foundation)?;
    let control = device::control_router(processor.faults());
    let device = device::listen(&flags.socket, processor)?;
    let mut servers = Vec::new();
    if let Some(address) = flags.control {
        servers.push(serve::serve(serve::bind(address).await?, None, control)?);
    }
    let line = format!("sim-snp ready on {}", flags.socket.display());
    cli::serve_until(stop, &line, servers).await;
    device.stop().await;
    Ok(())
}

/// Writes anchors and security context, and derives the processor.
fn prepare(flags: &Flags, foundation: &Foundation) -> Result<Processor, Failure> {
    let seed = Seed::new(flags.common.seed.clone());
    let amd = foundation.amd(flags.product)?;
    let machine = Machine::derive(amd, &seed, &flags.machine, flags.product.current_tcb());
    let policy = match &flags.policy {
        Some(path) => std::fs::read_to_string(path)?,
        None => DEFAULT_POLICY.to_owned(),
    };
    let measurement = default_measurement(&seed);
    let guest = Guest {
        policy: policy.clone(),
        measurement,
        debug: flags.debug,
        launch: flags.machine.clone(),
    };
    let form = if flags.uvm_cwt { UvmForm::CwtClaims } else { UvmForm::Json };
    let endorsement = uvm::endorse(&foundation.uvm, &seed, &measurement, flags.uvm_svn, form)?;
    let context = SecurityContext {
        policy,
        reference_info: Some(endorsement),
        host_certificate: Some(machine.host_certificate(machine.tcb())?),
    };
    context.write(&flags.context_dir)?;
    if let Some(out) = &flags.common.out {
        foundation.write_anchors(out, &[machine.authority()])?;
        foundation.write_host_data(out, &guest.host_data())?;
    }
    let time_per_report = Duration::from_millis(flags.report_ms);
    let template = guest.report(&machine, &seed);
    Ok(Processor::new(&machine, template, time_per_report, Switch::default())?)
}
