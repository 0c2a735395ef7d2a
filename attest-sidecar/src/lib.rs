//! `attest-sidecar`: the one role that talks to the SNP device, to the certificate sources and to Microsoft
//! Azure Attestation.
//!
//! It composes `REPORT_DATA` itself from typed requests, so that it signs nothing that a caller made up. It
//! judges nobody: what it hands out is verified by those who rely on it. Of a token it verifies that the instance
//! signed it about what was sent. It must not know what its callers do with evidence, nor anything of keys, logs or
//! prompts.

mod certificates;
mod config;
mod device;
mod error;
mod evidence;
mod grpc;
mod maa;
mod maa_keys;
mod no_token;
mod processor;
mod runtime_data;
mod security_context;
mod user_agent;

use std::sync::Arc;

use service::env::{Reader, Var};
use service::health::Probe;
use service::listen::Listener;
use service::{BoxError, Process, Role, lifecycle};

use crate::certificates::Certificates;
use crate::evidence::Attester;
use crate::maa::Maa;
use crate::processor::Processor;
use crate::security_context::SecurityContext;

pub use crate::config::{Config, VARS};

/// The role.
#[derive(Debug)]
pub struct AttestSidecar;

impl Role for AttestSidecar {
    const NAME: &'static str = "attest-sidecar";
    const ABOUT: &'static str = "evidence of the SNP device for a typed purpose, and MAA tokens";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const VARS: &'static [Var] = VARS;
    type Config = Config;

    fn read(env: &mut Reader<'_>) -> Option<Config> {
        Config::read(env)
    }

    fn health(config: &Config) -> Probe<'_> {
        Probe::Grpc(&config.listen)
    }

    async fn serve(config: Config, process: Process) -> Result<(), BoxError> {
        let listener = Listener::bind(config.listen.address()).await?;
        let processor = Processor::start(&config.device)?;
        let end = processor.clone();
        let context = SecurityContext::read(&config.certificates.context);
        let certificates = Certificates::new(&config.certificates, &config.roots);
        let attester = Arc::new(Attester::new(
            processor,
            certificates.clone(),
            context.uvm_reference_info,
            context.security_policy,
        ));
        let maa = Maa::new(&config.roots, config.maa, config.maa_hosts, config.maa_agent);

        let production = config.roots.are_public();
        let router = grpc::router(&process, &listener, attester.clone(), maa, production);
        lifecycle!("listening");
        let health = process.health.clone();
        tokio::spawn(async move {
            attester.until_ready().await;
            health.ready().await;
            lifecycle!("ready");
        });
        tokio::select! {
            served = service::grpc::serve(router, listener, &process.shutdown) => Ok(served?),
            () = end.ended() => Err("the thread of the security processor has ended".into()),
            never = certificates.keep_revocation_list() => match never {},
        }
    }
}
