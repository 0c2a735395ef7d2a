//! The outside world, one group in it, and what a person needs to use it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use attestation::connection::judge;
use attestation::crypto::sha256;
use attestation::encoding::to_b64u;
use attestation::policy::{Hex, OwnerKey};
use attestation::{Anchors, Expect, Policy, danger};
use client::{Connector, Target};
use serde_json::json;
use sim::model::ModelConfig;
use sim::vault::KeySpec;
use sim::world::{World, WorldConfig};

use crate::group::{Group, Places, RoleName};
use crate::owner;

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// A build of this crate's binary.
    pub program: PathBuf,
    /// Where everything is written.
    pub folder: PathBuf,
    /// Where RSA keys of the simulated world are kept between starts.
    pub state: PathBuf,
    /// The port for clients on 127.0.0.1; 0 for a free one.
    pub port: u16,
    /// A real model server instead of the simulated one, with the credential for it.
    pub upstream: Option<(String, String)>,
    /// Pause of the simulated model between two chunks of a stream.
    pub model_delay: Duration,
    /// A last change to the world before it starts.
    pub amend: fn(&mut WorldConfig),
    /// Variables of roles beside those that every group has, or instead of them.
    pub variables: Vec<(RoleName, &'static str, String)>,
}

/// Why the stack does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The outside world does not start.
    #[error("the simulated world does not start")]
    World(#[from] sim::world::StartError),
    /// Something cannot be written or started.
    #[error("a file or process of the stack cannot be made")]
    Io(#[from] std::io::Error),
    /// A role ended or is not ready in time.
    #[error("{role} does not run; it printed:\n{printed}")]
    Role {
        /// Which.
        role: RoleName,
        /// What it printed.
        printed: String,
    },
    /// A role does not answer.
    #[error("{0} does not answer")]
    Silent(RoleName, #[source] Box<tonic::Status>),
    /// The running group cannot be verified.
    #[error("the group runs but cannot be verified")]
    Unverified(#[from] client::ConnectError),
    /// Something that the stack made is not what it should be.
    #[error("{0}")]
    Unexpected(String),
}

/// A running stack.
pub struct Stack {
    /// The outside world.
    pub world: World,
    /// The group.
    pub group: Group,
    /// An API key of the proxy.
    pub api_key: String,
    /// The credential that the proxy has for the model server.
    pub upstream_key: String,
    /// The public half of the owner's key.
    pub owner: OwnerKey,
    folder: PathBuf,
}

impl Stack {
    /// Starts the world, then the group, and writes what clients need into the folder: `server.pem`,
    /// `policy.toml`, `anchors.pem`, `reader.txt`. `progress` hears of every step.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn start(
        options: Options,
        mut progress: impl FnMut(&str),
    ) -> Result<Self, StartError> {
        let folder = absolute(&options.folder)?;
        let upstream_key = format!("upstream_{}", random()?);
        let world = World::start(world_config(&options, &folder, &upstream_key)?).await?;
        progress("simulated AMD, Azure and model");

        let api_key = format!("pm_{}", random()?);
        let (upstream, upstream_key) = match options.upstream {
            Some(upstream) => upstream,
            None => (url_of(world.model(), "model")?, upstream_key),
        };
        let inside = Inside {
            upstream,
            upstream_key: upstream_key.clone(),
            keys_file: keys_file(&folder, &api_key)?,
            log_recipients: reader(&folder)?,
            port: options.port,
            variables: options.variables,
        };
        let first = world.groups().first().ok_or_else(|| missing("group"))?;
        let places = places(&world, first, folder.clone(), inside)?;
        let owner = owner::public_key(&world, first.name(), &places).await?;
        write_policy(&folder.join("policy.toml"), first.host_data(), &owner)?;
        std::fs::copy(world.folder().join("anchors.pem"), folder.join("anchors.pem"))?;
        let group = Group::start(options.program, places, &mut progress).await?;

        let stack = Self { world, group, api_key, upstream_key, owner, folder };
        stack.write_certificate().await?;
        progress("verified");
        Ok(stack)
    }

    /// Where everything is written.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The anchors of the simulated world.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn anchors(&self) -> Result<Anchors, StartError> {
        let text = std::fs::read_to_string(self.folder.join("anchors.pem"))?;
        danger::Anchors::from_pem(&text).map_err(|error| StartError::Unexpected(error.to_string()))
    }

    /// Options of `pmc` that hold the simulated anchors and the group's policy.
    #[must_use]
    pub fn trusting(&self) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let options = ["--danger-anchors", &path("anchors.pem"), "--policy", &path("policy.toml")];
        options.map(str::to_owned).to_vec()
    }

    /// A policy that accepts this owner's group and no other.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let digests = self.world.groups().iter().take(1).map(|group| Hex(*group.host_data()));
        let mut policy = Policy::for_host_data(Expect::Value(digests.collect()));
        policy.owner_key = Expect::Value(self.owner.clone());
        policy
    }

    /// A connector to the group.
    ///
    /// # Errors
    ///
    /// The proxy does not answer.
    pub async fn connector(&self) -> Result<Connector, StartError> {
        let target: Target = self
            .group
            .url()
            .await?
            .parse()
            .map_err(|error: client::target::NotATarget| missing_text(&error.to_string()))?;
        Ok(Connector::new(target, self.anchors()?, self.policy()))
    }

    /// Verifies the group and keeps the certificate that it showed, for clients that can only trust a file.
    ///
    /// # Errors
    ///
    /// It cannot be verified, or the file not be written.
    pub async fn write_certificate(&self) -> Result<(), StartError> {
        let proof = self.connector().await?.record().await?;
        judge(&proof.answer, &proof.observed(), &self.anchors()?, &self.policy(), proof.time)
            .map_err(|error| StartError::Unexpected(service::chain(&error)))?;
        std::fs::write(self.folder.join("server.pem"), pem(&proof.certificate))?;
        Ok(())
    }

    /// Places for one more group of the same world, in a folder of its own, with the same keys and upstream.
    ///
    /// # Errors
    ///
    /// The world has no such group, or lacks a party that every group needs.
    pub fn places_of(&self, group: &str, folder: &Path) -> Result<Places, StartError> {
        let own = self.group.places();
        let inside = Inside {
            upstream: own.upstream.clone(),
            upstream_key: own.upstream_key.clone(),
            keys_file: own.keys_file.clone(),
            log_recipients: own.log_recipients.clone(),
            port: 0,
            variables: own.variables.clone(),
        };
        let group = self.world.group(group).ok_or_else(|| missing(group))?;
        places(&self.world, group, absolute(folder)?, inside)
    }

    /// The public half of a key in the group's vault as JWK, as its owner sees it.
    ///
    /// # Errors
    ///
    /// The vault does not show it.
    pub async fn vault_key(&self, kid: &str) -> Result<serde_json::Value, StartError> {
        let first = self.world.groups().first().ok_or_else(|| missing("group"))?;
        owner::vault_key(&self.world, first.name(), self.group.places(), kid).await
    }

    /// Stops the group, then the world. Says which roles did not end well.
    pub async fn stop(self) -> Vec<RoleName> {
        let unwell = self.group.stop().await;
        self.world.stop().await;
        unwell
    }
}

