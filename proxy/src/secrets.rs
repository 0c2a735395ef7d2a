//! The proxy's own secrets: sealed ones from `skr-sidecar`, or, where that is said, those of the environment.
//!
//! Never both: with `PROXY_SECRETS=sealed` nothing of the environment counts, for whoever sets a variable could put an
//! API key of their own beside the operator's. And never less: until the secrets are open, no client is served.
//!
//! Must not know how secrets are opened.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use proto::skr::skr_client::SkrClient;
use proto::skr::{GetSecretsReply, GetSecretsRequest};
use service::Shutdown;
use service::env::{Class, Reader, Var};
use service::listen::Local;
use tonic::transport::Channel;
use tonic::{Code, Status};
use zeroize::Zeroizing;

use crate::keys::List;

/// The credential for the upstream.
const UPSTREAM_KEY: &str = "PRIVATEMODE_API_KEY";

/// API keys of clients.
const API_KEYS: &str = "API_KEYS";

/// The password of the admin pages.
const ADMIN_PASSWORD: &str = "ADMIN_PASSWORD";

/// Everything that is asked for.
const NAMES: [&str; 3] = [UPSTREAM_KEY, API_KEYS, ADMIN_PASSWORD];

const MODE: &str = "PROXY_SECRETS";

/// The row of where secrets come from.
pub(crate) const MODE_VAR: Var = Var {
    name: MODE,
    class: Class::Measured,
    default: Some("environment"),
    help: "`sealed`: secrets come from skr-sidecar, which opens the operator's envelope, and nothing is served before; \
           set in the environment, they are an error. `environment`: from PRIVATEMODE_API_KEY and its like, which \
           whoever runs the containers can read.",
};
/// The row of the upstream's credential.
pub(crate) const UPSTREAM_KEY_VAR: Var =
    secret(UPSTREAM_KEY, "The credential for the upstream; without it none is sent.");
/// The row of the clients' keys.
pub(crate) const API_KEYS_VAR: Var = secret(API_KEYS, "Further API keys, comma separated.");
/// The row of the admin pages' password.
pub(crate) const ADMIN_PASSWORD_VAR: Var = secret(
    ADMIN_PASSWORD,
    "The password of the admin pages and their API; without it, nobody can log in. Let it be long: the host can guess \
     from as many addresses as it likes.",
);

const fn secret(name: &'static str, help: &'static str) -> Var {
    Var { name, class: Class::Sealed, default: None, help }
}

/// The first secrets are waited for this long; then the process gives up and is started anew.
const PATIENCE: Duration = Duration::from_secs(300);

/// Pause after the first question, doubled after each further one.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest pause; and how often newer secrets are asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Where the secrets come from.
pub(crate) enum Origin {
    /// The `skr-sidecar` at that address.
    Sealed(Local),
    /// The environment, as it was at the start.
    Environment(Arc<Secrets>),
}

/// Secrets, all of one version. Has no `Debug`; zeroed when dropped.
pub(crate) struct Secrets {
    version: Option<u64>,
    values: BTreeMap<String, Zeroizing<String>>,
}

/// Why there are no sealed secrets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretsError {
    /// Trying again does not help.
    #[error(
        "skr-sidecar has no sealed secrets: set its SECRETS_… variables, or PROXY_SECRETS=environment here"
    )]
    NotConfigured,
    /// As an HTTP header cannot hold it.
    #[error("{UPSTREAM_KEY} of the sealed secrets must be visible ASCII characters")]
    NoCredential,
    /// They are not open, or nobody answers.
    #[error("skr-sidecar gives no sealed secrets")]
    NotOpen(#[source] Box<Status>),
    /// They were not opened for too long.
    #[error("skr-sidecar gave no sealed secrets within {} s: its log says why", PATIENCE.as_secs())]
    Patience,
}

/// What `PROXY_SECRETS` may be.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Sealed,
    Environment,
}

/// Not one of them.
#[derive(Debug, thiserror::Error)]
#[error("must be sealed or environment")]
struct NotAMode;

impl FromStr for Mode {
    type Err = NotAMode;

    fn from_str(text: &str) -> Result<Self, NotAMode> {
        match text {
            "sealed" => Ok(Self::Sealed),
            "environment" => Ok(Self::Environment),
            _ => Err(NotAMode),
        }
    }
}

impl Origin {
    /// Reads the variables.
    pub(crate) fn read(env: &mut Reader<'_>, skr: Option<&Local>) -> Option<Self> {
        let mode = env.parse::<Mode>(MODE);
        let mut values = BTreeMap::new();
        for name in NAMES {
            let Some(value) = env.optional::<String>(name).map(Zeroizing::new) else { continue };
            if mode == Some(Mode::Sealed) {
                env.refuse(name, &"is taken from the sealed secrets only: remove it here");
            }
            values.insert(name.to_owned(), value);
        }
        let secrets = Secrets { version: None, values };
        if secrets.check().is_err() {
            env.refuse(UPSTREAM_KEY, &"must be visible ASCII characters");
        }
        match mode? {
            Mode::Sealed => match skr {
                Some(skr) => Some(Self::Sealed(skr.clone())),
                None => {
                    env.refuse(MODE, &"sealed needs skr-sidecar: set SKR_SIDECAR");
                    None
                }
            },
            Mode::Environment => Some(Self::Environment(Arc::new(secrets))),
        }
    }
}

