//! Secure key release, from top to bottom: wrapping key → tokens → release → unwrap.
//!
//! The private half of the wrapping key never leaves this process, the vault wraps for it only if MAA's token
//! names it, and MAA's token names it only if the hardware's report covers it. So what is unwrapped here can be
//! unwrapped nowhere else.
//!
//! Must not know who asked, by which protocol, or how an error is told.

use std::sync::Arc;
use std::time::Duration;

use attestation::crypto::sha256;
use attestation::json;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::attest::{Attest, AttestError, Token};
use crate::bearers::{Bearers, Lent};
use crate::cached_keys::{self, CachedKeys};
use crate::host::{Host, NotAHost};
use crate::identity::IdentityError;
use crate::key::{Jwk, KeyError, Published};
use crate::kid::{KeyId, NotAKeyId};
use crate::pool::{Stopped, WrappingKeys};
use crate::reserved::Reserved;
use crate::secret::{Bearer, NotABearer};
use crate::vault::{Released, Vault, VaultError, Wanted};
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
    /// Tokens of the group's identity.
    pub(crate) bearers: Bearers,
    /// Any vault.
    pub(crate) vault: Vault,
    /// Who may be given the identity's token.
    pub(crate) trusted: VaultHosts,
    /// What a request means that leaves something out.
    pub(crate) defaults: Defaults,
    /// Keys that no caller gets.
    pub(crate) reserved: Reserved,
    /// Keys that callers had kept.
    pub(crate) cached: CachedKeys,
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
#[derive(Default)]
pub(crate) struct Request<'a> {
    /// `name` or `name/version`.
    pub(crate) kid: &'a str,
    /// Bare host of the vault.
    pub(crate) vault: &'a str,
    /// Bare host of the MAA instance.
    pub(crate) maa: &'a str,
    /// The caller's own access token for the vault; empty for the group's identity.
    pub(crate) access_token: Zeroizing<String>,
    /// The release policy that the key is expected to have, JSON; empty: any.
    pub(crate) policy: &'a [u8],
    /// How long the key may be kept to answer the same request again, up to a bound; zero: not at all.
    pub(crate) keep: Duration,
}

/// A request, read.
struct Order {
    kid: KeyId,
    vault: Host,
    maa: Option<Host>,
    policy: Option<Value>,
    credential: Credential,
}

/// With whose right a key is asked for.
enum Credential {
    /// The caller's own. Where it goes is the caller's business.
    Callers(Arc<Bearer>),
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
    /// The release policy that is expected is none.
    #[error("the release policy that is expected is not JSON, or has a member that stands twice")]
    Policy,
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
    #[error("{}", .0.step())]
    Identity(#[from] Arc<IdentityError>),
    /// The vault did not release.
    #[error("releasing the key {kid} failed")]
    Vault {
        /// Which key.
        kid: KeyId,
        /// Why.
        source: Box<VaultError>,
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
        let (keep, policy) = (request.keep, request.policy);
        let policy_sha256 = (!policy.is_empty()).then(|| sha256(policy));
        let order = self.read_for_others(request)?;
        if keep.is_zero() || matches!(order.credential, Credential::Callers(_)) {
            return self.in_turn(order, Jwk::new).await;
        }
        let (vault, kid, maa) = (order.vault.clone(), order.kid.clone(), order.maa.clone());
        let id = cached_keys::Id { vault, kid, maa, policy_sha256 };
        let kept = self.cached.get(id, keep, self.in_turn(order, Jwk::new));
        timeout(TURN + DEADLINE, kept).await.map_err(|_| ReleaseError::TimedOut)?
    }

    /// Releases a key that a caller may use without getting it. `form` makes of it what is used.
    pub(crate) async fn release_as<T: Send + 'static>(
        &self,
        request: Request<'_>,
        form: fn(&Published, &[u8]) -> Result<T, KeyError>,
    ) -> Result<T, ReleaseError> {
        self.in_turn(self.read_for_others(request)?, form).await
    }