/// What a group brings itself.
struct Inside {
    upstream: String,
    upstream_key: String,
    keys_file: PathBuf,
    log_recipients: String,
    port: u16,
    variables: Vec<(RoleName, &'static str, String)>,
}

fn places(
    world: &World,
    group: &sim::world::Group,
    folder: PathBuf,
    inside: Inside,
) -> Result<Places, StartError> {
    let Inside { upstream, upstream_key, keys_file, log_recipients, port, variables } = inside;
    Ok(Places {
        folder,
        device: group.device_path().to_owned(),
        security_context: group.context_dir().to_owned(),
        imds: group.imds_url(),
        maa: url_of(world.maa(), "attestation service")?,
        vault: url_of(world.vault(), "vault")?,
        tls_roots: world.folder().join("tls-ca.pem"),
        upstream,
        upstream_key,
        owner_kid: owner::KID.to_owned(),
        keys_file,
        log_recipients,
        port,
        variables,
    })
}

fn absolute(folder: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    folder.canonicalize()
}

fn world_config(
    options: &Options,
    folder: &Path,
    upstream_key: &str,
) -> Result<WorldConfig, StartError> {
    let mut config = WorldConfig::new(folder.join("world"));
    config.state = Some(absolute(&options.state)?);
    if let Some(model) = &mut config.model {
        model.model = ModelConfig {
            key: Some(upstream_key.to_owned()),
            delay: options.model_delay,
            ..ModelConfig::default()
        };
    }
    if let Some(vault) = &mut config.vault {
        vault.keys = keys_in_vault()?;
    }
    (options.amend)(&mut config);
    Ok(config)
}

/// The release policy that people deploy with, for their own MAA instance and enforcement policy.
const RELEASE_POLICY: &str = include_str!("../../deploy/release-policy.json");

/// Keys that are released to this group only. (A Key Vault keeps no symmetric keys; a Managed HSM does.)
fn keys_in_vault() -> Result<Vec<KeySpec>, StartError> {
    let policy = RELEASE_POLICY
        .replace("https://sharedeus.eus.attest.azure.net", "${MAA}")
        .replace("<YOUR_CONTAINER_POLICY_HASH>", "${HOST_DATA}");
    let malformed = |error: serde_json::Error| missing_text(&error.to_string());
    let policy: serde_json::Value = serde_json::from_str(&policy).map_err(malformed)?;
    let keys = json!([
        {"name": "example-rsa", "kty": "RSA-HSM", "key_size": 2048, "release_policy": policy},
        {"name": "example-ec", "kty": "EC-HSM", "crv": "P-256", "release_policy": policy},
        {"name": owner::KID, "kty": "EC-HSM", "crv": "P-256", "release_policy": policy},
    ]);
    serde_json::from_value(keys).map_err(malformed)
}

fn url_of<F>(running: Option<&sim::world::Running<F>>, what: &str) -> Result<String, StartError> {
    Ok(running.ok_or_else(|| missing(what))?.url.trim_end_matches('/').to_owned())
}

fn missing(what: &str) -> StartError {
    missing_text(&format!("the simulated world has no {what}"))
}

fn missing_text(text: &str) -> StartError {
    StartError::Unexpected(text.to_owned())
}

fn random() -> Result<String, StartError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| missing_text("this machine has no random numbers"))?;
    Ok(to_b64u(&bytes))
}

/// A file with one API key, known by its digest.
fn keys_file(folder: &Path, api_key: &str) -> Result<PathBuf, StartError> {
    let path = folder.join("api_keys.json");
    let digest = hex::encode(sha256(api_key.as_bytes()));
    let keys = json!({"keys": [{"key_id": "laptop", "key_hash": digest, "enabled": true}]});
    std::fs::write(&path, keys.to_string())?;
    Ok(path)
}

/// Makes a reader of the sealed log, keeps its identity, returns its recipient.
fn reader(folder: &Path) -> Result<String, StartError> {
    let identity = age::x25519::Identity::generate();
    let secret = identity.to_string();
    std::fs::write(folder.join("reader.txt"), format!("{}\n", secret.expose_secret()))?;
    Ok(identity.to_public().to_string())
}

fn write_policy(path: &Path, host_data: &[u8; 32], owner: &OwnerKey) -> std::io::Result<()> {
    let text = format!(
        "# Reference values of the simulated group. What is not here is as strict as it can be.\n\
         host_data = [\"{}\"]\nowner_key = \"{}\"\n",
        hex::encode(host_data),
        owner.to_text()
    );
    std::fs::write(path, text)
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap_or_default())
        .collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