impl Secrets {
    /// The operator's number; `None` for secrets of the environment.
    pub(crate) fn version(&self) -> Option<u64> {
        self.version
    }

    /// The credential for the upstream: visible ASCII characters.
    pub(crate) fn upstream_key(&self) -> Option<&Zeroizing<String>> {
        self.values.get(UPSTREAM_KEY)
    }

    /// The password of the admin pages.
    pub(crate) fn admin_password(&self) -> Option<&Zeroizing<String>> {
        self.values.get(ADMIN_PASSWORD)
    }

    /// API keys of clients. Their ids tell where they come from.
    pub(crate) fn api_keys(&self) -> List<'_> {
        let keys = self.values.get(API_KEYS).map_or("", |keys| keys.as_str());
        List { keys, ids: if self.version.is_some() { "sealed_key" } else { "env_key" } }
    }

    fn check(&self) -> Result<(), SecretsError> {
        let visible = |key: &Zeroizing<String>| key.bytes().all(|byte| byte.is_ascii_graphic());
        if self.upstream_key().is_none_or(visible) {
            Ok(())
        } else {
            Err(SecretsError::NoCredential)
        }
    }
}

/// Whom to ask for sealed secrets.
#[derive(Clone)]
pub(crate) struct Sealed(SkrClient<Channel>);

impl Sealed {
    /// Asks the `skr-sidecar` at that address.
    pub(crate) fn of(skr: &Local) -> Self {
        Self(SkrClient::new(service::grpc::channel(skr)))
    }

    /// The first secrets, once they are open.
    pub(crate) async fn first(&self) -> Result<Secrets, SecretsError> {
        let first = tokio::time::timeout(PATIENCE, self.until_open()).await;
        first.map_err(|_| SecretsError::Patience)?
    }

    async fn until_open(&self) -> Result<Secrets, SecretsError> {
        let mut pause = PAUSE;
        let mut told = String::new();
        loop {
            match self.newer_than(None).await {
                Ok(Some(secrets)) => return Ok(secrets),
                Ok(None) => {}
                Err(SecretsError::NotOpen(status)) => {
                    // Also what is refused: the operator may put another envelope into its place.
                    if told != status.message() {
                        status.message().clone_into(&mut told);
                        tracing::warn!(why = told, "the sealed secrets are not open; asking again");
                    }
                }
                Err(lasting) => return Err(lasting),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Hands newer secrets over, for as long as the process runs. Older ones are never taken: after a restart of
    /// `skr-sidecar` alone, the host might have it open an older envelope.
    pub(crate) async fn follow(
        self,
        first: Option<u64>,
        shutdown: Shutdown,
        take: impl Fn(&Secrets) + Send,
    ) {
        let mut version = first;
        let mut told = false;
        loop {
            tokio::select! {
                () = tokio::time::sleep(LONGEST_PAUSE) => {}
                () = shutdown.fired() => return,
            }
            match self.newer_than(version).await {
                Ok(Some(secrets)) => {
                    (version, told) = (secrets.version, false);
                    take(&secrets);
                    tracing::info!(version, "newer sealed secrets were taken");
                }
                Ok(None) | Err(SecretsError::NotOpen(_)) => {}
                Err(_) if told => {}
                Err(error) => {
                    told = true;
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "newer sealed secrets are of no use; those before stay");
                }
            }
        }
    }

    /// Secrets of a higher version than that. Values travel only if there are any.
    async fn newer_than(&self, version: Option<u64>) -> Result<Option<Secrets>, SecretsError> {
        if let Some(version) = version
            && self.ask(&[]).await?.version <= version
        {
            return Ok(None);
        }
        let GetSecretsReply { version: named, values, .. } = self.ask(&NAMES).await?;
        let values = values.into_iter().map(|(name, value)| (name, Zeroizing::new(value)));
        let secrets = Secrets { version: Some(named), values: values.collect() };
        secrets.check()?;
        Ok(version.is_none_or(|version| named > version).then_some(secrets))
    }

    async fn ask(&self, names: &[&str]) -> Result<GetSecretsReply, SecretsError> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        match self.0.clone().get_secrets(GetSecretsRequest { names }).await {
            Ok(reply) if reply.get_ref().configured => Ok(reply.into_inner()),
            Ok(_) => Err(SecretsError::NotConfigured),
            Err(status) if status.code() == Code::Unimplemented => Err(SecretsError::NotConfigured),
            Err(status) => Err(SecretsError::NotOpen(Box::new(status))),
        }
    }
}

#[cfg(test)]
mod tests;
