//! `proxy`: the one role that clients and the model upstream see. Attested TLS, API keys, streaming
//! pass-through.
//!
//! It must not know how a report is made, a key released or a log sealed: it asks the roles that do. Nothing of a
//! prompt, an answer or a credential is ever written down or logged here.

mod attest;
mod body;
mod config;
mod connection;
mod error;
mod forward;
mod grpc;
mod keys;
mod manifest;
mod proof;
mod publication;
mod route;
mod server;
mod tls;

use std::sync::Arc;

use service::env::{Reader, Var};
use service::listen::{Listener, Local};
use service::{BoxError, Process, Role, Shutdown, lifecycle};
use tokio::net::TcpListener;

use crate::attest::AttestSidecar;
use crate::config::TlsMode;
use crate::forward::Upstream;
use crate::keys::Keys;
use crate::manifest::Author;
use crate::proof::Prover;
use crate::publication::Publication;
use crate::route::Router;
use crate::tls::Leaf;
use crate::tls::rotation::Current;

pub use crate::config::{Config, VARS};

/// The role.
#[derive(Debug)]
pub struct Proxy;

impl Role for Proxy {
    const NAME: &'static str = "proxy";
    const ABOUT: &'static str = "attested TLS in front of an OpenAI-compatible upstream";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const VARS: &'static [Var] = &VARS;
    type Config = Config;

    fn read(env: &mut Reader<'_>) -> Option<Config> {
        Config::read(env)
    }

    fn health(config: &Config) -> &Local {
        &config.grpc
    }

    async fn serve(config: Config, process: Process) -> Result<(), BoxError> {
        let grpc = Listener::bind(config.grpc.address()).await?;
        let clients = TcpListener::bind(config.listen)
            .await
            .map_err(|error| format!("cannot listen on {}: {error}", config.listen))?;
        let listening = [
            ("grpc".to_owned(), grpc.address().to_string()),
            ("clients".to_owned(), clients.local_addr()?.to_string()),
        ];
        let about = grpc::router(&process, listening.into(), config.roots.are_public());
        let internal = tokio::spawn({
            let shutdown = process.shutdown.clone();
            async move { service::grpc::serve(about, grpc, &shutdown).await }
        });
        lifecycle!("listening");

        let shutdown = process.shutdown.clone();
        let served = clients_until_stop(config, clients, process).await;
        shutdown.fire();
        internal.await??;
        served
    }
}

async fn clients_until_stop(
    config: Config,
    listener: TcpListener,
    process: Process,
) -> Result<(), BoxError> {
    let Process { identity, shutdown, health } = process;
    let keys = Keys::new(&config.api_keys, config.keys_file.clone());
    let upstream = Upstream::new(&config.upstream, config.upstream_key.as_ref(), &config.roots);
    let attest = AttestSidecar::new(&config.attest);
    let Some(tls) = certificate(&config, &attest, &shutdown).await? else { return Ok(()) };

    let attestation = match &tls {
        Tls::Off => None,
        Tls::On(current) => {
            let manifest = Author::new(identity, &config, config.tls.name()).publish().await;
            let publication = Publication::keep(
                attest.clone(),
                manifest.clone(),
                current.clone(),
                config.tls.name(),
            );
            Some((publication, Prover::new(attest, manifest)))
        }
    };
    let router = Arc::new(Router { keys, upstream, attestation });
    health.ready().await;
    lifecycle!("ready");
    let tls = match tls {
        Tls::Off => None,
        Tls::On(current) => Some(current),
    };
    server::serve(listener, tls, router, shutdown).await;
    Ok(())
}

enum Tls {
    On(Current),
    Off,
}

/// The certificate that the mode asks for; `None` if it is time to stop before there is one.
async fn certificate(
    config: &Config,
    attest: &AttestSidecar,
    shutdown: &Shutdown,
) -> Result<Option<Tls>, BoxError> {
    match &config.tls {
        TlsMode::Off => Ok(Some(Tls::Off)),
        TlsMode::Files { certificate, key } => {
            Ok(Some(Tls::On(Current::fixed(Leaf::from_files(certificate, key)?))))
        }
        TlsMode::Attested => {
            lifecycle!("waiting for attest-sidecar");
            tokio::select! {
                current = Current::attested(attest.clone(), config.hostnames.clone()) => {
                    Ok(Some(Tls::On(current?)))
                }
                () = shutdown.fired() => Ok(None),
            }
        }
    }
}
