//! The role that owns the key vault and the group's identity: it releases keys into the group, and answers the
//! HTTP API of Microsoft's sidecar beside it.
//!
//! A request goes from `http` or `grpc` to `release`, which asks, in this order, the `pool` for a wrapping key,
//! `attest` and `bearers` for tokens, the `vault` for the wrapped key, and makes a `key` of it. `error` decides
//! what a caller is told if any of that fails.
//!
//! This role must not know the SNP device, certificate sources or MAA (`attest-sidecar` owns them), nor what a
//! key that it hands out is for.

mod attest;
mod bearers;
mod cached_keys;
mod child;
mod config;
mod doors;
mod error;
mod grpc;
mod held;
mod host;
mod http;
mod identity;
mod key;
mod key_provider;
mod kid;
mod owner;
mod pool;
pub mod reference;
mod release;
mod reserved;
mod secret;
mod secrets;
mod state;
mod strict;
mod tls;
mod vault;
mod vault_hosts;
mod workload_identity;
mod wrapping_key;

use std::process::ExitCode;
use std::sync::Arc;

use proto::info::RoleInfo;
use service::env::{Reader, Var};
use service::health::Probe;
use service::listen::{BindError, Listener, Local};
use service::{BoxError, Identity as ProcessIdentity, Process, Role};

pub use config::Config;

use crate::attest::Attest;
use crate::bearers::Bearers;
use crate::cached_keys::CachedKeys;
use crate::grpc::Services;
use crate::held::Held;
use crate::http::Routes;
use crate::identity::{Identity, Source};
use crate::key_provider::KeyProvider;
use crate::owner::OwnerKey;
use crate::pool::WrappingKeys;
use crate::release::{Defaults, Releases, Turns};
use crate::secrets::Sealed;
use crate::state::StateKeys;
use crate::tls::TlsKeys;
use crate::vault::Vault;
use crate::vault_hosts::VaultHosts;
use crate::workload_identity::WorkloadIdentity;

/// The process, with its command line: the role under its own name, or as the reference's.
#[must_use]
pub fn main(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let program = arguments.next().unwrap_or_default();
    match reference::Name::of(&program) {
        Some(name) => reference::main(name, arguments),
        None => service::main_with::<SkrSidecar>(arguments),
    }
}

/// The role.
#[derive(Debug)]
pub struct SkrSidecar;

impl Role for SkrSidecar {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const ABOUT: &'static str = "releases keys of the owner's vault into the group";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const VARS: &'static [Var] = config::VARS;
    type Config = Config;

    fn read(env: &mut Reader<'_>) -> Option<Config> {
        Config::read(env)
    }

    fn health(config: &Config) -> Probe<'_> {
        config.doors.probe()
    }

    async fn serve(config: Config, process: Process) -> Result<(), BoxError> {
        let Process { identity, shutdown, health } = process;
        let grpc = bound(config.doors.grpc()).await?;
        let http = bound(config.doors.http()).await?;
        let info = info(&identity, &config, grpc.as_ref(), http.as_ref());

        let attest = Attest::new(&config.attest_sidecar);
        let releases = Arc::new(releases(&config, attest.clone()));
        let owner = config.reserved.owner.clone();
        let owner = owner.map(|kid| Held::start(releases.clone(), kid, OwnerKey::new));
        let tls = config.reserved.tls.clone().map(|kid| TlsKeys::start(releases.clone(), kid));
        let state = config.reserved.state.clone();
        let state = state.map(|kid| StateKeys::new(releases.clone(), kid));
        let sealed = config.secrets.clone();
        let secrets = sealed.map(|settings| Sealed::start(releases.clone(), settings));
        let key_provider = KeyProvider {
            attest: attest.clone(),
            releases: releases.clone(),
            wrap_keys: config.wrap_keys,
        };
        let services =
            Services { info, releases: releases.clone(), owner, tls, secrets, state, key_provider };
        let routes = Routes { attest, releases, maa: config.maa, statuses: config.statuses };
        let routes = Arc::new(routes);
        let answer = move |request| {
            let routes = routes.clone();
            async move { routes.answer(request).await }
        };

        health.ready().await;
        service::lifecycle!("ready");
        let http = async {
            if let Some(listener) = http {
                service::http::serve(listener, &shutdown, answer).await;
            }
            Ok(())
        };
        let grpc = async {
            match grpc {
                Some(listener) => grpc::serve(listener, &shutdown, &health, services).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(http, grpc)?;
        Ok(())
    }
}

async fn bound(local: Option<&Local>) -> Result<Option<Listener>, BindError> {
    match local {
        Some(local) => Listener::bind(local.address()).await.map(Some),
        None => Ok(None),
    }
}

fn releases(config: &Config, attest: Attest) -> Releases {
    let configured = config.vault.iter().chain(&config.vault_hosts).cloned().collect();
    let identity = match config.workload.clone() {
        Some(workload) => Source::Workload(WorkloadIdentity::new(workload, &config.roots)),
        None => {
            let endpoint = config.identity_endpoint.clone();
            Source::Managed(Identity::new(endpoint, config.client_id.clone(), &config.roots))
        }
    };
    Releases {
        attest,
        bearers: Bearers::new(identity),
        vault: Vault::new(config.roots.clone(), config.wrap),
        trusted: VaultHosts::new(configured),
        defaults: Defaults { vault: config.vault.clone(), maa: config.maa.clone() },
        reserved: config.reserved.clone(),
        cached: CachedKeys::default(),
        keys: WrappingKeys::start(),
        turns: Turns::default(),
    }
}

fn info(
    identity: &ProcessIdentity,
    config: &Config,
    grpc: Option<&Listener>,
    http: Option<&Listener>,
) -> RoleInfo {
    let listening = [("grpc", grpc), ("http", http)];
    let listening = listening.into_iter().filter_map(|(name, at)| Some((name, at?)));
    RoleInfo {
        role: identity.role.to_owned(),
        version: identity.version.to_owned(),
        boot_id: identity.boot_id.clone(),
        started: identity.started,
        config_digest: identity.measured.digest.to_vec(),
        production_anchors: config.roots.are_public(),
        unsealed: identity.measured.unsealed.iter().map(ToString::to_string).collect(),
        listening: listening
            .map(|(name, at)| (name.to_owned(), at.address().to_string()))
            .collect(),
    }
}
