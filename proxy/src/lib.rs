//! `proxy`: the one role that clients and the model upstream see. Attested TLS, API keys, streaming
//! pass-through.
//!
//! It must not know how a report is made, a key released or a log sealed: it asks the roles that do. Nothing of a
//! prompt, an answer or a credential is ever written down or logged here.

mod allowance;
mod answer;
mod attest;
mod batch;
mod body;
mod clients;
mod config;
mod connection;
mod error;
mod forward;
mod grpc;
mod keys;
mod life;
mod manifest;
mod owner;
mod page;
mod proof;
mod publication;
mod route;
mod secrets;
mod server;
mod tls;

use std::sync::Arc;

use service::env::{Reader, Var};
use service::health::Probe;
use service::listen::Listener;
use service::{BoxError, Process, Role, Shutdown, lifecycle};
use tokio::net::TcpListener;

use crate::attest::AttestSidecar;
use crate::clients::Clients;
use crate::config::TlsMode;
use crate::forward::Upstream;
use crate::keys::Keys;
use crate::manifest::Author;
use crate::owner::Owner;
use crate::proof::Prover;
use crate::publication::{About, Publication};
use crate::route::Router;
use crate::secrets::{Origin, Sealed, Secrets, SecretsError};
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
    const VARS: &'static [Var] = VARS;
    type Config = Config;

    fn read(env: &mut Reader<'_>) -> Option<Config> {
        Config::read(env)
    }

    fn health(config: &Config) -> Probe<'_> {
        Probe::Grpc(&config.grpc)
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
        let about = grpc::router(&process, listening.into(), config.is_production());
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
    let Some(secrets) = secrets(&config, &shutdown).await? else { return Ok(()) };
    let keys = Keys::new(secrets.api_keys(), config.keys_file.clone());
    let upstream = Upstream::new(&config.upstream, secrets.upstream_key(), &config.roots);
    let attest = AttestSidecar::new(&config.attest);
    let Some(tls) = certificate(&config, &attest, &shutdown).await? else { return Ok(()) };

    let clients = config.clients.clone().map(Clients::new);
    let attestation = match &tls {
        Tls::Off => None,
        Tls::On(current) => {
            let owner = Arc::new(Owner::new(&config.skr));
            let author = Author::new(identity, &config, config.tls.name(), owner.clone());
            let manifest = author.publish().await;
            let publication = Publication::keep(
                attest.clone(),
                manifest.clone(),
                current.clone(),
                About {
                    mode: config.tls.name(),
                    hostname: reached_at(&config, listener.local_addr()?.port()),
                },
            );
            Some((publication, Prover::new(attest, manifest, owner, clients.is_some())))
        }
    };
    let router = Router { keys, upstream, attestation, clients, admin: config.admin };
    let router = Arc::new(router);
    if let Origin::Sealed = config.secrets {
        let (of, renewed) = (Sealed::of(&config.skr), router.clone());
        let take = move |newer: &Secrets| renewed.renew(newer);
        tokio::spawn(of.follow(secrets.version(), shutdown.clone(), take));
    }
    drop(secrets);
    health.ready().await;
    lifecycle!("ready");
    let tls = match tls {
        Tls::Off => None,
        Tls::On(current) => Some(current),
    };
    server::serve(listener, tls, router, shutdown).await;
    Ok(())
}

/// The secrets, waited for if need be; `None` if it is time to stop before they are open.
async fn secrets(
    config: &Config,
    shutdown: &Shutdown,
) -> Result<Option<Arc<Secrets>>, SecretsError> {
    match &config.secrets {
        Origin::Environment(secrets) => Ok(Some(secrets.clone())),
        Origin::Sealed => {
            lifecycle!("waiting for the sealed secrets");
            let sealed = Sealed::of(&config.skr);
            tokio::select! {
                secrets = sealed.first() => Ok(Some(Arc::new(secrets?))),
                () = shutdown.fired() => Ok(None),
            }
        }
    }
}

/// The first of the server's names, with the port that people have to write.
fn reached_at(config: &Config, port: u16) -> String {
    let name = config.hostnames.first().map_or("", String::as_str);
    if port == 443 { name.to_owned() } else { format!("{name}:{port}") }
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
        TlsMode::Released { chain } => {
            lifecycle!("waiting for skr-sidecar");
            tokio::select! {
                current = tls::released::follow(&config.skr, chain.clone()) => {
                    Ok(Some(Tls::On(current?)))
                }
                () = shutdown.fired() => Ok(None),
            }
        }
        TlsMode::Attested => {
            lifecycle!("waiting for attest-sidecar");
            let names = config.hostnames.clone();
            tokio::select! {
                current = Current::attested(attest.clone(), names, config.schedule) => {
                    Ok(Some(Tls::On(current?)))
                }
                () = shutdown.fired() => Ok(None),
            }
        }
    }
}
