//! `sim-model`: the model server, plain HTTP.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use sim::cli::{self, Failure};
use sim::http::serve;
use sim::model::{self, ModelConfig};
use tokio_util::sync::CancellationToken;

/// A model server with OpenAI's API that repeats what it is told
#[derive(Debug, Parser)]
struct Flags {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The key that requests must show as `Authorization: Bearer`
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// A model that exists; may be given more than once
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// Pause between two chunks of a stream, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 20)]
    delay_ms: u64,
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
    let mut config = ModelConfig {
        key: flags.key,
        delay: Duration::from_millis(flags.delay_ms),
        ..ModelConfig::default()
    };
    if !flags.models.is_empty() {
        config.models = flags.models;
    }
    let listener = serve::bind(flags.listen).await?;
    let server = serve::serve(listener, None, model::router(config))?;
    let line = format!("sim-model ready on {}", server.url());
    cli::serve_until(stop, &line, vec![server]).await;
    Ok(())
}
