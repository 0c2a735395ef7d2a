//! `proxy`: the one role that clients and the model upstream see. Attested TLS, API keys, streaming
//! pass-through.
//!
//! It must not know how a report is made, a key released or a log sealed: it asks the roles that do. Nothing of a
//! prompt, an answer or a credential is ever written down or logged here.

mod address;
mod admin;
mod allowance;
mod answer;
mod api;
mod asked;
mod attest;
mod batch;
mod body;
mod cli;
mod clients;
mod config;
mod connection;
mod dial;
mod ending;
mod endpoint;
mod error;
mod forward;
mod framing;
mod grpc;
mod key_info;
mod keys;
mod ledger;
mod life;
mod limits;
mod live_log;
mod manifest;
mod metrics;
mod money;
mod neighbour;
mod openai;
mod owner;
mod page;
mod prices;
mod printable;
mod proof;
mod publication;
mod route;
mod secrets;
mod server;
mod settings;
mod small_file;
mod store;
mod tls;
mod upload;
mod usage;
mod watched;
mod workers;

use std::process::ExitCode;
use std::sync::Arc;

use service::env::{Reader, Var};
use service::health::Probe;
use service::listen::Listener;
use service::{BoxError, Process, Role, Shutdown, lifecycle};
use tokio::net::TcpListener;

use crate::admin::Admin;
use crate::api::Api;
use crate::attest::AttestSidecar;
use crate::clients::Clients;
use crate::config::TlsMode;
use crate::forward::Upstream;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::live_log::LiveLog;
use crate::manifest::Author;
use crate::metrics::Metrics;
use crate::owner::Owner;
use crate::proof::Prover;
use crate::publication::{About, Publication};
use crate::route::Router;
use crate::secrets::{Origin, Sealed, Secrets, SecretsError};
use crate::settings::Settings;
use crate::store::{Store, StoreError};
use crate::tls::Leaf;
use crate::tls::rotation::Current;

pub use crate::config::{Config, VARS};

/// The process, with its command line: the role, or a command of the operator's.
#[must_use]
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.collect();
    if cli::is_command(arguments.get(1).map(String::as_str)) {
        return cli::main(arguments.into_iter());
    }
    service::main_with::<Proxy>(arguments.into_iter().skip(1))
}

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
        let metrics = Arc::new(Metrics::new(config.metrics.with_keys, config.prices.models()));
        let mut listening = vec![
            ("grpc".to_owned(), grpc.address().to_string()),
            ("clients".to_owned(), clients.local_addr()?.to_string()),
        ];
        if let Some(at) = &config.metrics.listen {
            let listener = Listener::bind(at.address()).await?;
            listening.push(("metrics".to_owned(), listener.address().to_string()));
            tokio::spawn(metrics::serve(listener, metrics.clone(), process.shutdown.clone()));
        }
        // Its end comes after that of the last call.
        let served_all = Shutdown::default();
        let pushing = config.log.as_ref().map(|sealer| {
            let push = metrics::Push::new(sealer, metrics.clone(), process.identity.clone());
            tokio::spawn(push.run(config.metrics.every, served_all.clone()))
        });
        let about = grpc::router(&process, listening.into_iter().collect(), config.is_production());
        let internal = tokio::spawn({
            let shutdown = process.shutdown.clone();
            async move { service::grpc::serve(about, grpc, &shutdown).await }
        });
        lifecycle!("listening");

        let shutdown = process.shutdown.clone();
        let served = clients_until_stop(config, clients, metrics, process).await;
        shutdown.fire();
        served_all.fire();
        internal.await??;
        if let Some(pushing) = pushing {
            pushing.await?;
        }
        served
    }
}

async fn clients_until_stop(
    config: Config,
    listener: TcpListener,
    metrics: Arc<Metrics>,
    process: Process,
) -> Result<(), BoxError> {
    let Process { identity, shutdown, health } = process;
    let Some(secrets) = secrets(&config, &shutdown).await? else { return Ok(()) };
    let state = tokio::select! {
        state = State::open(&config) => state?,
        () = shutdown.fired() => return Ok(()),
    };
    let keys = Keys::new(secrets.api_keys(), config.keys_file.clone());
    let keys = Arc::new(keys.stored_in(state.store.clone(), state.home).await?);
    keys.follow()?;
    let upstream =
        Upstream::new(&config.upstream, secrets.upstream_key(), &config.roots, config.passing);
    let attest = AttestSidecar::new(&config.attest);
    let Some(tls) = certificate(&config, &attest, &shutdown).await? else { return Ok(()) };

    let clients = config.clients.clone().map(Clients::new);
    let attestation = match &tls {
        Tls::Off => None,
        Tls::On(current) => {
            let owner = Arc::new(Owner::new(config.skr.as_ref()));
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
    let ledger = Arc::new(state.ledger);
    let hostname = reached_at(&config, listener.local_addr()?.port());
    let settings = Arc::new(Settings::open(config.settings, &state.store).await?);
    settings.follow()?;
    let parts = admin::Parts {
        keys: keys.clone(),
        ledger: ledger.clone(),
        settings: settings.clone(),
        publication: attestation.as_ref().map(|(publication, _)| publication.clone()),
        live: config.log.clone().map(|at| admin::Live::new(LiveLog::new(at), shutdown.clone())),
        hostname,
    };
    let admin = Admin::new(parts, &secrets);
    let limits = Arc::new(Limits::new());
    let api = Api { keys, upstream, ledger, limits, settings, metrics, clients };
    let router = Router {
        api,
        attestation,
        admin,
        admin_access: config.admin,
        trusted: config.trusted,
        force_https: config.force_https,
    };
    let router = Arc::new(router);
    if let Origin::Sealed(skr) = &config.secrets {
        let (of, renewed) = (Sealed::of(skr), router.clone());
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
    let served = server::serve(listener, tls, router, shutdown).await;
    state.store.close().await;
    Ok(served?)
}

/// What outlives the process, or ends with it.
struct State {
    store: Store,
    ledger: Ledger,
    /// Where new keys go.
    home: keys::Place,
}

impl State {
    async fn open(config: &Config) -> Result<Self, StoreError> {
        let now = service::clock::unix_now();
        let store = match &config.state.place {
            store::Place::File(path) => {
                Store::open(path.clone(), config.state.key.clone(), now).await?
            }
            store::Place::Memory => {
                lifecycle!("usage, keys and settings are kept in memory and end with the process");
                Store::in_memory(now)?
            }
        };
        // Signed and chained by the log: an older state in a newer one's place shows by this number.
        lifecycle!("state opened", epoch = store.epoch.0);
        // In a group the file is the host's, and so is the moment of the start: there it is brought in by hand.
        if matches!(config.tls, TlsMode::Files { .. } | TlsMode::Off) {
            ledger::take_over(&store, &config.usage_file, now).await;
        }
        let ledger = Ledger::open(store.clone(), config.prices.clone(), now).await?;
        Ok(Self { store, ledger, home: config.home_of_keys() })
    }
}

/// The secrets, waited for if need be; `None` if it is time to stop before they are open.
async fn secrets(
    config: &Config,
    shutdown: &Shutdown,
) -> Result<Option<Arc<Secrets>>, SecretsError> {
    match &config.secrets {
        Origin::Environment(secrets) => Ok(Some(secrets.clone())),
        Origin::Sealed(skr) => {
            lifecycle!("waiting for the sealed secrets");
            let sealed = Sealed::of(skr);
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
        TlsMode::Released { chain, skr } => {
            lifecycle!("waiting for skr-sidecar");
            tokio::select! {
                current = tls::released::follow(skr, chain.clone()) => {
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