    /// Reads a request of a caller, who gets no reserved key.
    fn read_for_others(&self, request: Request<'_>) -> Result<Order, ReleaseError> {
        let order = self.read(request)?;
        // By name, whichever vault and version the request names: a vault has more than one host name.
        if self.reserved.holds(&order.kid) {
            return Err(ReleaseError::Reserved);
        }
        Ok(order)
    }

    /// Releases a key of the configured vault for this process itself. `form` makes of it what may be kept.
    pub(crate) async fn release_reserved<T: Send + 'static>(
        &self,
        kid: &KeyId,
        form: fn(&Published, &[u8]) -> Result<T, KeyError>,
    ) -> Result<T, ReleaseError> {
        let kid = kid.to_string();
        let order = self.read(Request { kid: &kid, ..Request::default() })?;
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
        let Request { kid, vault, maa, access_token, policy, keep: _ } = request;
        let kid = kid.parse()?;
        let vault = host_or(vault, self.defaults.vault.as_ref())
            .map_err(ReleaseError::VaultHost)?
            .ok_or(ReleaseError::NoVault)?;
        let maa = host_or(maa, self.defaults.maa.as_ref()).map_err(ReleaseError::MaaHost)?;
        let policy = (!policy.is_empty()).then(|| json::parse(policy)).transpose();
        let policy = policy.map_err(|_| ReleaseError::Policy)?;
        let credential = if access_token.is_empty() {
            let resource = self.trusted.resource(&vault);
            Credential::Groups(
                resource.ok_or_else(|| ReleaseError::VaultNotTrusted(vault.clone()))?,
            )
        } else {
            Credential::Callers(Arc::new(Bearer::new(access_token)?))
        };
        Ok(Order { kid, vault, maa, policy, credential })
    }

    async fn fulfil<T: Send + 'static>(
        &self,
        order: Order,
        form: fn(&Published, &[u8]) -> Result<T, KeyError>,
    ) -> Result<T, ReleaseError> {
        let key = self.keys.take().await?;
        let maa = order.maa.as_ref();
        let (target, lent) = tokio::try_join!(
            async {
                let token = self.attest.release_token(key.modulus(), key.exponent(), maa);
                token.await.map_err(ReleaseError::from)
            },
            self.lend(&order.credential),
        )?;
        let released = self.released(&order, &target, lent).await;
        let kid = order.kid;
        let released = released
            .map_err(|source| ReleaseError::Vault { kid: kid.clone(), source: source.into() })?;
        // An RSA private-key operation and the checks of a key are work for a thread of their own.
        tokio::task::spawn_blocking(move || {
            let secret = key
                .recover(&released.wrapped, released.by)
                .map_err(|source| ReleaseError::Unwrap { kid, source })?;
            Ok(form(&released.published, &secret)?)
        })
        .await
        .unwrap_or(Err(ReleaseError::Interrupted))
    }

    /// What the vault answers. If it does not accept a token that was at hand already, the token may have been
    /// withdrawn, and it is asked once more with a new one.
    async fn released(
        &self,
        order: &Order,
        target: &Token,
        lent: Lent,
    ) -> Result<Released, VaultError> {
        let Order { kid, vault, policy, credential, .. } = order;
        let wanted = Wanted { vault, kid, policy: policy.as_ref() };
        let answer = self.vault.release(wanted, target, &lent.bearer).await;
        let withdrawn = lent.was_kept && answer.as_ref().is_err_and(VaultError::is_unauthorized);
        let (Credential::Groups(resource), true) = (credential, withdrawn) else { return answer };
        self.bearers.forget(resource, &lent.bearer).await;
        match self.bearers.lend(resource).await {
            Ok(fresh) => self.vault.release(wanted, target, &fresh.bearer).await,
            // The vault's word is the better one: it says what the caller has to look at.
            Err(_) => answer,
        }
    }

    async fn lend(&self, credential: &Credential) -> Result<Lent, ReleaseError> {
        match credential {
            Credential::Callers(bearer) => Ok(Lent { bearer: bearer.clone(), was_kept: false }),
            Credential::Groups(resource) => Ok(self.bearers.lend(resource).await?),
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
