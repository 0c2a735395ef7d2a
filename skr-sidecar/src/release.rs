//! Secure key release, from top to bottom: wrapping key → tokens → release → unwrap.
//!
//! The private half of the wrapping key never leaves this process, the vault wraps for it only if MAA's token
//! names it, and MAA's token names it only if the hardware's report covers it. So what is unwrapped here can be
//! unwrapped nowhere else.
//!
//! Must not know who asked, by which protocol, or how an error is told.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::attest::{Attest, AttestError};
use crate::host::{Host, NotAHost};
use crate::identity::{Identity, IdentityError};
use crate::key::{Jwk, KeyError, Published};
use crate::kid::{KeyId, NotAKeyId};
use crate::pool::{Stopped, WrappingKeys};
use crate::reserved::Reserved;
use crate::secret::{Bearer, NotABearer};
use crate::vault::{Vault, VaultError};
use crate::vault_hosts::VaultHosts;
use crate::wrapping_key::UnwrapError;

/// Releases that run at once.
const AT_ONCE: usize = 8;

/// How long a release may wait for its turn.
const TURN: Duration = Duration::from_secs(5);

/// A release, from its turn to its key. With [`TURN`] it stays below the bound of calls between roles.
const DEADLINE: Duration = Duration::from_secs(50);

/// Everything that a release needs.
pub(crate) struct Releases {
    /// `attest-sidecar`.
    pub(crate) attest: Attest,
    /// The group's identity.
    pub(crate) identity: Identity,
    /// Any vault.
    pub(crate) vault: Vault,
    /// Who may be given the identity's token.
    pub(crate) trusted: VaultHosts,
    /// What a request means that leaves something out.
    pub(crate) defaults: Defaults,
    /// Keys that no caller gets.
    pub(crate) reserved: Reserved,
    /// Wrapping keys.
    pub(crate) keys: WrappingKeys,
    /// Turns.
    pub(crate) turns: Turns,
}

/// What a request means that leaves something out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Defaults {
    /// The vault.
    pub(crate) vault: Option<Host>,
    /// The MAA instance. `None`: the one that `attest-sidecar` is configured for.
    pub(crate) maa: Option<Host>,
}

/// A request, as a caller writes it. An empty text stands for the default.
pub(crate) struct Request<'a> {
    /// `name` or `name/version`.
    pub(crate) kid: &'a str,
    /// Bare host of the vault.
    pub(crate) vault: &'a str,
    /// Bare host of the MAA instance.
    pub(crate) maa: &'a str,
    /// The caller's own access token for the vault; empty for the group's identity.
    pub(crate) access_token: Zeroizing<String>,
}

/// A request, read.
struct Order {
    kid: KeyId,
    vault: Host,
    maa: Option<Host>,
    credential: Credential,
}

/// With whose right a key is asked for.
enum Credential {
    /// The caller's own. Where it goes is the caller's business.
    Callers(Bearer),
    /// The group's, for this resource.
    Groups(&'static str),
}

/// Why a key was not released.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReleaseError {
    /// Too many releases run already.
    #[error("{AT_ONCE} releases are running: try again in a few seconds")]
    Busy,
    /// It took too long, all steps together.
    #[error("the release was not done within {} seconds: try again", DEADLINE.as_secs())]
    TimedOut,
    /// The kid is none.
    #[error(transparent)]
    Kid(#[from] NotAKeyId),
    /// The key is used in this process only.
    #[error(
        "the key is reserved for this group's own use and is not handed out: name another one than OWNER_KID, TLS_KID, SECRETS_KID and STATE_KID"
    )]
    Reserved,
    /// The vault's host is none.
    #[error("the vault's host cannot be used")]
    VaultHost(#[source] NotAHost),
    /// Neither the request nor the configuration names a vault.
    #[error("no vault is named: name one in the request, or set KEY_VAULT_URL")]
    NoVault,
    /// The group's identity token may not go to this vault.
    #[error(
        "the identity token does not go to {0}: add it to SKR_VAULT_HOSTS if it is a vault of yours, or send an access_token for it"
    )]
    VaultNotTrusted(Host),
    /// The MAA instance's host is none.
    #[error("the MAA endpoint's host cannot be used")]
    MaaHost(#[source] NotAHost),
    /// The caller's access token is none.
    #[error(transparent)]
    AccessToken(#[from] NotABearer),
    /// There is no wrapping key.
    #[error(transparent)]
    WrappingKey(#[from] Stopped),
    /// There is no MAA token.
    #[error(transparent)]
    Attest(#[from] AttestError),
    /// There is no identity token.
    #[error("retrieving authentication token failed")]
    Identity(#[from] IdentityError),
    /// The vault did not release.
    #[error("releasing the key {kid} failed")]
    Vault {
        /// Which key.
        kid: KeyId,
        /// Why.
        source: VaultError,
    },
    /// What the vault released could not be unwrapped.
    #[error("releasing the key {kid} failed")]
    Unwrap {
        /// Which key.
        kid: KeyId,
        /// Why.
        source: UnwrapError,
    },
    /// What was unwrapped is no key that can be handed out.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The thread that unwrapped ended early.
    #[error("unwrapping was interrupted: try again")]
    Interrupted,
}

impl Releases {
    /// Releases a key. Dropping the future gives up the release and its turn.
    pub(crate) async fn release(&self, request: Request<'_>) -> Result<Jwk, ReleaseError> {
        let order = self.read(request)?;
        // By name, whichever vault and version the request names: a vault has more than one host name.
        if self.reserved.holds(&order.kid) {
            return Err(ReleaseError::Reserved);
        }
        self.in_turn(order, Jwk::new).await
    }

    /// Releases a key of the configured vault for this process itself. `form` makes of it what may be kept.
    pub(crate) async fn release_reserved<T: Send + 'static>(
        &self,
        kid: &KeyId,
        form: fn(&Published, &[u8]) -> Result<T, KeyError>,
    ) -> Result<T, ReleaseError> {
        let kid = kid.to_string();
        let access_token = Zeroizing::default();
        let order = self.read(Request { kid: &kid, vault: "", maa: "", access_token })?;
        self.in_turn(order, form).await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        order: Order,
        form: fn(&Published, &[u8]) -> Result<T, KeyError>,
    ) -> Result<T, ReleaseError> {
        let _turn = self.turns.wait().await?;
        timeout(DEADLINE, self.fulfil(order, form)).await.map_err(|_| ReleaseError::TimedOut)?
    }

    fn read(&self, request: Request<'_>) -> Result<Order, ReleaseError> {
        let Request { kid, vault, maa, access_token } = request;
        let kid = kid.parse()?;
        let vault = host_or(vault, self.defaults.vault.as_ref())
            .map_err(ReleaseError::VaultHost)?
            .ok_or(ReleaseError::NoVault)?;
        let maa = host_or(maa, self.defaults.maa.as_ref()).map_err(ReleaseError::MaaHost)?;
        let credential = if access_token.is_empty() {
            let resource = self.trusted.resource(&vault);
            Credential::Groups(
                resource.ok_or_else(|| ReleaseError::VaultNotTrusted(vault.clone()))?,
            )
        } else {
            Credential::Callers(Bearer::new(access_token)?)
        };
        Ok(Order { kid, vault, maa, credential })
    }

    async fn fulfil<T: Send + 'static>(
        &self,
        order: Order,
        form: fn(&Published, &[u8]) -> Result<T, KeyError>,
    ) -> Result<T, ReleaseError> {
        let Order { kid, vault, maa, credential } = order;
        let key = self.keys.take().await?;
        let (target, bearer) = tokio::try_join!(
            async {
                let token = self.attest.release_token(key.modulus(), key.exponent(), maa.as_ref());
                token.await.map_err(ReleaseError::from)
            },
            self.bearer(credential),
        )?;
        let released = self.vault.release(&vault, &kid, &target, &bearer).await;
        let released =
            released.map_err(|source| ReleaseError::Vault { kid: kid.clone(), source })?;
        // An RSA private-key operation and the checks of a key are work for a thread of their own.
        tokio::task::spawn_blocking(move || {
            let secret = key
                .recover(&released.wrapped)
                .map_err(|source| ReleaseError::Unwrap { kid, source })?;
            Ok(form(&released.published, &secret)?)
        })
        .await
        .unwrap_or(Err(ReleaseError::Interrupted))
    }

    async fn bearer(&self, credential: Credential) -> Result<Bearer, ReleaseError> {
        match credential {
            Credential::Callers(bearer) => Ok(bearer),
            Credential::Groups(resource) => Ok(self.identity.token(resource).await?),
        }
    }
}

fn host_or(text: &str, default: Option<&Host>) -> Result<Option<Host>, NotAHost> {
    if text.is_empty() { Ok(default.cloned()) } else { text.parse().map(Some) }
}

/// Who may release now.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Turns {
    async fn wait(&self) -> Result<SemaphorePermit<'_>, ReleaseError> {
        match timeout(TURN, self.0.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(ReleaseError::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_release_waits_for_its_turn_but_not_for_ever() {
        let turns = Turns::default();
        let mut running = Vec::new();
        for _ in 0..AT_ONCE {
            running.push(turns.wait().await.unwrap());
        }
        assert!(matches!(turns.wait().await, Err(ReleaseError::Busy)));
        running.pop();
        assert!(turns.wait().await.is_ok());
    }

    #[test]
    fn a_release_fits_into_a_call_between_roles() {
        assert!(TURN + DEADLINE < service::grpc::CALL);
    }
}
